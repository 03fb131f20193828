"""Decoding with the shipped codecs: a picture of the stated size, or a VqcodecError.

Numpy alone finds the codes that torch finds, of photo codecs.
"""

from functools import cache

import numpy as np
import torch
from fuzz.harness import sealed

from vqcodec import container, zoo
from vqcodec.codec import Codec
from vqcodec.decoder import Decoder
from vqcodec.decompress import decompress, parse
from vqcodec.errors import CodecError, FormatError

MAX_PIXELS = 1 << 13

torch.set_num_threads(1)


def prepare() -> None:
    codecs()


@cache
def codecs() -> dict[tuple[int, bytes], Codec]:
    """By what a file says."""
    return {(card.number, card.hash): zoo.load(card, "cpu") for card in zoo.cards()}


@cache
def light(codec: Codec) -> Decoder:
    return zoo.load_decoder(codec.card, "cpu", light=True)


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
            size = header.width, header.height
            sound = decode(codec, container.write(whole), levels, size)
            if codec.card.system == "ladder":
                assert decode(light(codec), container.write(whole), levels, size) == sound
                if sound:
                    compare(codec, container.write(whole), levels)


def decode(codec: Decoder, file: bytes, levels: int | None, size: tuple[int, int]) -> bool:
    """Whether there is a picture."""
    try:
        picture = decompress(codec, file, levels, max_pixels=MAX_PIXELS)
    except (FormatError, CodecError) as error:
        assert "\n" not in str(error)
        return False
    assert (picture.width, picture.height) == size
    return True


def compare(codec: Codec, file: bytes, levels: int | None) -> None:
    content, point = parse(codec, file, levels)
    header = content.header
    expected, found = (
        one.system.decode(list(content.sections), header.height, header.width, point)
        for one in (codec, light(codec))
    )
    assert np.array_equal(found, expected.numpy())
