"""EXIF, ICC profiles and resolution: what is taken in, and kept true of the pixels."""

import math
import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

from PIL import ExifTags, Image, ImageCms

from vqcodec.image import tiff

EXIF_PREFIX = b"Exif\0\0"
Resolution = tuple[float, float]  # pixels per inch, along rows and columns

# Tags of a TIFF that describe the picture and not the layout of its bytes
_DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 282, 283, 296
_RESOLUTION = (_X_RESOLUTION, _Y_RESOLUTION, _UNIT)
_WIDTHS = {256, 0xA002}  # number of pixels, in the first directory and in that of EXIF
_HEIGHTS = {257, 0xA003}
_THUMBNAIL_AT, _THUMBNAIL_BYTES = 0x0201, 0x0202
_CM = 2.54  # of an inch
_RATIONAL = 5  # the kind of a field


def fits(icc: bytes, grey: bool) -> bool:
    """Whether it is an ICC profile for the colour space that the picture is stored in.

    A grey picture with an RGB profile breaks the rules of PNG and TIFF, and viewers ignore the
    profile; storing three channels for its sake would cost more than it brings.
    """
    if icc[36:40] != b"acsp" or icc[16:20] != (b"GRAY" if grey else b"RGB "):
        return False
    try:
        ImageCms.ImageCmsProfile(BytesIO(icc))
    except Exception:  # a few kinds, by Pillow's version
        return False
    return True


def is_sound(exif: bytes) -> bool:
    """Whether its first directory is there."""
    try:
        tiff.first_directory(exif)
    except (ValueError, struct.error):
        return False
    return True


def orientation(exif: bytes) -> int | None:
    """1 to 8, where the EXIF says it."""
    order, first = tiff.first_directory(exif)
    value = tiff.number(exif, first.entries.get(tiff.ORIENTATION), order)
    return value if value and 1 <= value <= 8 else None


def without_orientation(exif: bytes) -> bytes:
    """The same bytes with that entry cut out of the first directory.

    No other byte moves, since maker notes hold offsets that nobody can correct. If the picture
    was turned, its thumbnail, which was not, goes.
    """
    order = tiff.order_of(exif)
    (start,) = struct.unpack_from(order + "I", exif, 4)
    first = tiff.directory(exif, start, order)
    if tiff.ORIENTATION not in first.entries:
        return exif
    if tiff.number(exif, first.entries[tiff.ORIENTATION], order) != 1:
        exif = without_thumbnail(exif)
    end = first.next_at
    entries = [exif[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [e for e in entries if struct.unpack_from(order + "H", e)[0] != tiff.ORIENTATION]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + exif[end : end + 4]
    return exif[:start] + directory.ljust(end + 4 - start, b"\0") + exif[end + 4 :]


def without_thumbnail(exif: bytes) -> bytes:
    """The same with the thumbnail's bytes away, and its directory unlinked."""
    order, first = tiff.first_directory(exif)
    if not first.next:
        return exif
    made = bytearray(exif)
    made[first.next_at : first.next_at + 4] = bytes(4)
    with suppress(ValueError, struct.error):
        second = tiff.directory(exif, first.next, order).entries
        at = tiff.number(exif, second.get(_THUMBNAIL_AT), order) or 0
        n_bytes = tiff.number(exif, second.get(_THUMBNAIL_BYTES), order) or 0
        if exif[at : at + 2] == b"\xff\xd8" and at + n_bytes <= len(exif):
            if at + n_bytes == len(exif):
                del made[at:]
            else:
                made[at : at + n_bytes] = bytes(n_bytes)
    return bytes(made)


def of_this_size(exif: bytes, width: int, height: int) -> bytes:
    """The same with the number of pixels, where it states one. No byte moves."""
    order, first = tiff.first_directory(exif)
    directories = [first]
    with suppress(ValueError, struct.error, TypeError):
        inner = tiff.number(exif, first.entries.get(tiff.EXIF_DIRECTORY), order)
        directories.append(tiff.directory(exif, inner or 0, order))
    made = bytearray(exif)
    for entry in (entry for found in directories for entry in found.entries.values()):
        value = width if entry.tag in _WIDTHS else height
        if entry.tag in _WIDTHS | _HEIGHTS and entry.n == 1 and entry.kind in (3, 4):
            letter = "H" if entry.kind == 3 else "I"
            if value < 1 << 16 or entry.kind == 4:
                struct.pack_into(order + letter, made, entry.value_at, value)
    return bytes(made)


def of_tags(tags: Image.Exif) -> tuple[bytes | None, int]:
    """EXIF of what describes the picture in a TIFF's tags, and how many of them are broken."""
    kept, n_broken = Image.Exif(), 0
    for tag in _DESCRIPTIVE:
        if tag in tags and _can_be_stored({tag: tags[tag]}):
            kept[tag] = tags[tag]
        elif tag in tags:
            n_broken += 1
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        found = inner(tags, ifd)
        sound = {tag: found[tag] for tag in found if _can_be_stored({ifd: {tag: found[tag]}})}
        n_broken += len(found) - len(sound)
        if sound:
            kept[ifd] = sound
    return kept.tobytes().removeprefix(EXIF_PREFIX) if len(kept) else None, n_broken


def inner(tags: Image.Exif, ifd: int) -> dict[int, Any]:
    """A directory within EXIF; the one within that in place of an offset, which may not stay."""
    found = dict(tags.get_ifd(ifd))
    if found.pop(ExifTags.IFD.Interop, None) is not None:
        with suppress(Exception):  # Pillow's parser raises nearly everything
            found[ExifTags.IFD.Interop] = tags.get_ifd(ExifTags.IFD.Interop)
    return found


def _can_be_stored(tags: dict[int, object]) -> bool:
    exif = Image.Exif()
    exif.update(tags)
    try:
        exif.tobytes()
    except Exception:  # Pillow's writer raises nearly everything
        return False
    return True


def resolution_of_exif(exif: bytes) -> Resolution | None:
    """What its first directory states."""
    try:
        order, (first, *_) = tiff.first_directory(exif)
        unit = tiff.number(exif, first.get(_UNIT), order) or 2
        scale = {2: 1.0, 3: _CM}[unit]
        x, y = (
            struct.unpack_from(order + "II", exif, first[tag].value_at)
            for tag in (_X_RESOLUTION, _Y_RESOLUTION)
            if first[tag].kind == _RATIONAL
        )
        return sound_resolution(scale * x[0] / x[1], scale * y[0] / y[1])
    except (KeyError, ValueError, struct.error, ZeroDivisionError):
        return None


def sound_resolution(x: object, y: object) -> Resolution | None:
    """In thousandths of a pixel per inch, as files hold it; None for what is none."""
    try:
        pair = float(x), float(y)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not all(math.isfinite(value) and 0.001 <= value <= 4e6 for value in pair):
        return None
    return round(pair[0], 3), round(pair[1], 3)


def resolution(im: Image.Image) -> Resolution | None:
    """What the file itself states, beside its EXIF."""
    if im.format in ("JPEG", "MPO"):
        unit, density = im.info.get("jfif_unit"), im.info.get("jfif_density", (0, 0))
        if unit not in (1, 2):
            return None
        scale = 1.0 if unit == 1 else _CM
        return sound_resolution(scale * density[0], scale * density[1])
    if im.format == "TIFF" and _X_RESOLUTION not in getattr(im, "tag_v2", {}):
        return None  # for which Pillow says 1
    dpi = im.info.get("dpi")
    return sound_resolution(*dpi) if isinstance(dpi, tuple) and len(dpi) == 2 else None


def has_oblong_pixels(im: Image.Image) -> bool:
    """Whether the file states a ratio of its pixels' sides that is not 1, and no resolution."""
    pair = im.info.get("aspect") or im.info.get("jfif_density")
    told = "aspect" in im.info or im.info.get("jfif_unit") == 0
    return bool(told and isinstance(pair, tuple) and len(pair) == 2 and pair[0] != pair[1])
