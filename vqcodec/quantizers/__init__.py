"""Quantizers: vectors to codes and back, with a way to train."""

from typing import NamedTuple

from torch import Tensor


class Quantized(NamedTuple):
    """What a quantizer makes of a latent."""

    z: Tensor  # (B, D, H, W) what the decoder sees; differentiable in training
    codes: Tensor  # (B, C, h, w) int64, codes[:, c] < sizes[c]
    loss: Tensor  # () auxiliary loss, already weighted
    bits: Tensor | None  # () differentiable rate, where the quantizer is given a prior
