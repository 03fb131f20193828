"""Images to sections and back with a trained ``Ladder``: tiles, exact prior, range coder.

A section is a level: the hyper grid, then the slices of the latent that the rate point codes.
The encoder chooses the codes, and the decoder reads them, as ``LadderPrior.walk`` asks for them.

Memory is bounded for large pictures: pixels go through the transforms in tiles, the grid of the
latent through the networks of the prior in bands of rows. All that is kept of a whole picture is
its latent, and the codes of one group.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.autoencoders.ladder.codes import Chooser, Reader, Watch
from vqcodec.autoencoders.ladder.model import HYPER_SIZE, Ladder
from vqcodec.autoencoders.ladder.prior import BAND, LadderPrior
from vqcodec.autoencoders.ladder.rate import (
    BANDS,
    RATE_HIGH,
    RATE_LOW,
    RatePoint,
)
from vqcodec.autoencoders.ladder.synthesis import FoldedSynthesis, fast_dtype
from vqcodec.autoencoders.system import Region
from vqcodec.card import TUNES
from vqcodec.errors import FormatError, RateError
from vqcodec.guest import own_torch
from vqcodec.priors.classes import CLASSES, LARGEST, ClassTables
from vqcodec.progress import Progress, between, unseen
from vqcodec.rangecoder import (
    TABLE_BITS,
    RangeDecoder,
    RangeEncoder,
    check_tables,
    ideal_bits,
    open_section,
)
from vqcodec.rate import VISUAL

RDO = 0.08  # squared steps that one bit is worth in the encoder's choice of codes
TILE = 128  # cells; larger images go through the convolutions in tiles of 2048 pixels
HALO = 6  # cells: the receptive field of the synthesis reaches 4 cells and a bit
ANALYSIS_SHARE = 0.35  # of the time that encoding takes; the walk takes the rest


class Coded(NamedTuple):
    """What the encoder made of an image."""

    sections: list[bytes]  # coarse first
    ideal_bits: list[float]  # of each section
    latent: Tensor  # (h * w, c) float32 in steps: what the decoder will make of them


class LadderCodec:
    """A trained ladder with its tables, on one device."""

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
        """units: ``unit_tables``; hyper_tables (6, hyper, 64), of a tuned ladder (12, hyper, 64);
        class_tables (64, 1024): uint32.

        Raises ValueError for what these cannot be.
        """
        bands = BANDS * (1 + model.config.tuned)
        expected = (3, model.config.channels), (bands, model.config.hyper, HYPER_SIZE)
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
        self.prior = LadderPrior(model, units, device)
        self.hyper_tables, self.class_tables = hyper_tables, class_tables
        self._wraps = model.config.weighted
        self._folded: tuple[RatePoint, FoldedSynthesis] | None = None
        # What a hyper cell costs at least, in each band, in 1/16 bit
        cheapest = TABLE_BITS - np.log2(hyper_tables.max(-1).astype(np.float64))
        self._cell_cost = np.floor(16 * cheapest.sum(-1)).astype(int).tolist()

    # --- pixels and latents: floating point, in tiles -------------------------------------------

    @property
    def tunes(self) -> tuple[str, ...]:
        """What a file can be tuned to, the default first; empty where there is no choice."""
        return TUNES if self.model.config.tuned else ()

    def span(self, tune: str | None = None) -> tuple[int, int]:
        """The stored numbers of the least and the most bits. Raises RateError for other tunes."""
        if tune not in (None, *self.tunes):
            raise RateError(f"it cannot be tuned to {tune!r}")
        visual = VISUAL * (tune == "visual" or (tune is None and self.model.config.tuned))
        return RATE_LOW + visual, RATE_HIGH + visual

    def point(self, index: int) -> RatePoint:
        """A stored rate point. Raises FormatError for one that no encoder writes."""
        rate = RatePoint(index)
        known = RATE_LOW <= rate.number <= RATE_HIGH
        if not known or (rate.visual and not self.model.config.tuned):
            raise FormatError(f"rate point {index} does not exist in this codec")
        return rate

    def _condition(self, rate: RatePoint) -> Tensor:
        """For the networks in floating point, (1, k)."""
        values = rate.condition(self.model.config.conditions)
        return torch.tensor([values], dtype=torch.float32, device=self.device)

    def levels(self, rate: RatePoint) -> int:
        """How many sections a file has."""
        return 1 + self.model.config.coded_slices(rate.bits)

    def analyse(self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen) -> Tensor:
        """pixels (B, H, W, 3) uint8 -> latents (B, h, w, c) float32, coded channels, in steps."""
        n, height, width, _ = pixels.shape
        h, w = -(-height // 16), -(-width // 16)
        channels = self.model.config.coded_channels(rate.bits)
        latent = torch.empty(n, h, w, channels, dtype=torch.float32, device=self.device)
        condition, steps = self._condition(rate), self.prior.steps.steps(rate)[:channels]
        steps = steps.to(self.device)
        # What a block at /8 or /16 adds to the receptive field, in cells
        config = self.model.config
        halo = HALO + (config.analysis_fine - 2) + 2 * (config.analysis_coarse - 1)
        tiles = [(row, column) for row in _spans(h, halo) for column in _spans(w, halo)]
        for done, (row, column) in enumerate(tiles, 1):
            rows, columns = (slice(16 * s.outer.start, 16 * s.outer.stop) for s in (row, column))
            tile = torch.from_numpy(np.array(pixels[:, rows, columns]))
            if self.device.type == "cuda":
                tile = tile.pin_memory().to(self.device, non_blocking=True)
            x = tile.permute(0, 3, 1, 2).float()
            missing = columns.stop - columns.start - x.shape[3], rows.stop - rows.start - x.shape[2]
            x = F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate")
            y = self.model.analysis(x, condition)[:, :channels, row.crop, column.crop]
            torch.div(y.permute(0, 2, 3, 1), steps, out=latent[:, row.inner, column.inner])
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
        down = [
            s for s in _spans(h, HALO) if 16 * s.inner.start < y + rows and 16 * s.inner.stop > y
        ]
        along = [
            s for s in _spans(w, HALO) if 16 * s.inner.start < x + columns and 16 * s.inner.stop > x
        ]
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
                part = (
                    slice(top - origin[0], bottom - origin[0]),
                    slice(left - origin[1], right - origin[1]),
                )
                tile = _pixels(synthesis, grid[row.outer, column.outer], part)
                band[:, left - x : right - x] = tile
                done += 1
                progress(done / (len(down) * len(along)))
            yield band

    @own_torch()
    def _synthesis(self, rate: RatePoint) -> FoldedSynthesis:
        """That of the last call where the rate point is the same: folding takes milliseconds."""
        if self._folded is None or self._folded[0] != rate:
            model, channels = self.model, self.model.config.coded_channels(rate.bits)
            steps = self.prior.steps.steps(rate)[:channels].to(self.device)
            condition, dtype = self._condition(rate), fast_dtype(self.device)
            folded = FoldedSynthesis(model.synthesis, model.std, condition, steps, dtype)
            self._folded = rate, folded
        return self._folded[1]

    # --- codes: exact -----------------------------------------------------------------------------

    def encode(
        self,
        pixels: np.ndarray,
        rate: RatePoint,
        progress: Progress = unseen,
        rdo: float | None = None,
    ) -> Coded:
        """pixels (H, W, 3) uint8 -> sections. rdo: in place of the codec's own."""
        y, z = self.latents(pixels[None], rate, between(progress, 0, ANALYSIS_SHARE))
        walk = between(progress, ANALYSIS_SHARE, 1)
        return self.encode_latents(y, z, rate, progress=walk, rdo=rdo)[0]

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

    @own_torch()
    def latents(
        self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen
    ) -> tuple[Tensor, Tensor]:
        """pixels (B, H, W, 3) uint8 -> latents (B, h, w, c), hyper codes (B, hyper, h', w').

        The latents have the coded channels, in steps.
        """
        y = self.analyse(pixels, rate, progress)
        h, w = y.shape[1:3]
        condition = self._condition(rate)
        rows = max(1, BAND // (4 * w))  # of the hyper grid
        bands = []
        for top in range(0, -(-h // 4), rows):
            # A cell of the hyper grid sees 3 rows above its own 4, and its convolutions have the
            # same phase with 4.
            band = y[:, max(0, 4 * top - 4) : 4 * (top + rows)].permute(0, 3, 1, 2)
            z = self.model.hyper_analysis(band, condition).round_()
            bands.append(z[:, :, 1:] if top else z)
        return y, torch.cat(bands, 2)

    @own_torch()
    def encode_latents(
        self,
        y: Tensor,
        z: Tensor,
        rate: RatePoint,
        watch: Watch = lambda level, codes, classes: None,
        progress: Progress = unseen,
        rdo: float | None = None,
    ) -> list[Coded]:
        """y (B, h, w, c) in steps, z (B, hyper, h', w') integers -> B images. Overwrites y.

        ``watch`` is told of each level of each image.
        """
        n, h, w, _ = y.shape
        tables = ClassTables(self.class_tables, self.prior.steps.codewords(rate))
        rdo = self.rdo if rdo is None else rdo
        levels = self.levels(rate) - 1
        chooser = Chooser(y.flatten(0, 2), n, tables, levels, rdo, watch, self._wraps)
        self.prior.walk(z, h, w, rate, chooser, progress)
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

    @own_torch()
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
        tables = ClassTables(self.class_tables, self.prior.steps.codewords(rate))
        channels = self.model.config.coded_channels(rate.bits)
        latent = torch.empty(h * w, channels, dtype=torch.float32, device=self.device)
        coders = [open_section(section) for section in sections[1:]]
        reader = Reader(latent, tables, coders, ideal is not None, self._wraps)
        self.prior.walk(z.to(self.device).float()[None], h, w, rate, reader, progress)
        if ideal is not None:
            ideal += [bits, *reader.ideal_bits]
        return latent


@own_torch()
def _pixels(synthesis: FoldedSynthesis, cells: Tensor, part: tuple[slice, slice]) -> np.ndarray:
    """cells (h, w, c) in steps -> a part of their pixels (rows, columns, 3) uint8."""
    return synthesis(cells)[part].cpu().numpy()


class _Span(NamedTuple):
    """A tile along one side of the grid, in cells."""

    inner: slice
    outer: slice  # with a halo
    crop: slice  # inner within outer


def _spans(n: int, halo: int) -> list[_Span]:
    """The tiles of ``n`` cells, which see ``halo`` more cells on either side."""
    result = []
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        low, high = max(0, start - halo), min(n, stop + halo)
        result.append(_Span(slice(start, stop), slice(low, high), slice(start - low, stop - low)))
    return result
