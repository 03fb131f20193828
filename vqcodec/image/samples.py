"""Samples of an image of Pillow: their depth, and 8 bits of them."""

from typing import cast

import numpy as np
from PIL import Image


def raw(im: Image.Image) -> tuple[str, int]:
    """(raw mode in the file, largest sample value), as far as Pillow knows it before load().

    Pillow delivers most 16-bit files with modes of 8 bits; only the raw mode tells.
    """
    rawmode, max_value = "", 255
    tiles = getattr(im, "tile", None)
    if tiles:
        args = tiles[0][3]
        args = args if isinstance(args, tuple) else (args,)
        rawmode = next((a for a in args if isinstance(a, str)), "")
        if tiles[0][0].startswith("ppm") and len(args) > 1:  # (raw mode, largest value)
            return rawmode, 65535 if args[1] > 255 else 255
    if rawmode.endswith(";12"):
        max_value = 4095
    # not BGR;16, which is 5 + 6 + 5 bits
    elif im.mode.startswith("I") or (";16" in rawmode and not rawmode.startswith("BGR")):
        max_value = 65535
    return rawmode, max_value


def to_8bit(values: np.ndarray, max_value: int) -> np.ndarray:
    """Integers 0..max_value to uint8, to the nearest; 65535 -> 255."""
    scale = (np.arange(max_value + 1, dtype=np.uint32) * 255 + max_value // 2) // max_value
    rounded: np.ndarray = scale.astype(np.uint8)[np.clip(values, 0, max_value)]
    return rounded


def keyed_alpha(values: np.ndarray, im: Image.Image, rawmode: str) -> np.ndarray | None:
    """Alpha (h, w) from the one colour that a PNG without palette may declare transparent.

    ``values`` are the samples of mode 1 (as 0, 255), L, RGB or 16-bit grey.
    """
    key = im.info.get("transparency")
    if not isinstance(key, int | tuple):
        return None
    # Pillow gives the key in units of the file, the samples in 8 bits
    if im.mode == "1":
        key = 255 if key else 0
    elif rawmode in ("L;2", "L;4"):
        key = int(cast(int, key)) * {"L;2": 85, "L;4": 17}[rawmode]
    elif im.mode == "RGB" and ";16" in rawmode:
        key = tuple(k >> 8 for k in cast(tuple[int, ...], key))
    same = values == np.asarray(key)
    return np.where(same.all(axis=2) if same.ndim == 3 else same, 0, 255).astype(np.uint8)
