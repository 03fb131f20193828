"""Paths, bytes, streams and pipes read the same."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import GREY, PIXELS, exif_with, png
from PIL import Image

from vqcodec import image
from vqcodec.errors import ImageError


class Pipe(io.RawIOBase):
    """A stream that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return self.buffer.read()


def test_paths_bytes_streams_and_pipes_read_the_same(tmp_path: Path) -> None:
    data = png(PIXELS, 2, 8)
    path = tmp_path / "no suffix"
    path.write_bytes(data)
    with path.open("rb") as stream:
        for source in (path, data, io.BytesIO(data), stream, Pipe(data)):
            assert np.array_equal(image.read(source, "x").pixels, PIXELS)  # type: ignore[arg-type]
        assert not stream.closed, "whoever opened it closes it"


def test_read_rgb_is_always_three_channels_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path, exif=exif_with(6))
    pixels = image.read_rgb(path)
    assert pixels.shape == (7, 5, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels[..., 2], np.rot90(GREY, -1))


def test_of_what_is_no_picture_not_all_is_read() -> None:
    class Endless(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            assert n is not None and n >= 0
            return bytes(n)

    with pytest.raises(ImageError, match="not an image"):
        image.read(Endless(), "x")
