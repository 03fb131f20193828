"""The prior of a ladder's codes by exact arithmetic: a walk through them in coding order.

``LadderPrior.walk`` visits the groups of codes in coding order and computes what is known of each
group before it is read, its means and its classes. The encoder and the decoder run the same walk;
they differ only in where the codes come from. Nothing that the walk sees depends on floating point
rounding, so a file decodes to the same codes everywhere.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.arithmetic import UNITS
from vqcodec.autoencoders.ladder.model import Ladder, anchors
from vqcodec.autoencoders.ladder.rate import ChannelSteps, RatePoint
from vqcodec.guest import one_thread
from vqcodec.priors.network import (
    CellNet,
    Condition,
    FixedCellNet,
    FixedFilm,
    apply_film,
    classify,
    fixed_conv,
    fixed_linear,
)
from vqcodec.processor import multiplies_bytes
from vqcodec.progress import Progress

BAND = 1 << 15  # cells that the networks see at once, of at most 3 kB each


class Group(NamedTuple):
    """Codes of one level that are coded together, in a band, and what is known of them before."""

    level: int
    cells: Tensor | slice  # n flat indices into the grids of the latents
    part: slice  # channels
    mean: Tensor  # (n, c) float32, in steps, multiples of 2**-10 up to 2**10: exact
    classes: Tensor  # (n, c) uint8


class _Step(NamedTuple):
    """A group before anything is known of it."""

    level: int
    net: FixedCellNet
    cells: Tensor | None  # (h, w) bool: those of the group, None for all
    half: Tensor | None  # (h, w) bool: those of the level that are decoded, None for none


@dataclass
class _View:
    """What the networks of the prior see of some rows. Slices are added as they are decoded."""

    rows: slice
    seen: Tensor  # (B, rows, w, inputs): features, then values and magnitudes of each slice
    slices: int = 0  # that are in it

    @classmethod
    def of(cls, known: Tensor, rows: slice, n_more: int) -> "_View":
        """Of features known (B, h, w, features), with room for ``n_more`` inputs."""
        features = known[:, rows]
        seen = features.new_empty(*features.shape[:3], features.shape[3] + n_more)
        seen[..., : features.shape[3]] = features
        return cls(rows, seen)


class Source(Protocol):
    """Where the codes of a walk come from.

    ``latent`` (B * h * w, c) is filled with code plus mean.
    """

    latent: Tensor

    def see(self, group: Group) -> None:
        """One band of a group; the bands come from top to bottom."""

    def finish(self, level: int) -> None:
        """All bands of the group were seen: from now on the latent is what was decoded."""


class LadderPrior:
    """The networks of the prior in their exact form, on one device."""

    def __init__(self, model: Ladder, units: Tensor, device: torch.device) -> None:
        """units: ``model.unit_tables``. Raises ValueError where weights are too large."""
        self.config, self.device = model.config, device
        weights = None
        if model.step_weights is not None:
            weights = fixedpoint.round_weights(model.step_weights.weight.detach()).cpu().numpy()
        self.steps = ChannelSteps(weights, units.cpu().numpy())
        hyper = model.hyper_synthesis
        self.conv64, self.film = fixed_conv(hyper.conv64, device), FixedFilm(hyper.film, device)
        self.up64, self.conv32 = fixed_linear(hyper.up64, device), fixed_conv(hyper.conv32, device)
        self.up32 = fixed_linear(hyper.up32, device)
        self.anchor_nets = [
            FixedCellNet(net, device) for net in model.anchor_nets if isinstance(net, CellNet)
        ]
        self.other_nets = [
            FixedCellNet(net, device) if isinstance(net, CellNet) else None
            for net in model.other_nets
        ]

    def _features(self, z: Tensor, h: int, w: int, condition: Condition) -> Tensor:
        """Hyper codes (B, hyper, h', w') -> features (B, h, w, features) in units, exact."""
        grid = (z * (UNITS / 4)).permute(0, 2, 3, 1)
        x = apply_film(self.conv64.everywhere(grid).double(), self.film.at(condition))
        x = fixedpoint.pixel_shuffle(fixedpoint.each_cell(self.up64.activated, x))
        x = fixedpoint.leaky_relu(self.conv32.everywhere(x))
        return fixedpoint.pixel_shuffle(fixedpoint.each_cell(self.up32.activated, x))[:, :h, :w]

    def walk(
        self, z: Tensor, h: int, w: int, rate: RatePoint, source: Source, progress: Progress
    ) -> None:
        """Show ``source`` each group in coding order, and what it makes of it to the next ones.

        z (B, hyper, h', w') of images with h x w cells, which do not see each other.
        """
        # Products of bytes take less time than it takes to wake a thread for them
        with one_thread() if multiplies_bytes(self.device) else nullcontext():
            self._walk(z, h, w, rate, source, progress)

    def _walk(
        self, z: Tensor, h: int, w: int, rate: RatePoint, source: Source, progress: Progress
    ) -> None:
        slices = self.config.slices[: self.config.coded_slices(rate.bits)]
        parts = [slice(sum(slices[:i]), sum(slices[: i + 1])) for i in range(len(slices))]
        condition = rate.condition(self.config.conditions)
        known = self._features(z, h, w, condition)
        steps = list(self._steps(len(slices), anchors(h, w, self.device)))
        n = len(z)
        tops = range(0, h, max(1, BAND // (n * w)))
        factors, offsets, scale_of_values = (
            torch.from_numpy(of(rate)).to(self.device)
            for of in (
                self.steps.mean_over_step, self.steps.log2_std_over_step, self.steps.step_over_std,
            )
        )  # fmt: skip
        view: _View | None = None
        done = 0
        for level, net, cells, half in steps:
            part = parts[level - 1]
            factor, offset = factors[part], offsets[part]
            for top in tops:
                rows = slice(top, min(top + tops.step, h))
                around = slice(max(0, rows.start - 1), min(h, rows.stop + 1))  # what 3x3 cells see
                if view is None or len(tops) > 1:  # kept where there is one band
                    needed = parts[:level] if len(tops) > 1 else parts
                    view = _View.of(known, around, 2 * needed[-1].stop)
                latent = source.latent.view(n, h, w, -1)
                seen = self._inputs(view, latent, parts[:level], half, scale_of_values)
                inner = slice(rows.start - around.start, rows.stop - around.start)
                chosen = cells if cells is None else cells[rows]
                means, classes = [], []
                for out in net.chunks(seen, _indices(seen, inner, chosen), condition):
                    mean, scale = out.chunk(2, 1)
                    means.append(fixedpoint.round_activations(mean * factor).float())
                    classes.append(classify(scale + offset))
                mean = torch.cat(means).div_(UNITS)
                place: Tensor | slice = slice(rows.start * w, rows.stop * w)
                if n > 1 or cells is not None:
                    place = _indices(latent, rows, chosen)
                source.see(Group(level, place, part, mean, torch.cat(classes)))
                done += 1
                progress(done / (len(steps) * len(tops)))
            source.finish(level)

    def _steps(self, n_slices: int, board: Tensor) -> Iterator["_Step"]:
        """The groups of a grid in coding order. board (h, w): the anchors."""
        for level, first, second in zip(
            range(1, n_slices + 1), self.anchor_nets, self.other_nets, strict=False
        ):
            if second is None:
                yield _Step(level, first, None, None)
                continue
            yield _Step(level, first, board, None)
            if board.numel() > 1:  # a board of one cell has one colour
                yield _Step(level, second, ~board, board)

    def _inputs(
        self,
        view: "_View",
        latent: Tensor,
        parts: Sequence[slice],
        half: Tensor | None,
        factors: Tensor,
    ) -> Tensor:
        """What a network sees: (B, rows, w, inputs) float32.

        latent (B, h, w, c) in steps. parts: the slices up to the one that is coded. half (h, w)
        bool: the cells of that slice that are known, None where none are. factors:
        ``ChannelSteps.step_over_std``.
        """
        grid, start = latent[:, view.rows], self.config.features

        def put(part: slice, y: Tensor) -> None:
            place = slice(start + 2 * part.start, start + 2 * part.stop)
            self._context(y, part, factors, view.seen[..., place])

        for part in parts[view.slices : -1]:
            put(part, grid[..., part])
        view.slices = len(parts) - 1
        if half is None:
            return view.seen[..., : start + 2 * parts[-1].start]
        put(parts[-1], torch.where(half[view.rows, :, None], grid[..., parts[-1]], 0.0))
        return view.seen[..., : start + 2 * parts[-1].stop]

    def _context(self, y: Tensor, part: slice, factors: Tensor, out: Tensor) -> None:
        """The exact form of ``model.context_inputs``: y (..., c) in steps -> out (..., 2c)."""
        values, magnitude = out.chunk(2, -1)
        magnitude.copy_(fixedpoint.log2_magnitude_units(y))
        if part.start == 0:
            values.copy_(fixedpoint.round_activations(y * (factors[part] * UNITS)))
        else:
            torch.copysign(magnitude, y, out=values)


def _indices(grids: Tensor, rows: slice, cells: Tensor | None) -> Tensor:
    """Flat indices into grids (B, h, w, c) of some rows; cells (rows, w) bool: of these cells."""
    index = torch.arange(grids.shape[:3].numel(), device=grids.device).view(grids.shape[:3])
    chosen = index[:, rows] if cells is None else index[:, rows][:, cells]
    return chosen.flatten()
