"""What is printed of a file: a line, JSON, details, a bar."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in import assert_fails, draw, run

from vqcodec.cli import jobs, report
from vqcodec.cli.program import program

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_json_is_one_object_per_file() -> None:
    draw("a.png")
    Path("b.png").write_text("no picture")
    result = run("encode", "a.png", "b.png", "--json", "--rate", "7.5bit")
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    n_bytes = Path("a.vqc").stat().st_size
    assert good["seconds"] > 0
    assert {key: good[key] for key in good if key not in ("seconds", "sections")} == {
        "input": "a.png",
        "output": "a.vqc",
        "bytes": n_bytes,
        "bpp": n_bytes * 8 / (12 * 20),
        "rate": "7.5bit",
        "width": 20,
        "height": 12,
        "ideal_bits": [40.5, 99.0],
        "psnr_db": None,
        "ssimulacra2": None,
        "not_kept": [],
        "input_bytes": Path("a.png").stat().st_size,
    }
    assert good["sections"][0] == 6 and sum(good["sections"]) < n_bytes
    assert bad["input"] == "b.png" and bad["exit_code"] == result.exit_code == 4
    assert result.stderr.splitlines()[0] == f"vqcodec: error: {bad['error']}"

    decoded = json.loads(run("decode", "a.vqc", "-o", "c.png", "--json").stdout)
    assert decoded["output"] == "c.png" and decoded["bytes"] == n_bytes
    assert decoded["rate"] == "7.5bit" and (decoded["width"], decoded["height"]) == (20, 12)


def test_quiet_prints_only_errors() -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save("deep.png")
    loud = run("encode", "deep.png")
    assert loud.stderr.startswith("vqcodec: warning: deep.png: 16 bits")
    quiet = run("encode", "deep.png", "--force", "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert_fails(run("encode", "missing.png", "-q"), 3)


def test_verbose_adds_the_sections_and_the_quality_reached() -> None:
    draw("a.png")
    assert "71.3q" not in run("encode", "a.png", "-o", "b.vqc").stdout
    lines = run("encode", "a.png", "-v").stdout.splitlines()
    assert lines[0].startswith("a.png -> a.vqc")
    assert [line.split()[:4] for line in lines[1:2]] == [["level", "1", "6", "B"]]
    assert "ideal 40.5 bits" in lines[1] and len(lines) == 4
    assert "8bit  71.3q  " in lines[0] and lines[3].strip() == "SSIMULACRA2 71.26"
    assert len(run("decode", "a.vqc", "-v", "--force").stdout.splitlines()) == 3


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    todo = [jobs.Job(f"{i}.png", f"{i}.vqc") for i in range(3)]

    class Odd(report.Work):
        def __call__(
            self, job: jobs.Job, watcher: report.Watcher = report.NOBODY, /
        ) -> report.Done:
            return report.Done("done", {}, warnings=["odd"])

    work = Odd()
    assert report.run(todo, work) == 0
    plain = capsys.readouterr()
    assert report.run(todo, work, style=report.Style(verbose=True)) == 0
    *every, _ = capsys.readouterr().err.splitlines()
    assert every == [f"vqcodec: warning: {i}.png: odd" for i in range(3)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert report.run(todo, work) == 0
    bar = capsys.readouterr()
    assert plain.out == bar.out == "".join(f"{i}.png -> {i}.vqc  done\n" for i in range(3))
    *warnings, summary = plain.err.splitlines()
    assert warnings == ["vqcodec: warning: 0.png: odd", "vqcodec: warning: 2 more files: odd"]
    assert summary.startswith("3 files: 3 done; ")
    assert "3/3" in bar.err
    assert report.run(todo, work, style=report.Style(quiet=True)) == 0
    assert capsys.readouterr() == ("", "")


def test_one_file_has_a_bar_that_tells_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw("a.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    for args, what in (
        (["encode", "a.png"], "8bit"),
        (["decode", "a.vqc", "-o", "b.png"], "decoding"),
    ):
        with pytest.raises(SystemExit, match="0"):
            program.main(args)
        shown = capsys.readouterr().err
        assert "100%" in shown and what in shown
        with pytest.raises(SystemExit, match="0"):
            program.main([*args, "-q", "--force"])
        assert capsys.readouterr().err == ""
