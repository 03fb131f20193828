"""What is analysed: a codec, squares that it was not trained on, and their codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec.autoencoders.grid_codec import GridCodec, Mosaic, to_input
from vqcodec.autoencoders.system import Level
from vqcodec.errors import InputError
from vqcodec.training import data as pictures_of
from vqcodec.training import sources
from vqcodec.training.data import Labelled, Track, at_least, scaled

SQUARES = 1000  # that are looked at where no number is named
PART = 128  # squares that are coded between two steps of the progress bar

Made = tuple[Any, dict[str, bytes]]  # numbers of a part of an analysis, for JSON, and PNG files


class LeftOut(Exception):
    """Why a part does not apply to a codec or its data."""


@dataclass(frozen=True)
class Settings:
    """What of the data is looked at."""

    number: int | None = None  # squares that are analysed, or of a ladder pictures; 0: all
    learned: int = 10000  # labelled training squares that classification learns from
    short_side: int = 0  # pixels to which pictures are made; 0: as they are
    held_out: bool = False  # of the pictures only those that training holds out
    split: str = "name"  # by what it does, see ``training.sources``
    seed: int = 0  # of the choice of squares, of shuffling, of decodes


@dataclass(frozen=True)
class Squares:
    """pixels (n, side, side, 3) uint8; labels (n,) where each picture is one square and has one."""

    pixels: np.ndarray
    labels: np.ndarray | None


Codes = dict[str, np.ndarray]  # by level, (n, columns, h, w)


@dataclass(frozen=True)
class Subject:
    """A codec with the squares to look at and all their codes."""

    codec: GridCodec
    squares: Squares
    learned: Squares | None  # training squares, where there are labels
    settings: Settings
    levels: dict[str, Level]  # of all rate points, coarse first, with all their columns
    whole: list[int]  # rate points which between them have all levels, each level once
    codes: Codes
    learned_codes: Codes
    track: Track

    @property
    def rates(self) -> tuple[str, ...]:
        return self.codec.model.rates

    def at(self, index: int, count: int | None = None) -> list[np.ndarray]:
        """The codes of the first squares at a rate point."""
        levels = self.codec.model.levels(self.rates[index])
        return [self.codes[level.name][:count, : len(level.sizes)] for level in levels]


def subject(codec: GridCodec, data: Path, settings: Settings, track: Track) -> Subject:
    """Reads and encodes the squares. Raises InputError where nothing is held out."""
    side = codec.model.config.side
    training, held_out = read(data, settings.split if settings.held_out else None, track)
    rng = np.random.default_rng(settings.seed)
    number = SQUARES if settings.number is None else settings.number
    squares = draw(held_out, side, settings.short_side, number, rng)
    learned = None
    if squares.labels is not None and training.labels is not None:
        learned = draw(training, side, settings.short_side, settings.learned, rng)
    levels, whole = parts(codec)
    return Subject(
        codec,
        squares,
        learned,
        settings,
        levels,
        whole,
        encode(codec, squares.pixels, whole, track),
        {} if learned is None else encode(codec, learned.pixels, whole, track),
        track,
    )


def read(data: Path, split: str | None, track: Track, number: int = 0) -> tuple[Labelled, Labelled]:
    """(training, looked at) pictures; there are training pictures of arrays alone.

    Arrays that name a test part have that looked at. Of others, and of files, all pictures are, or
    those that training holds out by a ``split``, see ``sources.Source``; ``number``: of these so
    many, evenly spread, 0 for all. Raises InputError, and ImageError for a broken picture.
    """
    training = Labelled([], None)
    if data.suffix == ".npz":
        training, found = pictures_of.load_labelled(data, split is None)
        if number:
            some = pictures_of.spread(len(found.pictures), number)
            found = Labelled([found.pictures[i] for i in some], None)
    else:
        source = sources.find(data)
        if split is None:
            chosen = np.arange(len(source))
        else:
            chosen = pictures_of.split(source, split, track, _refuse)[1]
        chosen = chosen[pictures_of.spread(len(chosen), number or len(chosen))]
        pictures = pictures_of.Decoded(source, chosen)
        found = Labelled([pictures[i] for i in track(range(len(chosen)), "decoding")], None)
    if not found.pictures:
        raise InputError(f"{data}: too few pictures to hold some out")
    return training, found


def _refuse(why: str) -> None:
    raise InputError(why)


def draw(
    labelled: Labelled, side: int, short_side: int, number: int, rng: np.random.Generator
) -> Squares:
    """At most ``number`` of the squares that cover the middles of pictures, without margins.

    0 takes all. Smaller pictures are padded with their edge. The order is that of the pictures.
    """
    pictures = [at_least(scaled(x, short_side), side) for x in labelled.pictures]
    counts = np.array([(x.shape[0] // side) * (x.shape[1] // side) for x in pictures])
    chosen = np.sort(rng.permutation(counts.sum())[: number or None])
    ends = counts.cumsum()
    owners = np.searchsorted(ends, chosen, side="right")
    pixels = np.empty((len(chosen), side, side, 3), np.uint8)
    for row, (owner, index) in enumerate(zip(owners, chosen, strict=True)):
        pixels[row] = tiles(pictures[owner], side)[index - ends[owner]]
    whole = labelled.labels is not None and bool((counts == 1).all())
    return Squares(
        pixels, labelled.labels[owners] if whole and labelled.labels is not None else None
    )


def tiles(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture of at least (side, side, 3) -> the whole squares in its middle."""
    h, w = (length // side * side for length in pixels.shape[:2])
    top, left = (pixels.shape[0] - h) // 2, (pixels.shape[1] - w) // 2
    return Mosaic.of(h, w, side).cut(pixels[top : top + h, left : left + w])


def parts(codec: GridCodec) -> tuple[dict[str, Level], list[int]]:
    """All levels, coarse first, and the finest rate points that have them."""
    found: dict[str, Level] = {}
    whole: list[int] = []
    for index in reversed(range(len(codec.model.rates))):  # the most columns first
        levels = codec.model.levels(codec.model.rates[index])
        if not {level.name for level in levels} <= set(found):
            whole.insert(0, index)
            found = {level.name: level for level in levels} | found
    return found, whole


def encode(codec: GridCodec, squares: np.ndarray, whole: Sequence[int], track: Track) -> Codes:
    """Codes of all levels; a level is coded alike at all rate points, but for its last columns."""
    found: Codes = {}
    for index in whole:
        rate = codec.model.rates[index]
        made = [
            codec.codes(squares[first : first + PART], index)
            for first in track(range(0, len(squares), PART), f"encoding at {rate}")
        ]
        names = [level.name for level in codec.model.levels(rate)]
        found |= zip(names, map(np.concatenate, zip(*made, strict=True)), strict=True)
    return found


def input_of(subject: Subject, pixels: np.ndarray) -> torch.Tensor:
    """Squares (n, side, side, 3) as the system takes them."""
    x = torch.from_numpy(pixels).to(subject.codec.device)
    return to_input(x.permute(0, 3, 1, 2), subject.codec.model)
