"""Images to sections and back with a system of the papers: mosaic of squares, priors, range coder.

A picture is padded with its edge, alike on both sides, to a multiple of the system's squares. The
codes of all squares of a level are one section. The priors see integers only, so a file decodes to
the same codes everywhere; the squares go through the networks in batches of any size.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqcodec.autoencoders.system import System
from vqcodec.container import Region
from vqcodec.errors import FormatError, RateError
from vqcodec.guest import own_torch
from vqcodec.priors.embedding import EmbeddingPrior, Remembering
from vqcodec.priors.grid import GridPrior, LevelPrior, Sizes
from vqcodec.progress import Progress, unseen
from vqcodec.rangecoder import RangeDecoder, RangeEncoder, open_section

BATCH_PIXELS = 1 << 19  # go through the networks at once


class GridCoded(NamedTuple):
    """What the encoder made of an image."""

    sections: list[bytes]  # coarse first
    ideal_bits: list[float]  # of each section
    latent: list[np.ndarray]  # codes (squares, columns, h, w) of each level


class Mosaic(NamedTuple):
    """How squares cover a picture."""

    rows: int
    columns: int
    top: int  # pixels of padding above and to the left
    left: int
    side: int

    @classmethod
    def of(cls, height: int, width: int, side: int) -> "Mosaic":
        rows, columns = -(-height // side), -(-width // side)
        return cls(rows, columns, (rows * side - height) // 2, (columns * side - width) // 2, side)

    @property
    def size(self) -> int:
        """How many squares there are."""
        return self.rows * self.columns

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (H, W, c) -> squares (n, side, side, c)."""
        h, w, c = pixels.shape
        bottom = self.rows * self.side - h - self.top
        right = self.columns * self.side - w - self.left
        padded = np.pad(pixels, ((self.top, bottom), (self.left, right), (0, 0)), mode="edge")
        grid = padded.reshape(self.rows, self.side, self.columns, self.side, c)
        return grid.transpose(0, 2, 1, 3, 4).reshape(self.size, self.side, self.side, c)

    def join(self, squares: np.ndarray, height: int, width: int) -> np.ndarray:
        """The inverse of ``cut``."""
        c = squares.shape[-1]
        grid = squares.reshape(self.rows, self.columns, self.side, self.side, c)
        pixels = grid.transpose(0, 2, 1, 3, 4).reshape(
            self.rows * self.side, self.columns * self.side, c
        )
        return pixels[self.top : self.top + height, self.left : self.left + width]


class GridCodec:
    """A trained system with the priors of its levels, on one device. Rate points are indices."""

    rdo = None  # the codes are the encoder's, which has no choice

    def __init__(self, model: System, priors: dict[str, LevelPrior], device: torch.device) -> None:
        self.device, self.priors = device, priors
        self.model = model.to(device).eval().requires_grad_(False)
        self.highest = len(model.rates) - 1
        self.grey_only = model.config.channels == 1

    # --- rate points ------------------------------------------------------------------------------

    def span(self, tune: str | None = None) -> tuple[int, int]:
        """The first and the last rate point. Raises RateError: there is no choice of tunes."""
        if tune is not None:
            raise RateError(f"it cannot be tuned to {tune!r}")
        return 0, self.highest

    def point(self, index: int) -> int:
        """A stored rate point. Raises FormatError for one that does not exist."""
        if not 0 <= index <= self.highest:
            raise FormatError(f"rate point {index} does not exist in this codec")
        return index

    def levels(self, index: int) -> int:
        """How many sections a file has."""
        return len(self.model.levels(self.model.rates[index]))

    def least_bytes(self, height: int, width: int, index: int) -> int:
        """Of the first section of a picture: a shorter one is refused before memory is taken.

        As in ``LadderCodec.least_bytes``, 8 bytes are left to luck.
        """
        level = self.model.levels(self.model.rates[index])[0]
        count = Mosaic.of(height, width, self.model.config.side).size
        shape = (count, len(level.sizes), *level.grid)
        return max(0, int(self.priors[level.name].least_bits(shape) // 8) - 8)

    # --- pixels and codes -------------------------------------------------------------------------

    @own_torch()
    def codes(self, squares: np.ndarray, index: int) -> list[np.ndarray]:
        """squares (count, side, side, 3) uint8 -> codes (count, columns, h, w) of each level."""
        rate, parts = self.model.rates[index], []
        for part in np.array_split(squares, self._batches(len(squares))):
            x = torch.from_numpy(part)
            if self.device.type == "cuda":
                x = x.pin_memory().to(self.device, non_blocking=True)
            parts.append(self.model.encode(to_input(x.permute(0, 3, 1, 2), self.model), rate))
        return [torch.cat(level).cpu().numpy() for level in zip(*parts, strict=True)]

    @own_torch()
    def squares(
        self,
        codes: Sequence[np.ndarray | None],
        index: int,
        generator: torch.Generator | None = None,
    ) -> np.ndarray:
        """Codes of each level, None where withheld -> (count, side, side, 3) uint8."""
        rate, parts = self.model.rates[index], []
        count = next(len(level) for level in codes if level is not None)
        for rows in np.array_split(np.arange(count), self._batches(count)):
            part = [
                None if level is None else torch.from_numpy(level[rows]).to(self.device)
                for level in codes
            ]
            parts.append(to_pixels(self.model.decode(part, rate, generator)))
        return np.concatenate(parts)

    def _batches(self, count: int) -> int:
        return min(count, -(-count * self.model.config.side**2 // BATCH_PIXELS))

    def encode(
        self,
        pixels: np.ndarray,
        index: int,
        progress: Progress = unseen,
        rdo: float | None = None,
    ) -> GridCoded:
        """pixels (H, W, 3) uint8 -> sections."""
        height, width = pixels.shape[:2]
        mosaic = Mosaic.of(height, width, self.model.config.side)
        return self._coded(self.codes(mosaic.cut(pixels), index), height, width, index, progress)

    def searching(self, effort: int) -> "GridCodec":
        return self  # cards allow no other effort than 1

    def encode_many(self, pictures: Sequence[np.ndarray], index: int) -> list[GridCoded]:
        """Pictures (H, W, 3) uint8 of one size -> the sections of each.

        On a GPU they go through the networks together; on the CPU that gains nothing.
        """
        if self.device.type == "cpu":
            return [self.encode(pixels, index) for pixels in pictures]
        height, width = pictures[0].shape[:2]
        mosaic = Mosaic.of(height, width, self.model.config.side)
        codes = self.codes(np.concatenate([mosaic.cut(pixels) for pixels in pictures]), index)
        each = zip(*(np.split(level, len(pictures)) for level in codes), strict=True)
        return [self._coded(list(one), height, width, index) for one in each]

    def _coded(
        self,
        codes: list[np.ndarray],
        height: int,
        width: int,
        index: int,
        progress: Progress = unseen,
    ) -> GridCoded:
        """Codes (squares, columns, h, w) of each level -> sections."""
        sections: list[bytes] = []
        ideal, known = [], Remembering()
        levels = self.model.levels(self.model.rates[index])
        for level, grid in zip(levels, codes, strict=True):
            progress((1 + len(sections)) / (1 + len(levels)))
            coder = RangeEncoder()
            ideal.append(self.priors[level.name].encode(coder, grid, known))
            sections.append(coder.finish())
            known[level.name] = grid
        least = self.least_bytes(height, width, index)
        sections[0] = sections[0].ljust(least, b"\0")
        return GridCoded(sections, ideal, codes)

    def decode(
        self,
        sections: Sequence[bytes | RangeDecoder],
        height: int,
        width: int,
        index: int,
        ideal: list[float] | None = None,
        progress: Progress = unseen,
    ) -> list[np.ndarray]:
        """The first sections, one at least -> codes of their levels.

        Each section's ideal bits are appended to ``ideal`` where it is given.
        """
        count = Mosaic.of(height, width, self.model.config.side).size
        known = Remembering()
        levels = self.model.levels(self.model.rates[index])
        for level, payload in zip(levels, sections, strict=False):
            shape = (count, len(level.sizes), *level.grid)
            coder = open_section(payload)
            known[level.name], bits = self.priors[level.name].decode(coder, shape, known)
            if ideal is not None:
                ideal.append(bits)
            progress(len(known) / len(sections))
        return list(known.values())

    def bands(
        self,
        latent: list[np.ndarray],
        height: int,
        width: int,
        index: int,
        region: Region | None = None,
        progress: Progress = unseen,
    ) -> Iterator[np.ndarray]:
        """Codes of the first levels -> the pixels (rows, columns, 3) uint8, from top to bottom."""
        mosaic = Mosaic.of(height, width, self.model.config.side)
        side = mosaic.side
        x, y, columns, rows = region or (0, 0, width, height)
        left, right = (x + mosaic.left) // side, -(-(x + mosaic.left + columns) // side)
        first, last = (y + mosaic.top) // side, -(-(y + mosaic.top + rows) // side)
        grid = np.arange(mosaic.size).reshape(mosaic.rows, mosaic.columns)[:, left:right]
        step = max(1, BATCH_PIXELS // ((right - left) * side**2))
        for at in range(first, last, step):
            end = min(at + step, last)
            squares = self.drawn([level[grid[at:end].ravel()] for level in latent], index)
            # The squares as a mosaic, cut to the rows and columns that are wanted.
            skipped = max(0, y + mosaic.top - at * side), x + mosaic.left - left * side
            n_rows = min(end * side, y + mosaic.top + rows) - at * side - skipped[0]
            part = Mosaic(end - at, right - left, *skipped, side)
            progress((end - first) / (last - first))
            yield part.join(squares, n_rows, columns)

    def drawn(
        self, latent: list[np.ndarray], index: int, generator: torch.Generator | None = None
    ) -> np.ndarray:
        """Codes of the first levels -> squares (count, side, side, 3) uint8.

        What the decoder may choose is drawn where there is a generator.
        """
        missing = [None] * (self.levels(index) - len(latent))
        return self.squares([*latent, *missing], index, generator)


def to_input(x: Tensor, model: System) -> Tensor:
    """x (B, 3, h, w) 0..255 -> (B, channels, h, w) in [0, 1]."""
    x = x.float() / 255
    return x.mean(1, keepdim=True) if model.config.channels == 1 else x


def to_pixels(x: Tensor) -> np.ndarray:
    """x (B, channels, h, w), about in [0, 1] -> (B, h, w, 3) uint8."""
    x = (x * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return x.expand(*x.shape[:3], 3).cpu().numpy()


PRIOR = "prior."  # tensors of a weights file are named prior.LEVEL.NAME


def load_priors(model: System, tensors: dict[str, np.ndarray]) -> dict[str, LevelPrior]:
    """The priors of all levels. Raises ValueError where they do not fit the system."""
    levels = {level.name: level for rate in model.rates for level in model.levels(rate)}
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in levels}
    for key, value in tensors.items():
        level, _, name = key.removeprefix(PRIOR).partition(".")
        if level not in parts:
            raise ValueError(f"there is no level {level!r}")
        parts[level][name] = value
    network = model.network()
    priors: dict[str, LevelPrior] = {}
    for name, part in parts.items():
        if network is not None and "centroids" in part:
            number = network.names.index(name)
            priors[name] = EmbeddingPrior.from_tensors(network, number, part)
        else:
            priors[name] = GridPrior.from_tensors(part)
    for rate in model.rates:
        known: dict[str, Sizes] = {}
        for coded in model.levels(rate):
            shape = coded.sizes, coded.grid
            priors[coded.name].check(shape, known)
            known[coded.name] = shape
    return priors


def prior_tensors(priors: dict[str, LevelPrior]) -> dict[str, np.ndarray]:
    """What of the priors stands in a weights file."""
    return {
        f"{PRIOR}{level}.{name}": value
        for level, prior in priors.items()
        for name, value in prior.tensors().items()
    }
