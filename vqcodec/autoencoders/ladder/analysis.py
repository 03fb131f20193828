"""The analysis of ``ladder`` as files are made with it: the same function, in less time."""

import torch
from torch import Tensor

from vqcodec.autoencoders.ladder.folded import FoldedBlock, gathered
from vqcodec.autoencoders.ladder.transform import PIXEL_UNIT, RESIDUAL_UNIT, Analysis
from vqcodec.priors.network import weight_and_bias


class FoldedAnalysis:
    """``Analysis`` to latents in steps, at one rate point. See ``FoldedSynthesis``."""

    def __init__(
        self, model: Analysis, condition: Tensor, steps: Tensor, dtype: torch.dtype = torch.float32
    ) -> None:
        """condition (1, k); steps (c,): of the first channels, those that are coded.

        dtype: of the 3x3 convolutions, see ``fast_dtype``.
        """
        channels = len(steps)
        enter, self.enter_bias = weight_and_bias(model.enter, steps.device)
        down, self.down_bias = weight_and_bias(model.down, steps.device)
        leave, leave_bias = weight_and_bias(model.leave, steps.device)
        fine, coarse = len(enter), len(down)
        # Rows in the order (row, column, channel) of what they gather
        enter = enter.reshape(fine, 3, 8, 8).permute(2, 3, 1, 0)
        self.enter = enter.reshape(192, fine) / PIXEL_UNIT
        self.fine = [FoldedBlock(block, condition, dtype) for block in model.fine]
        down = down.reshape(coarse, fine, 2, 2).permute(2, 3, 1, 0)
        self.down = down.reshape(4 * fine, coarse)
        blocks = (model.coarse, *model.more)
        self.coarse = [FoldedBlock(block, condition, dtype) for block in blocks]
        self.leave = leave[:channels, :, 0, 0].t() * (RESIDUAL_UNIT / steps)
        self.bias = leave_bias[:channels] * (RESIDUAL_UNIT / steps)
        linear = model.linear[:channels].reshape(channels, 3, 2, 8, 2, 8).permute(2, 4, 3, 5, 1, 0)
        self.linear = linear.reshape(768, channels) / steps

    def linearly(self, x: Tensor) -> Tensor:
        """The linear part alone: x (B, 16h, 16w, 3) float32 -> (B, h, w, channels)."""
        cells = gathered(gathered(x, 8))
        return (cells.flatten(0, 2) @ self.linear).view(*cells.shape[:3], -1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """pixels (B, 16h, 16w, 3) uint8 -> y (B, h, w, channels)."""
        n, height, width, _ = pixels.shape
        h, w = height // 16, width // 16
        blocks = gathered(pixels, 8).float().sub_(127.5)
        y = torch.addmm(self.bias, gathered(blocks).view(n * h * w, -1), self.linear)
        x = torch.addmm(self.enter_bias, blocks.view(4 * n * h * w, -1), self.enter)
        del blocks  # as large as all that follows
        x = x.view(n, 2 * h, 2 * w, -1)
        for block in self.fine:
            x = block(x)
        x = torch.addmm(self.down_bias, gathered(x).view(n * h * w, -1), self.down)
        x = x.view(n, h, w, -1)
        for block in self.coarse:
            x = block(x)
        return y.addmm_(x.reshape(n * h * w, -1), self.leave).view(n, h, w, -1)
