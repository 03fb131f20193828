"""``vqcodec decode``."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from stand_in import SEEN, Card, Choices, assert_fails, draw, pixels_of, run

from vqcodec import container, errors, image
from vqcodec.cli import report

pytestmark = pytest.mark.usefixtures("codec", "folder")


@pytest.mark.parametrize(
    ("args", "name", "format"),
    [
        (["--format", "webp"], "a.webp", "WEBP"),
        (["-o", "b.tif"], "b.tif", "TIFF"),
        (["-o", "b", "--format", "jpg"], "b", "JPEG"),
        (["-o", "b.png", "--format", "bmp"], "b.png", "BMP"),
    ],
)
def test_the_format_is_that_of_the_option_or_the_suffix(
    args: list[str], name: str, format: str
) -> None:
    from PIL import Image

    draw("a.png")
    run("encode", "a.png")
    assert run("decode", "a.vqc", *args).exit_code == 0
    with Image.open(name) as picture:
        assert picture.format == format


def test_a_second_name_of_an_unknown_format_is_an_output_that_cannot_be_written() -> None:
    draw("a.png")
    run("encode", "a.png")
    assert_fails(run("decode", "a.vqc", "b.gif"), 8, "b.gif: no format known for this suffix")
    result = run("decode", "a.vqc", "b.vqc", "--force")  # an input
    assert result.exit_code == 3 and "b.vqc: no such file" in result.stderr


def test_levels_decodes_a_preview_even_of_a_broken_file() -> None:
    draw("a.png")
    run("encode", "a.png")
    Path("cut.vqc").write_bytes(Path("a.vqc").read_bytes()[:-5])
    assert_fails(run("decode", "cut.vqc"), 5, "cut.vqc: ", "--salvage")
    assert run("decode", "cut.vqc", "--levels", "1").exit_code == 0
    assert (pixels_of("cut.png") == 128).all()
    assert_fails(run("decode", "a.vqc", "--levels", "3", "--force"), 2, "2 levels, not 3")


def test_a_codec_that_is_not_installed_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_header(header: container.Header, name: str | None = None) -> Card:
        if name != "my/folder":
            raise errors.CodecError("not installed")
        return Card(id="mine")

    monkeypatch.setattr(sys.modules["vqcodec.zoo"], "for_header", for_header)
    pixels = draw("a.png")
    run("encode", "a.png")
    assert_fails(run("decode", "a.vqc", "-o", "b.png"), 6)
    assert run("decode", "a.vqc", "-o", "b.png", "--codec", "my/folder").exit_code == 0
    np.testing.assert_array_equal(pixels_of("b.png"), pixels)
    assert "mine" in run("info", "a.vqc", "--codec", "my/folder").stdout
    assert_fails(run("info", "a.vqc", "--codec", "other"), 6)


@pytest.mark.parametrize(
    ("options", "choices"),
    [
        ((), Choices(None, None, 1)),
        (("--codes", "4"), Choices(4, None, 1)),
        (("--sample", "7"), Choices(None, 7, 1)),
        (("--average", "14"), Choices(None, 0, 14)),
        (("--average", "14", "--sample", "3"), Choices(None, 3, 14)),
    ],
)
def test_decode_hands_its_choices_on(options: tuple[str, ...], choices: Choices) -> None:
    draw("a.png")
    assert run("encode", "a.png").exit_code == 0
    assert run("decode", "a.vqc", "-o", "b.png", *options).exit_code == 0
    assert SEEN[-1] == choices


@pytest.mark.parametrize("large", [1, 1 << 24])
@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm", "bmp"])
def test_a_region_comes_back(suffix: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGE", large)
    pixels = draw("a.png")
    assert run("encode", "a.png").exit_code == 0
    result = run("decode", "a.vqc", "-o", f"b.{suffix}", "--region", "3,2,10,7", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["width"], record["height"]) == (10, 7)
    assert record["bpp"] == json.loads(run("decode", "a.vqc", "--force", "--json").stdout)["bpp"]
    assert np.array_equal(pixels_of(f"b.{suffix}"), pixels[2:9, 3:13])
    piped = run("decode", "a.vqc", "-o", "-", "--region", "3,2,10,7", "--format", suffix)
    assert piped.stdout_bytes == Path(f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("region", ["1,2,3", "1,2,3,-4", "a,b,c,d", "1,2,3,4,5"])
def test_a_region_is_four_numbers(region: str) -> None:
    draw("a.png")
    run("encode", "a.png")
    assert_fails(run("decode", "a.vqc", "--region", region, "--force"), 2, region)


@pytest.mark.parametrize(("format", "kept"), [("png", True), ("bmp", False), ("ppm", False)])
def test_metadata_that_a_format_cannot_hold_is_not_dropped_silently(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, format: str, kept: bool
) -> None:
    from PIL import Image, ImageCms

    exif = Image.Exif()
    exif[0x010E] = "a description"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = image.Picture(np.zeros((4, 4, 3), np.uint8), icc=icc, exif=exif.tobytes()[6:])
    monkeypatch.setattr(codec, "decompress", lambda *args: picture)
    draw("a.png")
    run("encode", "a.png")
    result = run("decode", "a.vqc", "-o", f"b.{format}")
    assert result.exit_code == 0
    note = f"a.vqc: ICC profile and EXIF left out: {format.upper()} cannot hold that"
    assert result.stderr == ("" if kept else f"vqcodec: warning: {note}\n")
    assert run("decode", "a.vqc", "-o", f"b.{format}", "-q", "--force").output == ""
