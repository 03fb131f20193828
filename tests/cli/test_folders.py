"""Many files and folders."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in import all_files, assert_fails, draw, pixels_of, run

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_several_files_go_to_a_folder() -> None:
    draw("x/a.png")
    draw("y/b.jpg")
    result = run("encode", "x/a.png", "y/b.jpg", "-o", "out/small")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert {"out/small/a.vqc", "out/small/b.vqc"} <= all_files()


def test_without_output_each_file_stays_in_its_folder() -> None:
    draw("x/a.png")
    draw("y/b.png")
    assert run("encode", "x/a.png", "y").exit_code == 0
    assert {"x/a.vqc", "y/b.vqc"} <= all_files()


def test_recursive_keeps_the_structure_both_ways() -> None:
    names = ["photos/a.png", "photos/sub/b.PNG", "photos/sub/deep/a.png"]
    pixels = {name: draw(name, seed) for seed, name in enumerate(names)}
    Path("photos/notes.txt").write_text("no picture")
    assert run("encode", "-r", "photos", "-o", "small").exit_code == 0
    assert run("decode", "-r", "small/", "-o", "again").exit_code == 0
    assert {n for n in all_files() if n.startswith("small")} == {
        "small/a.vqc",
        "small/sub/b.vqc",
        "small/sub/deep/a.vqc",
    }
    for name, before in pixels.items():
        after = Path("again", *Path(name).parts[1:]).with_suffix(".png")
        np.testing.assert_array_equal(pixels_of(after), before)


def test_a_folder_without_r_is_not_descended() -> None:
    draw("photos/a.png")
    draw("photos/sub/b.png")
    draw("deep/sub/c.png")
    assert run("encode", "photos", "-o", "small").exit_code == 0
    assert {n for n in all_files() if n.startswith("small")} == {"small/a.vqc"}
    assert_fails(run("encode", "deep", "-o", "small"), 3, "-r looks into its folders")


@pytest.mark.parametrize(
    ("args", "made"),
    [
        (["a.png", "a.jpg", "b.png"], {"b.vqc"}),
        (["a.png", "x/a.png", "b.png", "-o", "out"], {"out/b.vqc"}),
        (["x", "-r", "a.png", "-o", "out"], set()),
    ],
)
def test_two_that_would_become_one_file_are_not_made_and_the_others_are(
    args: list[str], made: set[str]
) -> None:
    for name in ("a.png", "a.jpg", "b.png", "x/a.png"):
        draw(name)
    before = all_files()
    result = run("encode", *args)
    told = [line for line in result.stderr.splitlines() if "error" in line]
    assert result.exit_code == 8 and len(told) == 2
    for line in told:
        assert "both become this; --keep-suffix gives each its own" in line
    assert all_files() - before == made


def test_keep_suffix_gives_each_its_own_file_and_decode_takes_it_back() -> None:
    draw("a.png")
    draw("a.jpg", 1)
    assert run("encode", "a.png", "a.jpg", "--keep-suffix").exit_code == 0
    assert all_files() == {"a.png", "a.jpg", "a.png.vqc", "a.jpg.vqc"}
    assert run("decode", "a.png.vqc", "a.jpg.vqc", "-o", "again").exit_code == 0
    assert {name for name in all_files() if name.startswith("again")} == {
        "again/a.png",
        "again/a.jpg.png",
    }


def test_a_file_that_is_named_twice_is_done_once() -> None:
    draw("a.png")
    result = run("encode", "a.png", "./a.png", "-o", "out")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1


def test_hidden_files_and_those_of_macos_are_no_pictures() -> None:
    draw("in/a.png")
    for name in ("in/._a.png", "in/.hidden.png", "in/__MACOSX/a.png", "in/.thumbs/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"\0\5\x16\7 what Finder knows")
    result = run("encode", "-r", "in", "-o", "out")
    assert result.exit_code == 0 and result.stderr == ""
    assert {name for name in all_files() if name.startswith("out")} == {"out/a.vqc"}
    assert run("encode", "-r", "in", "-o", "set.vqc").exit_code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_in_a_folder_is_left_out_and_named() -> None:
    draw("in/a.png")
    os.mkfifo("in/b.png")
    for args in (["-o", "out"], ["-o", "set.vqc"]):
        result = run("encode", "in", *args)
        warning = "vqcodec: warning: in/b.png: left out: a named pipe, not a file\n"
        assert (result.exit_code, result.stderr) == (0, warning)
    assert run("encode", "in", "-o", "other", "-q").stderr == ""


def test_pictures_are_known_by_their_beginning_where_no_suffix_tells() -> None:
    draw("a.png")
    im = Image.open("a.png").convert("RGB")
    Path("in").mkdir()
    for format in ("PPM", "BMP", "SGI", "TIFF", "GIF", "WEBP"):
        im.save(f"in/{format}", format)
    for name, format in (("b.pcx", "PCX"), ("c.dib", "DIB")):
        im.save(f"in/{name}", format)
    im.save("in/BigTIFF", "TIFF", big_tiff=True)
    Path("in/BM.txt").write_text("BMP is a format of Windows, and this is none of it.")
    result = run("encode", "in", "-o", "out")
    told = "vqcodec: warning: in: left out 1 file that is no picture: BM.txt\n"
    assert result.exit_code == 0 and result.stderr.startswith(told)
    assert len(result.stdout.splitlines()) == 9


def test_one_failure_does_not_stop_the_others() -> None:
    draw("a.png")
    Path("b.png").write_text("no picture")
    draw("d.png")
    result = run("encode", "a.png", "b.png", "missing.png", "d.png")
    assert result.exit_code == 4  # of the first failure
    *told, summary = result.stderr.splitlines()
    assert [line.split(": ")[2] for line in told] == ["b.png", "missing.png"]
    assert summary.startswith("4 files: 2 done, 2 failed; ")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["a.png", "d.png"]
    assert {"a.vqc", "d.vqc"} <= all_files()


def test_a_link_to_a_folder_is_named_and_leads_nowhere() -> None:
    draw("photos/a.png")
    draw("others/b.png")
    for name, target in (("loop", "../photos"), ("others", "../others")):
        Path("photos", name).symlink_to(target, target_is_directory=True)
    result = run("encode", "-r", "photos", "-o", "small")
    assert result.exit_code == 0
    assert {n for n in all_files() if n.startswith("small")} == {"small/a.vqc"}
    told = [line for line in result.stderr.splitlines() if "link to a folder" in line]
    assert [line.split(": ")[2] for line in told] == ["photos/loop", "photos/others"]
    assert run("encode", "photos/others", "-o", "small").exit_code == 0
    assert "small/b.vqc" in all_files()


def test_a_link_to_a_picture_is_a_picture_and_one_by_two_names_of_its_folder_is_one() -> None:
    draw("photos/a.png")
    Path("photos/b.png").symlink_to("a.png")
    Path("again").symlink_to("photos", target_is_directory=True)
    assert run("encode", "photos", "again", "again/a.png", "-o", "small").exit_code == 0
    assert {n for n in all_files() if n.startswith("small")} == {"small/a.vqc", "small/b.vqc"}
