"""EXIF and ICC profiles: what is taken in, and what of it a file can hold."""

import struct

from PIL import ExifTags, Image

EXIF_PREFIX = b"Exif\0\0"
ORIENTATION = ExifTags.Base.Orientation

# Tags of a TIFF that describe the picture and not the layout of its bytes
_DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)


def fits(icc: bytes, grey: bool) -> bool:
    """Whether it is an ICC profile for the colour space that the picture is stored in.

    A grey picture with an RGB profile breaks the rules of PNG and TIFF, and viewers ignore the
    profile; storing three channels for its sake would cost more than it brings.
    """
    return icc[36:40] == b"acsp" and icc[16:20] == (b"GRAY" if grey else b"RGB ")


def exif_of(im: Image.Image, notes: list[str]) -> tuple[int, bytes | None]:
    """(orientation, EXIF without it). Broken EXIF is dropped with a note, as viewers do."""
    orientation = 1
    try:
        tags = im.getexif()  # also finds an orientation in XMP
        orientation = tags.get(ORIENTATION, 1)
        exif = im.info.get("exif")
        if not exif:  # TIFF, whose own tags are the EXIF
            return orientation, exif_of_tags(tags)
        while exif.startswith(EXIF_PREFIX):
            exif = exif[len(EXIF_PREFIX) :]
        return orientation, without_orientation(exif)
    except Exception:  # Pillow's parser raises nearly everything
        notes.append("broken EXIF dropped")
        return orientation, None


def exif_of_tags(tags: Image.Exif) -> bytes | None:
    kept = Image.Exif()
    kept.update({tag: tags[tag] for tag in _DESCRIPTIVE if tag in tags})
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if found := tags.get_ifd(ifd):
            kept.get_ifd(ifd).update(found)
            kept[ifd] = found
    return kept.tobytes().removeprefix(EXIF_PREFIX) if len(kept) else None


def without_orientation(exif: bytes) -> bytes:
    """The same bytes with that entry cut out of the first directory.

    No other byte moves, since maker notes hold offsets that nobody can correct. If the picture
    was turned, its thumbnail, which was not, is unlinked.
    """
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * count
    next_directory = exif[end : end + 4]
    entries = [exif[i : i + 12] for i in range(start + 2, end, 12)]
    kept = []
    for entry in entries:
        tag, _, _, value = struct.unpack(order + "HHIH2x", entry)
        if tag != ORIENTATION:
            kept.append(entry)
        elif value != 1:
            next_directory = bytes(4)
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + next_directory
    return exif[:start] + directory.ljust(end + 4 - start, b"\0") + exif[end + 4 :]
