"""XMP packets (ISO 16684-1): what in them is of the pixels, and changes with them."""

import re
import xml.etree.ElementTree as ET

_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)([0-9])")
_SIZES = (  # names in width, height order
    (rb"tiff:ImageWidth", rb"tiff:ImageLength"),
    (rb"exif:PixelXDimension", rb"exif:PixelYDimension"),
)
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
# Where a gain map, a video or a depth map lies in the file: they are not kept.
_PARTS = rb"(?:hdrgm|Container|GContainer|Item|GCamera|GDepth|GImage|HDRGainMap|apdi)"
_PART_ATTRIBUTE = re.compile(rb"\s" + _PARTS + rb":\w+\s*=\s*(\"[^\"]*\"|'[^']*')")
_PART_ELEMENT = re.compile(rb"<(" + _PARTS + rb":\w+)(?:\s[^>]*)?(?:/>|>.*?</\1>)", re.DOTALL)
_PART_NAME = re.compile(rb"[\s<]" + _PARTS + rb":\w")


def orientation(packet: bytes) -> int | None:
    """1 to 8, as in EXIF."""
    found = _ORIENTATION.search(packet)
    return int(found[2]) if found and 1 <= int(found[2]) <= 8 else None


def upright(packet: bytes) -> bytes:
    """The same of a picture that was turned as the packet says. No other byte changes."""
    return _ORIENTATION.sub(rb"\g<1>1", packet)


def of_this_size(packet: bytes, width: int, height: int) -> bytes:
    """The same with the number of pixels, where it states one."""
    for names in _SIZES:
        for name, value in zip(names, (width, height), strict=True):
            packet = re.sub(
                rb"(" + name + rb"(?:=[\"']|>)\s*)[0-9]+", rb"\g<1>" + b"%d" % value, packet
            )
    return packet


def without_thumbnails(packet: bytes) -> bytes:
    return _THUMBNAILS.sub(b"", packet)


def without_parts(packet: bytes) -> bytes | None:
    """The same without what it says of other parts of the file; None where that fails."""
    if not _PART_NAME.search(packet):
        return packet
    made, before = packet, b""
    while made != before:
        made, before = _PART_ELEMENT.sub(b"", made), made
    made = _PART_ATTRIBUTE.sub(b"", made)
    return made if is_sound(made) else None


def is_sound(packet: bytes) -> bool:
    """Whether it is XML."""
    try:
        ET.fromstring(packet.strip(b"\0 \t\r\n"))
    except (ET.ParseError, ValueError, LookupError):
        return False
    return True
