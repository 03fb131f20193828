"""The picture as arrays, and what belongs to it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vqcodec.errors import UsageError
from vqcodec.image.samples import to_8bit


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright still image with 8 bits per sample, and what belongs to it."""

    pixels: np.ndarray  # (h, w, 3) uint8, or (h, w) uint8 for a grey picture
    alpha: np.ndarray | None = None  # (h, w) uint8; None: opaque
    icc: bytes | None = None  # an RGB profile, or a grey one for a grey picture; None: sRGB
    exif: bytes | None = None  # from its TIFF header on (b"II*\0" or b"MM\0*"); no orientation
    deep: bool = False  # the source had more than 8 bits per sample
    notes: tuple[str, ...] = ()  # what was changed on the way in, a line each, for the user
    xmp: bytes | None = None  # a packet of XML; an orientation in it is 1
    resolution: tuple[float, float] | None = None  # pixels per inch, along rows and columns
    lost: tuple[str, ...] = ()  # what the source has besides and is not kept, a few words each

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def grey(self) -> bool:
        return self.pixels.ndim == 2


@dataclass(frozen=True, eq=False)
class Rows:
    """A picture whose pixels come row by row, once; the rest as in ``Picture``."""

    height: int
    width: int
    grey: bool
    bands: Iterator[np.ndarray]  # (rows, w, 3) uint8, or (rows, w), from top to bottom
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    deep: bool = False
    xmp: bytes | None = None
    resolution: tuple[float, float] | None = None


def rgb(picture: Picture) -> np.ndarray:
    """Pixels (h, w, 3) uint8, of a grey picture too; without alpha."""
    pixels = picture.pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def from_array(pixels: np.ndarray) -> Picture:
    """(h, w) or (h, w, 1 to 4) uint8 or uint16, grey or RGB, the last of 2 or 4 alpha -> Picture.

    Raises UsageError for anything else.
    """
    pixels = np.asarray(pixels)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    shapes = (), (1,), (2,), (3,), (4,)
    known = pixels.dtype in (np.uint8, np.uint16) and pixels.shape[2:] in shapes
    if not known or pixels.ndim < 2 or 0 in pixels.shape:
        raise UsageError(
            f"an array of {pixels.dtype} {pixels.shape} is not a picture: "
            "uint8 or uint16 of (h, w) or (h, w, 1 to 4)"
        )
    notes: tuple[str, ...] = ()
    deep = pixels.dtype == np.uint16
    if deep:
        pixels = to_8bit(pixels, 65535)
        notes = ("16 bits per sample are coded as 8",)
    alpha = None
    if pixels.shape[2:] in ((2,), (4,)):
        pixels, last = pixels[..., :-1], pixels[..., -1]
        alpha = None if (last == 255).all() else np.ascontiguousarray(last)
    if pixels.shape[2:] == (1,):
        pixels = pixels[..., 0]
    return Picture(np.ascontiguousarray(pixels), alpha, deep=deep, notes=notes)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (h, w[, 3]) uint8 at another size, by Lanczos's filter."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def contact_sheet(
    pictures: Sequence[np.ndarray], gap: int = 2, columns: int | None = None
) -> np.ndarray:
    """Pictures (h, w, 3) of one size in rows, white in between; by default about a square."""
    h, w = pictures[0].shape[:2]
    if columns is None:
        columns = -(-len(pictures) * h // math.isqrt(max(1, len(pictures) * h * w)))
        columns = min(len(pictures), max(1, columns))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for index, pixels in enumerate(pictures):
        top, left = index // columns * (h + gap), index % columns * (w + gap)
        sheet[top : top + h, left : left + w] = pixels
    return sheet
