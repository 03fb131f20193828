"""``ladder.prior`` in numpy, for one picture: the same walk through the codes, the same integers.

docs/format.md describes it.
"""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from vqcodec.arithmetic import UNITS
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.rate import ChannelSteps, RatePoint
from vqcodec.light import exact
from vqcodec.light.weights import Weights
from vqcodec.priors.classes import CLASSES, LOWEST, WIDTH
from vqcodec.progress import Progress

BAND = 1 << 15  # cells that the networks see at once, of at most 3 kB each


class Group(NamedTuple):
    """Codes of one level that are coded together, and what is known of them before."""

    level: int
    cells: np.ndarray  # (h, w) bool, n of them
    part: slice  # channels
    mean: np.ndarray  # (n, c) float32, in steps, multiples of 2**-10 up to 2**10: exact
    classes: np.ndarray  # (n, c) uint8


class Prior:
    """The networks of the prior."""

    def __init__(self, config: LadderConfig, weights: Weights, steps: ChannelSteps) -> None:
        """Raises KeyError and ValueError for weights that are not those of the network."""
        self._config, self._steps = config, steps
        hyper, k = weights.within("hyper_synthesis"), config.conditions
        self._conv64 = exact.Linear(*hyper.kernel("conv64", config.hyper, 96))
        self._film = exact.Film(hyper("film.linear.weight", 192, k))
        self._up64 = exact.Linear(*hyper.matrix("up64", 96, 256))
        self._conv32 = exact.Linear(*hyper.kernel("conv32", 64, 64))
        self._up32 = exact.Linear(*hyper.matrix("up32", 64, 4 * config.features))
        self._anchor_nets: list[_CellNet] = []
        self._other_nets: list[_CellNet | None] = []
        inputs = config.features
        sizes = zip(config.slices, config.hidden, config.checkerboard, strict=True)
        for i, (size, hidden, split) in enumerate(sizes):
            shape = hidden, 2 * size, config.narrow, k
            self._anchor_nets.append(_CellNet(weights.within(f"anchor_nets.{i}"), inputs, *shape))
            inputs += 2 * size
            other = _CellNet(weights.within(f"other_nets.{i}"), inputs, *shape) if split else None
            self._other_nets.append(other)

    def groups(
        self, z: np.ndarray, rate: RatePoint, latent: np.ndarray, progress: Progress
    ) -> Iterator[Group]:
        """The groups in coding order. What is decoded of each is in ``latent`` before the next.

        z (hyper, h', w') int32, latent (h, w, c) float32 in steps: those of its slices only.
        """
        h, w, channels = latent.shape
        ends = [0, *accumulate(self._config.slices)]
        parts = [slice(*part) for part in pairwise(ends) if part[1] <= channels]
        condition = rate.condition(self._config.conditions)
        known = self._features(z, h, w, condition)
        board = np.add.outer(np.arange(h), np.arange(w)) % 2 == 0
        factors, offsets = self._steps.mean_over_step(rate), self._steps.log2_std_over_step(rate)
        values = self._steps.step_over_std(rate) * UNITS
        n_rows = max(1, BAND // w)
        steps = list(self._order(len(parts), board))
        for done, (level, net, cells, half) in enumerate(steps, 1):
            part = parts[level - 1]
            means, classes = [], []
            for top in range(0, h, n_rows):
                around = slice(max(0, top - 1), min(h, top + n_rows + 1))  # what 3x3 cells see
                context = [_context(latent[around, :, p], values[p], p) for p in parts[: level - 1]]
                if half is not None:
                    y = np.where(half[around, :, None], latent[around, :, part], np.float32(0))
                    context.append(_context(y, values[part], part))
                seen = np.concatenate([known[around], *context], 2)
                chosen = np.flatnonzero(cells[top : top + n_rows]) + (top - around.start) * w
                for out in net(seen, chosen, condition):
                    mean, scale = np.split(out, 2, 1)
                    mean = exact.round_activations(mean * factors[part])
                    means.append((mean / UNITS).astype(np.float32))
                    index = (scale + (offsets[part] - LOWEST)) / WIDTH
                    classes.append(index.clip(0, CLASSES - 1).astype(np.uint8))  # cuts off
            yield Group(level, cells, part, np.concatenate(means), np.concatenate(classes))
            progress(done / len(steps))

    def _features(self, z: np.ndarray, h: int, w: int, condition: tuple[float, ...]) -> np.ndarray:
        """Hyper codes (hyper, h', w') -> features (h, w, features) float32 in units."""
        film = self._film.at(condition)
        grid = z.transpose(1, 2, 0) * (UNITS / 4)
        x = exact.everywhere(lambda rows: film(self._conv64(rows)), grid)
        x = exact.pixel_shuffle(exact.each_cell(self._up64.activated, x))
        x = exact.everywhere(self._conv32.activated, x)
        return exact.pixel_shuffle(exact.each_cell(self._up32.activated, x))[:h, :w]

    def _order(
        self, n_slices: int, board: np.ndarray
    ) -> Iterator[tuple[int, "_CellNet", np.ndarray, np.ndarray | None]]:
        """Level, network, cells of the group and those of the level that are decoded: (h, w) bool.

        board: the anchors of a checkerboard, (h, w) bool.
        """
        nets = zip(self._anchor_nets[:n_slices], self._other_nets, strict=False)
        for level, (first, second) in enumerate(nets, 1):
            if second is None:
                yield level, first, np.ones_like(board), None
                continue
            yield level, first, board, None
            if board.size > 1:  # a board of one cell has one colour
                yield level, second, ~board, board


class _CellNet:
    """``priors.network.FixedCellNet``."""

    def __init__(
        self, weights: Weights, inputs: int, hidden: int, outputs: int, narrow: int, conditions: int
    ) -> None:
        self._narrow = None
        if 0 < 2 * narrow <= inputs:
            self._narrow = exact.Linear(*weights.matrix("narrow", inputs, narrow))
            inputs = narrow
        self._conv = exact.Linear(*weights.kernel("conv", inputs, hidden))
        self._film = exact.Film(weights("film.linear.weight", 2 * hidden, conditions))
        self._mix = exact.Linear(*weights.matrix("mix", hidden, hidden))
        self._out = exact.Linear(*weights.matrix("out", hidden, outputs))

    def __call__(
        self, grid: np.ndarray, cells: np.ndarray, condition: tuple[float, ...]
    ) -> Iterator[np.ndarray]:
        """grid (h, w, inputs) float32, cells (n,) flat indices -> parts of (n, outputs) float64."""
        film = self._film.at(condition)
        if self._narrow is not None:
            grid = exact.each_cell(self._narrow.activated, grid)
        for rows in exact.patches(grid, cells):
            yield self._out(self._mix.activated(film(self._conv(rows))))


def _context(y: np.ndarray, factors: np.ndarray, part: slice) -> np.ndarray:
    """The exact form of ``model.context_inputs``: y (h, w, c) in steps -> (h, w, 2c) float32."""
    magnitude = exact.log2_magnitude_units(y).astype(np.float32)
    if part.start == 0:
        values = exact.round_activations(y * factors).astype(np.float32)
    else:
        values = np.copysign(magnitude, y)
    return np.concatenate((values, magnitude), 2)
