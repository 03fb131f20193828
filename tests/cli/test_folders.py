"""Many files and folders."""

from pathlib import Path

import numpy as np
import pytest
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
    "args",
    [
        ["a.png", "a.jpg"],
        ["a.png", "x/a.png", "-o", "out"],
        ["x", "-r", "a.png", "-o", "out"],
        ["a.png", "./a.png"],
    ],
)
def test_clashing_outputs_are_refused_before_any_work(args: list[str]) -> None:
    for name in ("a.png", "a.jpg", "x/a.png"):
        draw(name)
    before = all_files()
    assert_fails(run("encode", *args), 8, "both become this")
    assert all_files() == before


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
