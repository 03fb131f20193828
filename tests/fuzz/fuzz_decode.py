"""Decoding with the shipped codecs: a picture of the stated size, or a VqcodecError."""

from functools import cache

import torch
from fuzz.harness import sealed

from vqcodec import container, zoo
from vqcodec.codec import Codec
from vqcodec.decompress import decompress
from vqcodec.errors import CodecError, FormatError

MAX_PIXELS = 1 << 13

torch.set_num_threads(1)


def prepare() -> None:
    codecs()


@cache
def codecs() -> dict[tuple[int, bytes], Codec]:
    """By what a file says."""
    return {(card.number, card.hash): zoo.load(card, "cpu") for card in zoo.cards()}


def check(data: bytes) -> None:
    """data: a .vqc file."""
    for file in (data, sealed(data)):
        try:
            whole, problems = container.salvage(file)
        except FormatError:
            continue
        header = whole.header
        codec = codecs().get((header.codec, header.weights_hash))
        if codec is not None:
            levels = len(whole.sections) if problems else None
            decode(codec, container.write(whole), levels, (header.width, header.height))


def decode(codec: Codec, file: bytes, levels: int | None, size: tuple[int, int]) -> None:
    try:
        picture = decompress(codec, file, levels, max_pixels=MAX_PIXELS)
    except (FormatError, CodecError) as error:
        assert "\n" not in str(error)
        return
    assert (picture.width, picture.height) == size
