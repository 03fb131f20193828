"""What is no still picture, or no picture, is refused on one line."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GREY, PIXELS, exif_with, png, stored
from PIL import Image, ImageFile

from vqcodec import image
from vqcodec.errors import ImageError, InputError


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused_by_name(format: str) -> None:
    frames = [Image.fromarray(PIXELS // d).quantize(8) for d in (1, 2, 3)]
    data = stored(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError) as caught:
        image.read(data, "cat.gif")
    expected = f"cat.gif: animated {format} with 3 frames; only still images can be coded"
    assert str(caught.value) == expected


def test_multi_page_tiff_is_refused() -> None:
    page = Image.fromarray(GREY)
    data = stored(page, "TIFF", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match=r"^x: multi-page TIFF with 2 pages; only still"):
        image.read(data, "x")


def test_first_frame_of_a_camera_mpo_is_taken() -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (8, 8), "blue")
    data = stored(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    picture = image.read(data, "x")
    assert picture.pixels.shape == (16, 16, 3) and picture.pixels[8, 8, 0] > 250


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a\.png: no such file$"):
        image.read(tmp_path / "a.png", "a.png")
    with pytest.raises(InputError, match=r"^folder: is a folder$"):
        image.read(tmp_path, "folder")
    with pytest.raises(InputError, match=r"^x: "):
        image.read(tmp_path / ("long" * 100), "x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_without_read_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch(0)
    with pytest.raises(InputError, match=r"^x: permission denied$"):
        image.read(path, "x")


@pytest.mark.parametrize("data", [b"", b"x", b"not an image at all" * 9, b"\x89PNG\r\n\x1a\n"])
def test_junk_is_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x: not an image that can be read$"):
        image.read(data, "x")


def test_eps_is_never_handed_to_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("started"))
    data = stored(Image.fromarray(PIXELS), "EPS")
    with pytest.raises(ImageError, match=r"not an image"):
        image.read(data, "x")


def test_a_vqc_file_is_told_apart() -> None:
    with pytest.raises(ImageError, match=r"^x: is a \.vqc file already$"):
        image.read(b"VQC1...", "x")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"])
def test_truncated_images_are_refused_on_one_line(format: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = stored(Image.fromarray(pixels), format)
    with pytest.raises(ImageError) as caught:
        image.read(data[: len(data) // 2], "x")
    assert str(caught.value).startswith("x: ") and "\n" not in str(caught.value)


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF")
FILES = [stored(Image.fromarray(PIXELS), format, exif=exif_with(6)) for format in FORMATS]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_damaged_files_raise_nothing_but_image_errors(file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = image.read(bytes(damaged), "x")
        except ImageError:
            return
    assert picture.pixels.dtype == np.uint8 and picture.pixels.size


def test_absurd_sizes_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    huge = png(GREY[..., None], 0, 8).replace(
        struct.pack(">II", 7, 5), struct.pack(">II", 20001, 20000)
    )
    huge = huge[:29] + struct.pack(">I", zlib.crc32(huge[12:29])) + huge[33:]
    with pytest.raises(ImageError, match=r"^x: 20001 x 20000 pixels"):
        image.read(huge, "x")


@pytest.mark.parametrize("limit", [20, 5])  # Pillow would warn; raise
def test_pillows_own_limit_neither_warns_nor_raises(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(image.read(png(PIXELS, 2, 8), "x").pixels, PIXELS)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError):
        image.from_pillow(Image.new("RGB", (0, 3)))
