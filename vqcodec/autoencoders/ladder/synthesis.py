"""The synthesis of ``ladder`` as files are decoded with it: the same function, in less time.

What does not depend on the picture is folded into the weights once for each rate point: FiLM, the
step, the channels' standard deviations, and the offset of the pixels. Channels are last, in an
order that makes each pixel shuffle a copy of whole cells. The linear part is computed in the layout
of the residual network's output, which is then added to it by the matrix product itself.

Where the processor multiplies in bfloat16, the 3x3 convolutions of the residual network do. What
they change of its output is a small part of a small part: pixels are the same to within one step.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.autoencoders.ladder.transform import RESIDUAL_UNIT, ResidualBlock, Synthesis
from vqcodec.autoencoders.ladder.winograd import WinogradConv3x3
from vqcodec.priors.network import weight_and_bias


class FoldedSynthesis:
    """``Synthesis`` of latents in steps, at one rate point."""

    def __init__(
        self,
        model: Synthesis,
        std: Tensor,
        condition: Tensor,
        steps: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """std (C,), condition (1, k); steps (c,): of the first channels, those that are coded.

        dtype: of the 3x3 convolutions, see ``fast_dtype``.
        """
        channels = len(steps)
        enter, self.enter_bias = weight_and_bias(model.enter, std.device)
        up, up_bias = weight_and_bias(model.up, std.device)
        leave, leave_bias = weight_and_bias(model.leave, std.device)
        fine = leave.shape[1]
        self.enter = enter[:, :channels, 0, 0].t() * (steps / std[:channels])[:, None]
        self.coarse = _FoldedBlock(model.coarse, condition, dtype)
        # Columns in the order (row, column, channel) of a cell's parts
        up = up.reshape(fine, 2, 2, -1).permute(3, 1, 2, 0)
        self.up, self.up_bias = up.reshape(-1, 4 * fine), _last(up_bias.reshape(fine, 2, 2))
        self.fine = [
            _FoldedBlock(block, condition, dtype)
            for block in model.fine
            if isinstance(block, ResidualBlock)
        ]
        leave = leave.reshape(3, 8, 8, fine).permute(3, 1, 2, 0)
        self.leave = leave.reshape(fine, 192) * RESIDUAL_UNIT
        linear = model.linear[:channels].reshape(channels, 3, 2, 8, 2, 8).permute(0, 2, 4, 3, 5, 1)
        self.linear = linear.reshape(channels, 768) * steps[:, None]
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
    def __init__(self, block: ResidualBlock, condition: Tensor, dtype: torch.dtype) -> None:
        device = block.first.weight.device
        weight, bias = weight_and_bias(block.first, device)
        (scale,), (shift,) = block.film.at(condition)
        self.first = _conv3x3(weight * scale[:, None, None, None], bias * scale + shift, dtype)
        self.second = _conv3x3(*weight_and_bias(block.second, device), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """x (h, w, C), which is overwritten -> (h, w, C)."""
        return x.add_(self.second(F.leaky_relu_(self.first(x), 1 / 8)))


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """Of 3x3 convolutions when files are decoded: bfloat16 where the processor multiplies in it."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # since torch 2.6
    return torch.bfloat16 if device.type == "cpu" and known and known() else torch.float32


def _conv3x3(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """For grids (h, w, C) in float32."""
    if weight.device.type == "cpu" and dtype == torch.float32:
        return WinogradConv3x3(weight, bias)
    # Other devices have libraries that choose an algorithm for each shape, and in bfloat16 the
    # transforms of Winograd's would lose too much.
    weight = weight.to(dtype, memory_format=torch.channels_last)
    bias = bias.to(dtype)

    def conv(x: Tensor) -> Tensor:
        planes = x.to(dtype).permute(2, 0, 1)[None]
        return F.conv2d(planes, weight, bias, padding=1)[0].permute(1, 2, 0).float()

    return conv


def _shuffled(rows: Tensor, h: int, w: int) -> Tensor:
    """rows (h * w, 4 * C), a cell's parts one after the other -> (2h, 2w, C)."""
    return rows.view(h, w, 2, 2, -1).transpose(1, 2).reshape(2 * h, 2 * w, -1)


def _last(x: Tensor) -> Tensor:
    """(C, ...) -> (... * C,), channels last."""
    return x.movedim(0, -1).flatten()
