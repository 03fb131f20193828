"""Structural similarity, differentiable: of colours and of luma, on one scale and on five.

All take x_hat, x (B, 3, H, W), 0 to 255, and all but ``luma_map`` give (B,), 1 where they are
equal; they are symmetric. 16-bit floats are measured in float32.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from vqcodec.metrics.blur import full_precision, in_floats, window_means
from vqcodec.metrics.psnr import LUMA

WINDOW = 11  # pixels: the side of the window, which stays wholly inside the picture
MS_SIDE = 16 * (WINDOW - 1) + 1  # pixels: the smallest side where it still fits at 1/16
_GAUSSIAN = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-(WINDOW // 2), WINDOW // 2 + 1)]
_TAPS = tuple(tap / sum(_GAUSSIAN) for tap in _GAUSSIAN)
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Wang et al. 2004, mean over R, G and B. Raises ValueError below 11 pixels."""
    a, b = in_floats(x_hat, x, WINDOW)
    with full_precision(a.device):
        return _similarity(a, b)[0].mean(1)


def ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Wang et al. 2003, mean over R, G and B. Raises ValueError below 161 pixels."""
    a, b = in_floats(x_hat, x, MS_SIDE)
    with full_precision(a.device):
        return _five_scales(a, b).mean(1)


def ms_ssim_luma(x_hat: Tensor, x: Tensor) -> Tensor:
    """As ``ms_ssim``, of luma (BT.601), for which it was made."""
    a, b = in_floats(x_hat, x, MS_SIDE)
    with full_precision(a.device):
        return _five_scales(_luma(a), _luma(b)).mean(1)


def luma_map(x_hat: Tensor, x: Tensor) -> Tensor:
    """SSIM of luma around each pixel that has a whole window, (B, 1, H - 10, W - 10)."""
    a, b = in_floats(x_hat, x, WINDOW)
    with full_precision(a.device):
        luminance, contrast = _local(_luma(a), _luma(b))
        return luminance * contrast


def _luma(x: Tensor) -> Tensor:
    red, green, blue = x.split(1, 1)
    luma: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return luma  # (B, 1, H, W)


def _five_scales(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C). Contrast and structure of each scale, luminance of the coarsest."""
    product = a.new_ones(())
    for scale, weight in enumerate(_WEIGHTS):
        if scale:  # odd sides get a border of zeros, as in pytorch-msssim, whose numbers are quoted
            border = a.shape[-2] % 2, a.shape[-1] % 2
            a, b = (F.avg_pool2d(planes, 2, padding=border) for planes in (a, b))
        similarity, contrast = _similarity(a, b)
        part = similarity if scale == len(_WEIGHTS) - 1 else contrast
        product = product * part.clamp_min(0) ** weight
    return product


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) -> the means of SSIM and of its contrast and structure, (B, C) each."""
    luminance, contrast = _local(a, b)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _local(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Around each pixel luminance, and contrast with structure, (B, C, H - 10, W - 10) each."""
    mean_a, mean_b = window_means(a, _TAPS), window_means(b, _TAPS)
    power = window_means(a * a + b * b, _TAPS) - (mean_a * mean_a + mean_b * mean_b)
    common = window_means(a * b, _TAPS) - mean_a * mean_b
    contrast = (2 * common + _C2) / (power + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1)
    return luminance, contrast
