"""A picture to the bytes of a .vqc file, at the rate that the user names.

``compress`` finds the rate point; ``encode_at`` makes the file there, the sections that the codec's
system makes of the picture, in a container.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vqcodec import container, image
from vqcodec.boxes import KEPT_BY_STRIP, boxes_of, said_of
from vqcodec.codec import Codec, Coded
from vqcodec.container import Box, Container, Header
from vqcodec.errors import ImageError, RateError
from vqcodec.metrics.psnr import psnr_db
from vqcodec.progress import Progress, unseen
from vqcodec.rate import parse_rate
from vqcodec.target import Search

CLOSE_ENOUGH = 0.995  # of a size target: no need to search for the last bytes
CLOSE_DB = 0.02  # above a PSNR target


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


def compress(
    codec: Codec,
    picture: image.Picture,
    rate: str,
    strip: bool = False,
    progress: Callable[[str, float], None] = lambda rate, share: None,
) -> Compressed:
    """Encode a picture. ``strip`` drops EXIF, XMP and the like: see ``image.stripped``.

    What is hidden by alpha is made smooth, and no target counts it.

    ``progress`` is told each rate point that is tried, and how far that is, from 0 to 1. Raises
    RateError where the rate cannot be parsed or reached.
    """
    wanted = parse_rate(rate)
    picture = _prepared(picture, strip)
    boxes = boxes_of(picture)
    if wanted.kind == "bit":
        return _at(codec, picture, codec.rate_index(wanted), boxes, progress)
    if wanted.kind == "db":
        return _least_with_psnr(codec, picture, wanted.value, boxes, progress)
    scale = picture.width * picture.height / 8 if wanted.kind == "bpp" else 1
    return _best_within(codec, picture, math.floor(wanted.value * scale), boxes, progress)


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


# What ``compress`` is told: each rate point that is tried, and how far that is.
_Told = Callable[[str, float], None]


def _best_within(
    codec: Codec, picture: image.Picture, n_bytes: int, boxes: tuple[Box, ...], told: _Told
) -> Compressed:
    """The best quality whose finished file has at most ``n_bytes``."""
    lowest, highest = codec.span
    log_size = math.log(max(1, n_bytes))
    search = Search(lowest, highest, log_size, -math.log(CLOSE_ENOUGH), at_least=False)
    tried = {}
    for index in search:
        tried[index] = _at(codec, picture, index, boxes, told)
        search.measures[index] = math.log(len(tried[index].data))
    if search.found is None:
        raise RateError(
            f"at most {n_bytes} bytes cannot be reached: "
            f"the smallest file of {codec.card.id} has {len(tried[lowest].data)}"
            f"{_of_which(boxes, n_bytes)}"
        )
    best = tried[search.found]
    if search.found < highest:
        return best
    note = f"{codec.card.id} has no higher quality than {best.rate}"
    return replace(best, notes=(*best.notes, note))


def _least_with_psnr(
    codec: Codec, picture: image.Picture, psnr: float, boxes: tuple[Box, ...], told: _Told
) -> Compressed:
    """The smallest file with a PSNR of at least ``psnr`` dB."""
    lowest, highest = codec.span
    search = Search(lowest, highest, psnr, CLOSE_DB, at_least=True)
    tried = {}
    for index in search:
        made = tried[index] = _at(codec, picture, index, boxes, told, measured=True)
        search.measures[index] = -math.inf if made.psnr_db is None else made.psnr_db
    if search.found is None:
        raise RateError(
            f"{psnr:g} dB cannot be reached on this picture: the highest quality of "
            f"{codec.card.id} has {search.measures[highest]:.2f} dB"
        )
    return tried[search.found]


def _at(
    codec: Codec,
    picture: image.Picture,
    index: int,
    boxes: tuple[Box, ...],
    told: _Told,
    measured: bool = False,
) -> Compressed:
    """At one rate point; ``measured``: with its PSNR."""
    name = codec.card.rate_name(index)
    told(name, 0.0)
    data, coded = encode_at(codec, picture, index, boxes, lambda share: told(name, share))
    made = _compressed(codec, picture, index, data, coded)
    if not measured:
        return made
    bands = codec.bands(coded.latent, _header(codec, picture, index))
    if picture.alpha is None:
        return replace(made, psnr_db=psnr_db(picture.pixels, bands))
    share = np.count_nonzero(picture.alpha) / picture.alpha.size
    psnr = psnr_db(picture.pixels, _as_seen(bands, picture, picture.alpha))
    return replace(made, psnr_db=psnr + 10 * math.log10(share) if share else math.inf)


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
) -> tuple[bytes, Coded]:
    """A picture at a stored rate point: the finished file, and what the coder made of it."""
    coded = codec.system.encode(_rgb(picture.pixels), codec.system.point(index), progress)
    return _file(codec, picture, index, boxes, coded), coded


def _file(
    codec: Codec, picture: image.Picture, index: int, boxes: tuple[Box, ...], coded: Coded
) -> bytes:
    header = _header(codec, picture, index)
    return container.write(Container(header, tuple(coded.sections), boxes))


def _header(codec: Codec, picture: image.Picture, index: int) -> Header:
    size = picture.width, picture.height
    return Header(codec.card.number, codec.card.hash, *size, index, picture.grey)


def _compressed(
    codec: Codec, picture: image.Picture, index: int, data: bytes, coded: Coded
) -> Compressed:
    notes: tuple[str, ...] = ()
    if codec.system.grey_only and not picture.grey:
        notes = (f"{codec.card.id} is for grey pictures: the colours are lost",)
    return Compressed(
        data,
        codec.card.rate_name(index),
        picture.width,
        picture.height,
        [len(section) for section in coded.sections],
        coded.ideal_bits,
        psnr_db=None,
        notes=notes,
    )


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def _prepared(picture: image.Picture, strip: bool) -> image.Picture:
    """The picture as it is coded. Raises ImageError for one that no file can hold."""
    if max(picture.width, picture.height) > container.MAX_SIDE:
        raise ImageError(f"a side of the picture is longer than {container.MAX_SIDE} pixels")
    if strip:
        picture = image.stripped(picture)
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
