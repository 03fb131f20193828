"""What a reconstruction costs, by the name that a recipe gives: functions (x_hat, x) -> (B,).

x_hat, x (B, 3, H, W) 0..255. All are in units of squared error, so that a rate point weighs bits
against each alike. In the published pairs of weights for the two kinds of loss (CompressAI's models
of eight qualities), 1 - MS-SSIM counts as a squared error of 1222 to 1333.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from vqcodec.autoencoders.ladder.model import squared_error
from vqcodec.metrics import ssim

LOSSES = ("mse", "ms-ssim", "mixed")
MS_SSIM_UNIT = 1280.0
MS_SSIM_SIDE = ssim.MS_SIDE  # pixels, the smallest

Distortion = Callable[[Tensor, Tensor], Tensor]


def structure_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """1280 (1 - MS-SSIM) of each picture (Wang et al. 2003, mean of the three channels)."""
    return MS_SSIM_UNIT * (1 - ssim.ms_ssim(x_hat, x))


def mixed_error(x_hat: Tensor, x: Tensor, share: float) -> Tensor:
    """``share`` of the structural error and the rest of the squared one."""
    return share * structure_error(x_hat, x) + (1 - share) * squared_error(x_hat, x)


def distortion(name: str, share: float) -> Distortion:
    """One of ``LOSSES``; ``share`` is that of MS-SSIM in 'mixed'."""
    if name == "mixed":
        return partial(mixed_error, share=share)
    return structure_error if name == "ms-ssim" else squared_error
