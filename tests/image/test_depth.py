"""16 bits per sample become 8, and that is told."""

import struct

import numpy as np
import pytest
from image_files import back, png, tiff
from PIL import Image

from vqcodec import image
from vqcodec.errors import ImageError

DEEP = np.array([[0, 1, 128, 129, 385, 386, 32767, 65406, 65407, 65535]], np.uint16)
DEEP_AS_8 = [0, 0, 0, 1, 1, 2, 127, 254, 255, 255]  # nearest multiple of 257


@pytest.mark.parametrize(
    "data",
    [
        png(DEEP[..., None], 0, 16),
        tiff(DEEP[..., None], 16, 1),
        tiff(DEEP[..., None], 16, 1, deflate=True),
        tiff(65535 - DEEP[..., None], 16, 0),  # white is zero
        b"P5 10 1 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P2 10 1 65535\n" + " ".join(map(str, DEEP[0])).encode(),
    ],
    ids=["png", "tiff", "deflated tiff", "inverted tiff", "pgm", "plain pgm"],
)
def test_16_bit_grey_is_scaled_with_rounding(data: bytes) -> None:
    picture = image.read(data, "x")
    assert picture.pixels.tolist() == [DEEP_AS_8]
    assert picture.deep and picture.notes == ("16 bits per sample coded as 8",)


def test_16_bit_modes_of_either_byte_order() -> None:
    for mode, dtype in [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")]:
        picture = image.from_pillow(Image.frombytes(mode, (10, 1), DEEP.astype(dtype).tobytes()))
        assert picture.pixels.tolist() == [DEEP_AS_8] and picture.deep


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff", "deflated tiff"])
def test_16_bit_rgb_is_told_though_pillow_delivers_8(kind: str, channels: int) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (3, 4, channels), dtype=np.uint16)
    if kind == "png":
        data = png(samples, {3: 2, 4: 6}[channels], 16)
    else:
        data = tiff(samples, 16, 2, deflate=kind == "deflated tiff")
    picture = image.read(data, "x")
    assert picture.deep and picture.notes == ("16 bits per sample coded as 8",)
    assert np.abs(picture.pixels - samples[..., :3] / 257).max() <= 1
    assert (picture.alpha is not None) == (channels == 4)


def test_16_bit_rgb_ppm_is_told() -> None:
    picture = image.read(b"P6 1 1 65535\n\xff\xff\x80\x80\0\0", "x")
    assert picture.deep and picture.pixels.tolist() == [[[255, 128, 0]]]
    assert not image.read(b"P6 1 1 100\n\x64\x32\0", "x").deep


def test_16_bit_grey_with_alpha_stays_grey() -> None:
    picture = image.read(png(np.array([[[65535, 0], [0, 65535]]]), 4, 16), "x")
    assert picture.deep and picture.pixels.tolist() == [[255, 0]]
    assert picture.alpha is not None and picture.alpha.tolist() == [[0, 255]]


def test_5_6_5_bits_are_not_16_per_sample() -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + head + b"\xff\x7f\0\0"
    assert not image.read(data, "x").deep


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_per_sample_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=r"x: samples are .* 8 or 16 bits"):
        back(Image.new(mode, (2, 2)), "TIFF")
    with pytest.raises(ImageError):
        image.from_pillow(Image.new(mode, (2, 2)))
