"""Pictures of files: 8-bit grey or RGB, upright, alpha apart."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from vqcodec.container import MAX_PIXELS
from vqcodec.errors import ImageError, VqcodecError
from vqcodec.image.metadata import exif_of, fits
from vqcodec.image.opening import check_size, check_still, line, opened, stream_of
from vqcodec.image.picture import Picture, rgb
from vqcodec.image.samples import keyed_alpha, raw, to_8bit

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
) -> Picture:
    """The picture in a file, in bytes or in a binary stream (a pipe will do).

    Any still image that Pillow opens, except EPS, WMF and icons. Grey stays grey; so does a palette
    of greys without an ICC profile. Alpha that is 255 everywhere is dropped. 16 bits per sample
    become 8: grey with rounding, RGB in Pillow by its upper byte. (Pillow does not tell 10 bit
    AVIF and 16 bit RGB JPEG 2000 from 8 bit; they are read without a note.) The EXIF orientation
    is applied. An ICC profile is kept if it is for grey and the picture is, or for RGB likewise.

    ``name`` stands for the source in messages. With ``long_side`` a JPEG is decoded at a half, a
    quarter or an eighth of its size, in as small a fraction of the time, as long as that leaves so
    many pixels. Raises InputError if the source cannot be opened, ImageError if it is not a whole
    still image of at most ``max_pixels`` pixels.
    """
    with stream_of(source, name) as stream, opened(stream, name, max_pixels) as im:
        check_still(im, name)
        if long_side and im.format == "JPEG":
            factor = long_side / max(im.size)
            im.draft(None, (max(1, int(factor * im.width)), max(1, int(factor * im.height))))
        return picture_of(im, name)


def read_rgb(path: Path) -> np.ndarray:
    """Pixels of a picture as (h, w, 3) uint8, upright; alpha is ignored. Raises as ``read``."""
    return rgb(read(path, str(path)))


def from_pillow(im: Image.Image, max_pixels: int = MAX_PIXELS) -> Picture:
    """The same as ``read`` for an image of Pillow's (its current frame). Raises ImageError."""
    try:
        check_size(im, "picture", max_pixels)
        return picture_of(im, "picture")
    except VqcodecError:
        raise
    except Exception as error:
        raise ImageError(f"picture: {line(error)}") from error


def picture_of(im: Image.Image, name: str) -> Picture:
    """Conversion to 8-bit grey or RGB, alpha apart, upright."""
    rawmode, max_value = raw(im)  # before load() forgets it
    im.load()
    mode = im.mode  # after load(), which may change it
    deep = max_value > 255
    notes = [f"{max_value.bit_length()} bits per sample coded as 8"] if deep else []
    icc = im.info.get("icc_profile") or None

    if mode.startswith("I;16") or (mode == "I" and im.format in ("PNG", "PPM")):
        values = np.array(im)  # (h, w) uint16 or int32, 0..max_value
        pixels, alpha = to_8bit(values, max_value), keyed_alpha(values, im, rawmode)
        if im.format == "TIFF" and getattr(im, "tag_v2", {}).get(262) == 0:
            pixels = 255 - pixels  # white is zero, which Pillow undoes for up to 8 bits only
    elif mode in ("I", "F"):
        kind = "32-bit integers" if mode == "I" else "floating point numbers"
        raise ImageError(
            f"{name}: samples are {kind}, whose black and white are unknown; "
            "make it 8 or 16 bits per sample first"
        )
    elif mode in ("1", "L", "RGB"):
        pixels = np.array(im.convert("L") if mode == "1" else im)
        alpha = keyed_alpha(pixels, im, rawmode)
    else:
        has_alpha = im.has_transparency_data
        straight = im.convert("LA") if mode == "La" else im
        samples = np.array(straight.convert("RGBA" if has_alpha else "RGB"))
        pixels, alpha = samples[..., :3], samples[..., 3] if has_alpha else None
        # Pillow delivers 16-bit grey with alpha as RGBA
        grey = mode in ("LA", "La") or rawmode == "LA;16B"
        if grey or (mode in ("P", "PA") and icc is None and not np.ptp(pixels, axis=2).any()):
            pixels = pixels[..., 0]
        if mode in ("CMYK", "LAB", "HSV"):
            notes.append(f"{mode} converted to RGB")

    if icc is not None and not fits(icc, grey=pixels.ndim == 2):
        icc = None
        notes.append("ICC profile dropped: it is not for a grey or an RGB picture as this one is")
    orientation, exif = exif_of(im, notes)
    if alpha is not None and alpha.min() == 255:
        alpha = None
    upright = _UPRIGHT.get(orientation, _as_it_is)
    return Picture(
        np.ascontiguousarray(upright(pixels)),
        None if alpha is None else np.ascontiguousarray(upright(alpha)),
        icc,
        exif,
        deep,
        tuple(notes),
    )
