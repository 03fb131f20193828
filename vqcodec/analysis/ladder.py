"""What a ladder makes of photographs: bits and error by level, by channel and by place.

All of it is counted while finished sections are made, code by code, and every decode is one of
those sections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec.analysis import plots
from vqcodec.analysis.subject import Made, Settings, read
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.correction import BIT
from vqcodec.autoencoders.ladder.model import anchors
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.autoencoders.ladder.transform import frequencies
from vqcodec.codec import Codec
from vqcodec.metrics import psnr
from vqcodec.priors.classes import ClassTables
from vqcodec.rate import parse_rate
from vqcodec.training.data import Track, at_most, scaled

RATES = ("6bit", "7bit", "8bit", "9bit")
MAPPED = "8bit"  # the rate whose bits and errors are shown by place
PICTURES = 10  # where no number is named: less than a minute of one core
LARGEST = 1024  # pixels a side; of larger pictures the middle is looked at
SHOWN = 4  # pictures of the maps
COLOURS = ("luma", "red - blue", "green - red, blue")  # of the orthonormal colour transform


@dataclass
class Point:
    """Sums over all pictures at a rate point."""

    rate: RatePoint
    level_bits: np.ndarray  # (levels,)
    prefix_errors: np.ndarray  # (levels,): squared errors of the pixels, with so many levels
    channel_bits: np.ndarray  # (channels,)
    channel_errors: np.ndarray  # (channels,): squared, in units of the transform
    nonzero: np.ndarray  # (channels,): codes
    section_bits: int = field(default=0, init=False)  # as they are in files


@dataclass(frozen=True)
class Map:
    """A picture with what it takes at the rate ``MAPPED``, by cells of 16 x 16 pixels."""

    original: np.ndarray  # (H, W, 3) uint8
    decoded: np.ndarray
    bits: np.ndarray  # (h, w) per pixel, of the latent
    error: np.ndarray  # (h, w), root mean square, in grey levels


@dataclass
class Seen:
    """What was counted of some pictures."""

    codec: LadderCodec
    pictures: int = 0
    pixels: int = 0
    cells: int = 0
    points: dict[str, Point] = field(default_factory=dict)
    maps: list[Map] = field(default_factory=list)


def look(codec: Codec, data: Path, settings: Settings, track: Track) -> Seen:
    """Codes pictures of ``data`` at ``RATES``. Raises InputError, ImageError."""
    assert isinstance(codec.system, LadderCodec)
    number = PICTURES if settings.number is None else settings.number
    _, found = read(data, settings.split if settings.held_out else None, track, number)
    pictures = [at_most(scaled(x, settings.short_side), LARGEST) for x in found.pictures]
    seen = Seen(codec.system)
    for name in RATES:
        rate = codec.system.point(codec.rate_index(parse_rate(name)))
        levels = codec.system.levels(rate)
        channels = codec.system.model.config.coded_channels(rate.bits)
        sums = [np.zeros(n) for n in (levels, levels, channels, channels, channels)]
        seen.points[name] = Point(rate, *sums)
    for number, pixels in enumerate(track(pictures, "pictures")):
        height, width = pixels.shape[:2]
        seen.pictures += 1
        seen.pixels += height * width
        seen.cells += -(-height // 16) * -(-width // 16)
        for name, point in seen.points.items():
            made = _count(codec.system, pixels, point)
            if name == MAPPED and number < SHOWN:
                seen.maps.append(made)
    return seen


def _count(codec: LadderCodec, pixels: np.ndarray, point: Point) -> Map:
    """Adds one picture to the sums of a rate point."""
    height, width = pixels.shape[:2]
    rate = point.rate
    y, z = codec.prepared(pixels, rate, codec.rdo)
    wanted = y[0].flatten(0, 1).clone()  # (h * w, c) in steps
    h, w = y.shape[1:3]
    bits = np.zeros((h * w, len(point.channel_bits)))
    watch = _watcher(codec, rate, h, w, bits, point.nonzero)
    coded = codec.encode_latents(y, z, rate, watch, rdo=BIT * codec.rdo)[0]
    channels = bits.sum(0)
    point.channel_bits += channels
    point.level_bits += coded.ideal_bits
    point.section_bits += 8 * sum(map(len, coded.sections))
    steps = torch.from_numpy(codec.steps.steps(rate)[: wanted.shape[1]]).to(wanted.device)
    errors = ((wanted - coded.latent) * steps).double().square().sum(0)
    point.channel_errors += errors.cpu().numpy()

    def decoded(latent: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        made = np.concatenate(list(codec.bands(latent, height, width, rate)))
        return made, np.square(made.astype(np.float32) - pixels)

    for count in range(1, len(coded.sections)):
        latent = codec.decode(coded.sections[:count], height, width, rate)
        point.prefix_errors[count - 1] += decoded(latent)[1].sum(dtype=np.float64)
    whole, squares = decoded(coded.latent)
    point.prefix_errors[-1] += squares.sum(dtype=np.float64)
    rows, columns = np.arange(0, height, 16), np.arange(0, width, 16)

    def by_cell(values: np.ndarray) -> np.ndarray:
        sums: np.ndarray = np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)
        return sums

    areas = by_cell(np.ones((height, width)))
    error = np.sqrt(by_cell(squares.mean(2)) / areas)
    return Map(pixels, whole, bits.sum(1).reshape(h, w) / areas, error)


def _watcher(
    codec: LadderCodec, rate: RatePoint, h: int, w: int, bits: np.ndarray, nonzero: np.ndarray
) -> Callable[[int, np.ndarray, np.ndarray], None]:
    """What ``encode_latents`` tells of its groups; fills bits (h * w, c), adds to nonzero (c,)."""
    tables = ClassTables(codec.class_tables, codec.steps.codewords(rate))
    slices = codec.model.config.slices
    board = anchors(h, w, torch.device("cpu")).flatten().numpy()
    colours = {0: board, 1: ~board}
    groups: dict[int, int] = {}  # that were seen of a level

    def watch(level: int, symbols: np.ndarray, classes: np.ndarray) -> None:
        first = sum(slices[: level - 1])
        part = slice(first, first + slices[level - 1])
        turn = groups.get(level, 0)
        groups[level] = turn + 1
        split = codec.model.config.checkerboard[level - 1]
        cells = np.flatnonzero(colours[turn]) if split else np.arange(h * w)
        shape = len(cells), slices[level - 1]
        bits[cells, part] = tables.bits[classes, symbols].reshape(shape)
        nonzero[part] += (symbols != tables.zero).reshape(shape).sum(0)

    return watch


# --- parts ----------------------------------------------------------------------------------------


def levels(seen: Seen) -> Made:
    """Bits of each level, and the quality of the picture with the first ones alone."""
    numbers: dict[str, Any] = {}
    shares: dict[str, dict[str, float | None]] = {}
    curves = {}
    for name, point in seen.points.items():
        bpp = point.level_bits / seen.pixels
        decibels = [psnr.db(error / (3 * seen.pixels)) for error in point.prefix_errors]
        numbers[name] = {
            "bits_per_pixel": bpp.tolist(),
            "psnr_db_of_first_levels": decibels,
            "bits_per_pixel_of_sections": point.section_bits / seen.pixels,
        }
        shares[name] = {f"level {i}": float(x) for i, x in enumerate(bpp, 1)}
        curves[name] = (bpp.cumsum().tolist(), decibels)
    most = max(shares.values(), key=len)
    figures = {
        "levels.png": plots.bars(
            {name: {key: row.get(key) for key in most} for name, row in shares.items()},
            "bits per pixel",
        ),
        "first-levels.png": plots.lines(curves, "bits per pixel", "PSNR, dB"),
    }
    return numbers, figures


def channels(seen: Seen) -> Made:
    """Bits, error and step of each channel, by its frequency in the block DCT that it began as."""
    numbers: dict[str, Any] = {}
    figures = {}
    config = seen.codec.model.config
    sizes = config.luma, config.chroma, config.more_luma, config.more_chroma
    where = frequencies(*sizes)
    for name, point in seen.points.items():
        bits, errors = point.channel_bits / seen.cells, point.channel_errors / seen.cells
        steps = seen.codec.steps.steps(point.rate)[: len(bits)]
        numbers[name] = {
            "bits_per_cell": bits.tolist(),
            "mean_squared_error": errors.tolist(),
            "share_not_zero": (point.nonzero / seen.cells).tolist(),
            "step": steps.tolist(),
        }
        if name == MAPPED:
            for title, unit, values in (
                ("channel-bits", "bits of a code", bits),
                ("channel-errors", "root mean square error", np.sqrt(errors)),
                ("channel-steps", "step", steps.astype(np.float64)),
            ):
                grids = {
                    colour: _by_frequency(where, values, number)
                    for number, colour in enumerate(COLOURS)
                }
                figures[f"{title}-{MAPPED}.png"] = plots.heat_maps(grids, unit)
    curves = {
        name: (range(1, len(point.channel_bits) + 1), _cumulated(point.channel_bits, seen.pixels))
        for name, point in seen.points.items()
    }
    figures["channels.png"] = plots.lines(
        curves, "channels, in the order of coding", "bits per pixel of the first channels"
    )
    return numbers, figures


def _cumulated(bits: np.ndarray, pixels: int) -> list[float]:
    return [float(x) for x in bits.cumsum() / pixels]


def _by_frequency(
    where: Sequence[tuple[int, int, int]], values: np.ndarray, colour: int
) -> np.ndarray:
    """Values of channels as a grid (vertical, horizontal frequency) of a colour; nan for none."""
    chosen = [(i, j, v) for (c, i, j), v in zip(where, values, strict=False) if c == colour]
    side = 1 + max((max(i, j) for i, j, _ in chosen), default=0)
    grid = np.full((side, side), np.nan)
    for i, j, value in chosen:
        grid[i, j] = value
    return grid


def places(seen: Seen) -> Made:
    """Where the bits of some pictures go, and where their error is."""
    numbers = [
        {
            "width": one.original.shape[1],
            "height": one.original.shape[0],
            "bits_per_pixel": one.bits.tolist(),
            "root_mean_square_error": one.error.tolist(),
        }
        for one in seen.maps
    ]
    figures = {
        f"map-{number}.png": plots.beside(
            {"original": one.original, f"decoded, {MAPPED}": one.decoded},
            {"bits per pixel": one.bits, "error, in grey levels": one.error},
        )
        for number, one in enumerate(seen.maps, 1)
    }
    return {"rate": MAPPED, "pictures": numbers}, figures


SECTIONS: dict[str, Callable[[Seen], Made]] = {
    "levels": levels,
    "channels": channels,
    "places": places,
}
