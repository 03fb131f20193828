"""Where the codes of ``LadderPrior.walk`` come from: the encoder chooses, the decoder reads them.

A source is shown the groups of codes in their order. It puts into the latent what the decoder will
know of each, and codes a level with the range coder where its last group was seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqcodec.autoencoders.ladder.prior import Group
from vqcodec.priors.classes import ClassTables
from vqcodec.rangecoder import RangeDecoder, RangeEncoder

# Told the level, its symbols (n,) and their classes (n,), of each image
Watch = Callable[[int, np.ndarray, np.ndarray], None]


@dataclass
class Written:
    """What was coded of one image."""

    coders: list[RangeEncoder]  # of its levels
    ideal_bits: list[float]


class Chooser:
    """The encoder's source of codes. Of groups not yet seen the latent is what is to be coded."""

    def __init__(
        self,
        latent: Tensor,
        n_images: int,
        tables: ClassTables,
        n_levels: int,
        rdo: float,
        watch: Watch,
        wraps: bool,
    ) -> None:
        """wraps: see ``wrapped``."""
        self.latent = latent
        self.coded = [
            Written([RangeEncoder() for _ in range(n_levels)], [0.0] * n_levels)
            for _ in range(n_images)
        ]
        self._tables, self._rdo, self._watch, self._wraps = tables, rdo, watch, wraps
        self._cost = torch.from_numpy(np.minimum(tables.bits, 1e6)).float().to(latent.device)
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []  # codes and classes, (B, n) each

    def see(self, group: Group) -> None:
        latent, zero = self.latent[group.cells, group.part], self._tables.zero
        if self._wraps:  # so far inside that the neighbour of the nearest codeword is, too
            latent = latent.clamp(2 - zero, self._tables.size - zero - 3)
        residual = latent - group.mean
        if self._wraps:
            residual = wrapped(residual, self._tables)
        codes = choose(residual, group.classes, self._cost, zero, self._rdo)
        decoded = codes + group.mean
        self.latent[group.cells, group.part] = (
            wrapped(decoded, self._tables) if self._wraps else decoded
        )
        values = (codes + self._tables.zero).to(torch.int16)
        self._seen.append((self._of_each(values), self._of_each(group.classes)))

    def _of_each(self, values: Tensor) -> np.ndarray:
        return values.view(len(self.coded), -1).cpu().numpy()

    def finish(self, level: int) -> None:
        values, classes = (np.concatenate(part, 1) for part in zip(*self._seen, strict=True))
        self._seen.clear()
        for one, codes, chosen in zip(self.coded, values, classes, strict=True):
            one.ideal_bits[level - 1] += self._tables.encode(one.coders[level - 1], codes, chosen)
            self._watch(level, codes, chosen)


class Reader:
    """The decoder's source of codes. Levels without a coder are their means."""

    def __init__(
        self,
        latent: Tensor,
        tables: ClassTables,
        coders: list[RangeDecoder],
        count_bits: bool,
        wraps: bool,
    ) -> None:
        """wraps: see ``wrapped``."""
        self.latent, self._wraps = latent, wraps
        self.ideal_bits = [0.0] * len(coders)
        self._tables, self._coders, self._count_bits = tables, coders, count_bits
        self._seen: list[Group] = []

    def see(self, group: Group) -> None:
        self._seen.append(group)

    def finish(self, level: int) -> None:
        values: np.ndarray | None = None
        if level <= len(self._coders):
            classes = torch.cat([group.classes.flatten() for group in self._seen]).cpu().numpy()
            values = self._tables.decode(self._coders[level - 1], classes)
            if self._count_bits:
                self.ideal_bits[level - 1] += self._tables.ideal_bits(values, classes)
        for group in self._seen:
            decoded = group.mean
            if values is not None:
                band, values = np.split(values, [decoded.numel()])
                codes = torch.from_numpy(band).to(decoded.device).view(decoded.shape)
                decoded = codes.float().sub_(self._tables.zero).add_(decoded)
                if self._wraps:
                    decoded = wrapped(decoded, self._tables)
            self.latent[group.cells, group.part] = decoded
        self._seen.clear()


def wrapped(latent: Tensor, tables: ClassTables) -> Tensor:
    """Moved by multiples of K, the number of codewords, into the range that these cover.

    Codes are differences from a mean. Where that is far off, a bright sky whose mean says dark, the
    difference needs more than K codewords; as a number modulo K it does not.

    Exact for multiples of 2**-10 up to 2**12: the quotient is then never rounded to an integer.
    """
    return latent - ((latent + tables.zero) / tables.size).floor_().mul_(tables.size)


def choose(residual: Tensor, classes: Tensor, cost: Tensor, zero: int, rdo: float) -> Tensor:
    """Codes (n, c) float32 around 0, minimizing squared error in steps + rdo * bits.

    Candidates are the nearest codeword and its neighbour towards zero, where most of the gain is.
    residual (n, c) in steps; cost (64, size) bits.
    """
    size = cost.shape[1]
    codes = residual.round().clamp_(-zero, size - 1 - zero)
    codes.masked_fill_(classes == 0, 0.0)
    flat, places = codes.view(-1), codes.view(-1).nonzero()[:, 0]
    near = flat[places]
    lower = near - near.sign()
    value = residual.reshape(-1)[places]
    row = classes.reshape(-1)[places].long() * size + zero

    def loss(code: Tensor) -> Tensor:
        bits = cost.view(-1)[row + code.long()]
        return (value - code).square_().add_(bits, alpha=rdo)

    gain = loss(near) - loss(lower)
    flat[places] = torch.where(gain > 0, lower, near)
    return codes
