"""The bytes of a .vqc file to a picture, or a part or a preview of it; and pictures at random."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vqcodec import container, image
from vqcodec.autoencoders import sampler
from vqcodec.autoencoders.grid_codec import GridCodec, Mosaic
from vqcodec.autoencoders.system import Region
from vqcodec.boxes import read_boxes
from vqcodec.card import USUAL_RATE
from vqcodec.codec import Codec, grey
from vqcodec.container import MAX_PIXELS, Container
from vqcodec.errors import CodecError, FormatError, RateError, SizeError, UsageError
from vqcodec.progress import Progress, between, unseen
from vqcodec.rangecoder import Draws
from vqcodec.rate import parse_rate, rate_name

CODES_SHARE = 0.55  # of the time that decoding takes; pixels take the rest


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
    return image.Picture(
        _whole(rows.bands, *shape),
        rows.alpha,
        rows.icc,
        rows.exif,
        rows.deep,
        xmp=rows.xmp,
        resolution=rows.resolution,
    )


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
    header.check_region(x, y, width, height)
    beside = read_boxes(parsed.boxes, header.width, header.height, (x, y, width, height))
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
        bands = codec.bands(latent, header, region, between(progress, CODES_SHARE, 1))
    else:
        pixels = _drawn(codec, latent, header.height, header.width, point, choices)
        part = pixels[y : y + height, x : x + width]
        bands = iter([grey(part) if header.grey else part])
    return image.Rows(
        height,
        width,
        header.grey,
        bands,
        alpha=beside.alpha,
        icc=beside.icc,
        exif=beside.exif,
        deep=beside.deep,
        xmp=beside.xmp,
        resolution=beside.resolution,
    )


def _whole(bands: Iterator[np.ndarray], *shape: int) -> np.ndarray:
    """Bands of rows as an array of that shape."""
    pixels, at = np.empty(shape, np.uint8), 0
    for band in bands:
        pixels[at : at + len(band)] = band
        at += len(band)
    return pixels


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
    draws = torch.Generator().manual_seed(choices.seed)  # of codes, on the CPU
    for _ in range(choices.average):
        codes, index = _completed(codec, latent, point, draws)
        total += mosaic.join(system.drawn(codes, index, generator), height, width)
    return np.rint(total / choices.average).astype(np.uint8)


def sample(codec: Codec, rate: str | None, height: int, width: int, seed: int) -> image.Picture:
    """A picture drawn from the prior, level by level, each given those before.

    Where the codec has a network for this (``autoencoders.sampler``), at one of its rate points,
    that draws each square at this point, and without a rate. Without one a rate is the card's
    default, or 8bit where that is of files. Raises RateError for a rate that is not a rate point,
    CodecError for a broken network.
    """
    found = _sampler(codec)
    if found and rate in (None, found[0]):
        assert isinstance(codec.system, GridCodec)
        count = Mosaic.of(height, width, codec.system.model.config.side).size
        codes = torch.empty(count, 0, dtype=torch.int64)
        generator = torch.Generator().manual_seed(seed)
        grids = found[1].grids(found[1].complete(codes, generator))
        point = codec.system.model.rates.index(found[0])
        bands = codec.system.bands([grid.numpy() for grid in grids], height, width, point)
        return image.Picture(_whole(bands, height, width, 3))
    wanted = parse_rate(rate or codec.card.default_rate)
    if rate is None and wanted.kind != "bit":
        wanted = parse_rate(USUAL_RATE)
    if wanted.kind != "bit":
        raise RateError(f"{rate!r} is of a file; a sample has a rate such as 8bit")
    point = codec.system.point(codec.rate_index(wanted))
    draws = Draws(seed)
    sections = [draws] * codec.system.levels(point)
    latent = codec.system.decode(sections, height, width, point)
    return image.Picture(_whole(codec.system.bands(latent, height, width, point), height, width, 3))


def _sampler(codec: Codec) -> tuple[str, sampler.Sampler] | None:
    """The codec's network to draw codes with and its rate point. Raises CodecError."""
    if not isinstance(codec.system, GridCodec):
        return None
    return sampler.load(codec.card.path, codec.system.model)


def _completed(
    codec: Codec, latent: list[np.ndarray], point: int, generator: torch.Generator
) -> tuple[list[np.ndarray], int]:
    """Codes of a file and its rate point, or those of the sampler's with the others drawn.

    That is where the file has the first of them, as a prefix of PQ-VAE's has (table 3).
    """
    found, system = _sampler(codec), codec.system
    if found is None:
        return latent, point
    assert isinstance(system, GridCodec)
    rate, network = found
    levels = system.model.levels(system.model.rates[point])[: len(latent)]
    known = [torch.from_numpy(codes).cpu() for codes in latent]
    if not network.continues([level.name for level in levels], known):
        return latent, point
    made = network.grids(network.complete(sampler.sequence(known), generator))
    return [grid.numpy() for grid in made], system.model.rates.index(rate)


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
        name = rate_name(codec.card, header.rate)
        raise FormatError(f"{given} levels; {codec.card.id} has {whole} at {name}")
    n_bytes = len(parsed.sections[0])
    if n_bytes < codec.system.least_bytes(header.height, header.width, point):
        raise SizeError(
            f"a first level of {n_bytes} bytes cannot hold {header.width} x {header.height} pixels"
        )
    return parsed, point
