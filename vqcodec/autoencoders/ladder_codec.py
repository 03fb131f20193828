"""Images to sections and back with a trained ``Ladder``: tiles, exact prior, range coder.

A section is a level: the hyper grid, then the slices of the latent that the rate point codes.
``_walk`` visits the groups of codes in coding order and computes what is known of each group before
it is read, its means and its classes, by exact arithmetic. The encoder and the decoder run the same
walk; they differ only in where the codes come from. Nothing that the walk sees depends on floating
point rounding, so a file decodes to the same codes everywhere.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.autoencoders.ladder import (
    BITS_CENTRE,
    HYPER_SIZE,
    RANGE,
    CellNet,
    Ladder,
    anchors,
    mean_unit,
)
from vqcodec.autoencoders.synthesis import FoldedSynthesis
from vqcodec.errors import FormatError, RateError
from vqcodec.priors.classes import CLASSES, LARGEST, ClassTables, classify
from vqcodec.priors.network import FixedCellNet, FixedFilm, apply_film, fixed_conv, fixed_linear
from vqcodec.rangecoder import (
    TABLE_BITS,
    RangeDecoder,
    RangeEncoder,
    check_tables,
    ideal_bits,
    open_section,
)
from vqcodec.zoo import RATE_UNIT

RATE_LOW, RATE_HIGH = 5 * RATE_UNIT, 10 * RATE_UNIT
HYPER_BANDS = 6  # hyper tables, one for each whole N from 5 to 10
RDO = 0.08  # squared steps that one bit is worth in the encoder's choice of codes
TILE = 128  # cells; larger images go through the convolutions in tiles of 2048 pixels
HALO = 6  # cells: the receptive field of analysis and synthesis reaches 4 cells and a bit
_FIXED = 16  # fractional bits of the factors between units; std has 8 more, the power 32
_LOG2_RANGE = 13642  # log2(RANGE) * 2**10, rounded


class Coded(NamedTuple):
    """What the encoder made of an image."""

    sections: list[bytes]  # coarse first
    ideal_bits: list[float]  # of each section
    latent: Tensor  # (h * w, c) float32 in steps: what the decoder will make of them


class Group(NamedTuple):
    """Codes that are coded together, and all that is known before."""

    level: int
    cells: Tensor  # (n,) int64, flat indices into the grid of the latent
    part: slice  # channels
    mean: Tensor  # (n, c) float32, in steps, multiples of 2**-10 up to 2**10: exact
    classes: Tensor  # (n, c) uint8


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

    def analyse(self, pixels: np.ndarray, rate: RatePoint) -> Tensor:
        """pixels (H, W, 3) uint8 -> latent (1, C, h, w) float32 in transform units."""
        height, width = pixels.shape[:2]
        h, w = -(-height // 16), -(-width // 16)
        latent = torch.empty(1, len(self.std), h, w, device=self.device)
        t = torch.tensor([rate.t], device=self.device)
        for inner, outer, crop in _tiles(h, w):
            rows, columns = (slice(16 * s.start, 16 * s.stop) for s in outer)
            tile = torch.from_numpy(np.array(pixels[rows, columns]))
            if self.device.type == "cuda":
                tile = tile.pin_memory().to(self.device, non_blocking=True)
            x = tile.permute(2, 0, 1)[None].float()
            missing = (16 * (outer[1].stop - outer[1].start) - x.shape[3],
                       16 * (outer[0].stop - outer[0].start) - x.shape[2])  # fmt: skip
            x = F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate")
            latent[:, :, inner[0], inner[1]] = self.model.analysis(x, t)[:, :, crop[0], crop[1]]
        return latent

    def synthesize(self, latent: Tensor, height: int, width: int, rate: RatePoint) -> np.ndarray:
        """latent (h * w, c) in steps -> pixels (height, width, 3) uint8."""
        h, w = -(-height // 16), -(-width // 16)
        pixels = np.empty((height, width, 3), np.uint8)
        synthesis = self._synthesis(rate)
        grid = latent.reshape(h, w, -1)
        for inner, outer, crop in _tiles(h, w):
            rows, columns = (slice(16 * c.start, 16 * c.stop) for c in crop)
            x = synthesis(grid[outer[0], outer[1]])[rows, columns]
            rows, columns = (slice(16 * s.start, 16 * s.stop) for s in inner)
            target = pixels[rows, columns]
            target[:] = x[: target.shape[0], : target.shape[1]].cpu().numpy()
        return pixels

    def _synthesis(self, rate: RatePoint) -> FoldedSynthesis:
        """That of the last call where the rate point is the same: folding takes milliseconds."""
        if self._folded is None or self._folded[0] != rate:
            model, channels = self.model, self.model.config.coded_channels(rate.bits)
            folded = FoldedSynthesis(model.synthesis, model.std, rate.t, rate.step, channels)
            self._folded = rate, folded
        return self._folded[1]

    # --- codes: exact -----------------------------------------------------------------------------

    def encode(self, pixels: np.ndarray, rate: RatePoint) -> Coded:
        """pixels (H, W, 3) uint8 -> sections."""
        z, y, (h, w) = self.latents(pixels, rate)
        return self.encode_latent(y, z, h, w, rate)

    def least_bytes(self, height: int, width: int, rate: RatePoint) -> int:
        """Of the first section of a picture: a shorter one is refused before memory is taken.

        The range coder cannot beat the ideal bits but by the luck of a short number in its last
        interval: 8 bytes of it have a chance of 2**-64, and then the encoder pads with zeros.
        """
        cells = -(-height // 64) * -(-width // 64)
        return max(0, cells * self._cell_cost[rate.band] // 128 - 8)

    @torch.inference_mode()
    def latents(
        self, pixels: np.ndarray, rate: RatePoint
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """pixels (H, W, 3) uint8 -> hyper codes (hyper, h', w'), latent (h * w, C), (h, w)."""
        y = self.analyse(pixels, rate)
        t = torch.tensor([rate.t], device=self.device)
        step = torch.tensor([rate.step], device=self.device)
        z = self.model.hyper_analysis(y, t, self.model.std, step).round_()[0]
        h, w = y.shape[-2:]
        return z, y[0].permute(1, 2, 0).reshape(h * w, -1) / rate.step, (h, w)

    @torch.inference_mode()
    def encode_latent(
        self,
        y: Tensor,
        z: Tensor,
        h: int,
        w: int,
        rate: RatePoint,
        watch: Callable[[Group, np.ndarray], None] = lambda group, codes: None,
    ) -> Coded:
        """y (h * w, C) in steps, z (hyper, h', w') integers -> sections.

        ``watch`` sees each group with its symbols."""
        symbols = (z + HYPER_SIZE // 2).flatten(1).to(torch.int32).cpu().numpy()
        coder, bits = RangeEncoder(), 0.0
        for row, table in zip(symbols, self.hyper_tables[rate.band], strict=True):
            coder.encode(row, table)
            bits += ideal_bits(row, table)
        payload = coder.finish().ljust(self.least_bytes(16 * h, 16 * w, rate), b"\0")
        sections, ideal = [payload], [bits]

        tables = ClassTables(self.class_tables, rate.size)
        cost = torch.from_numpy(np.minimum(tables.bits, 1e6)).float().to(self.device)
        coders = [RangeEncoder() for _ in range(self.levels(rate) - 1)]
        ideal += [0.0] * len(coders)

        def choose(group: Group) -> Tensor:
            residual = y[group.cells, group.part] - group.mean
            codes = _choose(residual, group.classes, cost, tables.zero, self.rdo)
            values = (codes + tables.zero).flatten().to(torch.int32).cpu().numpy()
            classes = group.classes.flatten().cpu().numpy()
            ideal[group.level] += tables.encode(coders[group.level - 1], values, classes)
            watch(group, values)
            return codes

        latent = self._walk(z, h, w, rate, choose)
        return Coded(sections + [coder.finish() for coder in coders], ideal, latent)

    def decode(
        self,
        sections: Sequence[bytes | RangeDecoder],
        height: int,
        width: int,
        rate: RatePoint,
        ideal: list[float] | None = None,
    ) -> Tensor:
        """The first sections, one at least -> latent (h * w, c) in steps.

        Levels that are not given keep their predicted means. Each section's ideal bits are appended
        to ``ideal`` where it is given.
        """
        h, w = -(-height // 16), -(-width // 16)
        shape = (self.model.config.hyper, -(-h // 4), -(-w // 4))
        bits = [0.0] * len(sections)
        coder = open_section(sections[0])
        symbols = np.empty((shape[0], shape[1] * shape[2]), np.int32)
        for row, table in zip(symbols, self.hyper_tables[rate.band], strict=True):
            row[:] = coder.decode(len(row), table)
            bits[0] += ideal_bits(row, table) if ideal is not None else 0.0
        z = torch.from_numpy(symbols).reshape(shape) - HYPER_SIZE // 2
        tables = ClassTables(self.class_tables, rate.size)
        coders = [open_section(section) for section in sections[1:]]

        def read(group: Group) -> Tensor:
            if group.level > len(coders):
                return torch.zeros_like(group.mean)
            classes = group.classes.flatten().cpu().numpy()
            values = tables.decode(coders[group.level - 1], classes)
            if ideal is not None:
                bits[group.level] += float(tables.bits[classes, values].sum())
            codes = torch.from_numpy(values).to(self.device).reshape(group.mean.shape)
            return codes.float().sub_(tables.zero)

        with torch.inference_mode():
            latent = self._walk(z.to(self.device).float(), h, w, rate, read)
        if ideal is not None:
            ideal += bits
        return latent

    def _features(self, z: Tensor, h: int, w: int, t: float) -> Tensor:
        """Hyper codes (hyper, h', w') -> features (h, w, features) in units, exact."""
        grid = (z * (fixedpoint.UNITS / 4)).permute(1, 2, 0)
        x = apply_film(self.conv64.everywhere(grid).double(), self.film.at(t))
        x = fixedpoint.pixel_shuffle(fixedpoint.each_cell(self.up64.activated, x))
        x = fixedpoint.leaky_relu(self.conv32.everywhere(x))
        return fixedpoint.pixel_shuffle(fixedpoint.each_cell(self.up32.activated, x))[:h, :w]

    def _walk(
        self, z: Tensor, h: int, w: int, rate: RatePoint, visit: Callable[[Group], Tensor]
    ) -> Tensor:
        """Call ``visit`` for each group in coding order; it returns the codes (n, c), 0 for zero.

        Returns the latent (h * w, c) float32 in steps: code plus mean, a multiple of 2**-10.
        """
        slices = self.model.config.slices[: self.model.config.coded_slices(rate.bits)]
        levels = list(zip(slices, self.anchor_nets, self.other_nets, strict=False))
        known = self._features(z, h, w, rate.t)
        # What the networks see grows by each slice, but for a last one that nothing depends on.
        context = 2 * sum(slices if levels[-1][2] else slices[:-1])
        seen = torch.empty(h, w, known.shape[2] + context, device=self.device)
        inputs = known.shape[2]
        seen[:, :, :inputs] = known
        board = anchors(h, w, self.device).flatten()
        everywhere = torch.arange(h * w, device=self.device)
        black, white = everywhere[board], everywhere[~board]
        latent = torch.empty(h * w, sum(slices), device=self.device)
        log2_step = _LOG2_RANGE - 4 * rate.index
        start = 0
        for level, (size, first, second) in enumerate(levels, 1):
            part = slice(start, start + size)
            start += size
            factor = self._factors(
                unit * rate.power // (int(RANGE) << (40 - _FIXED)) for unit in self.mean_unit[part]
            )  # mean unit over step
            offset = torch.tensor(self.log2_std[part], device=self.device) - log2_step

            def visit_cells(net: FixedCellNet, inputs: int, cells: Tensor) -> None:
                if not len(cells):  # the second colour of a board of one cell
                    return
                means, classes = [], []
                for rows in net.chunks(seen[:, :, :inputs], cells, rate.t):
                    mean, scale = rows.chunk(2, 1)
                    means.append(fixedpoint.round_activations(mean * factor).float())  # noqa: B023
                    classes.append(classify(scale + offset))  # noqa: B023
                mean = torch.cat(means).div_(fixedpoint.UNITS)
                group = Group(level, cells, part, mean, torch.cat(classes))  # noqa: B023
                decoded = visit(group) + group.mean
                if len(cells) == len(latent):
                    latent[:, part] = decoded  # noqa: B023
                else:
                    latent[cells, part] = decoded  # noqa: B023

            def look(inputs: int) -> int:
                """Append what is known of this slice to the inputs. Returns their new number."""
                end = inputs + 2 * size  # noqa: B023
                y = latent[:, part].view(h, w, -1)  # noqa: B023
                self._context(y, part, rate, seen[:, :, inputs:end])  # noqa: B023
                return end

            if second is None:
                visit_cells(first, inputs, everywhere)
            else:
                visit_cells(first, inputs, black)
                latent[white, part] = 0.0
                visit_cells(second, look(inputs), white)
            if level < len(levels):
                inputs = look(inputs)
        return latent

    def _context(self, y: Tensor, part: slice, rate: RatePoint, out: Tensor) -> None:
        """The exact form of ``ladder.context_inputs``: y (h, w, c) in steps -> out (h, w, 2c)."""
        values, magnitude = out.chunk(2, 2)
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


_Span = tuple[slice, slice]


def _tiles(h: int, w: int) -> list[tuple[_Span, _Span, _Span]]:
    """(inner, outer, crop) of each tile in cells: outer has a halo, crop is inner within it."""

    def spans(n: int) -> list[tuple[slice, slice, slice]]:
        result = []
        for start in range(0, n, TILE):
            stop = min(start + TILE, n)
            low, high = max(0, start - HALO), min(n, stop + HALO)
            result.append((slice(start, stop), slice(low, high), slice(start - low, stop - low)))
        return result

    return [tuple(zip(r, c, strict=True)) for r in spans(h) for c in spans(w)]  # type: ignore[misc]
