"""Pipes: stdin and stdout, closed and full ones."""

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from stand_in import all_files, draw, run, write_foreign_codec

from vqcodec import container, errors, image
from vqcodec.cli import jobs

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_pipes_carry_only_the_file() -> None:
    pixels = draw("a.png")
    encoded = run("encode", "-", stdin=Path("a.png").read_bytes())
    assert encoded.exit_code == 0 and encoded.stdout_bytes[:4] == b"VQC1"
    assert encoded.stderr.startswith("- -> -  ")
    assert container.read(encoded.stdout_bytes).header.width == 20
    decoded = run("decode", "-", "-o", "-", "--format", "ppm", stdin=encoded.stdout_bytes)
    assert decoded.exit_code == 0
    np.testing.assert_array_equal(image.read(decoded.stdout_bytes, "stdout").pixels, pixels)
    assert all_files() == {"a.png"}


def test_one_end_of_the_pipe_may_be_a_file() -> None:
    draw("a.png")
    to_stdout = run("encode", "a.png", "-o", "-")
    assert to_stdout.stdout_bytes[:4] == b"VQC1" and to_stdout.stderr.startswith("a.png -> -")
    from_stdin = run("encode", "-", "-o", "b.vqc", stdin=Path("a.png").read_bytes())
    assert from_stdin.stdout.startswith("- -> b.vqc")
    assert Path("b.vqc").read_bytes() == to_stdout.stdout_bytes
    assert "fake-1" in run("info", "-", stdin=to_stdout.stdout_bytes).stdout


def test_no_binary_data_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for inputs, output in ((["-"], None), (["a.png"], "-")):
        with pytest.raises(errors.OutputError, match="terminal"):
            jobs.plan(inputs, output, recursive=False, input_suffixes=(), output_suffix=".vqc")


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "vqcodec", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert result.returncode == 1 and result.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize(
    ("shell", "code", "word"),
    [
        ("--help >/dev/full", 8, "stdout cannot be written: no space left"),
        ("models >/dev/full", 8, "stdout cannot be written: no space left"),
        ("info foreign.vqc >/dev/full", 8, "stdout cannot be written: no space left"),
        ("info foreign.vqc >&-", 8, "stdout cannot be written: it is closed"),
        ("encode a.png -o - >&-", 8, "stdout cannot be written: it is closed"),
        ("encode - <&-", 3, "-: stdin is closed"),
        ("info - <&-", 3, "-: stdin is closed"),
        ("info missing.vqc 2>/dev/full", 3, ""),
        ("info missing.vqc 2>&-", 3, ""),
    ],
)
def test_closed_and_full_streams_are_one_line_with_their_code(
    shell: str, code: int, word: str
) -> None:
    write_foreign_codec()
    draw("a.png")
    command = f"{shlex.quote(sys.executable)} -m vqcodec {shell}"
    result = subprocess.run(command, shell=True, capture_output=True, timeout=60)
    assert result.returncode == code
    assert result.stderr.decode().count("\n") == bool(word) and word in result.stderr.decode()


def test_names_that_stdout_has_no_letters_for_are_escaped() -> None:
    draw("\u20ac.png")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "vqcodec", "encode", "\u20ac.png", "missing\u20ac.png"]
    result = subprocess.run(
        [*command, "--codec", "diveq-thumbs"], env=environment, capture_output=True, timeout=60
    )
    assert b"missing\\u20ac.png: no such file" in result.stderr
    assert result.stdout.startswith(b"\\u20ac.png -> \\u20ac.vqc") and result.returncode == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_picture_of_an_archive_comes_out_of_a_named_pipe() -> None:
    for name in ("a.png", "b.png"):
        draw(name)
    assert run("encode", "a.png", "b.png", "-o", "set.vqc").exit_code == 0
    os.mkfifo("pipe")
    data = Path("set.vqc").read_bytes()
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(data))
    writer.start()
    result = run("decode", "pipe", "--index", "2", "-o", "second.png")
    writer.join()
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("decode", "set.vqc", "--index", "2", "-o", "same.png").exit_code == 0
    assert Path("second.png").read_bytes() == Path("same.png").read_bytes()
