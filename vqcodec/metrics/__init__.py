"""How far a decoded picture is from its original, by several measures; larger is always better.

``measure`` takes arrays and gives numbers. The same metrics on batches of tensors, differentiable,
are functions of ``vqcodec.metrics.ssim``, ``ssimulacra2`` and ``panel``.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from vqcodec.metrics.psnr import psnr_db, psnr_luma_db

__all__ = ["METRICS", "PANEL", "Metric", "computable", "measure", "psnr_db"]


@dataclass(frozen=True)
class Metric:
    """unit: "dB", or empty. source: who defined it, and what was chosen where that left a choice.

    compute(original, decoded): two (h, w, 3) uint8 arrays of one shape. side: pixels, the smallest
    of both sides for which the metric is defined. package: what it needs beyond the base install.
    similarity: it is at most 1, and BD-rates are taken in dB of what it lacks of that.
    """

    id: str
    label: str
    unit: str
    source: str
    compute: Callable[[np.ndarray, np.ndarray], float] = field(repr=False)
    side: int = 1
    package: str | None = None
    similarity: bool = False


def measure(
    original: np.ndarray, decoded: np.ndarray, which: Collection[str] | None = None
) -> dict[str, float | None]:
    """The metrics of ``which`` ids, by default all ``computable``, always in the order of METRICS.

    original, decoded: (h, w, 3) uint8. PSNR is ``math.inf`` where they are equal, which JSON does
    not know. None: the picture is too small for that metric.

    Raises ValueError where the arrays are not two such or an id is unknown, ImportError where a
    metric's package is missing (see ``computable``).
    """
    for pixels in (original, decoded):
        if not isinstance(pixels, np.ndarray):
            raise ValueError(f"two arrays are compared, not a {type(pixels).__name__}")
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
        if metric.id in (computable() if which is None else which)
    }


def computable() -> list[str]:
    """The ids of METRICS whose packages are installed."""
    return [m.id for m in METRICS if m.package is None or find_spec(m.package)]


def _of_arrays(module: str, function: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of batches of tensors (x_hat, x) as one of two arrays (original, decoded)."""

    def compute(original: np.ndarray, decoded: np.ndarray) -> float:
        import torch  # here and not above: it takes seconds

        from vqcodec.guest import own_torch

        with own_torch():
            x, x_hat = (
                torch.tensor(pixels).permute(2, 0, 1)[None] for pixels in (original, decoded)
            )  # (1, 3, h, w)
            return float(getattr(import_module(module), function)(x_hat, x))

    return compute


def _judge(name: str, label: str, source: str, side: int, similarity: bool = True) -> Metric:
    compute = _of_arrays("vqcodec.metrics.panel", name)
    source = f"{source}; by piq; from {side} pixels"
    return Metric(name, label, "", source, compute, side, "piq", similarity)


METRICS: tuple[Metric, ...] = (
    Metric("psnr", "PSNR", "dB", "over all samples of R, G and B, peak 255", psnr_db),
    Metric(
        "psnr_y",
        "PSNR-Y",
        "dB",
        "of luma as in JFIF (BT.601, full range, not rounded), peak 255",
        psnr_luma_db,
    ),
    Metric(
        "ssim",
        "SSIM",
        "",
        "Wang et al. 2004: mean over R, G and B, Gaussian window 11 x 11 with sigma 1.5 wholly "
        "inside the picture",
        _of_arrays("vqcodec.metrics.ssim", "ssim"),
        11,
        similarity=True,
    ),
    Metric(
        "ms_ssim",
        "MS-SSIM",
        "",
        "Wang et al. 2003: mean over R, G and B, 5 scales; from 161 pixels",
        _of_arrays("vqcodec.metrics.ssim", "ms_ssim"),
        161,
        similarity=True,
    ),
    Metric(
        "ssimulacra2",
        "SSIMULACRA2",
        "",
        "SSIMULACRA 2.1 of Cloudinary as in libjxl 0.11; 100 is identical; from 113 pixels",
        _of_arrays("vqcodec.metrics.ssimulacra2", "scores"),
        113,
    ),
    Metric(
        "ms_ssim_y",
        "MS-SSIM-Y",
        "",
        "Wang et al. 2003, of luma (BT.601), 5 scales; from 161 pixels",
        _of_arrays("vqcodec.metrics.ssim", "ms_ssim_luma"),
        161,
        similarity=True,
    ),
    _judge("vif", "VIF", "Sheikh and Bovik 2006, of luma in the pixel domain", 41, False),
    _judge("fsim", "FSIM", "Zhang et al. 2011, with colour (FSIMc)", 8),
    _judge("vsi", "VSI", "Zhang, Shen and Li 2014", 8),
    _judge("gmsd", "1 - GMSD", "Xue et al. 2014, of luma; turned so that larger is better", 8),
    _judge("haarpsi", "HaarPSI", "Reisenhofer et al. 2018", 16),
    _judge("mdsi", "1 - MDSI", "Nafchi et al. 2016; turned so that larger is better", 8),
)

# Judges of looks. A metric that a codec is trained on says little of it; the mean of several
# that it is not trained on says more.
PANEL = ("ms_ssim_y", "vif", "fsim", "vsi", "gmsd", "haarpsi", "mdsi")
