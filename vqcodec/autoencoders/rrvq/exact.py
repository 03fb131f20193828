"""The backbone of an RRVQ-VAE in the arithmetic of ``fixedpoint``, on grids (B, h, w, C)."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.arithmetic import UNITS
from vqcodec.autoencoders.rrvq.networks import Block, Rung, TopDown
from vqcodec.priors.network import fixed_conv, fixed_linear
from vqcodec.quantizers.responsibility import Mixture


class ExactBlock:
    """``Block`` in fixed point."""

    def __init__(self, block: Block, device: torch.device) -> None:
        self.first, self.second = fixed_conv(block.first, device), fixed_conv(block.second, device)

    def __call__(self, grid: Tensor) -> Tensor:
        x = self.first.everywhere(fixedpoint.leaky_relu(grid))
        x = self.second.everywhere(fixedpoint.leaky_relu(x))
        return fixedpoint.clip(x.add_(grid))


class ExactRung:
    """``Rung`` and its codebook in fixed point."""

    def __init__(self, rung: Rung, means: Tensor, device: torch.device) -> None:
        self.up = None if rung.up is None else fixed_linear(rung.up.conv, device)
        self.blocks = [ExactBlock(cast(Block, block), device) for block in rung.blocks]
        self.pstrap = fixed_linear(rung.pstrap, device)
        rows = fixedpoint.round_activations(means.detach().to(device).double() * UNITS)
        self.added = fixed_linear(rung.pladder, device)(rows).float()  # (K, width): of each code

    def enter(self, grid: Tensor) -> Tensor:
        """d after the layer above -> d at this layer."""
        if self.up is not None:
            change = fixedpoint.each_cell(self.up, fixedpoint.leaky_relu(grid))
            near = grid.repeat_interleave(2, 1).repeat_interleave(2, 2)
            grid = fixedpoint.clip(fixedpoint.pixel_shuffle(change).add_(near))
        for block in self.blocks:
            grid = block(grid)
        return grid

    def embedding(self, grid: Tensor) -> Tensor:
        """d at this layer -> e_p, in ones and not in units."""
        e_p = fixedpoint.each_cell(self.pstrap, fixedpoint.leaky_relu(grid))
        return e_p.div_(UNITS)

    def leave(self, grid: Tensor, codes: np.ndarray) -> Tensor:
        """d at this layer and its codes (B, 1, h, w) -> d after it. Raises ValueError."""
        if codes.shape != (len(grid), 1, *grid.shape[1:3]):
            raise ValueError(f"codes {codes.shape} do not fit a grid {tuple(grid.shape[:3])}")
        if not 0 <= codes.min() <= codes.max() < len(self.added):
            raise ValueError(f"a code is not in [0, {len(self.added)})")
        index = torch.from_numpy(codes[:, 0]).to(grid.device, torch.int64)
        return fixedpoint.clip(self.added[index].add_(grid))


class ExactTopDown:
    """``TopDown`` in fixed point: the ``priors.embedding.Network`` of an RRVQ-VAE."""

    def __init__(
        self, names: Sequence[str], grid: int, top_down: TopDown, codebooks: Sequence[Mixture]
    ) -> None:
        """names and codebooks: of the layers. grid: rows, and columns, of the first.

        Raises ValueError where the weights are too large to be evaluated exactly.
        """
        self.names, self.grid, self.codebooks = [*names], grid, [*codebooks]
        start = top_down.start.detach()
        start = fixedpoint.round_activations(start.double() * UNITS)
        self.start = start.float()  # (width,)
        self.rungs = [
            ExactRung(cast(Rung, rung), codebook.means, start.device)
            for rung, codebook in zip(top_down.rungs, self.codebooks, strict=True)
        ]

    def walk(self, squares: int) -> "ExactWalk":
        return ExactWalk(self, squares)

    def probabilities(self, level: int, embeddings: Tensor) -> Tensor:
        """Responsibilities for e_p: (n, d_e) -> (n, K). Not exact."""
        e_p = embeddings.t()[None, :, :, None]
        return self.codebooks[level].log_responsibilities(e_p).detach()[0, :, :, 0].t().exp()


class ExactWalk:
    """The backbone of some squares: see ``priors.embedding.Walk``."""

    def __init__(self, network: ExactTopDown, squares: int) -> None:
        self.network, self.level = network, 0
        self._above = network.start.expand(squares, network.grid, network.grid, -1)
        self._here: Tensor | None = None  # d at the next layer, once it is needed

    def _enter(self) -> Tensor:
        if self._here is None:
            self._here = self.network.rungs[self.level].enter(self._above)
        return self._here

    def embedding(self) -> Tensor:
        return self.network.rungs[self.level].embedding(self._enter())

    def put(self, codes: np.ndarray) -> None:
        self._above = self.network.rungs[self.level].leave(self._enter(), codes)
        self._here, self.level = None, self.level + 1
