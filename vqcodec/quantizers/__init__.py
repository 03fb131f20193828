"""Quantizers: vectors to codes and back, with a way to train."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Quantized(NamedTuple):
    """What a quantizer makes of a latent."""

    z: Tensor  # (B, D, H, W) what the decoder sees; differentiable in training
    codes: Tensor  # (B, C, h, w) int64, codes[:, c] < sizes[c]
    loss: Tensor  # () auxiliary loss, already weighted
    bits: Tensor | None  # () differentiable rate, where the quantizer is given a prior


class Quantizer(Protocol):
    """What systems ask of a quantizer, which is an ``nn.Module`` too.

    In evaluation mode what it makes of z is ``decode(encode(z))``, exactly.
    """

    @property
    def dim(self) -> int:
        """Numbers of a vector, D."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codewords of each column of the codes."""

    def __call__(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, D, H, W), quantized. Without a generator noise comes from one of its own."""

    def encode(self, z: Tensor) -> Tensor:
        """z (B, D, H, W) -> codes (B, C, H, W) int64."""

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, C, H, W) -> (B, D, H, W), from the first ``upto`` columns."""

    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Make latents of z (B, D, H, W) codewords."""

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """z (B, D, H, W) -> codes (B, C, H, W) int64, drawn, the likelier the nearer."""


class Listed(Quantizer, Protocol):
    """A quantizer with few enough vectors to list: a codebook, which ``choice.Tended`` looks after.

    Where unused codewords are to move it has ``usage`` and ``revive`` besides: see ``vq.Codebook``.
    """

    def points(self) -> Tensor:
        """All that can be decoded, (N, D), where the last column of the codes changes fastest."""


def check_size(size: int) -> None:
    """Raises ValueError for a codebook that has no choice."""
    if size < 2:
        raise ValueError(f"a codebook needs at least 2 codewords, not {size}")


def check_parts(parts: Sequence[Quantizer], whole: str, part: str) -> None:
    """Raises ValueError for no parts of a whole, or parts of different ``dim``."""
    if not parts:
        raise ValueError(f"{whole} needs at least 1 {part}")
    if len({one.dim for one in parts}) > 1:
        raise ValueError(f"{part}s of different dim: {[one.dim for one in parts]}")
