"""What is written reads back, and what a format cannot hold is said."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import ALPHA, GREY, PIXELS, RGB_ICC, exif_with, icc_for, parsed
from PIL import Image

from vqcodec import image
from vqcodec.errors import OutputError
from vqcodec.files import WRITTEN
from vqcodec.image import Picture, writing

LOSSLESS = sorted({*WRITTEN.values()} - {"JPEG"})


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
@pytest.mark.parametrize("pixels", [PIXELS, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize("format", LOSSLESS)
def test_what_is_written_reads_back(
    format: str, pixels: np.ndarray, alpha: np.ndarray | None
) -> None:
    icc = icc_for(b"GRAY") if pixels.ndim == 2 else RGB_ICC
    picture = Picture(pixels, alpha, icc, exif_with(None)[6:])
    buffer = io.BytesIO()
    if alpha is not None and format not in writing._WITH_ALPHA:
        with pytest.raises(OutputError, match=f"^{format} cannot store alpha"):
            image.write(picture, buffer, format)
        return
    if pixels.ndim == 3 and format == "PGM":
        with pytest.raises(OutputError, match=r"^PGM cannot store colour"):
            image.write(picture, buffer, format)
        return
    image.write(picture, buffer, format)
    again = image.read(buffer.getvalue(), "x")
    grey = pixels.ndim == 2 and format not in ("WEBP", "PPM")
    expected = pixels if grey or pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)
    assert np.array_equal(again.pixels, expected)
    assert alpha is again.alpha is None or np.array_equal(again.alpha, alpha)  # type: ignore[arg-type]
    assert again.notes == ()
    if format in writing._WITH_METADATA:
        assert again.icc == (icc if grey or pixels.ndim == 3 else None)
        assert parsed(again.exif)[0x010F] == "Camera"


def test_jpeg_is_4_4_4_of_high_quality_with_icc_and_exif() -> None:
    buffer = io.BytesIO()
    image.write(Picture(PIXELS, None, RGB_ICC, exif_with(None)[6:]), buffer, "jpeg")
    im = Image.open(buffer)
    assert im.format == "JPEG"
    assert [layer[1:3] for layer in im.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    again = image.read(buffer.getvalue(), "x")
    assert again.icc == RGB_ICC and again.exif == exif_with(None)[6:]
    with pytest.raises(OutputError, match=r"^JPEG cannot store alpha"):
        image.write(Picture(PIXELS, ALPHA), buffer, "JPEG")


def test_what_a_format_cannot_hold_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot be stored as WEBP"):
        image.write(Picture(np.zeros((1, 16384), np.uint8)), tmp_path / "a.webp", "WEBP")
    with pytest.raises(OutputError, match=r"^GIF: unknown format; can write PNG, JPEG"):
        image.write(Picture(GREY), io.BytesIO(), "GIF")
    assert not list(tmp_path.iterdir())


def test_exif_from_a_stranger_cannot_change_a_tiffs_layout() -> None:
    exif = Image.Exif()
    exif.update({256: 9999, 259: 7, 273: 1, 0x010F: "Camera"})
    buffer = io.BytesIO()
    image.write(Picture(PIXELS, exif=exif.tobytes()[6:]), buffer, "TIFF")
    assert np.array_equal(image.read(buffer.getvalue(), "x").pixels, PIXELS)


def test_format_follows_the_suffix_of_any_case() -> None:
    assert image.format_of(Path("a.b.JPG")) == "JPEG"
    assert image.format_of(Path("x.tif")) == image.format_of(Path("x.tiff")) == "TIFF"
    for name in ("a.gif", "a", ".png"):
        with pytest.raises(OutputError, match=r"can write \.png, \.jpg"):
            image.format_of(Path(name))


def test_write_replaces_a_file_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image.write(Picture(GREY), path, "PNG")
    with pytest.raises(OutputError, match=r"exists; --force overwrites"):
        image.write(Picture(PIXELS), path, "PNG")
    assert image.read(path, "x").grey
    image.write(Picture(PIXELS), path, "PNG", force=True)
    assert not image.read(path, "x").grey
    assert list(tmp_path.iterdir()) == [path]
