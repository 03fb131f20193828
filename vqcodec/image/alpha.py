"""Alpha as a grey PNG, which is how a .vqc file holds it, and the pixels that it hides."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from vqcodec.errors import FormatError
from vqcodec.image.opening import line, open_image
from vqcodec.image.picture import Picture, Rows
from vqcodec.image.samples import raw

Colour = tuple[int, int, int]  # sRGB, 0..255


def encode_alpha(alpha: np.ndarray) -> bytes:
    """(h, w) uint8 as a grey PNG."""
    buffer = BytesIO()
    Image.fromarray(alpha).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def decode_alpha(data: bytes, width: int, height: int) -> np.ndarray:
    """Alpha (height, width) uint8 from ``encode_alpha``'s bytes, which need not be trusted.

    Raises FormatError unless they are a still 8-bit grey PNG of exactly that size.
    """
    try:
        im = open_image(BytesIO(data), only="PNG")
        if (im.mode, im.size, raw(im)[0]) != ("L", (width, height), "L"):
            raise FormatError(f"alpha is not {width} x {height} grey")
        if getattr(im, "n_frames", 1) != 1:
            raise FormatError("alpha is animated")
        return np.array(im)
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"broken alpha: {line(error)}") from error


def smoothed(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The same pixels (h, w[, 3]) uint8 where alpha is not 0, and smooth ones where it is.

    What is invisible costs least where it goes on as its surroundings do: it takes the mean of
    what is visible near it, in squares of growing size.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.zeros_like(pixels)
    filled = _filled(pixels.reshape(*pixels.shape[:2], -1), ~hidden)
    made = pixels.copy()
    made[hidden] = filled.reshape(pixels.shape)[hidden]
    return made


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """values (h, w, c) of any type as uint8 or float32, with those that are unknown filled in."""
    h, w, c = values.shape
    if known.all():
        return values
    # A pixel of the next level is the mean of the known ones of four.
    height, width = -(-h // 2), -(-w // 2)
    total = np.zeros((height, width, c), np.float32)
    count = np.zeros((height, width), np.uint8)
    for y in range(2):
        for x in range(2):
            part, sure = values[y::2, x::2], known[y::2, x::2]
            ph, pw = sure.shape
            total[:ph, :pw] += part * sure[..., None]
            count[:ph, :pw] += sure
    total /= np.maximum(count, 1)[..., None]
    coarse = _filled(total, count > 0)
    made = values.copy()
    for y in range(2):
        for x in range(2):
            sure = known[y::2, x::2]
            ph, pw = sure.shape
            filling = _between(coarse, y, x)[:ph, :pw]
            if values.dtype == np.uint8:
                filling = np.rint(filling).astype(np.uint8)
            made[y::2, x::2] = np.where(sure[..., None], values[y::2, x::2], filling)
    return made


def _between(coarse: np.ndarray, y: int, x: int) -> np.ndarray:
    """Values at one of the four places within each pixel, by bilinear interpolation."""
    near_rows = np.roll(coarse, 1 if y == 0 else -1, axis=0)
    near_rows[0 if y == 0 else -1] = coarse[0 if y == 0 else -1]
    rows = 0.75 * coarse + 0.25 * near_rows
    near = np.roll(rows, 1 if x == 0 else -1, axis=1)
    near[:, 0 if x == 0 else -1] = rows[:, 0 if x == 0 else -1]
    return np.asarray(0.75 * rows + 0.25 * near)


def blended(picture: Picture, colour: Colour) -> Picture:
    """The picture in front of a colour, without alpha. A grey one stays so before a grey."""
    if picture.alpha is None:
        return picture
    pixels = picture.pixels
    if pixels.ndim == 2 and len(set(colour)) > 1:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    icc = picture.icc if pixels.ndim == picture.pixels.ndim else None
    return replace(picture, pixels=_in_front(pixels, picture.alpha, colour), alpha=None, icc=icc)


def blended_rows(rows: Rows, colour: Colour) -> Rows:
    """The same of rows that come one after the other."""
    if rows.alpha is None:
        return rows
    grey, alpha = rows.grey and len(set(colour)) == 1, rows.alpha

    def bands() -> Iterator[np.ndarray]:
        at = 0
        for band in rows.bands:
            pixels = band if grey or band.ndim == 3 else np.repeat(band[..., None], 3, axis=2)
            yield _in_front(pixels, alpha[at : at + len(band)], colour)
            at += len(band)

    icc = rows.icc if grey == rows.grey else None
    return replace(rows, grey=grey, bands=bands(), alpha=None, icc=icc)


def _in_front(pixels: np.ndarray, alpha: np.ndarray, colour: Colour) -> np.ndarray:
    share = alpha.astype(np.uint16)
    behind = np.array(colour[0] if pixels.ndim == 2 else colour, np.uint16)
    if pixels.ndim == 3:
        share = share[..., None]
    # (a p + (255 - a) b) / 255 to the nearest, below 2^16
    return ((pixels * share + behind * (255 - share) + 127) // 255).astype(np.uint8)
