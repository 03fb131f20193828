"""Samples of an image of Pillow: their depth, their colour model, and 8 bits of them."""

from contextlib import suppress
from typing import cast

import numpy as np
from PIL import Image, ImageCms

from vqcodec.errors import ImageError
from vqcodec.image.colour import Space, levels, rgb_by_profile

_MIN, _MAX = (340, 280), (341, 281)  # tags of a TIFF: of any type, and of whole numbers
_NEARLY_BLACK = 16  # of 255


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


def stated_range(im: Image.Image) -> tuple[float, float] | None:
    """(black, white) where a TIFF states a largest sample value."""
    tags = getattr(im, "tag_v2", {})

    def first(names: tuple[int, ...]) -> float | None:
        for name in names:
            value = tags.get(name)
            value = value[0] if isinstance(value, tuple) and value else value
            if isinstance(value, int | float):
                return float(value)
        return None

    low, high = first(_MIN) or 0.0, first(_MAX)
    return (low, high) if high is not None and high > low else None


def planes(
    im: Image.Image,
    name: str,
    rawmode: str,
    max_value: int,
    icc: bytes | None,
    space: Space | None,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray | None, Space | None]:
    """(pixels (h, w) or (h, w, 3) uint8, alpha, their space) of a loaded image.

    The space is None where the pixels are sRGB, or of the image's profile.
    """
    mode = im.mode
    if mode.startswith("I;16") or (mode == "I" and im.format in ("PNG", "PPM")):
        values = np.array(im)  # (h, w) uint16 or int32, 0..max_value
        alpha = keyed_alpha(values, im, rawmode)
        low, high = stated_range(im) or (0, max_value)
        if low == 0 and high == max_value and space is not None and not space.is_hdr:
            # before there are only 8 bits of what may be linear
            pixels, space = levels(space, max_value + 1)[np.clip(values, 0, max_value)], None
        else:
            pixels = to_8bit(values, int(high), int(low))
        if _white_is_zero(im):
            pixels = 255 - pixels  # white is zero, which Pillow undoes for up to 8 bits only
    elif mode in ("I", "F") or (mode == "L" and _is_signed(im)):
        pixels, alpha = _numbers(im, name, notes), None
    elif mode in ("1", "L", "RGB"):
        pixels = np.array(im.convert("L") if mode == "1" else im)
        alpha = keyed_alpha(pixels, im, rawmode)
        high = (stated_range(im) or (0, max_value))[1]
        if max_value > 255 and 0 < high < max_value // 2:  # Pillow took the upper bytes
            table = (np.arange(256) * 257 * 255 / high).clip(0, 255)
            pixels = np.rint(table).astype(np.uint8)[pixels]
            notes.append(f"samples up to {high:.0f} keep few bits: of 16 the upper 8 are read")
    elif mode == "CMYK":
        pixels, alpha, space = _cmyk(im, icc, notes), None, None
    else:
        has_alpha = im.has_transparency_data
        straight = im.convert("LA") if mode == "La" else im
        samples = np.array(straight.convert("RGBA" if has_alpha else "RGB"))
        pixels, alpha = samples[..., :3], samples[..., 3] if has_alpha else None
        # Pillow delivers 16-bit grey with alpha as RGBA
        grey = mode in ("LA", "La") or rawmode == "LA;16B"
        if grey or (mode in ("P", "PA") and icc is None and not np.ptp(pixels, axis=2).any()):
            pixels = pixels[..., 0]
        if mode in ("LAB", "HSV"):
            space = None
            notes.append(f"{mode} converted to RGB")
    if (max_value > 255 or mode in ("I", "F")) and pixels.max() < _NEARLY_BLACK:
        share = 100 * int(pixels.max()) / 255
        notes.append(f"nearly black: the samples reach {share:.0f} % of the largest value")
    return pixels, alpha, space


def _numbers(im: Image.Image, name: str, notes: list[str]) -> np.ndarray:
    """Signed, 32-bit or floating point numbers as 8 bits, where the file says what is white.

    Numbers from 0 to 1 are taken for that. Raises ImageError for others.
    """
    values = np.array(im)
    if im.mode == "L":
        values = values.view(np.int8)
    elif im.mode == "I" and im.format == "TIFF" and not _is_signed(im):
        values = values.view(np.uint32)
    found = np.nan_to_num(values.astype(np.float64))
    kind = "floating point numbers" if im.mode == "F" else "whole numbers"
    limits = stated_range(im)
    if limits is None and im.mode == "F" and found.min() >= 0 and 0 < found.max() <= 1:
        limits = 0.0, 1.0
    if limits is None:
        raise ImageError(
            f"{name}: samples are {kind} from {found.min():g} to {found.max():g}, whose black and "
            "white are unknown; make it 8 or 16 bits per sample first"
        )
    low, high = limits
    notes.append(f"{kind} from {low:g} to {high:g} coded as 8 bits")
    scaled: np.ndarray = np.rint(255 * ((found - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    return 255 - scaled if _white_is_zero(im) else scaled


def _is_signed(im: Image.Image) -> bool:
    stated = getattr(im, "tag_v2", {}).get(339)
    return stated == 2 or (isinstance(stated, tuple) and 2 in stated)


def _white_is_zero(im: Image.Image) -> bool:
    return im.format == "TIFF" and getattr(im, "tag_v2", {}).get(262) == 0


def _cmyk(im: Image.Image, icc: bytes | None, notes: list[str]) -> np.ndarray:
    """(h, w, 3) uint8, by the profile where there is one."""
    if icc is not None and icc[16:20] == b"CMYK":
        with suppress(ImageCms.PyCMSError, OSError):
            converted = np.array(rgb_by_profile(im, icc))
            notes.append("CMYK converted to sRGB by its profile")
            return converted
    unused = "" if icc is None else ", without its profile, which cannot be used"
    notes.append(f"CMYK converted to RGB{unused}")
    return np.array(im.convert("RGB"))


def to_8bit(values: np.ndarray, max_value: int, min_value: int = 0) -> np.ndarray:
    """Integers min_value..max_value to uint8, to the nearest; 65535 -> 255."""
    span = max_value - min_value
    scale = (np.arange(span + 1, dtype=np.uint32) * 255 + span // 2) // span
    clipped = np.clip(values, min_value, max_value).astype(np.int32) - min_value
    rounded: np.ndarray = scale.astype(np.uint8)[clipped]
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
