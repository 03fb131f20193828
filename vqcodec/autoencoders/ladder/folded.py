"""Parts of the ladder's transforms as files are made and decoded with them, in less time.

What does not depend on the picture is folded into the weights once for each rate point. Channels
are last. Where the processor multiplies in bfloat16, the 3x3 convolutions of the residual networks
do: what they change of the output is a small part of a small part.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.ladder.transform import ResidualBlock
from vqcodec.autoencoders.ladder.winograd import WinogradConv3x3
from vqcodec.priors.network import weight_and_bias


class FoldedBlock:
    """``ResidualBlock`` at one rate point."""

    def __init__(self, block: nn.Module, condition: Tensor, dtype: torch.dtype) -> None:
        """condition (1, k); dtype: of the convolutions, see ``fast_dtype``."""
        assert isinstance(block, ResidualBlock)
        device = block.first.weight.device
        weight, bias = weight_and_bias(block.first, device)
        (scale,), (shift,) = block.film.at(condition)
        self.first = _conv3x3(weight * scale[:, None, None, None], bias * scale + shift, dtype)
        self.second = _conv3x3(*weight_and_bias(block.second, device), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, h, w, C), which is overwritten -> (B, h, w, C)."""
        return x.add_(self.second(F.leaky_relu_(self.first(x), 1 / 8)).float())


def _conv3x3(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """For grids (B, h, w, C); the result is of ``dtype``."""
    if weight.device.type == "cpu" and dtype == torch.float32:
        return WinogradConv3x3(weight, bias)
    # Other devices have libraries that choose an algorithm for each shape, and in bfloat16 the
    # transforms of Winograd's would lose too much.
    weight = weight.to(dtype, memory_format=torch.channels_last)
    bias = bias.to(dtype)

    def conv(x: Tensor) -> Tensor:
        planes = x.to(dtype).permute(0, 3, 1, 2)
        return F.conv2d(planes, weight, bias, padding=1).permute(0, 2, 3, 1)

    return conv


def shuffled(grid: Tensor) -> Tensor:
    """(B, h, w, 4 * C), a cell's parts one after the other -> (B, 2h, 2w, C)."""
    n, h, w, _ = grid.shape
    return grid.view(n, h, w, 2, 2, -1).transpose(2, 3).reshape(n, 2 * h, 2 * w, -1)


def gathered(grid: Tensor, side: int = 2) -> Tensor:
    """The inverse: (B, side * h, side * w, C) -> (B, h, w, side * side * C)."""
    n, h, w, _ = grid.shape
    parts = grid.view(n, h // side, side, w // side, -1)
    return parts.transpose(2, 3).reshape(n, h // side, w // side, -1)


def last(x: Tensor) -> Tensor:
    """(C, ...) -> (... * C,), channels last."""
    return x.movedim(0, -1).flatten()
