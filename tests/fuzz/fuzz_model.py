"""Weights of a codec whose hash is right: it decodes as any other, or a CodecError says why not."""

import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import tiny_codec
from fuzz import fuzz_decode, fuzz_tiny

from vqcodec import image
from vqcodec.card import Card
from vqcodec.codec import Codec
from vqcodec.compress import compress
from vqcodec.errors import CodecError


class Subject(NamedTuple):
    card: Card
    weights: bytes
    file: bytes  # of the codec, at its finest rate point


@cache
def subjects() -> list[Subject]:
    """The tiny codecs, made again for their weights."""
    made = []
    for name, shape in fuzz_tiny.SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            codec = tiny_codec.made(Path(folder), name, shape)
            weights = Path(folder, "weights.safetensors").read_bytes()
        picture, rate = image.from_array(tiny_codec.photo(8, 8)), codec.card.points[-1]
        made.append(Subject(codec.card, weights, compress(codec, picture, rate).data))
    return made


def check(data: bytes) -> None:
    """data: which of the codecs, a byte; weights.safetensors."""
    card, _, file = subjects()[data[0] % len(subjects()) if data else 0]
    try:
        codec = Codec.from_weights(card, data[1:], "cpu")
    except CodecError as error:
        assert "\n" not in str(error)
        return
    fuzz_decode.decode(codec, file, None, (8, 8))
