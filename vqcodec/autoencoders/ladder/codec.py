"""Images to sections and back with a trained ``Ladder``: tiles, exact prior, range coder.

A section is a level: the hyper grid, then the slices of the latent that the rate point codes.
``_walk`` visits the groups of codes in coding order and computes what is known of each group before
it is read, its means and its classes, by exact arithmetic. The encoder and the decoder run the same
walk; they differ only in where the codes come from. Nothing that the walk sees depends on floating
point rounding, so a file decodes to the same codes everywhere.

Memory is bounded for large pictures: pixels go through the transforms in tiles, the grid of the
latent through the networks of the prior in bands of rows. All that is kept of a whole picture is
its latent, and the codes of one group.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.autoencoders.ladder.model import (
    BITS_CENTRE,
    HYPER_SIZE,
    RANGE,
    Ladder,
    anchors,
    mean_unit,
)
from vqcodec.autoencoders.ladder.synthesis import FoldedSynthesis
from vqcodec.autoencoders.system import Region
from vqcodec.errors import FormatError, RateError
from vqcodec.priors.classes import CLASSES, LARGEST, ClassTables, classify
from vqcodec.priors.network import (
    CellNet,
    FixedCellNet,
    FixedFilm,
    apply_film,
    fixed_conv,
    fixed_linear,
)
from vqcodec.progress import Progress, between, unseen
from vqcodec.rangecoder import (
    TABLE_BITS,
    RangeDecoder,
    RangeEncoder,
    check_tables,
    ideal_bits,
    open_section,
)
from vqcodec.rate import RATE_UNIT

RATE_LOW, RATE_HIGH = 5 * RATE_UNIT, 10 * RATE_UNIT
HYPER_BANDS = 6  # hyper tables, one for each whole N from 5 to 10
RDO = 0.08  # squared steps that one bit is worth in the encoder's choice of codes
TILE = 128  # cells; larger images go through the convolutions in tiles of 2048 pixels
HALO = 6  # cells: the receptive field of analysis and synthesis reaches 4 cells and a bit
BAND = 1 << 15  # cells that the prior's networks see at once, of at most 3 kB each
ANALYSIS_SHARE = 0.35  # of the time that encoding takes; the walk takes the rest
_FIXED = 16  # fractional bits of the factors between units; std has 8 more, the power 32
_LOG2_RANGE = 13642  # log2(RANGE) * 2**10, rounded


class Coded(NamedTuple):
    """What the encoder made of an image."""

    sections: list[bytes]  # coarse first
    ideal_bits: list[float]  # of each section
    latent: Tensor  # (h * w, c) float32 in steps: what the decoder will make of them


Watch = Callable[[int, np.ndarray, np.ndarray], None]


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


@dataclass(frozen=True)
class RatePoint:
    """One setting of the codec. ``index`` is N * 256 and what the file stores."""

    index: int

    @property
    def bits(self) -> float:
        return self.index / RATE_UNIT

    @property
    def step(self) -> float:
        return RANGE * 2.0**-self.bits

    @property
    def t(self) -> float:
        """Rate variable of the FiLM layers, exact in binary."""
        return (self.bits - BITS_CENTRE) / 2

    @cached_property  # its square roots take 50 microseconds, and every channel asks for it
    def power(self) -> int:
        """floor(2**N * 2**32), exactly."""
        return fixedpoint.exp2_fixed(self.index, 8)

    @property
    def size(self) -> int:
        """Codewords of a codebook: 2**N, rounded."""
        return (self.power + (1 << 31)) >> 32

    @property
    def band(self) -> int:
        """Row of the hyper tables."""
        return (self.index + RATE_UNIT // 2) // RATE_UNIT - 5


def unit_tables(std: Tensor) -> Tensor:
    """(3, C) int32, made once at export: std * 2**8, mean unit * 2**8, log2(std) * 2**10.

    They are shipped with the weights because a square root or a logarithm may round differently
    on another machine.
    """
    std = std.double()
    rows = (std * 256, mean_unit(std) * 256, std.log2() * 1024)
    return torch.stack([torch.floor(row + 0.5) for row in rows]).to(torch.int32)


class LadderCodec:
    """A trained ladder with its tables, on one device."""

    lowest, highest = RATE_LOW, RATE_HIGH
    grey_only = False

    def __init__(
        self,
        model: Ladder,
        units: Tensor,
        hyper_tables: np.ndarray,
        class_tables: np.ndarray,
        device: torch.device,
        rdo: float = RDO,
    ) -> None:
        """units: ``unit_tables``; hyper_tables (6, hyper, 64), class_tables (64, 1024): uint32.

        Raises ValueError for what these cannot be.
        """
        expected = (3, model.config.channels), (HYPER_BANDS, model.config.hyper, HYPER_SIZE)
        if (units.shape, hyper_tables.shape) != expected or class_tables.shape != (
            CLASSES,
            LARGEST,
        ):
            raise ValueError("the tables are not those of the network")
        if int(units[:2].min()) < 1:
            raise ValueError("a unit is not above zero")
        check_tables(hyper_tables)
        check_tables(class_tables)
        self.device, self.rdo = device, rdo
        self.model = model.to(device).eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.std, self.mean_unit, self.log2_std = units.tolist()
        self.hyper_tables, self.class_tables = hyper_tables, class_tables
        self._folded: tuple[RatePoint, FoldedSynthesis] | None = None
        # What a hyper cell costs at least, in each band, in 1/16 bit
        cheapest = TABLE_BITS - np.log2(hyper_tables.max(-1).astype(np.float64))
        self._cell_cost = np.floor(16 * cheapest.sum(-1)).astype(int).tolist()
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

    # --- pixels and latents: floating point, in tiles -------------------------------------------

    def point(self, index: int) -> RatePoint:
        """A stored rate point. Raises FormatError for one that no encoder writes."""
        if not RATE_LOW <= index <= RATE_HIGH:
            raise FormatError(f"rate point {index} does not exist in this codec")
        return RatePoint(index)

    def rate_index(self, bits: float, grid: str | None) -> int:
        """The rate point nearest to N of ``Nbit``. Raises RateError outside of the range."""
        index = round(bits * RATE_UNIT)
        if grid or not RATE_LOW <= index <= RATE_HIGH:
            raise RateError("there is one scale of rates, from 5bit to 10bit")
        return index

    def levels(self, rate: RatePoint) -> int:
        """How many sections a file has."""
        return 1 + self.model.config.coded_slices(rate.bits)

    def analyse(self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen) -> Tensor:
        """pixels (B, H, W, 3) uint8 -> latents (B, h, w, c) float32, coded channels, in steps."""
        n, height, width, _ = pixels.shape
        h, w = -(-height // 16), -(-width // 16)
        channels = self.model.config.coded_channels(rate.bits)
        latent = torch.empty(n, h, w, channels, device=self.device)
        t = torch.tensor([rate.t], device=self.device)
        tiles = [(row, column) for row in _spans(h) for column in _spans(w)]
        for done, (row, column) in enumerate(tiles, 1):
            rows, columns = (slice(16 * s.outer.start, 16 * s.outer.stop) for s in (row, column))
            tile = torch.from_numpy(np.array(pixels[:, rows, columns]))
            if self.device.type == "cuda":
                tile = tile.pin_memory().to(self.device, non_blocking=True)
            x = tile.permute(0, 3, 1, 2).float()
            missing = columns.stop - columns.start - x.shape[3], rows.stop - rows.start - x.shape[2]
            x = F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate")
            y = self.model.analysis(x, t)[:, :channels, row.crop, column.crop]
            torch.div(y.permute(0, 2, 3, 1), rate.step, out=latent[:, row.inner, column.inner])
            progress(done / len(tiles))
        return latent

    def bands(
        self,
        latent: Tensor,
        height: int,
        width: int,
        rate: RatePoint,
        region: Region | None = None,
        progress: Progress = unseen,
    ) -> Iterator[np.ndarray]:
        """latent (h * w, c) in steps -> the pixels (rows, columns, 3) uint8, from top to bottom.

        Of a region exactly the pixels of the whole: the tiles are the same.
        """
        h, w = -(-height // 16), -(-width // 16)
        x, y, columns, rows = region or (0, 0, width, height)
        down = [s for s in _spans(h) if 16 * s.inner.start < y + rows and 16 * s.inner.stop > y]
        along = [s for s in _spans(w) if 16 * s.inner.start < x + columns and 16 * s.inner.stop > x]
        synthesis = self._synthesis(rate)
        grid = latent.reshape(h, w, -1)
        done = 0
        for row in down:
            top, bottom = max(y, 16 * row.inner.start), min(y + rows, 16 * row.inner.stop)
            band = np.empty((bottom - top, columns, 3), np.uint8)
            for column in along:
                left = max(x, 16 * column.inner.start)
                right = min(x + columns, 16 * column.inner.stop)
                origin = 16 * row.outer.start, 16 * column.outer.start
                tile = synthesis(grid[row.outer, column.outer])[
                    top - origin[0] : bottom - origin[0], left - origin[1] : right - origin[1]
                ]
                band[:, left - x : right - x] = tile.cpu().numpy()
                done += 1
                progress(done / (len(down) * len(along)))
            yield band

    def _synthesis(self, rate: RatePoint) -> FoldedSynthesis:
        """That of the last call where the rate point is the same: folding takes milliseconds."""
        if self._folded is None or self._folded[0] != rate:
            model, channels = self.model, self.model.config.coded_channels(rate.bits)
            folded = FoldedSynthesis(model.synthesis, model.std, rate.t, rate.step, channels)
            self._folded = rate, folded
        return self._folded[1]

    # --- codes: exact -----------------------------------------------------------------------------

    def encode(self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen) -> Coded:
        """pixels (H, W, 3) uint8 -> sections."""
        y, z = self.latents(pixels[None], rate, between(progress, 0, ANALYSIS_SHARE))
        return self.encode_latents(y, z, rate, progress=between(progress, ANALYSIS_SHARE, 1))[0]

    def encode_many(self, pictures: Sequence[np.ndarray], rate: RatePoint) -> list[Coded]:
        """Pictures (H, W, 3) uint8 of one size -> the sections of each.

        The prior sees all at once, which is faster where they are small. On the CPU each makes the
        file that it makes alone, byte for byte; on a GPU the transform has all at once too, whose
        sums may then round otherwise.
        """
        if self.device.type == "cuda":
            return self.encode_latents(*self.latents(np.stack(pictures), rate), rate)
        each = (self.latents(pixels[None], rate) for pixels in pictures)
        y, z = (torch.cat(part) for part in zip(*each, strict=True))
        return self.encode_latents(y, z, rate)

    def least_bytes(self, height: int, width: int, rate: RatePoint) -> int:
        """Of the first section of a picture: a shorter one is refused before memory is taken.

        The range coder cannot beat the ideal bits but by the luck of a short number in its last
        interval: 8 bytes of it have a chance of 2**-64, and then the encoder pads with zeros.
        """
        cells = -(-height // 64) * -(-width // 64)
        return max(0, cells * self._cell_cost[rate.band] // 128 - 8)

    @torch.inference_mode()
    def latents(
        self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen
    ) -> tuple[Tensor, Tensor]:
        """pixels (B, H, W, 3) uint8 -> latents (B, h, w, c), hyper codes (B, hyper, h', w').

        The latents have the coded channels, in steps.
        """
        y = self.analyse(pixels, rate, progress)
        h, w = y.shape[1:3]
        t, one = (torch.tensor([value], device=self.device) for value in (rate.t, 1.0))
        rows = max(1, BAND // (4 * w))  # of the hyper grid
        bands = []
        for top in range(0, -(-h // 4), rows):
            # A cell of the hyper grid sees 3 rows above its own 4, and its convolutions have the
            # same phase with 4.
            band = y[:, max(0, 4 * top - 4) : 4 * (top + rows)].permute(0, 3, 1, 2)
            z = self.model.hyper_analysis(band, t, self.model.std, one).round_()
            bands.append(z[:, :, 1:] if top else z)
        return y, torch.cat(bands, 2)

    @torch.inference_mode()
    def encode_latents(
        self,
        y: Tensor,
        z: Tensor,
        rate: RatePoint,
        watch: Watch = lambda level, codes, classes: None,
        progress: Progress = unseen,
    ) -> list[Coded]:
        """y (B, h, w, c) in steps, z (B, hyper, h', w') integers -> B images. Overwrites y.

        ``watch`` is told the level, the symbols (n,) and the classes (n,) of each group."""
        n, h, w, _ = y.shape
        tables = ClassTables(self.class_tables, rate.size)
        chooser = _Chooser(y.flatten(0, 2), n, tables, self.levels(rate) - 1, self.rdo, watch)
        self._walk(z, h, w, rate, chooser, progress)
        least = self.least_bytes(16 * h, 16 * w, rate)
        made = []
        symbols = (z + HYPER_SIZE // 2).flatten(2).to(torch.int32).cpu().numpy()
        for image, latent, one in zip(symbols, y.flatten(1, 2), chooser.coded, strict=True):
            coder, bits = RangeEncoder(), 0.0
            for row, table in zip(image, self.hyper_tables[rate.band], strict=True):
                coder.encode(row, table)
                bits += ideal_bits(row, table)
            sections = [coder.finish().ljust(least, b"\0"), *(c.finish() for c in one.coders)]
            made.append(Coded(sections, [bits, *one.ideal_bits], latent))
        return made

    @torch.inference_mode()
    def decode(
        self,
        sections: Sequence[bytes | RangeDecoder],
        height: int,
        width: int,
        rate: RatePoint,
        ideal: list[float] | None = None,
        progress: Progress = unseen,
    ) -> Tensor:
        """The first sections, one at least -> latent (h * w, c) in steps.

        Levels that are not given keep their predicted means. Each section's ideal bits are appended
        to ``ideal`` where it is given.
        """
        h, w = -(-height // 16), -(-width // 16)
        shape = (self.model.config.hyper, -(-h // 4), -(-w // 4))
        bits = 0.0
        coder = open_section(sections[0])
        symbols = np.empty((shape[0], shape[1] * shape[2]), np.int32)
        for row, table in zip(symbols, self.hyper_tables[rate.band], strict=True):
            row[:] = coder.decode(len(row), table)
            bits += ideal_bits(row, table) if ideal is not None else 0.0
        z = torch.from_numpy(symbols).reshape(shape) - HYPER_SIZE // 2
        tables = ClassTables(self.class_tables, rate.size)
        channels = self.model.config.coded_channels(rate.bits)
        latent = torch.empty(h * w, channels, device=self.device)
        coders = [open_section(section) for section in sections[1:]]
        reader = _Reader(latent, tables, coders, count_bits=ideal is not None)
        self._walk(z.to(self.device).float()[None], h, w, rate, reader, progress)
        if ideal is not None:
            ideal += [bits, *reader.ideal_bits]
        return latent

    def _features(self, z: Tensor, h: int, w: int, t: float) -> Tensor:
        """Hyper codes (B, hyper, h', w') -> features (B, h, w, features) in units, exact."""
        grid = (z * (fixedpoint.UNITS / 4)).permute(0, 2, 3, 1)
        x = apply_film(self.conv64.everywhere(grid).double(), self.film.at(t))
        x = fixedpoint.pixel_shuffle(fixedpoint.each_cell(self.up64.activated, x))
        x = fixedpoint.leaky_relu(self.conv32.everywhere(x))
        return fixedpoint.pixel_shuffle(fixedpoint.each_cell(self.up32.activated, x))[:, :h, :w]

    def _walk(
        self, z: Tensor, h: int, w: int, rate: RatePoint, source: Source, progress: Progress
    ) -> None:
        """Show ``source`` each group in coding order, and what it makes of it to the next ones.

        z (B, hyper, h', w') of images with h x w cells, which do not see each other.
        """
        slices = self.model.config.slices[: self.model.config.coded_slices(rate.bits)]
        parts = [slice(sum(slices[:i]), sum(slices[: i + 1])) for i in range(len(slices))]
        known = self._features(z, h, w, rate.t)
        steps = list(self._steps(len(slices), anchors(h, w, self.device)))
        n = len(z)
        tops = range(0, h, max(1, BAND // (n * w)))
        log2_step = _LOG2_RANGE - 4 * rate.index
        view: _View | None = None
        done = 0
        for level, net, cells, half in steps:
            part = parts[level - 1]
            factor = self._factors(
                unit * rate.power // (int(RANGE) << (40 - _FIXED)) for unit in self.mean_unit[part]
            )  # mean unit over step
            offset = torch.tensor(self.log2_std[part], device=self.device) - log2_step
            for top in tops:
                rows = slice(top, min(top + tops.step, h))
                around = slice(max(0, rows.start - 1), min(h, rows.stop + 1))  # what 3x3 cells see
                if view is None or len(tops) > 1:  # kept where there is one band
                    needed = parts[:level] if len(tops) > 1 else parts
                    view = _View.of(known, around, 2 * needed[-1].stop)
                latent = source.latent.view(n, h, w, -1)
                seen = self._inputs(view, latent, parts[:level], half, rate)
                inner = slice(rows.start - around.start, rows.stop - around.start)
                chosen = cells if cells is None else cells[rows]
                means, classes = [], []
                for out in net.chunks(seen, _indices(seen, inner, chosen), rate.t):
                    mean, scale = out.chunk(2, 1)
                    means.append(fixedpoint.round_activations(mean * factor).float())
                    classes.append(classify(scale + offset))
                mean = torch.cat(means).div_(fixedpoint.UNITS)
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
        rate: RatePoint,
    ) -> Tensor:
        """What a network sees: (B, rows, w, inputs) float32.

        latent (B, h, w, c) in steps. parts: the slices up to the one that is coded. half (h, w)
        bool: the cells of that slice that are known, None where none are.
        """
        grid, start = latent[:, view.rows], self.model.config.features

        def put(part: slice, y: Tensor) -> None:
            place = slice(start + 2 * part.start, start + 2 * part.stop)
            self._context(y, part, rate, view.seen[..., place])

        for part in parts[view.slices : -1]:
            put(part, grid[..., part])
        view.slices = len(parts) - 1
        if half is None:
            return view.seen[..., : start + 2 * parts[-1].start]
        put(parts[-1], torch.where(half[view.rows, :, None], grid[..., parts[-1]], 0.0))
        return view.seen[..., : start + 2 * parts[-1].stop]

    def _context(self, y: Tensor, part: slice, rate: RatePoint, out: Tensor) -> None:
        """The exact form of ``ladder.context_inputs``: y (..., c) in steps -> out (..., 2c)."""
        values, magnitude = out.chunk(2, -1)
        magnitude.copy_(fixedpoint.log2_magnitude_units(y))
        if part.start == 0:
            factor = self._factors(
                (int(RANGE) << (40 + _FIXED)) // (std * rate.power) for std in self.std[part]
            )  # step over std
            values.copy_(fixedpoint.round_activations(y * (factor * fixedpoint.UNITS)))
        else:
            torch.copysign(magnitude, y, out=values)

    def _factors(self, integers: Iterable[int]) -> Tensor:
        """Integers with 16 fractional bits, as float64."""
        return torch.tensor(list(integers), dtype=torch.float64, device=self.device) / 2**_FIXED


@dataclass
class _Written:
    """What was coded of one image."""

    coders: list[RangeEncoder]  # of its levels
    ideal_bits: list[float]


class _Chooser:
    """The encoder's source of codes. Of groups not yet seen the latent is what is to be coded."""

    def __init__(
        self,
        latent: Tensor,
        n_images: int,
        tables: ClassTables,
        n_levels: int,
        rdo: float,
        watch: Watch,
    ) -> None:
        self.latent = latent
        self.coded = [
            _Written([RangeEncoder() for _ in range(n_levels)], [0.0] * n_levels)
            for _ in range(n_images)
        ]
        self._tables, self._rdo, self._watch = tables, rdo, watch
        self._cost = torch.from_numpy(np.minimum(tables.bits, 1e6)).float().to(latent.device)
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []  # codes and classes, (B, n) each

    def see(self, group: Group) -> None:
        residual = self.latent[group.cells, group.part] - group.mean
        codes = _choose(residual, group.classes, self._cost, self._tables.zero, self._rdo)
        self.latent[group.cells, group.part] = codes + group.mean
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


class _Reader:
    """The decoder's source of codes. Levels without a coder are their means."""

    def __init__(
        self, latent: Tensor, tables: ClassTables, coders: list[RangeDecoder], count_bits: bool
    ) -> None:
        self.latent = latent
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
            self.latent[group.cells, group.part] = decoded
        self._seen.clear()


def _choose(residual: Tensor, classes: Tensor, cost: Tensor, zero: int, rdo: float) -> Tensor:
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


def _indices(grids: Tensor, rows: slice, cells: Tensor | None) -> Tensor:
    """Flat indices into grids (B, h, w, c) of some rows; cells (rows, w) bool: of these cells."""
    index = torch.arange(grids.shape[:3].numel(), device=grids.device).view(grids.shape[:3])
    chosen = index[:, rows] if cells is None else index[:, rows][:, cells]
    return chosen.flatten()


class _Span(NamedTuple):
    """A tile along one side of the grid, in cells."""

    inner: slice
    outer: slice  # with a halo
    crop: slice  # inner within outer


def _spans(n: int) -> list[_Span]:
    """The tiles of ``n`` cells."""
    result = []
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        low, high = max(0, start - HALO), min(n, stop + HALO)
        result.append(_Span(slice(start, stop), slice(low, high), slice(start - low, stop - low)))
    return result
