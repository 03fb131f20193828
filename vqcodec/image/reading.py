"""Pictures of files: 8-bit grey or RGB, upright, alpha apart, with what belongs to them."""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from vqcodec.container import MAX_PIXELS
from vqcodec.errors import ImageError, VqcodecError
from vqcodec.image import extras, metadata, xmp
from vqcodec.image.colour import is_srgb, to_srgb, understood
from vqcodec.image.opening import (
    Opened,
    check_size,
    in_memory,
    line,
    mend_planes,
    opened,
    stream_of,
    to_whole_picture,
)
from vqcodec.image.picture import Picture, rgb
from vqcodec.image.samples import planes, raw

# EXIF orientation -> the upright array
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def _as_it_is(a: np.ndarray) -> np.ndarray:
    return a


def read(
    source: Path | bytes | BinaryIO,
    name: str,
    max_pixels: int = MAX_PIXELS,
    long_side: int | None = None,
    salvage: bool = False,
) -> Picture:
    """The picture in a file, in bytes or in a binary stream (a pipe will do).

    Any still image that Pillow opens, except EPS, WMF and icons, and with packages (the extra
    ``formats``) HEIC and JPEG XL. What is coded is what a viewer shows: upright, and in sRGB or
    with an ICC profile. Grey stays grey; so does a palette of greys without a profile. Alpha that
    is 255 everywhere is dropped. More than 8 bits per sample become 8: grey with rounding, RGB in
    Pillow by its upper byte; floating point numbers by the range that the file states, or 0 to 1.
    CMYK is converted by its profile. Colours that a file describes without a profile (PNG, AVIF)
    are converted, or get one. ``Picture.notes`` and ``Picture.lost`` tell what the user may miss.

    ``name`` stands for the source in messages. With ``long_side`` a JPEG is decoded at a half, a
    quarter or an eighth of its size, in as small a fraction of the time, as long as that leaves so
    many pixels. ``salvage``: of a JPEG or PNG that ends early, take what is there. Raises
    InputError if the source cannot be opened, ImageError if it is not a whole still image of at
    most ``max_pixels`` pixels.
    """
    with (
        stream_of(source, name) as stream,
        opened(stream, name, max_pixels, salvage) as found,
    ):
        im = found.im
        lost = to_whole_picture(im, name)
        if lost or im.format == "TIFF":
            check_size(*im.size, name, max_pixels)
        if long_side and im.format == "JPEG":
            factor = long_side / max(im.size)
            im.draft(None, (max(1, int(factor * im.width)), max(1, int(factor * im.height))))
        picture = _picture(found, name, turn=True)
        return replace(picture, lost=(*lost, *picture.lost))


def read_rgb(path: Path) -> np.ndarray:
    """Pixels of a picture as (h, w, 3) uint8, upright; alpha is ignored. Raises as ``read``."""
    return rgb(read(path, str(path)))


def from_pillow(im: Image.Image, max_pixels: int = MAX_PIXELS, turn: bool | None = None) -> Picture:
    """The same as ``read`` for an image of Pillow's (its current frame). Raises ImageError.

    Of code points (PNG, AVIF) and profiles (JPEG 2000, BMP) Pillow says nothing: they are read from
    the image's file, where that is open, as it is until its pixels are loaded, or has a name.

    turn: whether its EXIF orientation is to be applied. By default, it is for an image as it was
    opened; an image in memory may have been turned already, and stays as it is.
    """
    turn = isinstance(im, ImageFile.ImageFile) if turn is None else turn
    try:
        check_size(*im.size, "picture", max_pixels)
        return _picture(in_memory(im), "picture", turn)
    except VqcodecError:
        raise
    except Exception as error:
        raise ImageError(f"picture: {line(error)}") from error


def _picture(found: Opened, name: str, turn: bool) -> Picture:
    """Conversion to 8-bit grey or RGB, alpha apart, upright."""
    im, notes = found.im, found.notes
    mend_planes(im)
    rawmode, max_value = raw(im)  # before load() forgets it
    bits = max(max_value.bit_length(), extras.bits_of(found))
    im.load()
    space = extras.space_of(found)
    if bits > 8 and not (im.mode == "F" or (im.mode == "I" and im.format not in ("PNG", "PPM"))):
        notes.append(f"{bits} bits per sample coded as 8")
    icc = found.icc or im.info.get("icc_profile") or None
    if not isinstance(icc, bytes) or space is not None:  # cICP stands above a profile
        icc = None
    if icc is not None and im.format == "JXL" and is_srgb(icc):
        icc = None  # JPEG XL states its colours in words, of which the decoder makes a profile
    pixels, alpha, space = planes(im, name, rawmode, max_value, icc, space, notes)
    if im.mode == "CMYK":
        icc = None
    if space is not None:
        pixels, icc, told = understood(pixels, space)
        notes.extend(told)
    if icc is not None and not metadata.fits(icc, grey=pixels.ndim == 2):
        icc = None
        notes.append("ICC profile dropped: it is not for a grey or an RGB picture as this one is")
    if alpha is not None and alpha.min() == 255:
        alpha = None
    exif = _exif(found)
    packet = extras.xmp_of(found)
    lost = extras.lost_of(found, packet) if found.source is not None else []
    orientation = _orientation(found, exif, packet) if turn else 1
    upright = _UPRIGHT.get(orientation, _as_it_is)
    pixels = np.ascontiguousarray(upright(pixels))
    resolution = metadata.resolution(im) or metadata.sound_resolution(*(found.dpi or (0, 0)))
    if metadata.has_oblong_pixels(im):
        lost.append("ratio of the pixels' sides")
    if resolution and orientation > 4:
        resolution = resolution[1], resolution[0]
    return Picture(
        pixels,
        None if alpha is None else np.ascontiguousarray(upright(alpha)),
        icc,
        _of_these_pixels(exif, pixels, found),
        bits > 8 or im.mode in ("I", "F"),
        tuple(notes),
        _xmp_of_these_pixels(packet, pixels, lost, orientation != 1),
        resolution,
        tuple(lost),
    )


def _exif(found: Opened) -> bytes | None:
    """EXIF as it stands in the file. Broken EXIF is dropped with a note, as viewers do."""
    im = found.im
    try:
        exif = im.info.get("exif")
        if not exif:  # TIFF, whose own tags are the EXIF
            made, n_broken = metadata.of_tags(im.getexif())
            if n_broken:
                found.notes.append(f"{n_broken} broken EXIF tag{'s' * (n_broken > 1)} dropped")
            return made
        while exif.startswith(metadata.EXIF_PREFIX):
            exif = exif[len(metadata.EXIF_PREFIX) :]
        if not metadata.is_sound(exif):
            raise ValueError
        return bytes(exif)
    except Exception:  # Pillow's parser raises nearly everything
        found.notes.append("broken EXIF dropped")
        return None


def _orientation(found: Opened, exif: bytes | None, packet: bytes | None) -> int:
    """1 to 8, of EXIF or else XMP, unless the pixels are upright already."""
    im = found.im
    if im.format in ("HEIF", "PSD") or (im.format == "JXL" and not getattr(im, "jpeg", False)):
        return 1  # these formats state it elsewhere or not at all, and their decoders apply it
    if im.format == "TIFF":
        stated = getattr(im, "tag_v2", {}).get(274)
        if isinstance(stated, int) and 1 <= stated <= 8:
            return stated
    stated = metadata.orientation(exif) if exif else None
    if stated is None and not im.info.get("exif"):
        try:
            stated = im.getexif().get(274)  # of a PNG's text, for one
        except Exception:
            stated = None
    if stated is None and packet:
        stated = xmp.orientation(packet)
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _of_these_pixels(exif: bytes | None, pixels: np.ndarray, found: Opened) -> bytes | None:
    if exif is None:
        return None
    try:
        exif = metadata.without_orientation(exif)
        return metadata.of_this_size(exif, pixels.shape[1], pixels.shape[0])
    except (ValueError, struct.error):
        found.notes.append("broken EXIF dropped")
        return None


def _xmp_of_these_pixels(
    packet: bytes | None, pixels: np.ndarray, lost: list[str], turned: bool = False
) -> bytes | None:
    if packet is None:
        return None
    packet = xmp.of_this_size(xmp.upright(packet, turned), pixels.shape[1], pixels.shape[0])
    made = xmp.without_parts(packet)
    if made is None:
        lost.append("XMP, which is broken")
    return made


def stripped(picture: Picture, profile: bool = False) -> Picture:
    """The picture without EXIF, XMP, resolution and the note of its depth.

    profile: without its ICC profile too; its colours are made sRGB first. Raises ImageError
    where the profile cannot be used.
    """
    picture = replace(picture, exif=None, xmp=None, resolution=None, deep=False)
    if not profile or picture.icc is None:
        return picture
    try:
        pixels = to_srgb(picture.pixels, picture.icc)
    except Exception as error:  # PyCMSError, and others of hostile profiles
        raise ImageError(f"the ICC profile cannot be used: {line(error)}") from error
    return replace(picture, pixels=pixels, icc=None)


def described(
    picture: Picture,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> Picture:
    """The picture with metadata as Pillow's ``save`` takes it.

    It is of the pixels as they are: an orientation in it is dropped.
    """
    found = Opened(Image.new("L", (1, 1)), None)
    found.im.info.update({"exif": exif} if exif else {}, xmp=xmp)
    pixels = picture.pixels
    return replace(
        picture,
        exif=_of_these_pixels(_exif(found), pixels, found),
        xmp=_xmp_of_these_pixels(extras.xmp_of(found), pixels, []),
        resolution=metadata.sound_resolution(*(dpi or (0, 0))),
        notes=(*picture.notes, *found.notes),
    )


def upright(exif: bytes | None, packet: bytes | None) -> tuple[bytes | None, bytes | None]:
    """EXIF and XMP without an orientation, which would turn a picture that is upright."""
    if exif is not None:
        with suppress(ValueError, struct.error):  # of what is broken nothing is turned
            exif = metadata.without_orientation(exif)
    return exif, None if packet is None else xmp.upright(packet)


def part_of(
    exif: bytes | None, packet: bytes | None, width: int, height: int
) -> tuple[bytes | None, bytes | None]:
    """EXIF and XMP of a part of a picture: no thumbnail of the whole, and its own size."""
    if exif is not None:
        try:
            exif = metadata.of_this_size(metadata.without_thumbnail(exif), width, height)
        except (ValueError, struct.error):
            exif = None
    if packet is not None:
        packet = xmp.of_this_size(xmp.without_thumbnails(packet), width, height)
    return exif, packet
