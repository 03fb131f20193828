"""A codec: pictures to .vqc files and back, at a rate that the user names."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.torch
import torch

from vqcodec import autoencoders, container, image
from vqcodec.autoencoders import grid_codec
from vqcodec.autoencoders.grid_codec import GridCodec, Mosaic
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.model import Ladder, LadderConfig
from vqcodec.autoencoders.system import Region
from vqcodec.container import MAX_PIXELS, Box, Container, Header
from vqcodec.errors import (
    CodecError,
    FormatError,
    ImageError,
    RateError,
    SizeError,
    UsageError,
)
from vqcodec.fixedpoint import stored_weights
from vqcodec.progress import Progress, between, unseen
from vqcodec.rangecoder import Draws, RangeDecoder
from vqcodec.rate import Rate, parse_rate
from vqcodec.zoo import Card

CLOSE_ENOUGH = 0.995  # of a size target: no need to search for the last bytes
CLOSE_DB = 0.02  # above a PSNR target
BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 23}  # of pictures that are encoded together
CODES_SHARE = 0.55  # of the time that decoding takes; pixels take the rest


@dataclass(frozen=True)
class Compressed:
    """A finished file and what is known of it."""

    data: bytes
    rate: str
    width: int
    height: int
    section_bytes: list[int]
    ideal_bits: list[float]  # of each section
    psnr_db: float | None  # measured only where the rate asked for it
    notes: tuple[str, ...] = ()


class Coder(Protocol):
    """What a system on a device does: a ``LadderCodec`` or a ``GridCodec``.

    Rate points are stored as integers from ``lowest`` to ``highest``, the least bits first. What
    ``point`` makes of one, and what a latent is, is the system's own affair.
    """

    lowest: int
    highest: int
    grey_only: bool

    @property
    def model(self) -> torch.nn.Module: ...

    def point(self, index: int) -> Any: ...
    def rate_index(self, bits: float, grid: str | None) -> int: ...
    def levels(self, point: Any) -> int: ...
    def least_bytes(self, height: int, width: int, point: Any) -> int: ...
    def encode(self, pixels: np.ndarray, point: Any, progress: Progress = unseen) -> Any: ...
    def encode_many(self, pictures: Sequence[np.ndarray], point: Any) -> list[Any]: ...
    def decode(
        self,
        sections: Sequence[bytes | RangeDecoder],
        height: int,
        width: int,
        point: Any,
        ideal: list[float] | None = None,
        progress: Progress = unseen,
    ) -> Any: ...
    def bands(
        self,
        latent: Any,
        height: int,
        width: int,
        point: Any,
        region: Region | None = None,
        progress: Progress = unseen,
    ) -> Iterator[np.ndarray]: ...


class Codec:
    """A trained system with its card, on a device."""

    def __init__(self, card: Card, system: Coder) -> None:
        self.card, self.system = card, system

    @classmethod
    def from_weights(cls, card: Card, weights: bytes, device: str) -> "Codec":
        """weights: the bytes of weights.safetensors. Raises CodecError if they do not fit."""
        try:
            tensors = safetensors.torch.load(weights)
            if not all(torch.isfinite(value).all() for value in tensors.values()):
                raise ValueError("a weight is not a number")
            load: Callable[..., Coder] = _load_ladder if card.system == "ladder" else _load_grids
            system = load(card, tensors, torch.device(device))
        except (
            safetensors.SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            why = " ".join(str(error).split())  # torch's have several lines
            raise CodecError(f"{card.id}: the weights cannot be used: {why}") from error
        return cls(card, system)

    @property
    def batch_pixels(self) -> int:
        """Of pictures of one size that go through the networks together."""
        return BATCH_PIXELS[next(self.system.model.parameters()).device.type]

    def rate_index(self, rate: Rate) -> int:
        """The rate point nearest to ``Nbit``. Raises RateError for what is not offered."""
        try:
            return self.system.rate_index(rate.value, rate.grid)
        except RateError as error:
            name = f"{rate.value:g}bit" + (f"-{rate.grid}" if rate.grid else "")
            raise RateError(f"{self.card.id} offers {self.card.rates}, not {name}") from error


def _load_ladder(card: Card, tensors: dict[str, torch.Tensor], device: torch.device) -> LadderCodec:
    units, hyper, classes = (
        tensors.pop(name) for name in ("units", "hyper_tables", "class_tables")
    )
    model = Ladder(LadderConfig.from_dict(card.shape))
    state = {name: stored_weights(value) for name, value in tensors.items()}
    state["std"] = units[0].float() / 256
    _fill(model, state, {"hyper_scale", "hyper_mean"})
    if {units.dtype, hyper.dtype, classes.dtype} != {torch.int32}:
        raise ValueError("the tables are not of 32-bit integers")
    tables = hyper.numpy().astype(np.uint32), classes.numpy().astype(np.uint32)
    return LadderCodec(model, units, *tables, device)


def _load_grids(card: Card, tensors: dict[str, torch.Tensor], device: torch.device) -> GridCodec:
    if card.system not in autoencoders.SYSTEMS:
        raise CodecError(f"{card.id}: this version does not know the system {card.system!r}")
    kind, config = autoencoders.classes(card.system)
    model = kind(config.from_dict(card.shape))
    own = [name for name in tensors if not name.startswith(grid_codec.PRIOR)]
    _fill(model, {name: stored_weights(tensors.pop(name)) for name in own})
    priors = grid_codec.load_priors(model, {k: v.numpy() for k, v in tensors.items()})
    if tuple(card.points) != model.rates:
        raise ValueError("the card's rate points are not those of its shape")
    return GridCodec(model, priors, device)


def _fill(
    model: torch.nn.Module, state: dict[str, torch.Tensor], absent: Set[str] = frozenset()
) -> None:
    """Load weights; those named in ``absent`` may be missing. Raises ValueError for others."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - absent:
        raise ValueError("they are not those of this version's network")


def psnr_db(a: np.ndarray, b: np.ndarray | Iterable[np.ndarray]) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, in dB; inf where equal.

    Of the second there may be bands of rows.
    """
    rows = b if isinstance(b, np.ndarray) else chain.from_iterable(b)
    total = 0.0
    for one, other in zip(a, rows, strict=True):  # a row at a time: no large temporaries
        total += float(np.square(one.astype(np.float32) - other).sum(dtype=np.float64))
    return 10 * math.log10(255**2 * a.size / total) if total else math.inf


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """The nearest grey: the mean of the three channels."""
    return ((pixels.sum(2, dtype=np.uint16) + 1) // 3).astype(np.uint8)


def _whole(bands: Iterator[np.ndarray], *shape: int) -> np.ndarray:
    """Bands of rows as an array of that shape."""
    pixels, at = np.empty(shape, np.uint8), 0
    for band in bands:
        pixels[at : at + len(band)] = band
        at += len(band)
    return pixels


def _boxes(picture: image.Picture, strip: bool) -> tuple[Box, ...]:
    boxes = []
    if picture.alpha is not None:
        boxes.append(Box("ALPH", image.encode_alpha(picture.alpha)))
    if not strip:
        if picture.icc:
            boxes.append(Box("ICC ", picture.icc))
        if picture.exif:
            boxes.append(Box("EXIF", picture.exif))
        if picture.deep:
            boxes.append(Box("DEEP", b"\x10"))
    return tuple(boxes)


@dataclass(frozen=True)
class _Attempt:
    """A finished file at one rate point."""

    index: int
    data: bytes
    section_bytes: list[int]
    ideal_bits: list[float]
    psnr_db: float | None = None


def encode_at(
    codec: Codec,
    picture: image.Picture,
    index: int,
    boxes: tuple[Box, ...] = (),
    progress: Progress = unseen,
) -> tuple[bytes, Any]:
    """A picture at a stored rate point: the finished file, and what the coder made of the picture.

    The latter has 'sections', 'ideal_bits' of each, and 'latent', what a decoder should find.
    """
    coded = codec.system.encode(_rgb(picture.pixels), codec.system.point(index), progress)
    return _file(codec, picture, index, boxes, coded), coded


def _file(
    codec: Codec, picture: image.Picture, index: int, boxes: tuple[Box, ...], coded: Any
) -> bytes:
    header = Header(
        codec.card.number, codec.card.hash, picture.width, picture.height, index, picture.grey
    )
    return container.write(Container(header, tuple(coded.sections), boxes))


def compress(
    codec: Codec,
    picture: image.Picture,
    rate: str,
    strip: bool = False,
    progress: Callable[[str, float], None] = lambda rate, share: None,
) -> Compressed:
    """Encode a picture. ``strip`` drops ICC, EXIF and the note of 16-bit input, not alpha.

    ``progress`` is told each rate point that is tried, and how far that is, from 0 to 1. Raises
    RateError where the rate cannot be parsed or reached.
    """
    wanted = parse_rate(rate)
    _check_sides(picture)
    boxes, system = _boxes(picture, strip), codec.system

    def attempt(index: int) -> _Attempt:
        name = codec.card.rate_name(index)
        progress(name, 0.0)
        data, coded = encode_at(codec, picture, index, boxes, lambda share: progress(name, share))
        quality = None
        if wanted.kind == "db":
            size = picture.height, picture.width
            bands = system.bands(coded.latent, *size, system.point(index))
            quality = psnr_db(picture.pixels, map(_grey, bands) if picture.grey else bands)
        return _Attempt(index, data, [len(s) for s in coded.sections], coded.ideal_bits, quality)

    notes = _notes(codec, picture)
    if wanted.kind == "bit":
        best = attempt(codec.rate_index(wanted))
    elif wanted.kind == "db":
        best = _least_with_psnr(attempt, wanted.value, codec)
    else:
        scale = picture.width * picture.height / 8 if wanted.kind == "bpp" else 1
        best = _largest_within(attempt, wanted.value * scale, codec)
        if best.index == system.highest:
            name = codec.card.rate_name(best.index)
            notes += (f"{codec.card.id} has no higher quality than {name}",)
    return _compressed(codec, picture, best, notes)


def compress_many(
    codec: Codec, pictures: Sequence[image.Picture], rate: str, strip: bool = False
) -> list[Compressed]:
    """``compress`` for each. Where the rate is ``Nbit``, those of one size go together.

    On the CPU this makes the same files. On a GPU a few codes may differ, as sums round otherwise.
    """
    wanted = parse_rate(rate)
    if wanted.kind != "bit":
        return [compress(codec, picture, rate, strip) for picture in pictures]
    index = codec.rate_index(wanted)
    places: dict[tuple[int, int], list[int]] = {}
    for place, picture in enumerate(pictures):
        _check_sides(picture)
        places.setdefault((picture.height, picture.width), []).append(place)
    made: dict[int, Compressed] = {}
    for (height, width), same in places.items():
        step = max(1, codec.batch_pixels // (height * width))
        for batch in (same[at : at + step] for at in range(0, len(same), step)):
            arrays = [_rgb(pictures[place].pixels) for place in batch]
            many = codec.system.encode_many(arrays, codec.system.point(index))
            for place, coded in zip(batch, many, strict=True):
                picture = pictures[place]
                data = _file(codec, picture, index, _boxes(picture, strip), coded)
                attempt = _Attempt(index, data, [len(s) for s in coded.sections], coded.ideal_bits)
                made[place] = _compressed(codec, picture, attempt, _notes(codec, picture))
    return [made[place] for place in range(len(pictures))]


def _compressed(
    codec: Codec, picture: image.Picture, best: _Attempt, notes: tuple[str, ...]
) -> Compressed:
    return Compressed(
        best.data,
        codec.card.rate_name(best.index),
        picture.width,
        picture.height,
        best.section_bytes,
        best.ideal_bits,
        best.psnr_db,
        notes,
    )


def _check_sides(picture: image.Picture) -> None:
    if max(picture.width, picture.height) > container.MAX_SIDE:
        raise ImageError(f"a side of the picture is longer than {container.MAX_SIDE} pixels")


def _notes(codec: Codec, picture: image.Picture) -> tuple[str, ...]:
    if codec.system.grey_only and not picture.grey:
        return (f"{codec.card.id} is for grey pictures: the colours are lost",)
    return ()


def _largest_within(attempt: Callable[[int], _Attempt], n_bytes: float, codec: Codec) -> _Attempt:
    """The best quality whose finished file has at most ``n_bytes``."""

    def log_size(made: _Attempt) -> float:
        return math.log(len(made.data))

    low = attempt(codec.system.lowest)
    if len(low.data) > n_bytes:
        raise RateError(
            f"at most {n_bytes:.0f} bytes cannot be reached: "
            f"the smallest file of {codec.card.id} has {len(low.data)}"
        )
    high = attempt(codec.system.highest)
    if len(high.data) <= n_bytes:
        return high
    tolerance = -math.log(CLOSE_ENOUGH)
    low, _ = _bracket(attempt, log_size, low, high, math.log(n_bytes) - tolerance, tolerance)
    return low


def _least_with_psnr(attempt: Callable[[int], _Attempt], target: float, codec: Codec) -> _Attempt:
    """The smallest file with a PSNR of at least ``target`` dB."""

    def quality(made: _Attempt) -> float:
        return -math.inf if made.psnr_db is None else made.psnr_db

    high = attempt(codec.system.highest)
    if quality(high) < target:
        raise RateError(
            f"{target:g} dB cannot be reached on this picture: "
            f"the highest quality of {codec.card.id} has {quality(high):.2f} dB"
        )
    low = attempt(codec.system.lowest)
    if quality(low) >= target:
        return low
    _, high = _bracket(attempt, quality, low, high, target, CLOSE_DB)
    return high


def _bracket(
    attempt: Callable[[int], _Attempt],
    measure: Callable[[_Attempt], float],
    low: _Attempt,
    high: _Attempt,
    target: float,
    tolerance: float,
) -> tuple[_Attempt, _Attempt]:
    """Narrow measure(low) < target + tolerance < measure(high) or target <= measure(high).

    Ends when one measure lies in [target, target + tolerance] or no rate point is left between.
    Steps by interpolation, and by halving where that does not shrink the bracket fast.
    """
    width = high.index - low.index
    halve = False
    while high.index - low.index > 1:
        if halve:
            guess = (low.index + high.index) // 2
        else:
            share = (target + tolerance / 2 - measure(low)) / (measure(high) - measure(low))
            guess = low.index + round(share * (high.index - low.index))
        made = attempt(min(max(guess, low.index + 1), high.index - 1))
        value = measure(made)
        if target <= value <= target + tolerance:
            return made, made
        if value < target:
            low = made
        else:
            high = made
        halve = high.index - low.index > width / 2
        width = high.index - low.index
    return low, high


@dataclass(frozen=True)
class Choices:
    """How to decode where a system leaves a choice."""

    columns: int | None = None  # read the first codes of each cell only: a progressive preview
    seed: int | None = None  # draw what the decoder may choose, instead of the likeliest
    average: int = 1  # mean of so many pictures drawn


def decompress(
    codec: Codec,
    data: bytes,
    levels: int | None = None,
    choices: Choices = Choices(),
    region: Region | None = None,
    progress: Progress = unseen,
    max_pixels: int = MAX_PIXELS,
) -> image.Picture:
    """Decode a file. With ``levels`` only the first levels are read: a preview.

    region: x, y, width and height in pixels, of what is to be seen of the picture. Its pixels are
    those of the whole; where a system decodes squares in batches, within one step. All codes are
    decoded, but only the tiles or squares that the region touches go through the networks.

    Raises FormatError for a damaged file, for one that is not of this codec, and before memory is
    taken for one of more than ``max_pixels``; UsageError for choices that the codec does not have,
    and for a region that is not within the picture.
    """
    rows = decompress_rows(codec, data, levels, choices, region, progress, max_pixels)
    shape = (rows.height, rows.width) if rows.grey else (rows.height, rows.width, 3)
    return image.Picture(_whole(rows.bands, *shape), rows.alpha, rows.icc, rows.exif, rows.deep)


def decompress_rows(
    codec: Codec,
    data: bytes,
    levels: int | None = None,
    choices: Choices = Choices(),
    region: Region | None = None,
    progress: Progress = unseen,
    max_pixels: int = MAX_PIXELS,
) -> image.Rows:
    """The same as rows from top to bottom, so that the pixels need never be in memory at once.

    All codes are decoded here, and the pixels when the rows are asked for.
    """
    parsed, point = _parse(codec, data, levels, max_pixels)
    header = parsed.header
    x, y, width, height = region or (0, 0, header.width, header.height)
    if not (0 <= x < x + width <= header.width and 0 <= y < y + height <= header.height):
        size = f"{header.width}x{header.height}"
        raise UsageError(f"the region {x},{y},{width},{height} is not within the picture of {size}")
    boxes = {box.type: box.payload for box in parsed.boxes}
    alpha = None
    if "ALPH" in boxes:
        alpha = image.decode_alpha(boxes["ALPH"], header.width, header.height)
        alpha = np.ascontiguousarray(alpha[y : y + height, x : x + width])
    latent = codec.system.decode(
        list(parsed.sections),
        header.height,
        header.width,
        point,
        progress=between(progress, 0, CODES_SHARE),
    )
    if choices.columns is not None:
        latent = _first_columns(codec, latent, choices.columns)
    if choices.seed is None:
        bands = codec.system.bands(
            latent, header.height, header.width, point, region, between(progress, CODES_SHARE, 1)
        )
    else:
        pixels = _drawn(codec, latent, header.height, header.width, point, choices)
        bands = iter([pixels[y : y + height, x : x + width]])
    return image.Rows(
        height,
        width,
        header.grey,
        map(_grey, bands) if header.grey else bands,
        alpha=alpha,
        icc=boxes.get("ICC "),
        exif=boxes.get("EXIF"),
        deep="DEEP" in boxes,
    )


def _first_columns(codec: Codec, latent: Any, columns: int) -> Any:
    if not isinstance(codec.system, GridCodec):
        raise UsageError(f"{codec.card.id} has one way to decode a file")
    most = max(level.shape[1] for level in latent)
    if columns > most:
        raise UsageError(f"the file has {most} codes for each cell, not {columns}")
    return [level[:, :columns] for level in latent]


def _drawn(
    codec: Codec, latent: Any, height: int, width: int, point: Any, choices: Choices
) -> np.ndarray:
    """pixels (height, width, 3) uint8, the mean of several drawn."""
    system = codec.system
    if not isinstance(system, GridCodec):
        raise UsageError(f"{codec.card.id} has one way to decode a file")
    assert choices.seed is not None
    generator = torch.Generator(system.device).manual_seed(choices.seed)
    mosaic = Mosaic.of(height, width, system.model.config.side)
    total = np.zeros((height, width, 3), np.float32)
    for _ in range(choices.average):
        total += mosaic.join(system.drawn(latent, point, generator), height, width)
    return np.rint(total / choices.average).astype(np.uint8)


def sample(codec: Codec, rate: str, height: int, width: int, seed: int) -> image.Picture:
    """A picture drawn from the prior, level by level, each given those before.

    Raises RateError for a rate that is not a rate point.
    """
    wanted = parse_rate(rate)
    if wanted.kind != "bit":
        raise RateError(f"{rate!r} is of a file; a sample has a rate such as 8bit")
    point = codec.system.point(codec.rate_index(wanted))
    draws = Draws(seed)
    sections = [draws] * codec.system.levels(point)
    latent = codec.system.decode(sections, height, width, point)
    return image.Picture(_whole(codec.system.bands(latent, height, width, point), height, width, 3))


def ideal_bits(codec: Codec, data: bytes) -> list[float]:
    """Sum of -log2 of the codes' probabilities, for each section of a file."""
    parsed, point = _parse(codec, data, None)
    header = parsed.header
    bits: list[float] = []
    codec.system.decode(list(parsed.sections), header.height, header.width, point, bits)
    return bits


def _parse(
    codec: Codec, data: bytes, levels: int | None, max_pixels: int = MAX_PIXELS
) -> tuple[Container, Any]:
    parsed = container.read(data, levels)
    header = parsed.header
    if header.width * header.height > max_pixels:
        size = f"{header.width} x {header.height}"
        raise SizeError(f"{size} pixels; at most {max_pixels} are decoded (--max-pixels)")
    if (header.codec, header.weights_hash) != (codec.card.number, codec.card.hash):
        raise CodecError(f"the file was not made with these weights of {codec.card.id}")
    point = codec.system.point(header.rate)
    given, whole = len(parsed.sections), codec.system.levels(point)
    if given > whole or not (levels or given == whole):
        name = codec.card.rate_name(header.rate)
        raise FormatError(f"{given} levels; {codec.card.id} has {whole} at {name}")
    n_bytes = len(parsed.sections[0])
    if n_bytes < codec.system.least_bytes(header.height, header.width, point):
        raise SizeError(
            f"a first level of {n_bytes} bytes cannot hold {header.width} x {header.height} pixels"
        )
    return parsed, point
