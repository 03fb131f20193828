"""Killed at any moment, out of space or of rights: the old file or the new one, and one line."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_codec
from click.testing import CliRunner
from fuzz.fuzz_tiny import SHAPES
from PIL import Image

import vqcodec
from vqcodec.cli.program import program

TESTS = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    ("kind", "kills"),
    [("encode", 25), ("decode", 25), ("archive", 25), ("bench", 15), ("train", 10)],
)
def test_a_killed_command_leaves_the_old_file_or_the_new_one(
    kind: str, kills: int, tmp_path: Path
) -> None:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(TESTS / "kills.py"), kind, str(tmp_path), str(kills)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["killed"] == kills


# ------------------------------------------------------------------ no space, and no right to write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny codec, a picture of noise and its file, that nothing is written to."""
    folder = tmp_path_factory.mktemp("source")
    tiny_codec.made(folder / "tiny", "vqvae", SHAPES["vqvae"])
    Image.effect_noise((400, 400), 90).save(folder / "a.png")
    Image.effect_noise((400, 400), 90).save(folder / "b.png")
    codec = str(folder / "tiny")
    (folder / "a.vqc").write_bytes(vqcodec.encode(folder / "a.png", "3bit", codec=codec))
    return folder


COMMANDS = {
    "encode": ["encode", "a.png", "--rate", "3bit", "-o", "{out}/b.vqc"],
    "archive": ["encode", "a.png", "b.png", "--rate", "3bit", "-o", "{out}/b.vqc"],
    "decode": ["decode", "a.vqc", "-o", "{out}/b.png"],
    "bench": [
        "bench",
        "a.png",
        "--no-speed",
        "--rates",
        "3bit",
        "--vs",
        "jpeg",
        "--json",
        "{out}/b.json",
    ],
}


def assert_told(name: str, source: Path, out: Path, words: str) -> None:
    """The command ends with 8 and one line that has the words, and leaves nothing."""
    command = [word.format(out=out) for word in COMMANDS[name]] + ["--codec", "tiny"]
    before = sorted(out.iterdir())
    result = CliRunner().invoke(program, command)
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    assert result.exit_code == 8 and len(errors) == 1, result.output
    assert re.search(words, errors[0])
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_may_not_grow_is_told(
    name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    # Threads that Ray's tests leave behind log to files too, and would complain on stderr.
    monkeypatch.setattr("logging.raiseExceptions", False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        assert_told(name, source, tmp_path, "cannot be written: file too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount).returncode:
        pytest.skip("only root may mount a file system, and not everywhere")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_told(
    name: str, source: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    (mounted / "full").write_bytes(bytes(12 << 10))
    assert_told(name, source, mounted, "cannot be written: no space left on device")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_folder_is_told(
    name: str, source: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert_told(name, source, mounted, "read-only file system|cannot be written to")
