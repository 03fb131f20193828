"""Colours that are not sRGB's: converted, or described by an ICC profile.

What the codecs code, and what programs take a picture without a profile for, is sRGB
(IEC 61966-2-1). Where a picture's colours lie within sRGB's gamut its samples are converted; where
its gamut is wider they stay as they are, with a profile, so that no colour is lost. Of pictures for
displays brighter than white (ITU-R BT.2100) what is brighter is compressed.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from vqcodec.image.sequence import Colour

Primaries = tuple[float, ...]  # x, y of white, red, green and blue (CIE 1931)

_D65 = (0.3127, 0.3290)
SRGB: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, tuple[str, Primaries]] = {  # of ITU-T H.273, table 2
    1: ("sRGB", SRGB),
    4: ("BT.470 M", (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.601, 625 lines", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601, 525 lines", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: ("SMPTE 240M", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    8: ("film", (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    10: ("XYZ", (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
    11: ("DCI P3", (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: ("Display P3", (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    22: ("EBU 3213", (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
_UNSPECIFIED = 2
_LINEAR, _PQ, _HLG = 8, 16, 18
# Of H.273, table 3. The curves of television are shown as sRGB's is.
_GAMMA = {4: 2.2, 5: 2.8, _LINEAR: 1.0, 17: 2.6}
_LIKE_SRGB = {1, 2, 6, 7, 11, 12, 13, 14, 15}
_SAME_GAMMA = 0.05  # share by which an exponent may differ from 2.2 and be taken for sRGB's
_WHITE = 203.0  # cd/m2 of diffuse white (ITU-R BT.2408)
_PEAK = 1000.0  # cd/m2 of the display that HLG is rendered for
_KNEE = 0.8  # of white: what is darker stays as it is


class Space(NamedTuple):
    """The colours of samples."""

    name: str = "sRGB"
    primaries: Primaries = SRGB
    gamma: float | None = None  # exponent; None for the curve of sRGB
    transfer: int = 13  # of H.273; matters for PQ and HLG
    full_range: bool = True

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    @property
    def is_wide(self) -> bool:
        """Whether its primaries are others than sRGB's."""
        return max(abs(a - b) for a, b in zip(self.primaries, SRGB, strict=True)) > 0.005

    @property
    def is_srgb(self) -> bool:
        has_curve = self.gamma is None or abs(self.gamma / 2.2 - 1) <= _SAME_GAMMA
        return has_curve and self.full_range and not self.is_hdr and not self.is_wide


ADOBE_RGB = Space("Adobe RGB", (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256)


def of_code_points(colour: Colour) -> Space | None:
    """The space that H.273 names so; None where this page knows none of that name.

    "Unspecified" of both says nothing, and one of them is sRGB's beside the other.
    """
    if colour.primaries == colour.transfer == _UNSPECIFIED and colour.full_range:
        return None
    name, primaries = _PRIMARIES.get(
        1 if colour.primaries == _UNSPECIFIED else colour.primaries, ("", SRGB)
    )
    known = colour.transfer in {*_GAMMA, *_LIKE_SRGB, _PQ, _HLG}
    if not name or not known:
        return None
    gamma = _GAMMA.get(colour.transfer)
    return Space(name, primaries, gamma, colour.transfer, colour.full_range)


def of_values(name: str, gamma: float | None, primaries: Primaries | None) -> Space:
    """The space of an exponent of decoding (2.2 is usual) and primaries that a file states.

    What is impossible in them is left out, as viewers do. name: of primaries unlike sRGB's
    """
    exponent = gamma if gamma and 0.2 <= gamma <= 20 else None
    possible = primaries if primaries and _is_possible(primaries) else SRGB
    space = Space(name, possible, exponent)
    return space if space.is_wide else space._replace(name="sRGB")


def exponent_of(curve: np.ndarray) -> float | None:
    """The exponent of decoding that a table (n) from samples to light is nearest to.

    None where it is nearer to the curve of sRGB, or describes no curve from dark to bright.
    """
    light = np.asarray(curve, np.float64) / max(float(np.max(curve)), 1.0)
    v = np.linspace(0, 1, len(light))
    inner = (v > 0.05) & (v < 0.95)
    if len(light) < 16 or np.any(np.diff(light) < 0) or light[inner].min(initial=1) <= 0:
        return None
    gamma = float(np.mean(np.log(light[inner]) / np.log(v[inner])))
    of_gamma = np.abs(light - v**gamma).max()
    return gamma if of_gamma < np.abs(_srgb_curve(light) - v).max() else None


def _is_possible(primaries: Primaries) -> bool:
    if not all(0 <= value <= 1 for value in primaries) or min(primaries[1::2]) < 0:
        return False
    try:
        matrix = _to_xyz(primaries)
    except (ZeroDivisionError, np.linalg.LinAlgError):
        return False
    # White is a mixture of the three, and not dark
    is_white = primaries[1] > 0 and bool((matrix.sum(axis=0) > 0).all())
    return is_white and bool(np.isfinite(matrix).all() and np.linalg.cond(matrix) < 1000)


def understood(
    pixels: np.ndarray, space: Space
) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """(pixels as they are to be coded, the profile that they need, what to tell the user).

    pixels (h, w, 3) or (h, w) uint8, in the space.
    """
    if space.is_hdr:
        name = "PQ" if space.transfer == _PQ else "HLG"
        told = f"{space.name} {name} made sRGB: what is brighter than white was compressed"
        return _in_bands(pixels, lambda band: _tone_mapped(band, space)), None, (told,)
    grey = pixels.ndim == 2
    if space.is_srgb or (grey and space._replace(primaries=SRGB).is_srgb):
        return pixels, None, ()
    notes: tuple[str, ...] = ()
    gamma = space.gamma
    usual = gamma is None or 1.7 <= gamma <= 2.8
    if not space.full_range or not usual or (grey or not space.is_wide):
        table = levels(space, 256)
        if not np.array_equal(table, np.arange(256)):
            what = "narrow range" if gamma is None else f"gamma {gamma:.2f}"
            pixels, notes = table[pixels], (f"{what} converted to the curve of sRGB",)
        gamma = None
    if grey or not space.is_wide:
        return pixels, None, notes
    told = f"{space.name} colours: an ICC profile says so"
    return pixels, profile(space.name, space.primaries, gamma), (*notes, told)


def levels(space: Space, n: int) -> np.ndarray:
    """Table (n) uint8 from samples 0..n-1 of the space's curve to those of sRGB's."""
    v = np.arange(n) / (n - 1)
    if not space.full_range:
        v = ((v * 255 - 16) / 219).clip(0, 1)
    same = space.gamma is None or abs(space.gamma / 2.2 - 1) <= _SAME_GAMMA
    if not same and space.gamma is not None:
        v = _srgb_curve(v**space.gamma)
    return np.rint(255 * v).astype(np.uint8)


def to_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Pixels (h, w[, 3]) uint8 of an RGB or grey profile as sRGB, of the same shape.

    Raises ImageCms.PyCMSError where the profile cannot be used.
    """
    made = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(BytesIO(icc)),
        _srgb_profile(),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert made is not None
    rgb: np.ndarray = np.array(made)
    return rgb[..., 1] if pixels.ndim == 2 else rgb


def is_srgb(icc: bytes) -> bool:
    """Whether a profile shows the same as sRGB does, within a step."""
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    is_grey = icc[16:20] == b"GRAY"
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 6, 3)
    samples: np.ndarray = np.arange(256, dtype=np.uint8).reshape(16, 16) if is_grey else cube
    try:
        return bool(np.abs(to_srgb(samples, icc).astype(int) - samples).max() <= 1)
    except (ImageCms.PyCMSError, OSError):
        return False


def rgb_by_profile(im: Image.Image, icc: bytes) -> Image.Image:
    """An image of another colour model, such as CMYK, as sRGB, by its profile's own rendering.

    Raises ImageCms.PyCMSError where the profile is not for it.
    """
    made = ImageCms.profileToProfile(
        im, ImageCms.ImageCmsProfile(BytesIO(icc)), _srgb_profile(), outputMode="RGB"
    )
    assert made is not None
    return made


@lru_cache
def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _in_bands(
    pixels: np.ndarray, work: Callable[[np.ndarray], np.ndarray], rows: int = 256
) -> np.ndarray:
    made = np.empty_like(pixels)
    for at in range(0, len(pixels), rows):
        made[at : at + rows] = work(pixels[at : at + rows])
    return made


def _srgb_curve(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _tone_mapped(pixels: np.ndarray, space: Space) -> np.ndarray:
    """PQ or HLG (ITU-R BT.2100) as sRGB: as it is up to the knee, compressed above."""
    v = pixels.astype(np.float32) / 255
    if not space.full_range:
        v = ((v * 255 - 16) / 219).clip(0, 1)
    light = _pq(v) if space.transfer == _PQ else _hlg(v, space)
    light /= _WHITE
    if pixels.ndim == 3 and space.is_wide:
        matrix = np.linalg.inv(_to_xyz(SRGB)) @ _to_xyz(space.primaries)
        light = (light @ matrix.T.astype(np.float32)).clip(0)
    most = light.max(axis=2, keepdims=True) if pixels.ndim == 3 else light
    over = np.maximum(most - _KNEE, 0)
    room = 1 - _KNEE
    mapped = np.minimum(most, _KNEE) + over * room / (over + room)  # slope 1 at the knee
    light = light * (mapped / np.maximum(most, 1e-6))
    made: np.ndarray = np.rint(255 * _srgb_curve(light.clip(0, 1))).astype(np.uint8)
    return made


def _pq(v: np.ndarray) -> np.ndarray:
    """cd/m2 of PQ."""
    power = v ** (1 / 78.84375)
    base = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return np.asarray(10000 * base ** (1 / 0.1593017578125), np.float32)


def _hlg(v: np.ndarray, space: Space) -> np.ndarray:
    """cd/m2 of HLG on the display: the scene's light, by the system gamma of 1.2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
    weights = _to_xyz(space.primaries)[1].astype(np.float32)
    luminance = scene @ weights if v.ndim == 3 else scene
    gain = _PEAK * np.maximum(luminance, 1e-9) ** 0.2
    return np.asarray(scene * (gain[..., None] if v.ndim == 3 else gain), np.float32)


def _to_xyz(primaries: Primaries) -> np.ndarray:
    """Matrix (3, 3) from linear RGB to XYZ, white at Y = 1."""
    points = np.array(primaries).reshape(4, 2)
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] if y else [1.0, 0.0, 0.0] for x, y in points])
    white, colours = xyz[0], xyz[1:].T
    return np.asarray(colours * np.linalg.solve(colours, white))


_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])  # of ICC.1


def profile(name: str, primaries: Primaries, gamma: float | None = None) -> bytes:
    """An ICC profile (ICC.1:2010, version 4) of RGB primaries; gamma: None for sRGB's curve."""
    matrix = _to_xyz(primaries)
    white = matrix.sum(axis=1)
    adapted = (
        np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    )
    colorants = adapted @ matrix

    def fixed(values: np.ndarray) -> bytes:
        return b"".join(struct.pack(">i", round(65536 * float(v))) for v in values)

    def text(words: str) -> bytes:
        coded = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(coded), 28) + coded

    if gamma is None:
        numbers = np.array([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])
        curve = b"para" + struct.pack(">4xHxx", 3) + fixed(numbers)
    else:
        curve = b"para" + struct.pack(">4xHxx", 0) + fixed(np.array([gamma]))
    contents = {
        b"desc": text(name),
        b"cprt": text("CC0"),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(_D50),
        b"chad": b"sf32\0\0\0\0" + fixed(adapted.ravel()),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(colorants[:, 0]),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(colorants[:, 1]),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(colorants[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, places = struct.pack(">I", len(contents)), b"", {}
    start = 128 + 4 + 12 * len(contents)
    for tag, data in contents.items():
        if data not in places:
            places[data] = start + len(body)
            body += data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += struct.pack(">4sII", tag, places[data], len(data))
    head = struct.pack(
        ">I4sI4s4s4s12s4s4s", start + len(body), b"\0\0\0\0", 0x04300000, b"mntr", b"RGB ",
        b"XYZ ", struct.pack(">6H", 2020, 1, 1, 0, 0, 0), b"acsp", b"\0\0\0\0",
    )  # fmt: skip
    head += struct.pack(">I4s4sQI", 0, b"\0" * 4, b"\0" * 4, 0, 0) + fixed(_D50)
    return head.ljust(128, b"\0") + table + body
