"""The fuzz targets hold on their corpus, past findings included, and on mutations of it."""

import math
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from fuzz import harness

from vqcodec import container
from vqcodec.container import Box, Container, Header

INPUTS = {"container": 2000, "decode": 40, "image": 600, "metadata": 80, "rangecoder": 1000}


@pytest.mark.parametrize("name", harness.TARGETS)
def test_every_input_of_the_corpus_and_its_mutations_hold(name: str) -> None:
    seeds = harness.corpus(name)
    count, data, error = harness.run(harness.load(name), seeds, 0, math.inf, INPUTS.get(name, 300))
    assert count >= len(seeds) and (data, error) == (None, None)


def test_the_corpus_is_small() -> None:
    files = [path for path in (harness.HERE / "corpus").rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(harness.TARGETS)
    assert sum(path.stat().st_size for path in files) < 300_000


def test_the_seeded_engine_finds_and_repeats_what_fails() -> None:
    def check(data: bytes) -> None:
        assert b"!" not in data

    seeds = [b"a good seed", b"another"]
    first = harness.run(check, seeds, 1, math.inf)
    assert first[1] is not None and b"!" in first[1] and isinstance(first[2], AssertionError)
    again = harness.run(check, seeds, 1, math.inf)
    assert first[:2] == again[:2] != harness.run(check, seeds, 2, math.inf)[:2]


def test_a_slow_input_and_a_large_one_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    check = harness.load("rangecoder")
    check(b"")
    for name, value in (("SECONDS", -1.0), ("peak_mebibytes", lambda: 1e6)):
        with monkeypatch.context() as patch:
            patch.setattr(harness, name, value)
            with pytest.raises(harness.Finding, match="an input of 0 bytes"):
                check(b"")


CONTENT = Container(
    Header(3, b"hash", 30, 20, 9), (b"coarse", bytes(100), b"finest"), (Box("what", b"ever"),)
)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (container.write(CONTENT), b"coarse"),
        (container.write(CONTENT), b"ever"),
        (container.write(Container(CONTENT.header, CONTENT.sections)), b"finest"),
        (container.write_archive([CONTENT] * 3), b"ever"),
        (container.write(CONTENT), b"hash"),
        (container.write_archive([CONTENT] * 3), b"hash"),
    ],
)
def test_sealed_damage_passes_the_checksums(file: bytes, part: bytes) -> None:
    assert harness.sealed(file) == file
    damaged = file.replace(part, zlib.crc32(part).to_bytes(4, "big") + part[4:])
    sealed = harness.sealed(damaged)
    if container.is_archive(file):
        assert len([*container.read_archive(sealed)]) == 3
    else:
        assert container.read(sealed) != container.read(file)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["atheris", "seeded"])
def test_a_crash_is_kept_and_told(engine: str, tmp_path: Path) -> None:
    if engine == "atheris":
        pytest.importorskip("atheris")
    for name in ("harness.py", "run.py"):
        (tmp_path / "tests/fuzz").mkdir(parents=True, exist_ok=True)
        shutil.copy(harness.HERE / name, tmp_path / "tests/fuzz")
    (tmp_path / "tests/fuzz/corpus/planted").mkdir(parents=True)
    (tmp_path / "tests/fuzz/corpus/planted/seed").write_bytes(b"BOOM")
    planted = "def check(data):\n    assert data != b'BOOM'\n"
    (tmp_path / "tests/fuzz/fuzz_planted.py").write_text(planted)
    command = [sys.executable, "tests/fuzz/run.py", "--seconds", "30", "--engine", engine]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "AssertionError" in done.stderr and "0 passed, 1 failed" in done.stdout
    [kept] = (tmp_path / "findings").iterdir()
    assert kept.name.startswith("planted-") and kept.read_bytes() == b"BOOM"
