"""What the systems of the papers have in common: squares of pixels to grids of codes, and back.

A system works on squares of ``side`` pixels; a larger picture is a mosaic of them, so that the
codec meets only what it was trained on. Each of its rate points names the levels of codes that a
file holds. How codes become bytes is the business of ``grid_codec`` and the priors.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from vqcodec.settings import Settings

if TYPE_CHECKING:
    from vqcodec.priors.embedding import Network


class Level(NamedTuple):
    """One grid of codes of a square."""

    name: str  # of its prior; the same at all rate points that code it with the same statistics
    grid: tuple[int, int]  # rows, columns
    sizes: tuple[int, ...]  # codewords of each column; there may be fewer columns at lower rates


@dataclass(frozen=True)
class Config(Settings):
    """Sizes of a system. Subclasses add fields, all with defaults."""

    side: int = 32  # pixels of a square
    channels: int = 3  # 1: grey


class System(nn.Module):
    """A trainable autoencoder with codes in the middle.

    ``rates`` names the rate points, the fewest bits first, such as '8bit-1x1'; what ``levels``
    says of one is what ``encode`` makes and ``decode`` takes. Weights whose names begin with one
    of ``exact`` are shipped as multiples of 2**-12: a prior evaluates them exactly.
    """

    config: Config
    rates: tuple[str, ...]
    exact: tuple[str, ...] = ()

    def levels(self, rate: str) -> list[Level]:
        """The levels of a file at a rate point, coarse first."""
        raise NotImplementedError

    def encode(self, x: Tensor, rate: str) -> list[Tensor]:
        """x (B, channels, side, side) in [0, 1] -> codes (B, columns, h, w) int64 of each level.

        Deterministic; in evaluation mode.
        """
        raise NotImplementedError

    def decode(
        self, codes: list[Tensor | None], rate: str, generator: torch.Generator | None = None
    ) -> Tensor:
        """Codes of each level -> (B, channels, side, side) in [0, 1], not clipped.

        None stands for a level that is withheld, and columns may be missing at the end. With a
        ``generator``, systems whose decoder may choose (lower codes, withheld levels) draw
        what they choose; without, the result is a function of the codes.
        """
        raise NotImplementedError

    def loss(self, x: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """x (B, channels, side, side) in [0, 1] -> 'loss', () with its gradient, and named parts.

        'mse', (), is that of the reconstruction in [0, 1]^2, and 'perplexity', (), that of the
        codes; both are detached. ``progress`` runs from 0 to 1 in each stage.
        """
        raise NotImplementedError

    def network(self) -> "Network | None":
        """The exact form, with the weights of now, of the system's own prior, where it has one."""
        return None

    def stages(self) -> list[list[nn.Parameter]]:
        """What is trained in each stage: one list for joint training, one a layer if greedy."""
        return [list(self.parameters())]

    def trained(self, stage: int) -> tuple[str, ...]:
        """The rate points that work once a stage has been trained."""
        return self.rates

    def begin(self, stage: int, x: Tensor, generator: torch.Generator) -> None:
        """Called before the first step of each stage with some training squares x (B, ...)."""

    def kept(self, stage: int) -> int:
        """How many training squares ``keep`` gets before the first step of a stage; 0: none."""
        return 0

    def keep(self, x: Iterable[Tensor]) -> None:
        """Train this stage on these squares alone, each (B, channels, side, side) in [0, 1]."""
        raise NotImplementedError

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Called after each optimizer step: code resets, running statistics."""
