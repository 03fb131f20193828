"""What a decoder's output says of the pixels: a value, a histogram, or a mixture of logistics.

The reconstruction losses of DQ-AE (section 5): ``mse``, ``ce`` and ``mix``. Each turns the maps of
a decoder into a loss and into the picture that a file is decoded to. For the two that are
distributions this is the mean, which has the least expected squared error; the medians of trained
models were worse.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_VARIANCE = 0.051  # of its pixels in [0, 1], mean over the colours


class Likelihood(Protocol):
    maps: int  # channels of the decoder's output

    def loss(self, maps: Tensor, x: Tensor) -> Tensor:
        """maps (B, maps, H, W), x (B, channels, H, W) in [0, 1] -> ()."""

    def picture(self, maps: Tensor) -> Tensor:
        """maps (B, maps, H, W) -> (B, channels, H, W) in [0, 1], not clipped."""


def grey_levels(x: Tensor) -> Tensor:
    """x in [0, 1] -> 0..255, int64."""
    return (x * 255).round().clamp(0, 255).long()


class Value:
    """The value itself. The loss is the squared error of pixels of variance 1."""

    def __init__(self, channels: int) -> None:
        self.maps = channels

    def loss(self, maps: Tensor, x: Tensor) -> Tensor:
        return F.mse_loss(self.picture(maps), x) / IMAGENET_VARIANCE

    def picture(self, maps: Tensor) -> Tensor:
        return (maps + 1) / 2


class Categorical:
    """A probability for each of 256 values of each sub-pixel. The loss is in nats a sub-pixel."""

    def __init__(self, channels: int) -> None:
        self.channels, self.maps = channels, 256 * channels

    def loss(self, maps: Tensor, x: Tensor) -> Tensor:
        logits = maps.unflatten(1, (self.channels, 256)).flatten(0, 1)  # a view of the maps
        return F.cross_entropy(logits, grey_levels(x).flatten(0, 1))

    def picture(self, maps: Tensor) -> Tensor:
        share = maps.unflatten(1, (self.channels, 256)).softmax(2)
        values = torch.linspace(0, 1, 256, dtype=maps.dtype, device=maps.device)
        return (values @ share.flatten(3)).unflatten(2, maps.shape[2:])


class LogisticMixture:
    """A mixture of ten discretized logistics (Salimans et al. 2017). The loss is in nats a
    sub-pixel.

    With pixels v in [-1, 1], component i has the means m_R, m_G + a R and m_B + b R + c G, of the
    true R and G, and the probability of v is F(v + 1/255) - F(v - 1/255), where all below the
    lowest and above the highest value counts for these. Grey pixels need no coefficients.

    maps: a logit, then C means, C log scales and for colour 3 coefficients of each component
    Raises ValueError for other than 1 or 3 channels.
    """

    components = 10
    least_log_scale = -7.0

    def __init__(self, channels: int) -> None:
        if channels not in (1, 3):
            raise ValueError(f"a mixture of logistics is for 1 or 3 channels, not {channels}")
        self.channels = channels
        self.coefficients = channels * (channels - 1) // 2
        self.maps = self.components * (1 + 2 * channels + self.coefficients)

    def _split(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights (B, I, H, W); means, log scales, coefficients, each (B, I, ., H, W)."""
        parts = maps.unflatten(1, (self.components, -1))
        logits, means, log_scales, coefficients = parts.split(
            [1, self.channels, self.channels, self.coefficients], 2
        )
        log_scales = log_scales.clamp_min(self.least_log_scale)
        return logits[:, :, 0].log_softmax(1), means, log_scales, coefficients.tanh()

    def _means(self, means: Tensor, coefficients: Tensor, v: Tensor) -> Tensor:
        """Means (B, I, C, H, W), given the colours v (B, 1 or I, C, H, W) before each."""
        if self.channels == 1:
            return means
        a, b, c = coefficients.unbind(2)
        red, green, _ = v.unbind(2)
        r, g, b_ = means.unbind(2)
        return torch.stack((r, g + a * red, b_ + b * red + c * green), 2)

    def log_probability(self, maps: Tensor, x: Tensor) -> Tensor:
        """maps (B, maps, H, W), x (B, C, H, W) in [0, 1] -> of each pixel, (B, H, W), in nats."""
        log_weights, means, log_scales, coefficients = self._split(maps)
        v = grey_levels(x)[:, None].to(maps.dtype) / 127.5 - 1  # (B, 1, C, H, W)
        gap = v - self._means(means, coefficients, v)
        rate = torch.exp(-log_scales)
        upper, lower = (gap + 1 / 255) * rate, (gap - 1 / 255) * rate
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)) does not underflow.
        above, below = F.softplus(lower), F.softplus(-upper)  # -log of not above, of not below
        inside = torch.log(-torch.expm1(-2 / 255 * rate)) - above - below
        inside = torch.where(v < -0.999, -below, torch.where(v > 0.999, -above, inside))
        return (log_weights + inside.sum(2)).logsumexp(1)

    def loss(self, maps: Tensor, x: Tensor) -> Tensor:
        return -self.log_probability(maps, x).mean() / self.channels

    def picture(self, maps: Tensor) -> Tensor:
        """The means, where those of red and green stand for the true ones; within half a level."""
        log_weights, means, log_scales, coefficients = self._split(maps)
        scale = log_scales.exp()
        found = means
        for _ in range(self.channels):  # red is right after one round, green after two
            centre = self._means(means, coefficients, found)
            # The integral of 1 - F over [-1, 1]: what lies outside counts as -1 or 1.
            found = F.softplus((centre + 1) / scale) - F.softplus((centre - 1) / scale)
            found = scale * found - 1
        return ((log_weights.exp()[:, :, None] * found).sum(1) + 1) / 2


LIKELIHOODS: dict[str, Callable[[int], Likelihood]] = {
    "mse": Value,
    "ce": Categorical,
    "mix": LogisticMixture,
}
