"""What of a ladder's decoder does not depend on what computes it: torch, or numpy alone.

Rate points, the sections, and the tiles of large pictures. Does not import torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from vqcodec.autoencoders.ladder.config import HYPER_SIZE, LadderConfig
from vqcodec.autoencoders.ladder.rate import BANDS, RATE_HIGH, RATE_LOW, ChannelSteps, RatePoint
from vqcodec.card import TUNES
from vqcodec.container import Region
from vqcodec.errors import FormatError, RateError
from vqcodec.priors.classes import CLASSES, LARGEST, ClassTables
from vqcodec.progress import Progress, unseen
from vqcodec.rangecoder import TABLE_BITS, RangeDecoder, check_tables, ideal_bits, open_section
from vqcodec.rate import VISUAL

TILE = 128  # cells; larger images go through the convolutions in tiles of 2048 pixels
HALO = 6  # cells: the receptive field of the synthesis reaches 4 cells and a bit

L = TypeVar("L")  # latents (h * w, c) float32 in steps: a tensor or an array
S = TypeVar("S")  # the synthesis at a rate point


class LadderDecoder(ABC, Generic[L, S]):
    """Sections to a latent, and the latent to pixels."""

    steps: ChannelSteps

    def __init__(
        self,
        config: LadderConfig,
        units: np.ndarray,
        hyper_tables: np.ndarray,
        class_tables: np.ndarray,
    ) -> None:
        """units: ``model.unit_tables``; hyper_tables (6, hyper, 64), of a tuned ladder
        (12, hyper, 64); class_tables (64, 1024): uint32.

        Raises ValueError for what these cannot be.
        """
        self.config = config
        bands = BANDS * (1 + config.tuned)
        expected = (3, config.channels), (bands, config.hyper, HYPER_SIZE)
        if (units.shape, hyper_tables.shape) != expected or class_tables.shape != (
            CLASSES,
            LARGEST,
        ):
            raise ValueError("the tables are not those of the network")
        if int(units[:2].min()) < 1:
            raise ValueError("a unit is not above zero")
        check_tables(hyper_tables)
        check_tables(class_tables)
        self.hyper_tables, self.class_tables = hyper_tables, class_tables
        # What a hyper cell costs at least, in each band, in 1/16 bit
        cheapest = TABLE_BITS - np.log2(hyper_tables.max(-1).astype(np.float64))
        self._cell_cost = np.floor(16 * cheapest.sum(-1)).astype(int).tolist()
        self._folded: tuple[RatePoint, S] | None = None

    @property
    def tunes(self) -> tuple[str, ...]:
        """What a file can be tuned to, the default first; empty where there is no choice."""
        return TUNES if self.config.tuned else ()

    def span(self, tune: str | None = None) -> tuple[int, int]:
        """The stored numbers of the least and the most bits. Raises RateError for other tunes."""
        if tune not in (None, *self.tunes):
            raise RateError(f"it cannot be tuned to {tune!r}")
        visual = VISUAL * (tune == "visual" or (tune is None and self.config.tuned))
        return RATE_LOW + visual, RATE_HIGH + visual

    def point(self, index: int) -> RatePoint:
        """A stored rate point. Raises FormatError for one that no encoder writes."""
        rate = RatePoint(index)
        known = RATE_LOW <= rate.number <= RATE_HIGH
        if not known or (rate.visual and not self.config.tuned):
            raise FormatError(f"rate point {index} does not exist in this codec")
        return rate

    def levels(self, rate: RatePoint) -> int:
        """How many sections a file has."""
        return 1 + self.config.coded_slices(rate.bits)

    def least_bytes(self, height: int, width: int, rate: RatePoint) -> int:
        """Of the first section of a picture: a shorter one is refused before memory is taken.

        The range coder cannot beat the ideal bits but by the luck of a short number in its last
        interval: 8 bytes of it have a chance of 2**-64, and then the encoder pads with zeros.
        """
        cells = -(-height // 64) * -(-width // 64)
        return max(0, cells * self._cell_cost[rate.band] // 128 - 8)

    def decode(
        self,
        sections: Sequence[bytes | RangeDecoder],
        height: int,
        width: int,
        rate: RatePoint,
        ideal: list[float] | None = None,
        progress: Progress = unseen,
    ) -> L:
        """The first sections, one at least -> latent (h * w, c) in steps.

        Levels that are not given keep their predicted means. Each section's ideal bits are appended
        to ``ideal`` where it is given.
        """
        h, w = -(-height // 16), -(-width // 16)
        z, bits = self._hyper_codes(sections[0], h, w, rate, ideal is not None)
        tables = ClassTables(self.class_tables, self.steps.codewords(rate))
        coders = [open_section(section) for section in sections[1:]]
        latent, each = self._latent(z, h, w, rate, tables, coders, ideal is not None, progress)
        if ideal is not None:
            ideal += [bits, *each]
        return latent

    def _hyper_codes(
        self, section: bytes | RangeDecoder, h: int, w: int, rate: RatePoint, count_bits: bool
    ) -> tuple[np.ndarray, float]:
        """The first section -> (hyper, h', w') int32 and their ideal bits, where these count."""
        shape = (self.config.hyper, -(-h // 4), -(-w // 4))
        bits = 0.0
        coder = open_section(section)
        symbols = np.empty((shape[0], shape[1] * shape[2]), np.int32)
        for row, table in zip(symbols, self.hyper_tables[rate.band], strict=True):
            row[:] = coder.decode(len(row), table)
            bits += ideal_bits(row, table) if count_bits else 0.0
        return (symbols - HYPER_SIZE // 2).reshape(shape), bits

    @abstractmethod
    def _latent(
        self,
        z: np.ndarray,
        h: int,
        w: int,
        rate: RatePoint,
        tables: ClassTables,
        coders: list[RangeDecoder],
        count_bits: bool,
        progress: Progress,
    ) -> tuple[L, list[float]]:
        """z (hyper, h', w') int32 -> latent (h * w, c), and the ideal bits of each coder's codes.

        These are counted where ``count_bits``. Levels without a coder are their means.
        """

    def bands(
        self,
        latent: L,
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
            s for s in spans(h, HALO) if 16 * s.inner.start < y + rows and 16 * s.inner.stop > y
        ]
        along = [
            s for s in spans(w, HALO) if 16 * s.inner.start < x + columns and 16 * s.inner.stop > x
        ]
        grid: Any = latent
        grid = grid.reshape(h, w, -1)
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
                tile = self._pixels(grid[row.outer, column.outer], rate, part)
                band[:, left - x : right - x] = tile
                done += 1
                progress(done / (len(down) * len(along)))
            yield band

    def _synthesis_at(self, rate: RatePoint) -> S:
        """That of the last call where the rate point is the same: folding takes milliseconds."""
        known = self._folded  # read once: another thread may replace it
        if known is None or known[0] != rate:
            known = self._folded = rate, self._fold(rate)
        return known[1]

    @abstractmethod
    def _fold(self, rate: RatePoint) -> S:
        """The synthesis with all that the rate point decides folded into its weights."""

    @abstractmethod
    def _pixels(self, cells: L, rate: RatePoint, part: tuple[slice, slice]) -> np.ndarray:
        """cells (h, w, c) in steps -> a part of their pixels (rows, columns, 3) uint8."""


class Span(NamedTuple):
    """A tile along one side of the grid, in cells."""

    inner: slice
    outer: slice  # with a halo
    crop: slice  # inner within outer


def spans(n: int, halo: int) -> list[Span]:
    """The tiles of ``n`` cells, which see ``halo`` more cells on either side."""
    result = []
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        low, high = max(0, start - halo), min(n, stop + halo)
        result.append(Span(slice(start, stop), slice(low, high), slice(start - low, stop - low)))
    return result
