"""What a reconstruction costs: a mixture of measures, by the names of ``LossSettings``.

Each measure is a function of batches (x_hat, x), (B, 3, H, W) 0..255, that is 0 where they are
equal. A mixture adds them up in units of squared error, so that a rate point weighs bits against
each mixture alike: a measure's exchange rate is by how much the squared error changes where the
measure changes by one, along the curve of a codec that is trained for squared error.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vqcodec.metrics import ssim, ssimulacra2
from vqcodec.metrics.psnr import LUMA
from vqcodec.metrics.shares import BITS, LossSettings

Measure = Callable[[Tensor, Tensor], Tensor]
Distortion = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_hat, x, bits) -> (B,)


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each picture, (B,)."""
    return (x_hat - x).square().mean((1, 2, 3))


def luma_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of BT.601 luma, (B,)."""
    weights = torch.tensor(LUMA, device=x.device)
    return ((x_hat - x) * weights[:, None, None]).sum(1).square().mean((1, 2))


def structure_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 - MS-SSIM of luma, (B,) (Wang et al. 2003)."""
    return 1 - ssim.ms_ssim_luma(x_hat, x)


def ssimulacra2_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """100 - SSIMULACRA 2.1, (B,)."""
    return 100 - ssimulacra2.scores(x_hat, x)


MEASURES: dict[str, Measure] = {
    "luma": luma_error,
    "ms_ssim_y": structure_error,
    "ssimulacra2": ssimulacra2_error,
}


def exchange(rates: tuple[float, ...], bits: Tensor) -> Tensor:
    """Exchange rates at rate points bits (B,), log-linear between whole ones and beyond them."""
    known = torch.tensor(rates, device=bits.device).log2()
    low = (bits - BITS[0]).floor().clamp_(0, len(BITS) - 2)
    index = low.long()
    share = bits - BITS[0] - low
    return torch.exp2(known[index] * (1 - share) + known[index + 1] * share)


def mixture(settings: LossSettings) -> Distortion:
    """The distortion of a batch: (x_hat, x, bits) -> (B,), in units of squared error."""
    shares = settings.shares()

    def distortion(x_hat: Tensor, x: Tensor, bits: Tensor) -> Tensor:
        total = shares["mse"] * squared_error(x_hat, x)
        for name, measure in MEASURES.items():
            if shares[name]:
                rate = exchange(getattr(settings, f"{name}_rates"), bits)
                total = total + shares[name] * rate * measure(x_hat, x)
        return total

    return distortion
