"""XMP packets (ISO 16684-1): what in them is of the pixels, and changes with them."""

import codecs
import re
import xml.etree.ElementTree as ET
from contextlib import suppress

_TIFF, _EXIF = b"tiff", b"exif"  # the usual prefixes, and the last parts of namespaces
_PREFIX = rb"xmlns:([\w.-]+)\s*=\s*[\"']http://ns\.adobe\.com/%s/1\.0/[\"']"
_SIZES = (  # names in width, height order
    (_TIFF, b"ImageWidth", b"ImageLength"),
    (_EXIF, b"PixelXDimension", b"PixelYDimension"),
)
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
# Where a gain map, a video or a depth map lies in the file: they are not kept.
_PARTS = rb"(?:hdrgm|Container|GContainer|Item|GCamera|GDepth|GImage|HDRGainMap|apdi)"
_PART_ATTRIBUTE = re.compile(rb"\s" + _PARTS + rb":\w+\s*=\s*(\"[^\"]*\"|'[^']*')")
_PART_ELEMENT = re.compile(rb"<(" + _PARTS + rb":\w+)(?:\s[^>]*)?(?:/>|>.*?</\1>)", re.DOTALL)
_PART_NAME = re.compile(rb"[\s<]" + _PARTS + rb":\w")


def as_utf8(packet: bytes) -> bytes:
    """The packet in the coding that files hold it in, without zero bytes around it."""
    if packet.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with suppress(UnicodeDecodeError):
            return packet.decode("utf-16").encode()
    return packet.strip(b"\0")


def _number(packet: bytes, space: bytes, name: bytes) -> re.Pattern[bytes]:
    """(all that is before, the digits) of a number, as an attribute or an element."""
    prefixes = {space, *re.findall(_PREFIX % space, packet)}
    prefix = b"|".join(map(re.escape, sorted(prefixes)))
    return re.compile(
        rb"((?<![\w.-])(?:%s):%s(?:\s*=\s*[\"']|(?:\s[^<>]*)?>)\s*)([0-9]+)" % (prefix, name)
    )


def orientation(packet: bytes) -> int | None:
    """1 to 8, as in EXIF."""
    found = _number(packet, _TIFF, b"Orientation").search(packet)
    return int(found[2]) if found and re.fullmatch(rb"[1-8]", found[2]) else None


def upright(packet: bytes, turned: bool = False) -> bytes:
    """The same of a picture that was turned, as the packet or EXIF says. No other byte changes.

    But thumbnails go, which were not turned.
    """
    if turned or (orientation(packet) or 1) != 1:
        packet = without_thumbnails(packet)
    return _number(packet, _TIFF, b"Orientation").sub(rb"\g<1>1", packet)


def of_this_size(packet: bytes, width: int, height: int) -> bytes:
    """The same with the number of pixels, where it states one."""
    for space, *names in _SIZES:
        for name, value in zip(names, (width, height), strict=True):
            packet = _number(packet, space, name).sub(rb"\g<1>%d" % value, packet)
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
