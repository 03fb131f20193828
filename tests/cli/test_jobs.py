"""Many files at once: several processes, what is up to date, what goes wrong, large pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import vqcodec
from vqcodec import compress as compress_module
from vqcodec import container
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.cli import report
from vqcodec.cli.program import program
from vqcodec.image import Picture

PHOTO = Path(__file__).parents[1] / "data" / "photo.png"


def run(*args: object) -> Result:
    return CliRunner().invoke(program, [*map(str, args)])


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a folder: four pictures, and a file that is none."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    with Image.open(PHOTO) as im:
        pixels = np.array(im)
    for index, name in enumerate(("a", "b", "deep/c", "deep/d")):
        Image.fromarray(pixels[16 * index :][:32, :48]).save(folder / f"{name}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_make_what_one_makes(pictures: Path, tmp_path: Path) -> None:
    results = {}
    for jobs in (1, 2):
        out = tmp_path / f"out{jobs}"
        done = run(
            "encode", pictures, "-r", "-o", out, "--rate", "6bit", "--json", "--jobs", jobs,
            "--device", "cpu", "--threads", "1",
        )  # fmt: skip
        assert done.exit_code == 4  # of the bad file, which the others outlive
        assert "bad.png: not an image" in done.stderr
        assert "5 files: 4 done, 1 failed" in done.stderr.splitlines()[-1]
        back = run("decode", out, "-r", "-o", tmp_path / f"back{jobs}", "--jobs", jobs)
        assert back.exit_code == 0
        results[jobs] = lines(done)
        assert [Path(str(line["input"])).name for line in results[jobs]] == [
            "a.png", "b.png", "bad.png", "c.png", "d.png",
        ]  # fmt: skip
    made = {jobs: sorted((tmp_path / f"out{jobs}").rglob("*.vqc")) for jobs in (1, 2)}
    assert [path.relative_to(tmp_path / "out2").as_posix() for path in made[2]] == [
        "a.vqc", "b.vqc", "deep/c.vqc", "deep/d.vqc",
    ]  # fmt: skip
    for one, two in zip(made[1], made[2], strict=True):
        assert one.read_bytes() == two.read_bytes()
    for name in ("a.png", "deep/d.png"):
        one, two = (np.array(Image.open(tmp_path / f"back{jobs}" / name)) for jobs in (1, 2))
        assert np.abs(one.astype(int) - two).max() <= 1


@pytest.mark.slow
def test_processes_make_an_archive_too(pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.png").unlink()
    result = run("encode", pictures, "-r", "-o", tmp_path / "x.vqc", "--rate", "6bit", "--jobs", 2)
    assert result.exit_code == 0, result.stderr
    assert len(vqcodec.decode_many((tmp_path / "x.vqc").read_bytes(), device="cpu")) == 4


# --- pictures that go through the networks together -----------------------------------------------


def test_small_pictures_that_are_encoded_together_give_the_files_of_each(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(pictures / "a.png").crop((0, 0, 20, 30)).save(pictures / "other.png")
    batches: list[int] = []
    many = LadderCodec.encode_many

    def encode_many(self: LadderCodec, arrays: Sequence[np.ndarray], rate: RatePoint) -> object:
        batches.append(len(arrays))
        return many(self, arrays, rate)

    monkeypatch.setattr(LadderCodec, "encode_many", encode_many)
    args = "encode", pictures, "-r", "-o", tmp_path / "out", "--json", "--device", "cpu", "--rate"
    result = run(*args, "7bit")
    assert result.exit_code == 4
    assert batches == [4, 1]
    assert state(result) == ["made", "made", "bad", "made", "made", "made"]
    for line in lines(result):
        if "error" not in line:
            made = Path(str(line["output"])).read_bytes()
            assert made == vqcodec.encode(str(line["input"]), "7bit", device="cpu")
    # An archive of the Python API has them together too, and other rates one by one.
    sources = sorted(pictures.rglob("[abcd].png"))
    archive = vqcodec.encode_many(sources, "7bit", device="cpu")
    assert batches == [4, 1, 4]
    assert container.write(container.read_archive(archive)[1]) == vqcodec.encode(
        sources[1], "7bit", device="cpu"
    )
    assert run(*args, "0.5bpp", "--force").exit_code == 4 and len(batches) == 3


def test_a_failure_of_all_is_told_of_the_one_that_is_at_fault(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(PHOTO) as im:
        im.crop((0, 0, 48, 40)).save(pictures / "b.png")  # of another size

    def compress_many(*args: object) -> object:
        raise MemoryError

    plain = compress_module.compress

    def compress(model: object, picture: Picture, *args: object, **options: object) -> object:
        if picture.height == 40:
            raise MemoryError
        return plain(model, picture, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(compress_module, "compress_many", compress_many)
    monkeypatch.setattr(compress_module, "compress", compress)
    result = run("encode", pictures, "-r", "-o", tmp_path, "--rate", "5bit", "--json")
    assert state(result) == ["made", "bad", "bad", "made", "made"]
    assert "b.png" in result.stderr and "memory" in result.stderr


# --- what is up to date ---------------------------------------------------------------------------


def state(result: Result) -> list[str]:
    return [
        "bad" if "error" in line else "kept" if line.get("up_to_date") else "made"
        for line in lines(result)
    ]


@pytest.mark.slow
def test_update_makes_what_is_missing_older_or_of_another_rate(
    pictures: Path, tmp_path: Path
) -> None:
    (pictures / "bad.png").unlink()

    def encode(*more: str) -> list[str]:
        done = run("encode", pictures, "-r", "-o", tmp_path / "out", "--update", "--json", *more)
        assert done.exit_code == 0, done.stderr
        return state(done)

    assert encode("--rate", "6bit") == ["made"] * 4
    assert encode("--rate", "6bit") == ["kept"] * 4
    assert encode("--rate", "7bit") == ["made"] * 4
    (tmp_path / "out" / "a.vqc").unlink()
    newer = (tmp_path / "out" / "b.vqc").stat().st_mtime + 10
    os.utime(pictures / "b.png", (newer, newer))
    (tmp_path / "out" / "deep" / "c.vqc").write_bytes(b"damaged")
    assert encode("--rate", "7bit") == ["made", "made", "made", "kept"]
    os.utime(pictures / "b.png")
    assert encode("--rate", "7bit", "--codec", "photo-1") == ["made"] * 4
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*.vqc")]
    assert encode("--rate", f"{max(sizes)}B", "--codec", "photo-1") == ["kept"] * 4
    back = ["decode", tmp_path / "out", "-r", "-o", tmp_path / "back", "--update", "--json"]
    assert state(run(*back)) == ["made"] * 4
    assert state(run(*back)) == ["kept"] * 4


# --- large pictures and parts ---------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "tif", "ppm"])
def test_a_large_picture_is_written_as_its_rows_are_decoded(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vqc, small, large = (tmp_path / name for name in ("x.vqc", f"s.{format}", f"l.{format}"))
    vqc.write_bytes(vqcodec.encode(PHOTO, "5bit", device="cpu"))
    monkeypatch.setattr(ladder_decoder, "TILE", 5)
    assert run("decode", vqc, "-o", small).exit_code == 0
    monkeypatch.setattr(report, "LARGE", 1)
    shares: list[float | None] = []
    monkeypatch.setattr(report._Bar, "show", lambda self, what, share=None: shares.append(share))
    result = run("decode", vqc, "-o", large)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(np.array(Image.open(small)), np.array(Image.open(large)))
    known = [share for share in shares if share is not None]
    assert known[-1] == 1 and len(known) > 10
    to_stdout = run("decode", vqc, "-o", "-", "--format", format)
    assert to_stdout.stdout_bytes == large.read_bytes()
    assert run("decode", vqc, "-o", large).exit_code == 8


def test_encoding_a_large_picture_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LARGE", 1)
    shares: list[float | None] = []
    monkeypatch.setattr(report._Bar, "show", lambda self, what, share=None: shares.append(share))
    assert run("encode", PHOTO, "-o", tmp_path / "x.vqc", "--rate", "5bit").exit_code == 0
    known = [share for share in shares if share is not None]
    assert known[0] == 0 and known[-1] == 1
