"""The synthesis of ``ladder`` as files are decoded with it: the same function, in less time.

What does not depend on the picture is folded into the weights once for each rate point: FiLM, the
step, the channels' standard deviations, and the offset of the pixels. Channels are last, in an
order that makes each pixel shuffle a copy of whole cells. The linear part is computed in the layout
of the residual network's output, which is then added to it by the matrix product itself.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.autoencoders.ladder.model import RESIDUAL_UNIT, ResidualBlock, Synthesis
from vqcodec.autoencoders.ladder.winograd import WinogradConv3x3
from vqcodec.priors.network import weight_and_bias


class FoldedSynthesis:
    """``Synthesis`` of latents in steps, at one rate point."""

    def __init__(self, model: Synthesis, std: Tensor, t: float, step: float, channels: int) -> None:
        """channels: how many of the latent's channels, the first ones, are coded."""
        enter, self.enter_bias = weight_and_bias(model.enter, std.device)
        up, up_bias = weight_and_bias(model.up, std.device)
        leave, leave_bias = weight_and_bias(model.leave, std.device)
        fine = leave.shape[1]
        self.enter = enter[:, :channels, 0, 0].t() * (step / std[:channels, None])
        self.coarse = _FoldedBlock(model.coarse, t)
        # Columns in the order (row, column, channel) of a cell's parts
        up = up.reshape(fine, 2, 2, -1).permute(3, 1, 2, 0)
        self.up, self.up_bias = up.reshape(-1, 4 * fine), _last(up_bias.reshape(fine, 2, 2))
        self.fine = [
            _FoldedBlock(block, t) for block in model.fine if isinstance(block, ResidualBlock)
        ]
        leave = leave.reshape(3, 8, 8, fine).permute(3, 1, 2, 0)
        self.leave = leave.reshape(fine, 192) * RESIDUAL_UNIT
        linear = model.linear[:channels].reshape(channels, 3, 2, 8, 2, 8).permute(0, 2, 4, 3, 5, 1)
        self.linear = linear.reshape(channels, 768) * step
        # A half more, because the conversion to integers cuts off
        bias = _last(leave_bias.reshape(3, 8, 8)) * RESIDUAL_UNIT + 127.5 + 0.5
        self.bias = bias.repeat(4)

    def __call__(self, y: Tensor) -> Tensor:
        """y (h, w, channels) -> pixels (16h, 16w, 3) uint8."""
        h, w, _ = y.shape
        rows = y.reshape(h * w, -1)
        x = self.coarse(torch.addmm(self.enter_bias, rows, self.enter).view(h, w, -1))
        x = _shuffled(torch.addmm(self.up_bias, x.reshape(h * w, -1), self.up), h, w)
        for block in self.fine:
            x = block(x)
        pixels = _shuffled(torch.addmm(self.bias, rows, self.linear), h, w).view(4 * h * w, 192)
        pixels = pixels.addmm_(x.reshape(4 * h * w, -1), self.leave).clamp_(0, 255).to(torch.uint8)
        return pixels.view(2 * h, 2 * w, 8, 24).transpose(1, 2).reshape(16 * h, 16 * w, 3)


class _FoldedBlock:
    def __init__(self, block: ResidualBlock, t: float) -> None:
        device = block.first.weight.device
        weight, bias = weight_and_bias(block.first, device)
        (scale,), (shift,) = block.film.at(torch.tensor([t], device=device))
        self.first = _conv3x3(weight * scale[:, None, None, None], bias * scale + shift)
        self.second = _conv3x3(*weight_and_bias(block.second, device))

    def __call__(self, x: Tensor) -> Tensor:
        """x (h, w, C), which is overwritten -> (h, w, C)."""
        return x.add_(self.second(F.leaky_relu_(self.first(x), 1 / 8)))


def _conv3x3(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """For grids (h, w, C)."""
    if weight.device.type == "cpu":
        return WinogradConv3x3(weight, bias)
    # Other devices have libraries that choose an algorithm for each shape.
    weight = weight.contiguous(memory_format=torch.channels_last)
    return lambda x: F.conv2d(x.permute(2, 0, 1)[None], weight, bias, padding=1)[0].permute(1, 2, 0)


def _shuffled(rows: Tensor, h: int, w: int) -> Tensor:
    """rows (h * w, 4 * C), a cell's parts one after the other -> (2h, 2w, C)."""
    return rows.view(h, w, 2, 2, -1).transpose(1, 2).reshape(2 * h, 2 * w, -1)


def _last(x: Tensor) -> Tensor:
    """(C, ...) -> (... * C,), channels last."""
    return x.movedim(0, -1).flatten()
