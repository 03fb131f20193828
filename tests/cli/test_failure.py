"""What goes wrong is one line, with its exit code."""

import os
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from stand_in import (
    Compressed,
    all_files,
    assert_fails,
    draw,
    process,
    run,
    write_flipped,
    write_foreign_codec,
)

from vqcodec import errors
from vqcodec.cli import jobs

pytestmark = pytest.mark.usefixtures("codec", "folder")


@pytest.mark.parametrize(
    "args",
    [
        ["encode", "-", "a.png"],
        ["encode", "a.png", "b.png", "-o", "-"],
        ["encode", "-", "--json"],
        ["encode"],
        ["encode", "a.png", "--no-such-option"],
        ["encode", "a.png", "--device", "abacus"],
        ["encode", ""],
        ["decode", "a.png", "-o", ""],
        ["info", ""],
        ["bench", ""],
        ["train", "", "--smoke", "--out", "run"],
        ["decode", "a.vqc", "--levels", "0"],
        ["decode", "a.vqc", "--format", "docx"],
        ["train", "photos", "--out", "run"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_is_one_line_and_2(args: list[str]) -> None:
    draw("a.png")
    draw("b.png")
    assert_fails(run(*args), 2, "--help" if args[-1] not in ("a.png", "-", "--json") else "")
    assert all_files() == {"a.png", "b.png"}


@pytest.mark.parametrize(
    ("prepare", "args", "code", "word"),
    [
        (None, ["encode", "missing.png"], 3, "missing.png: no such file"),
        (None, ["decode", "missing.vqc"], 3, "missing.vqc: no such file"),
        (None, ["info", "missing.vqc"], 3, "missing.vqc: no such file"),
        (lambda: Path("d").mkdir(), ["encode", "d"], 3, "d: no picture in this folder"),
        (lambda: Path("d").mkdir(), ["info", "d"], 3, "d: no .vqc file"),
        (lambda: Path("d").mkdir(), ["verify", "-r", "d"], 3, "d: no .vqc file"),
        (lambda: Path("t.png").write_text("text"), ["encode", "t.png"], 4, "t.png: "),
        (lambda: Path("t.png").write_bytes(b""), ["encode", "t.png"], 4, "t.png: "),
        (lambda: Path("t.vqc").write_text("text"), ["decode", "t.vqc"], 5, "t.vqc: "),
        (lambda: Path("t.vqc").write_bytes(b""), ["decode", "t.vqc"], 5, "t.vqc: "),
        (lambda: Path("t.vqc").write_bytes(b"VQC2...."), ["info", "t.vqc"], 5, "version"),
        (write_flipped, ["decode", "flipped.vqc", "-o", "x.png"], 5, "flipped.vqc: "),
        (write_foreign_codec, ["decode", "foreign.vqc"], 6, "99 is not installed"),
        (write_foreign_codec, ["info", "--ideal", "foreign.vqc"], 6, "99 is not installed"),
        (lambda: draw("a.png"), ["encode", "a.png", "--codec", "none-1"], 6, "none-1"),
        (
            lambda: draw("a.png"),
            ["encode", "a.png", "--rate", "good"],
            7,
            "'good'. A rate is 80q, ",
        ),
        (lambda: draw("a.png"), ["encode", "a.png", "-o", "no/a.vqc"], 8, "no such folder"),
        (lambda: draw("a.png"), ["encode", "a.png", "--rate", "8bts"], 7, "did you mean 8bit?"),
        (lambda: draw("a.png"), ["encode", "a.png", "--quality", "96"], 2, "0.0<=x<=95.0"),
        (lambda: draw("a.png"), ["encode", "a.png", "-q", "80"], 2, "--quality 80"),
        (
            lambda: draw("a.png"),
            ["encode", "a.png", "--rate", "8bit", "--quality", "80"],
            2,
            "one of them",
        ),
        (lambda: draw("a.png"), ["encode", "a.png", "-o", "a.png"], 2, "encode makes .vqc files"),
        (lambda: draw("a.png"), ["encode", "a.png", "-o", "b.jpg"], 2, "encode makes .vqc files"),
        (lambda: Path("a").write_text("x"), ["encode", "a", "-o", "a"], 8, "overwritten"),
        (
            lambda: [draw("a.png"), draw("b.png"), Path("f").write_text("x")],
            ["encode", "a.png", "b.png", "-o", "f"],
            8,
            "f: is a file",
        ),
        (
            lambda: [draw("a.png"), draw("b.png")],
            ["encode", "a.png", "b.png", "set.vqc"],
            2,
            "-o set.vqc",
        ),
        (lambda: draw("a.png"), ["decode", "a.png"], 5, "a.png: a PNG picture, not a .vqc file"),
        (lambda: draw("a.jpg"), ["decode", "a.jpg", "b.png"], 5, "a JPEG picture, not a .vqc"),
        (write_foreign_codec, ["encode", "foreign.vqc"], 4, "is a .vqc file already"),
        (write_foreign_codec, ["decode", "foreign.vqc", "-o", "x.vqc"], 2, "makes pictures"),
    ],
)
def test_each_error_is_one_line_with_its_code(
    prepare: Callable[[], object] | None, args: list[str], code: int, word: str
) -> None:
    if prepare:
        prepare()
    before = all_files()
    assert_fails(run(*args), code, word)
    assert all_files() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_an_output_error() -> None:
    draw("a.png")
    Path("closed").mkdir(mode=0o500)
    assert_fails(run("encode", "a.png", "-o", "closed/a.vqc"), 8, "closed/a.vqc: ")
    assert_fails(run("encode", "a.png", "-o", "closed/new/"), 8, "closed/new: cannot be made")


@pytest.mark.parametrize(
    "args", [["encode", "a.png"], ["decode", "a.png", "-o", "b.png"], ["info", "a.png"]]
)
def test_an_unreadable_file_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    def closed(path: Path, *args: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    draw("a.png")
    # as for a file of mode 000, which root may read all the same
    monkeypatch.setattr(os, "access", lambda path, *args, **options: os.fspath(path) != "a.png")
    monkeypatch.setattr(Path, "open", closed)
    assert_fails(run(*args), 3, "a.png: permission denied")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps the folder that a program is in")
def test_a_current_folder_that_is_gone_is_told() -> None:
    there = Path.cwd() / "there"
    there.mkdir()
    os.chdir(there)
    there.rmdir()
    assert_fails(run("encode", str(there.parent / "a.png"), "-o", "a.vqc"), 3, "current folder")


def test_a_folder_that_cannot_be_made_is_an_output_error() -> None:
    draw("a.png")
    Path("file").write_text("in the way")
    assert_fails(run("encode", "a.png", "-o", "file/new/"), 8, "file/new", "cannot be made")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MemoryError(), 1, "a.png: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory:\n you"), 1, "not enough memory"),
        (OSError(28, "No space left on device"), 1, "a.png: no space left on device"),
        (ValueError("two\nlines"), 1, "a.png: unexpected ValueError: two (VQCODEC_DEBUG"),
        (errors.RateError("cannot reach 90dB; 45.1dB can be"), 7, "a.png: cannot reach 90dB"),
    ],
)
def test_whatever_fails_inside_is_one_line(
    codec: types.SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    sentence: str,
) -> None:
    def fail(*args: object, **options: object) -> Compressed:
        raise error

    monkeypatch.setattr(codec, "compress", fail)
    draw("a.png")
    assert_fails(run("encode", "a.png"), code, sentence)
    assert all_files() == {"a.png"}


def test_a_bug_can_be_traced(codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "compress", lambda *a, **k: 1 / 0)
    monkeypatch.setenv("VQCODEC_DEBUG", "1")
    draw("a.png")
    result = run("encode", "a.png")
    assert result.exit_code == 1 and "Traceback" in result.stderr


def test_ctrl_c_leaves_no_half_file(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> Compressed:
        raise KeyboardInterrupt

    monkeypatch.setattr(codec, "compress", interrupted)
    draw("a.png")
    draw("b.png")
    result = run("encode", "a.png", "b.png")
    assert result.exit_code == 130 and result.stderr.strip() == ""
    assert all_files() == {"a.png", "b.png"}


@pytest.mark.parametrize("module", ["click", "numpy", "torch"])
def test_ctrl_c_during_an_import_ends_with_130_and_no_traceback(module: str) -> None:
    draw("a.png")
    Path("early").mkdir()
    Path("early", f"{module}.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join(["early", *filter(None, [os.environ.get("PYTHONPATH")])])
    result = process("encode", "a.png", env={**os.environ, "PYTHONPATH": path})
    assert (result.returncode, result.stdout, result.stderr.strip()) == (130, b"", b"")
    assert "a.vqc" not in all_files()


def test_errors_of_the_real_program_are_one_line() -> None:
    result = process("decode", "missing.vqc")
    assert result.returncode == 3 and result.stdout == b""
    assert result.stderr == b"vqcodec: error: missing.vqc: no such file or folder\n"


def test_a_warning_of_a_library_is_one_line(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = codec.compress

    def warning(*args: object, **options: object) -> object:
        warnings.warn("the library's\nown words", stacklevel=1)
        return compress(*args, **options)

    monkeypatch.setattr(codec, "compress", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        draw("a.png")
        result = run("encode", "a.png")
    assert result.stderr == "vqcodec: warning: the library's own words\n"


def test_usage_errors_name_the_help() -> None:
    with pytest.raises(click.UsageError):
        jobs.plan(["-", "-"], None, recursive=False, input_suffixes=(), output_suffix="")
    assert_fails(run("encode", "--levels", "1"), 2, "(see vqcodec encode --help)")


def test_odd_file_names_stay_on_one_line() -> None:
    name = "two\nlines\x1b[31m.png"
    draw(name)
    result = run("encode", name)
    assert result.stdout.startswith("two\\nlines\\x1b[31m.png -> ")
    assert len(result.stdout.splitlines()) == 1
    assert_fails(run("encode", name), 8, "two\\nlines")
