"""Pictures as people have them, through the command line: what is kept, said, and left out."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from image_files import exif_with, raw_tiff
from PIL import Image
from stand_in import all_files, assert_fails, draw, run

from vqcodec import container, image

pytestmark = pytest.mark.usefixtures("codec", "folder")


def photo(name: str, **options: object) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(name, **options)


@pytest.mark.parametrize("given", [["--strip"], ["--strip", "all"], ["--strip=all"]])
@pytest.mark.parametrize("first", [False, True])
def test_strip_has_a_value_or_none_before_and_behind_the_files(
    given: list[str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vqcodec

    seen: list[object] = []
    real = vqcodec.compress.compress  # type: ignore[attr-defined]

    def compress(*args: object, **options: object) -> object:
        seen.append(args[3])
        return real(*args, **options)

    monkeypatch.setattr(vqcodec.compress, "compress", compress)  # type: ignore[attr-defined]
    photo("a.jpg", exif=exif_with(None))
    assert run("encode", *([*given, "a.jpg"] if first else ["a.jpg", *given])).exit_code == 0
    assert seen == ["all" if "all" in given[-1] else "metadata"]
    assert container.read(Path("a.vqc").read_bytes()).boxes == ()


def test_strip_takes_no_other_value_and_no_file_for_one() -> None:
    photo("a.jpg")
    assert_fails(run("encode", "a.jpg", "--strip=some"), 2, "metadata")


def test_what_is_not_kept_is_one_line_and_in_json() -> None:
    photo("a.jpg", comment=b"hello", quality=100, subsampling=0)
    result = run("encode", "a.jpg", "--json")
    assert result.stderr == "vqcodec: warning: a.jpg: not kept: comment\n"
    assert json.loads(result.stdout)["not_kept"] == ["comment"]
    assert run("encode", "a.jpg", "--force", "--strip").stderr == "", "it was asked for"


def test_a_file_that_grows_is_said_to() -> None:
    photo("a.jpg", quality=5)
    result = run("encode", "a.jpg")
    before, after = Path("a.jpg").stat().st_size, Path("a.vqc").stat().st_size
    assert before < after
    assert "larger than its input" in result.stderr


def test_a_cut_picture_is_taken_with_consent() -> None:
    photo("a.jpg")
    Path("a.jpg").write_bytes(Path("a.jpg").read_bytes()[:1000])
    assert_fails(run("encode", "a.jpg"), 4, "--salvage")
    result = run("encode", "a.jpg", "--salvage")
    assert result.exit_code == 0 and "ends early" in result.stderr


def test_a_folder_gives_all_pictures_that_can_be_read_and_names_the_others() -> None:
    os.mkdir("in")
    for name, format in (
        *(("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.avif", "AVIF"), ("d.jp2", "JPEG2000")),
        *(
            ("e.tga", "TGA"),
            ("f.gif", "GIF"),
            ("g.qoi", "QOI"),
            ("without", "PNG"),
            ("i.x", "WEBP"),
        ),
    ):
        photo(f"in/{name}", format=format)
    Path("in/raw.nef").write_bytes(raw_tiff(t254=1, t330=8, t271="NIKON"))
    Path("in/notes.txt").write_text("no picture")
    Path("in/old.vqc").write_bytes(b"VQC1")
    result = run("encode", "in", "-o", "out")
    assert result.exit_code == 0
    made = {name for name in all_files() if name.startswith("out")}
    assert made == {f"out/{stem}.vqc" for stem in (*"abcdefg", "without", "i")}
    lines = result.stderr.splitlines()
    assert (
        "vqcodec: warning: in/raw.nef: left out: "
        "a camera raw file (NIKON), which is not developed" in lines
    )
    assert "vqcodec: warning: in: left out 1 file that is no picture: notes.txt" in lines


def test_many_files_that_are_no_pictures_are_counted() -> None:
    draw("in/a.png")
    for index in range(8):
        Path(f"in/{index}.txt").write_text("")
    result = run("encode", "in", "-o", "out")
    said = "left out 8 files that are no pictures: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more"
    assert said in result.stderr


@pytest.mark.parametrize(
    ("colour", "wanted"),
    [("white", (255, 255, 255)), ("#ff8000", (255, 128, 0)), ("ff8000", (255, 128, 0)),
     ("1,2,3", (1, 2, 3))],
)  # fmt: skip
def test_a_background_makes_room_for_formats_without_alpha(
    colour: str, wanted: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import vqcodec

    pixels, alpha = np.full((4, 4, 3), 77, np.uint8), np.zeros((4, 4), np.uint8)
    picture = image.Picture(pixels, alpha)
    monkeypatch.setattr(vqcodec.decompress, "decompress", lambda *how: picture)  # type: ignore[attr-defined]
    draw("a.png")
    run("encode", "a.png")
    assert_fails(run("decode", "a.vqc", "-o", "a.bmp"), 8, "--background")
    assert run("decode", "a.vqc", "-o", "a.bmp", "--background", colour).exit_code == 0
    assert Image.open("a.bmp").getpixel((0, 0)) == wanted


def test_a_background_is_a_colour() -> None:
    for name in ("", "nothing", "1,2", "300,0,0", "#12"):
        assert run("decode", "a.vqc", "--background", name).exit_code == 2
