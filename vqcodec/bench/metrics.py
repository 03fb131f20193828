"""How far a decoded picture is from its original, by five measures; larger is always better."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # BT.601, as in JFIF
_WINDOW = 11  # pixels: the side of SSIM's window
_MS_SSIM_SIDE = 16 * (_WINDOW - 1) + 1  # pixels: at 1/16 the window must still fit
_SSIMULACRA2_SCALES = 6
# Pixels: the smallest that has all 6 scales. With fewer the weights slip, in libjxl too, and the
# score jumps.
_SSIMULACRA2_SIDE = 113


@dataclass(frozen=True)
class Metric:
    """unit: "dB", or empty. source: who defined it, and what was chosen where that left a choice.

    compute(original, decoded): two (h, w, 3) uint8 arrays of one shape; None where its package is
    not installed. side: pixels, the smallest of both sides for which the metric is defined.
    """

    id: str
    label: str
    unit: str
    source: str
    compute: Callable[[np.ndarray, np.ndarray], float | None] = field(repr=False)
    side: int = 1


def measure(
    original: np.ndarray, decoded: np.ndarray, which: Collection[str] | None = None
) -> dict[str, float | None]:
    """The metrics of ``which`` ids, by default all of METRICS and always in that order.

    original, decoded: (h, w, 3) uint8. PSNR is ``math.inf`` where they are equal, which JSON does
    not know. None: the picture is too small for that metric, or its package is missing.

    Raises ValueError where the arrays are not two such or an id is unknown.
    """
    for pixels in (original, decoded):
        if pixels.dtype != np.uint8 or pixels.shape != (*original.shape[:2], 3) or not pixels.size:
            raise ValueError(
                f"two (h, w, 3) uint8 arrays are compared, not {original.dtype} {original.shape} "
                f"and {decoded.dtype} {decoded.shape}"
            )
    known = [metric.id for metric in METRICS]
    for name in which or ():
        if name not in known:
            raise ValueError(f"no metric {name!r}: there are {', '.join(known)}")
    return {
        metric.id: metric.compute(original, decoded)
        if min(original.shape[:2]) >= metric.side
        else None
        for metric in METRICS
        if which is None or metric.id in which
    }


def computable() -> list[str]:
    """The ids of METRICS whose packages are installed."""
    extra = {"ssimulacra2": "ssimulacra2"}  # pip install 'vqcodec[bench]'
    return [m.id for m in METRICS if m.id not in extra or find_spec(extra[m.id])]


def _psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    from vqcodec.metrics.psnr import psnr_db

    return psnr_db(original, decoded)


def _psnr_y(original: np.ndarray, decoded: np.ndarray) -> float:
    difference = (original.astype(np.float32) - decoded) @ _LUMA  # (h, w): luma is linear
    mse = np.square(difference).mean(dtype=np.float64)
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def _ssim(original: np.ndarray, decoded: np.ndarray) -> float | None:
    return _structural("ssim", original, decoded)


def _ms_ssim(original: np.ndarray, decoded: np.ndarray) -> float | None:
    return _structural("ms_ssim", original, decoded)


def _structural(name: str, original: np.ndarray, decoded: np.ndarray) -> float | None:
    try:
        import pytorch_msssim  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import torch
    except ImportError:
        return None
    # float32 as in the published numbers: within 2e-4 of float64 (photos: 1e-6), 5 times as fast
    x, y = (
        torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        for pixels in (original, decoded)
    )  # (1, 3, h, w)
    with torch.no_grad():
        return float(getattr(pytorch_msssim, name)(x, y, data_range=255))


def _ssimulacra2(original: np.ndarray, decoded: np.ndarray) -> float | None:
    """SSIMULACRA 2.1 as the tool of libjxl 0.11 computes it, to within 0.05.

    The parts are those of the package ``ssimulacra2``, put together anew: as it blurs, scores are
    up to 5 too low (other borders), and for want of the last scale up to 17 (shifted weights).
    """
    try:
        from ssimulacra2.ssimulacra2 import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
            edge_diff_map,
            ssim_map,
            weights,
        )
    except ImportError:
        return None
    # by channel X Y B, scale, norm 1 or 4, and map: structure, artifact, detail lost
    factors = weights.reshape(3, _SSIMULACRA2_SCALES, 2, 3)
    total = 0.0
    known = _scales(original.tobytes(), original.shape)  # the same for many decoded pictures
    for scale, (one, other) in enumerate(zip(known, _pyramid(decoded), strict=True)):
        (a, mean_a, power_a), (b, mean_b, power_b) = one, other
        structure = ssim_map(mean_a, mean_b, power_a, power_b, _blur(a * b))
        edges = edge_diff_map(a, mean_a, b, mean_b).reshape(3, 2, 2)  # channel, map, norm
        total += float((factors[:, scale, :, 0] * structure.reshape(3, 2)).sum())
        total += float((factors[:, scale, :, 1:] * edges.swapaxes(1, 2)).sum())
    x = 0.9562382616834844 * total
    x = 2.326765642916932 * x - 0.020884521182843837 * x**2 + 6.248496625763138e-05 * x**3
    return 100 - 10 * x**0.6276336467831387 if x > 0 else 100.0


Scale = tuple[np.ndarray, np.ndarray, np.ndarray]  # XYB (h, w, 3), its mean, that of its square


@lru_cache(maxsize=1)
def _scales(pixels: bytes, shape: tuple[int, ...]) -> list[Scale]:
    return _pyramid(np.frombuffer(pixels, np.uint8).reshape(shape))


def _pyramid(pixels: np.ndarray) -> list[Scale]:
    """pixels (h, w, 3) uint8, at full size, a half, a quarter..."""
    from ssimulacra2.ssimulacra2 import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        downsample,
        linear_rgb_to_xyb,
        make_positive_xyb,
        srgb_to_linear,
    )

    linear, scales = srgb_to_linear(pixels), []
    for scale in range(_SSIMULACRA2_SCALES):
        if scale:
            linear = downsample(linear, 2, 2)
        xyb = make_positive_xyb(linear_rgb_to_xyb(linear))
        scales.append((xyb, _blur(xyb), _blur(xyb * xyb)))
    return scales


def _blur(planes: np.ndarray) -> np.ndarray:
    """(h, w, 3), black beyond the borders."""
    from scipy.ndimage import convolve1d  # type: ignore[import-untyped,unused-ignore]

    for axis in (0, 1):
        planes = convolve1d(planes, _KERNEL, axis, mode="constant")
    return planes


def _kernel(sigma: float, radius: int) -> np.ndarray:
    """libjxl's stand-in for a Gaussian: a sum of three cosines that ends at the radius.

    Charalampidis, Recursive implementation of the Gaussian filter using truncated cosine
    functions, 2016, as in lib/jxl/gauss_blur.cc. Its numbers are the equations' there.
    """
    sign = np.array([1, -1, 1])
    omega = np.array([1, 3, 5]) * math.pi / (2 * radius)
    p = sign / np.tan(omega / 2)  # (37)
    r = sign * p**2 / np.sin(omega)  # (44)
    rho = np.exp(-(sigma**2) * omega**2 / 2) / radius  # (50)
    d13, d35, d51 = np.cross(p, r)[[2, 0, 1]]  # (52)
    zeta = np.array([d35 / d13, d51 / d13, 1])
    moments = np.array([1, radius**2 - sigma**2, zeta @ rho])
    beta = np.linalg.solve(np.array([p, r, zeta]), moments)  # (53)
    return beta @ np.cos(np.outer(omega, np.arange(-radius, radius + 1)))  # (2 * radius + 1,)


_KERNEL = _kernel(sigma=1.5, radius=5)

METRICS: tuple[Metric, ...] = (
    Metric("psnr", "PSNR", "dB", "over all samples of R, G and B, peak 255", _psnr),
    Metric(
        "psnr_y",
        "PSNR-Y",
        "dB",
        "of luma as in JFIF (BT.601, full range, not rounded), peak 255",
        _psnr_y,
    ),
    Metric(
        "ssim",
        "SSIM",
        "",
        "Wang et al. 2004, by pytorch-msssim: mean over R, G and B, Gaussian window 11 x 11 "
        "with sigma 1.5 wholly inside the picture",
        _ssim,
        _WINDOW,
    ),
    Metric(
        "ms_ssim",
        "MS-SSIM",
        "",
        "Wang et al. 2003, by pytorch-msssim: mean over R, G and B, 5 scales; from 161 pixels",
        _ms_ssim,
        _MS_SSIM_SIDE,
    ),
    Metric(
        "ssimulacra2",
        "SSIMULACRA2",
        "",
        "SSIMULACRA 2.1 of Cloudinary as in libjxl 0.11; 100 is identical; from 113 pixels",
        _ssimulacra2,
        _SSIMULACRA2_SIDE,
    ),
)
