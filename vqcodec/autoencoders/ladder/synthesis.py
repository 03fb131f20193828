"""The synthesis of ``ladder`` as files are decoded with it: the same function, in less time.

FiLM, the step, the channels' standard deviations, and the offset of the pixels are folded into the
weights. Channels are in an order that makes each pixel shuffle a copy of whole cells. The linear
part is computed in the layout of the residual network's output, which is then added to it by the
matrix product itself. In bfloat16 pixels are the same to within one step.
"""

import torch
from torch import Tensor

from vqcodec.autoencoders.ladder.folded import FoldedBlock, last, shuffled
from vqcodec.autoencoders.ladder.transform import RESIDUAL_UNIT, Synthesis
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
        self.coarse = FoldedBlock(model.coarse, condition, dtype)
        # Columns in the order (row, column, channel) of a cell's parts
        up = up.reshape(fine, 2, 2, -1).permute(3, 1, 2, 0)
        self.up, self.up_bias = up.reshape(-1, 4 * fine), last(up_bias.reshape(fine, 2, 2))
        self.fine = [FoldedBlock(block, condition, dtype) for block in model.fine]
        leave = leave.reshape(3, 8, 8, fine).permute(3, 1, 2, 0)
        self.leave = leave.reshape(fine, 192) * RESIDUAL_UNIT
        linear = model.linear[:channels].reshape(channels, 3, 2, 8, 2, 8).permute(0, 2, 4, 3, 5, 1)
        self.linear = linear.reshape(channels, 768) * steps[:, None]
        # A half more, because the conversion to integers cuts off
        bias = last(leave_bias.reshape(3, 8, 8)) * RESIDUAL_UNIT + 127.5 + 0.5
        self.bias = bias.repeat(4)

    def __call__(self, y: Tensor) -> Tensor:
        """y (h, w, channels) -> pixels (16h, 16w, 3) uint8."""
        h, w, _ = y.shape
        rows = y.reshape(h * w, -1)
        x = self.coarse(torch.addmm(self.enter_bias, rows, self.enter).view(1, h, w, -1))
        x = torch.addmm(self.up_bias, x.reshape(h * w, -1), self.up)
        x = shuffled(x.view(1, h, w, -1))
        for block in self.fine:
            x = block(x)
        linear = torch.addmm(self.bias, rows, self.linear).view(1, h, w, -1)
        pixels = shuffled(linear).view(4 * h * w, 192)
        pixels = pixels.addmm_(x.reshape(4 * h * w, -1), self.leave).clamp_(0, 255).to(torch.uint8)
        return pixels.view(2 * h, 2 * w, 8, 24).transpose(1, 2).reshape(16 * h, 16 * w, 3)
