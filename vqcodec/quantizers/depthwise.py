"""Depthwise quantization with one-dimensional slices (DQ-AE, section 3, with D = 1).

Every channel is a slice of its own. Its codebook holds ``K`` evenly spaced codewords, one unit
apart, so a latent is quantized after it has been divided by the step of the rate point.
"""

import torch
from torch import Tensor, nn

from vqcodec.quantizers import Quantized, check_size


def straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """``hard`` in the forward pass, the gradient of ``soft`` in the backward pass."""
    return hard.detach() + (soft - soft.detach())  # exactly ``hard``: the bracket is zero


class Depthwise(nn.Module):
    """``dim`` channels, each with its own codebook of ``size`` codewords on the integers.

    Code ``k`` stands for the value ``k - size // 2``: the zero codeword has the code ``size // 2``.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        check_size(size)
        self.dim = dim
        self.sizes = (size,) * dim

    def forward(self, z: Tensor) -> Quantized:
        """z (B, dim, h, w) in steps -> its nearest codewords, with a straight-through gradient."""
        codes = self.encode(z)
        hard = self.decode(codes).to(z.dtype)
        if self.training:
            hard = straight_through(z, hard)
        return Quantized(hard, codes, z.new_zeros(()), None)

    def encode(self, z: Tensor) -> Tensor:
        """z (B, dim, h, w) in steps -> codes (B, dim, h, w) int64; values outside are clipped."""
        size = self.sizes[0]
        return (torch.round(z) + size // 2).clamp_(0, size - 1).long()

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, dim, h, w) -> codewords, float32; columns from ``upto`` on are zero."""
        z = (codes - self.sizes[0] // 2).float()
        if upto is not None:
            z[:, upto:] = 0
        return z
