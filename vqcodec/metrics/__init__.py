"""How far a decoded picture is from its original, by several measures; larger is always better.

``measure`` takes arrays and gives numbers. The same metrics on batches of tensors, differentiable,
are functions of ``vqcodec.metrics.ssim`` and ``vqcodec.metrics.ssimulacra2``.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from vqcodec.metrics.psnr import psnr_db, psnr_luma_db

__all__ = ["METRICS", "Metric", "measure", "psnr_db"]


@dataclass(frozen=True)
class Metric:
    """unit: "dB", or empty. source: who defined it, and what was chosen where that left a choice.

    compute(original, decoded): two (h, w, 3) uint8 arrays of one shape. side: pixels, the smallest
    of both sides for which the metric is defined.
    """

    id: str
    label: str
    unit: str
    source: str
    compute: Callable[[np.ndarray, np.ndarray], float] = field(repr=False)
    side: int = 1


def measure(
    original: np.ndarray, decoded: np.ndarray, which: Collection[str] | None = None
) -> dict[str, float | None]:
    """The metrics of ``which`` ids, by default all of METRICS and always in that order.

    original, decoded: (h, w, 3) uint8. PSNR is ``math.inf`` where they are equal, which JSON does
    not know. None: the picture is too small for that metric.

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


def _of_arrays(module: str, function: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of batches of tensors (x_hat, x) as one of two arrays (original, decoded)."""

    def compute(original: np.ndarray, decoded: np.ndarray) -> float:
        import torch  # here and not above: it takes seconds

        x, x_hat = (
            torch.tensor(pixels).permute(2, 0, 1)[None] for pixels in (original, decoded)
        )  # (1, 3, h, w)
        with torch.no_grad():
            return float(getattr(import_module(module), function)(x_hat, x))

    return compute


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
    ),
    Metric(
        "ms_ssim",
        "MS-SSIM",
        "",
        "Wang et al. 2003: mean over R, G and B, 5 scales; from 161 pixels",
        _of_arrays("vqcodec.metrics.ssim", "ms_ssim"),
        161,
    ),
    Metric(
        "ssimulacra2",
        "SSIMULACRA2",
        "",
        "SSIMULACRA 2.1 of Cloudinary as in libjxl 0.11; 100 is identical; from 113 pixels",
        _of_arrays("vqcodec.metrics.ssimulacra2", "scores"),
        113,
    ),
)
