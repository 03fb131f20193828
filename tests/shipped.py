"""A shipped codec, a photo, and files of both, each made once."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import vqcodec
from vqcodec import image
from vqcodec.codec import Codec
from vqcodec.compress import Compressed, compress

PHOTO = Path(__file__).parent / "data" / "photo.png"


@cache
def shipped() -> Codec:
    return vqcodec.load_codec("photo-2", "cpu")


@cache
def photo() -> np.ndarray:
    with Image.open(PHOTO) as im:
        return np.array(im)


@cache
def crop() -> np.ndarray:
    """(128, 192, 3)"""
    return np.ascontiguousarray(photo()[80:208, 100:292])


@cache
def made(rate: str) -> Compressed:
    """The crop's file."""
    return compress(shipped(), image.from_array(crop()), rate)


def decoded(data: bytes, levels: int | None = None) -> np.ndarray:
    return vqcodec.decode_picture(data, levels, "cpu").pixels
