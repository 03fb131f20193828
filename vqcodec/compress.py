"""A picture to the bytes of a .vqc file, at the rate that the user names.

``compress`` finds the rate point; ``encode_at`` makes the file there, the sections that the codec's
system makes of the picture, in a container.

Where a target lies in a gap between two rate points, as where one codes a slice of the latent more
than the other, the encoder's choice of codes at the finer one is made thriftier until it fits.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from vqcodec import container, image
from vqcodec.boxes import KEPT_BY_STRIP, boxes_of, said_of
from vqcodec.codec import Codec, Coded, Latent
from vqcodec.container import Box, Container, Header
from vqcodec.decompress import decompress_rows
from vqcodec.errors import ImageError, RateError
from vqcodec.metrics.psnr import psnr_db
from vqcodec.metrics.quality import quality_of
from vqcodec.progress import Progress, between, unseen
from vqcodec.rate import RATE_UNIT, Rate, parse_rate, rate_name
from vqcodec.target import Search

CLOSE_ENOUGH = 0.995  # of a size target: no need to search for the last bytes
CLOSE_DB = 0.02  # above a PSNR target
CLOSE_QUALITY = 0.2  # above a target of SSIMULACRA2
THRIFT = 32  # steps in which the worth of a bit doubles, in a gap between two rate points
MOST_THRIFT = 3 * THRIFT
LARGE = 4_000_000  # pixels of a picture of which a sample is searched first
SAMPLE, SAMPLE_SIDE = 4, 256  # squares along each side of a sample, and their sides in pixels


class _Usual(NamedTuple):
    """A measure of photographs: at 8bit, how much it grows with a bit, and in a step of thrift."""

    at_8bit: float
    of_a_bit: float
    of_thrift: float


_USUAL = {
    "bpp": _Usual(math.log(0.65), 0.7, 0.2 / THRIFT),  # the logarithm
    "db": _Usual(33.0, 3.3, 0.8 / THRIFT),
    "quality": _Usual(57.0, 17.0, 4.0 / THRIFT),
}


@dataclass(frozen=True)
class Compressed:
    """A finished file and what is known of it."""

    data: bytes
    rate: str
    width: int
    height: int
    section_bytes: list[int]
    ideal_bits: list[float]  # of each section
    psnr_db: float | None = None  # measured only where the rate asked for it
    quality: float | None = None  # SSIMULACRA2, likewise
    notes: tuple[str, ...] = ()


# What ``compress`` tells: each rate point that is tried, and how far that is, from 0 to 1.
Told = Callable[[str, float], None]


def compress(
    codec: Codec,
    picture: image.Picture,
    rate: str | None = None,
    strip: bool | str = False,
    progress: Told = lambda rate, share: None,
) -> Compressed:
    """Encode a picture. ``strip`` drops EXIF, XMP and the like, and "all" the ICC
    profile too, by which the colours are converted first: see ``image.stripped``.

    What is hidden by alpha is made smooth, and no target counts it.

    rate: without one it is the codec's own, or what of it the codec can reach with this picture.
    Raises RateError where the rate cannot be parsed or reached.
    """
    wanted = parse_rate(codec.card.default_rate if rate is None else rate)
    picture = _prepared(picture, strip)
    boxes = boxes_of(picture)
    make = partial(_at, codec, picture, boxes, progress)
    if wanted.kind == "bit":
        return make(codec.rate_index(wanted))
    return _search(codec, picture, boxes, wanted, make, lenient=rate is None)


def with_quality(
    codec: Codec, picture: image.Picture, made: Compressed, strip: bool | str = False
) -> Compressed:
    """What ``compress`` made of a picture, with the quality that it has: the file is decoded."""
    if made.quality is not None:
        return made
    picture = _prepared(picture, strip)
    rows = decompress_rows(codec, made.data, max_pixels=picture.width * picture.height)
    return replace(made, quality=_quality(picture, rows.bands))


def compress_many(
    codec: Codec,
    pictures: Sequence[image.Picture],
    rate: str | None = None,
    strip: bool | str = False,
) -> list[Compressed]:
    """``compress`` for each. Where the rate is ``Nbit``, those of one size go together.

    On the CPU this makes the same files. On a GPU a few codes may differ, as sums round otherwise.
    """
    wanted = parse_rate(codec.card.default_rate if rate is None else rate)
    if wanted.kind != "bit":
        return [compress(codec, picture, rate, strip) for picture in pictures]
    index = codec.rate_index(wanted)
    places: dict[tuple[int, int], list[int]] = {}
    pictures = [_prepared(picture, strip) for picture in pictures]
    for place, picture in enumerate(pictures):
        places.setdefault((picture.height, picture.width), []).append(place)
    made: dict[int, Compressed] = {}
    for (height, width), same in places.items():
        step = max(1, codec.batch_pixels // (height * width))
        for batch in (same[at : at + step] for at in range(0, len(same), step)):
            arrays = [_rgb(pictures[place].pixels) for place in batch]
            many = codec.system.encode_many(arrays, codec.system.point(index))
            for place, coded in zip(batch, many, strict=True):
                picture = pictures[place]
                data = _file(codec, picture, index, boxes_of(picture), coded)
                made[place] = _compressed(codec, picture, index, data, coded)
    return [made[place] for place in range(len(pictures))]


def _search(
    codec: Codec,
    picture: image.Picture,
    boxes: tuple[Box, ...],
    wanted: Rate,
    make: Callable[..., Compressed],
    lenient: bool,
) -> Compressed:
    """The best file that is small enough, or the smallest that is good enough.

    make: a file at a rate point, with ``rdo``, and with its 'db' or 'quality' if that is measured.
    lenient: what the codec cannot reach it comes as near to as it can.
    """
    system, n_pixels = codec.system, picture.width * picture.height
    at_least = wanted.kind in ("db", "quality")
    target, tolerance = wanted.value, CLOSE_QUALITY if wanted.kind == "quality" else CLOSE_DB
    usual = _USUAL[wanted.kind if at_least else "bpp"]
    if not at_least:
        n_bytes = math.floor(target * n_pixels / 8 if wanted.kind == "bpp" else target)
        target, tolerance = math.log(max(n_bytes, 1) * 8 / n_pixels), -math.log(CLOSE_ENOUGH)
    tried: dict[tuple[int, int], Compressed] = {}

    def measure(index: int, thrift: int = 0) -> float:
        rdo = None if not thrift or system.rdo is None else system.rdo * 2 ** (thrift / THRIFT)
        made = make(index, rdo=rdo, measured=wanted.kind if at_least else "")
        tried[index, thrift] = made
        if at_least:
            return _reached(made, wanted)
        return math.log(len(made.data) * 8 / n_pixels)

    ends = codec.span
    bits = 8 + (target - usual.at_8bit) / usual.of_a_bit
    scale = not codec.card.points
    # Of few points the end comes first that tells whether the target can be reached at all.
    start = ends[0] + round((bits - 5) * RATE_UNIT) if scale else ends[at_least]
    slope = usual.of_a_bit / (RATE_UNIT if scale else 1)
    if scale and at_least and n_pixels > LARGE:
        sample = image.from_array(_sample(_rgb(picture.pixels)))
        of_sample = Search(*ends, target, tolerance, at_least=True, start=start, slope=slope)
        for index in of_sample:
            made = _at(codec, sample, (), lambda rate, share: None, index, measured=wanted.kind)
            of_sample.measures[index] = _reached(made, wanted)
        start, slope = of_sample.near()
    search = Search(*ends, target, tolerance, at_least=at_least, start=start, slope=slope)
    for index in search:
        search.measures[index] = measure(index)
    if search.found is None:
        nearest = tried[ends[at_least], 0]
        why = _out_of_reach(codec, wanted, nearest, boxes)
        if not lenient:
            raise RateError(why)
        return replace(nearest, notes=(*nearest.notes, why))
    best = tried[search.found, 0]
    coarser, finer = (search.found - at_least, search.found + (not at_least))
    between_two = coarser in search.measures and finer in search.measures
    if between_two and not search.hit and system.rdo is not None:
        # Its points are thrift, negative, as a measure grows where there is less of it.
        gap = Search(
            -MOST_THRIFT, -1, target, tolerance, at_least=at_least,
            start=round((target - search.measures[finer]) / usual.of_thrift), slope=usual.of_thrift,
        )  # fmt: skip
        for point in gap:
            gap.measures[point] = measure(finer, -point)
        if gap.found is not None:
            fitted = tried[finer, -gap.found]
            if (len(fitted.data) < len(best.data)) == at_least:
                best = fitted
    if not at_least and search.found == ends[1]:
        note = f"{codec.card.id} has no higher quality than {best.rate}"
        return replace(best, notes=(*best.notes, note))
    return best


def _reached(made: Compressed, wanted: Rate) -> float:
    value = made.psnr_db if wanted.kind == "db" else made.quality
    return -math.inf if value is None else value


def _sample(pixels: np.ndarray) -> np.ndarray:
    """16 squares of a large picture, side by side. A try of the whole takes so long that each that
    is spared counts."""
    rows = [
        np.concatenate([_square(pixels, row, column) for column in range(SAMPLE)], 1)
        for row in range(SAMPLE)
    ]
    return np.concatenate(rows)


def _square(pixels: np.ndarray, row: int, column: int) -> np.ndarray:
    """The middle of one of the cells that pixels (h, w, ...) are divided into."""
    height, width = (n // SAMPLE for n in pixels.shape[:2])
    top, left = (
        max(0, n * cell + (n - SAMPLE_SIDE) // 2) for n, cell in ((height, row), (width, column))
    )
    return pixels[top : top + SAMPLE_SIDE, left : left + SAMPLE_SIDE]


def _out_of_reach(codec: Codec, wanted: Rate, nearest: Compressed, boxes: tuple[Box, ...]) -> str:
    name = codec.card.id
    if wanted.kind == "db":
        reached = f"the highest quality of {name}, {nearest.rate}, has {nearest.psnr_db:.2f} dB"
        return f"{wanted.value:g} dB cannot be reached on this picture: {reached}"
    if wanted.kind == "quality":
        quality = nearest.quality or 0.0
        is_what = f"is {quality:.1f}q" if quality > 0 else "does not even look like it (under 0q)"
        reached = f"the highest of {name}, {nearest.rate}, {is_what}"
        return f"quality {wanted.value:g}q cannot be reached on this picture: {reached}"
    scale = nearest.width * nearest.height / 8 if wanted.kind == "bpp" else 1
    n_bytes = math.floor(wanted.value * scale)
    return (
        f"at most {n_bytes} bytes cannot be reached: "
        f"the smallest file of {name} has {len(nearest.data)}{_of_which(boxes, n_bytes)}"
    )


def _at(
    codec: Codec,
    picture: image.Picture,
    boxes: tuple[Box, ...],
    told: Told,
    index: int,
    rdo: float | None = None,
    measured: str = "",
) -> Compressed:
    """At one rate point; ``measured``: its 'db' or 'quality'."""
    name = rate_name(codec.card, index)
    told(name, 0.0)
    share = 0.4 if measured else 1.0  # of the time, that encoding takes
    progress = between(partial(told, name), 0, share)
    data, coded = encode_at(codec, picture, index, boxes, progress, rdo)
    made = _compressed(codec, picture, index, data, coded)
    if not measured:
        return made
    bands = codec.bands(coded.latent, _header(codec, picture, index))
    del coded  # a latent has a kilobyte a cell and more, and is not needed to measure
    if measured == "db":
        if picture.alpha is not None:
            bands = _as_seen(bands, picture, picture.alpha)
        psnr = psnr_db(picture.pixels, bands)
        if picture.alpha is not None:
            share = np.count_nonzero(picture.alpha) / picture.alpha.size
            psnr = psnr + 10 * math.log10(share) if share else math.inf
        made = replace(made, psnr_db=psnr)
    else:
        made = replace(made, quality=_quality(picture, bands, partial(told, name, 0.6)))
    told(name, 1.0)
    return made


def _quality(
    picture: image.Picture, bands: Iterable[np.ndarray], decoded: Callable[[], None] = lambda: None
) -> float:
    """SSIMULACRA2 of what is visible of decoded bands of rows. ``decoded`` is called midway."""
    if picture.alpha is not None:
        bands = _as_seen(bands, picture, picture.alpha)
    pixels = np.concatenate([*bands])
    decoded()
    y, x = _visible(picture)
    return quality_of(_rgb(picture.pixels)[y, x], _rgb(pixels)[y, x])


def _visible(picture: image.Picture) -> tuple[slice, slice]:
    """The rows and columns that have all that is visible, or if nothing is the whole."""
    seen = np.ones((1, 1), bool) if picture.alpha is None else picture.alpha > 0
    if seen.all() or not seen.any():
        return slice(None), slice(None)
    y, x = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    return slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def _as_seen(
    bands: Iterable[np.ndarray], picture: image.Picture, alpha: np.ndarray
) -> Iterator[np.ndarray]:
    """Bands of decoded rows without an error where the picture is invisible."""
    at = 0
    for band in bands:
        rows = slice(at, at + len(band))
        band[alpha[rows] == 0] = picture.pixels[rows][alpha[rows] == 0]
        at += len(band)
        yield band


def encode_at(
    codec: Codec,
    picture: image.Picture,
    index: int,
    boxes: tuple[Box, ...] = (),
    progress: Progress = unseen,
    rdo: float | None = None,
) -> tuple[bytes, Coded[Latent]]:
    """A picture at a stored rate point: the finished file, and what the coder made of it.

    rdo: what a bit is worth in the choice of codes, in place of the system's own.
    """
    coded = codec.system.encode(_rgb(picture.pixels), codec.system.point(index), progress, rdo)
    return _file(codec, picture, index, boxes, coded), coded


def _file(
    codec: Codec, picture: image.Picture, index: int, boxes: tuple[Box, ...], coded: Coded[Latent]
) -> bytes:
    header = _header(codec, picture, index)
    return container.write(Container(header, tuple(coded.sections), boxes))


def _header(codec: Codec, picture: image.Picture, index: int) -> Header:
    size = picture.width, picture.height
    return Header(codec.card.number, codec.card.hash, *size, index, picture.grey)


def _compressed(
    codec: Codec, picture: image.Picture, index: int, data: bytes, coded: Coded[Latent]
) -> Compressed:
    notes: tuple[str, ...] = ()
    if codec.system.grey_only and not picture.grey:
        notes = (f"{codec.card.id} is for grey pictures: the colours are lost",)
    return Compressed(
        data,
        rate_name(codec.card, index),
        picture.width,
        picture.height,
        [len(section) for section in coded.sections],
        coded.ideal_bits,
        notes=notes,
    )


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def _prepared(picture: image.Picture, strip: bool | str) -> image.Picture:
    """The picture as it is coded. Raises ImageError for one that no file can hold."""
    if max(picture.width, picture.height) > container.MAX_SIDE:
        raise ImageError(f"a side of the picture is longer than {container.MAX_SIDE} pixels")
    if strip:
        picture = image.stripped(picture, profile=strip == "all")
    if picture.alpha is None:
        return picture
    return replace(picture, pixels=image.smoothed(picture.pixels, picture.alpha))


def _of_which(boxes: tuple[Box, ...], n_bytes: int) -> str:
    """What of the smallest file is not the picture, and what could be done about it."""
    if not boxes:
        return ""
    can_go = sum(len(box.payload) for box in boxes if box.type not in KEPT_BY_STRIP)
    hint = "; --strip drops what is not of the pixels" if can_go > n_bytes / 20 else ""
    return f", of which are {said_of(boxes)}{hint}"
