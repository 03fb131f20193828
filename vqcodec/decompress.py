"""The bytes of a .vqc file to a picture, or a part or a preview of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vqcodec import container, image
from vqcodec.boxes import read_boxes
from vqcodec.container import MAX_PIXELS, Container, Region
from vqcodec.decoder import Decoder, grey, whole
from vqcodec.errors import CodecError, FormatError, SizeError, UsageError
from vqcodec.progress import Progress, between, unseen
from vqcodec.rate import rate_name

CODES_SHARE = 0.55  # of the time that decoding takes; pixels take the rest


@dataclass(frozen=True)
class Choices:
    """How to decode where a system leaves a choice."""

    columns: int | None = None  # read the first codes of each cell only: a progressive preview
    seed: int | None = None  # draw what the decoder may choose, instead of the likeliest
    average: int = 1  # mean of so many pictures drawn


def decompress(
    codec: Decoder,
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
        whole(rows.bands, *shape),
        rows.alpha,
        rows.icc,
        rows.exif,
        rows.deep,
        xmp=rows.xmp,
        resolution=rows.resolution,
    )


def decompress_rows(
    codec: Decoder,
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
    parsed, point = parse(codec, data, levels, max_pixels)
    header = parsed.header
    x, y, width, height = region or (0, 0, header.width, header.height)
    header.check_region(x, y, width, height)
    if choices != Choices():
        codec.card.check_choices()
    beside = read_boxes(parsed.boxes, header.width, header.height, (x, y, width, height))
    latent = codec.system.decode(
        list(parsed.sections),
        header.height,
        header.width,
        point,
        progress=between(progress, 0, CODES_SHARE),
    )
    if choices.columns is not None:
        latent = _first_columns(latent, choices.columns)
    if choices.seed is None:
        bands = codec.bands(latent, header, region, between(progress, CODES_SHARE, 1))
    else:
        from vqcodec.drawing import drawn  # brings torch

        size = header.height, header.width
        pixels = drawn(codec, latent, *size, point, choices.seed, choices.average)
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


def _first_columns(latent: list[np.ndarray], columns: int) -> list[np.ndarray]:
    most = max(level.shape[1] for level in latent)
    if columns > most:
        raise UsageError(f"the file has {most} codes for each cell, not {columns}")
    return [level[:, :columns] for level in latent]


def ideal_bits(codec: Decoder, data: bytes) -> list[float]:
    """Sum of -log2 of the codes' probabilities, for each section of a file."""
    parsed, point = parse(codec, data, None)
    header = parsed.header
    bits: list[float] = []
    codec.system.decode(list(parsed.sections), header.height, header.width, point, bits)
    return bits


def parse(
    codec: Decoder, data: bytes, levels: int | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Container, Any]:
    """What a file holds, and its rate point. Raises as ``decompress``."""
    parsed = container.read(data, levels)
    header = parsed.header
    if header.width * header.height > max_pixels:
        size = f"{header.width} x {header.height}"
        raise SizeError(f"{size} pixels; at most {max_pixels} are decoded", "see --max-pixels")
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
