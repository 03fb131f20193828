"""Files that are written row by row hold what those hold that are written whole."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from vqcodec import image
from vqcodec.errors import OutputError
from vqcodec.image import rowfile

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif() -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Maker"
    tags[ExifTags.Base.XResolution] = 72.0
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 200
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return tags.tobytes().removeprefix(image.EXIF_PREFIX)


def picture(height: int, width: int, grey: bool, alpha: bool, seed: int = 0) -> image.Picture:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width) if grey else (height, width, 3), np.uint8)
    return image.Picture(noise, rng.integers(0, 255, (height, width), np.uint8) if alpha else None)


def rows_of(whole: image.Picture, step: int) -> image.Rows:
    starts = range(0, whole.height, step)
    bands = (whole.pixels[start : start + step] for start in starts)
    return image.Rows(
        whole.height, whole.width, whole.grey, bands, whole.alpha, whole.icc, whole.exif,
        xmp=whole.xmp,
    )  # fmt: skip


def written(whole: image.Picture, format: str, step: int) -> bytes:
    file = BytesIO()
    assert rowfile.write(rows_of(whole, step), file, format) == ()
    return file.getvalue()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(rowfile.FORMATS),
    *(st.integers(1, 40) for _ in range(3)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_format_gives_the_pixels_back(
    format: str, height: int, width: int, step: int, grey: bool, alpha: bool, seed: int
) -> None:
    alpha = alpha and format in ("PNG", "TIFF")
    grey = grey or format == "PGM"
    whole = picture(height, width, grey, alpha, seed)
    back = image.read(written(whole, format, step), "written")
    expected = whole.pixels
    if grey and format == "PPM":
        expected = expected[:, :, None].repeat(3, 2)
    assert np.array_equal(back.pixels, expected)
    assert (back.alpha is None) == (whole.alpha is None)
    assert whole.alpha is None or np.array_equal(back.alpha, whole.alpha)  # type: ignore[arg-type]


def test_pieces_of_a_band_are_filtered_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = picture(50, 30, grey=False, alpha=True)
    expected = np.array(Image.open(BytesIO(written(whole, "PNG", 50))))
    monkeypatch.setattr(rowfile, "_PIECE", 1)
    assert np.array_equal(np.array(Image.open(BytesIO(written(whole, "PNG", 7)))), expected)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("xmp", [None, b"<x/>"])
def test_metadata_is_that_of_a_file_written_whole(
    format: str, grey: bool, xmp: bytes | None
) -> None:
    plain = picture(9, 7, grey, alpha=True)
    whole = image.Picture(plain.pixels, plain.alpha, None if grey else ICC, exif(), xmp=xmp)
    file = BytesIO()
    assert image.write(whole, file, format) == ()
    expected = image.read(file.getvalue(), "whole")
    found = image.read(written(whole, format, 4), "rows")
    assert found.icc == expected.icc == whole.icc
    assert found.exif == expected.exif and found.exif is not None
    assert found.xmp == expected.xmp == xmp
    for data in (file.getvalue(), written(whole, format, 4)):
        tags = Image.open(BytesIO(data)).getexif()
        assert tags[ExifTags.Base.Make] == "Maker"
        assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 200
        assert tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


def test_what_a_format_cannot_hold_is_said() -> None:
    whole = image.Picture(picture(3, 3, False, False).pixels, None, ICC, exif())
    (note,) = rowfile.write(rows_of(whole, 2), BytesIO(), "PPM")
    assert note == "ICC profile and EXIF left out: PPM cannot hold that"
    with pytest.raises(OutputError, match="PGM cannot store colour"):
        rowfile.write(rows_of(whole, 2), BytesIO(), "PGM")


@pytest.mark.parametrize("format", rowfile.FORMATS)
def test_a_file_that_is_not_finished_does_not_appear(tmp_path: Path, format: str) -> None:
    def bands() -> Iterator[np.ndarray]:
        yield np.zeros((2, 5), np.uint8)
        raise MemoryError

    with pytest.raises(MemoryError):
        rowfile.write(image.Rows(4, 5, True, bands()), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []
    rowfile.write(rows_of(picture(4, 5, True, False), 1), tmp_path / "out", format)
    with pytest.raises(OutputError, match="exists"):
        rowfile.write(rows_of(picture(4, 5, True, False), 1), tmp_path / "out", format)


def test_photographs_are_compressed_about_as_well_as_by_pillow() -> None:
    whole = image.read(Path(__file__).parents[1] / "data" / "photo.png", "photo")
    file = BytesIO()
    image.write(whole, file, "PNG")
    assert len(written(whole, "PNG", 64)) < 1.05 * len(file.getvalue())
