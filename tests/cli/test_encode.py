"""``vqcodec encode``."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from stand_in import Card, all_files, assert_fails, draw, pixels_of, run

from vqcodec import container
from vqcodec.cli import options

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_a_picture_comes_back() -> None:
    pixels = draw("a.png")
    result = run("encode", "a.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("a.png -> a.vqc  ") and result.stderr == ""
    before, after = (Path(f"a.{suffix}").stat().st_size for suffix in ("png", "vqc"))
    assert f"a.vqc  {before} B -> {after} B, 1.1:1  " in result.stdout
    for word in (f"{8 * after / (12 * 20):.3f} bpp", "8bit", "ms"):
        assert word in result.stdout
    Path("a.png").unlink()
    assert run("decode", "a.vqc").exit_code == 0
    np.testing.assert_array_equal(pixels_of("a.png"), pixels)
    assert all_files() == {"a.png", "a.vqc"}


def test_output_names_a_file_or_a_folder() -> None:
    draw("a.png")
    Path("there").mkdir()
    assert run("encode", "a.png", "-o", "b.bin").exit_code == 0
    assert run("encode", "a.png", "-o", "there").exit_code == 0
    assert run("encode", "a.png", "-o", "new/").exit_code == 0
    assert all_files() == {"a.png", "b.bin", "there/a.vqc", "new/a.vqc"}


def test_rate_and_strip_reach_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.new("RGB", (4, 4)).save("a.png", exif=exif)
    assert run("encode", "a.png", "--rate", "7.5bit").exit_code == 0
    kept = container.read(Path("a.vqc").read_bytes())
    assert kept.header.rate == 1920 and [box.type for box in kept.boxes] == ["EXIF"]
    assert run("encode", "a.png", "--strip", "--force").exit_code == 0
    assert container.read(Path("a.vqc").read_bytes()).boxes == ()


@pytest.mark.parametrize("rate", ["8bit", "7.5bit", "7.3bit", "7.31 bit", "7.301bit", "8.000bit"])
def test_a_rate_that_is_one_to_all_its_digits_needs_no_note(rate: str) -> None:
    draw("a.png")
    result = run("encode", "a.png", "--rate", rate)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("rate", "used"),
    [
        ("5.00001bit", "5bit"),
        ("10.001bit", "10bit"),
        ("7.302bit", "7.301bit"),
        ("4.999bit", "5bit"),
    ],
)
def test_a_rate_between_the_rate_points_is_said_to_be_rounded(rate: str, used: str) -> None:
    draw("a.png")
    result = run("encode", "a.png", "--rate", rate)
    note = f"a.png: no rate point is at {rate}: coded at {used}"
    assert (result.exit_code, result.stderr) == (0, f"vqcodec: warning: {note}\n")


def test_threads_and_device_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def load(card: Card, device: str) -> Card:
        seen.append(device)
        return card

    monkeypatch.setattr(options, "use_threads", seen.append)
    for name in ("load", "load_decoder"):
        monkeypatch.setattr(sys.modules["vqcodec.zoo"], name, load)
    draw("a.png")
    run("encode", "a.png", "--threads", "3", "--device", "cpu")
    assert [*dict.fromkeys(seen)] == ["cpu", 3]
    run("decode", "a.vqc", "--force")
    assert seen[-2:] == ["auto", None]


def test_a_wrong_rate_is_said_once() -> None:
    draw("a.png")
    draw("b.png")
    assert_fails(run("encode", "a.png", "b.png", "--rate", "good"), 7)


def test_an_output_that_exists_costs_no_work(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "compress", lambda *a, **k: pytest.fail("needless work"))
    draw("a.png")
    Path("a.vqc").write_text("precious")
    assert_fails(run("encode", "a.png"), 8)


def test_nothing_is_overwritten_unless_forced() -> None:
    draw("a.png")
    Path("a.vqc").write_text("precious")
    assert_fails(run("encode", "a.png"), 8, "a.vqc: exists", "--force")
    assert Path("a.vqc").read_text() == "precious"
    assert run("encode", "a.png", "--force").exit_code == 0
    assert_fails(run("decode", "a.vqc"), 8, "a.png: exists")
    assert run("decode", "a.vqc", "--force").exit_code == 0
