"""``vqcodec data pack``: shards that are whole, the same each time, and hold what was asked for."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_training import photo

from vqcodec.cli.program import program
from vqcodec.training import data, sources


def pack(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["data", "pack", *map(str, arguments)])


def members(folder: Path) -> dict[str, dict[str, bytes]]:
    """Of each shard, what its members hold."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found[path.name] = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    return found


def pictures(folder: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Format and pixels by the original's name."""
    every = {name: c for shard in members(folder).values() for name, c in shard.items()}
    found = {}
    for name, content in every.items():
        if not name.endswith(".json"):
            about = json.loads(every[name.partition(".")[0] + ".json"])
            image = Image.open(io.BytesIO(content))
            assert (about["width"], about["height"]) == image.size
            found[about["name"]] = (str(image.format), np.array(image.convert("RGB")))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty pictures of all kinds, of which three are held out by content."""
    where = tmp_path / "photos"
    (where / "sub").mkdir(parents=True)
    held_out = seed = 0
    while len(list(where.rglob("*.*"))) < 60:
        seed += 1
        name = ("a.jpg", "b.png", "sub/c.webp", "d.tif")[seed % 4]
        path = (where / name).with_stem(f"{seed:03}")
        options = {".webp": {"lossless": True, "method": 0}}.get(path.suffix, {})
        Image.fromarray(photo(40 + seed % 5, 50, seed)).save(path, **options)
        held = sources.is_held_out(path.read_bytes())
        held_out += held
        if held and held_out > 3:
            path.unlink()
    return where


def test_the_same_pictures_give_the_same_shards_which_fit_their_split(
    folder: Path, tmp_path: Path
) -> None:
    for out, options in (("one", ("--jobs", 1)), ("two", ("--jobs", 3))):
        result = pack(folder, tmp_path / out, "--long-side", 46, *options)
        assert result.exit_code == 0, result.output
        assert "57 pictures to train on, 3 held out, in 2 shards" in result.output
    first = {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "two").iterdir()}
    assert first.keys() == {"train-00000.tar", "val-00000.tar"}
    originals = {sha256(p.read_bytes()).hexdigest(): p for p in folder.rglob("*.*")}
    for name, shard in members(tmp_path / "one").items():
        for member, content in shard.items():
            key, _, suffix = member.partition(".")
            assert (key[0] == "0") == name.startswith("val")
            if suffix == "json":
                about = json.loads(content)
                assert about["sha256"] == key and folder / about["name"] == originals[key]
    # What was held out of the folder is held out of its shards.
    source = sources.find(tmp_path / "one")
    held_out = data.split(source, "content", lambda items, name: items, print)[1]
    assert {source.name(i).split()[1].partition(".")[0] for i in held_out} == {
        key for key in originals if key[0] == "0"
    }


def test_pictures_that_are_not_made_smaller_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(30, 101, 0)).save(folder / "wide.png")
    Image.fromarray(photo(30, 40, 0)[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    for options, format in (((), "JPEG"), (("--lossless",), "WEBP")):
        out = tmp_path / format
        assert pack(folder, out, "--long-side", 60, *options).exit_code == 0
        found = pictures(out)
        assert len(found) == 62
        every = {n: c for shard in members(out).values() for n, c in shard.items()}
        for path in folder.rglob("*.*"):
            kind, pixels = found[path.relative_to(folder).as_posix()]
            key = sha256(path.read_bytes()).hexdigest()
            if path.suffix == ".tif" or path.stem in ("wide", "deep"):
                assert kind == format
            else:
                assert every[key + path.suffix] == path.read_bytes()
            if path.suffix == ".tif" and format == "WEBP":
                assert np.array_equal(pixels, np.array(Image.open(path)))
        assert found["wide.png"][1].shape == (18, 60, 3)


def test_filters_drop_what_they_say_and_count_it(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(20):
        Image.fromarray(photo(64, 96, seed)).save(folder / f"{seed}.jpg", quality=90)
    Image.fromarray(photo(64, 96, 20)).save(folder / "bad.jpg", quality=30)
    Image.fromarray(photo(640, 960, 21)).save(folder / "bad-but-large.jpg", quality=30)
    Image.fromarray(photo(40, 900, 22)).save(folder / "narrow.png")
    Image.new("RGB", (96, 64), "grey").save(folder / "flat.png")
    blurred = Image.fromarray(photo(8, 12, 23)).resize((96, 64), Image.Resampling.BICUBIC)
    blurred.point(lambda level: 100 + level // 8).save(folder / "blurred.png")
    (folder / "copy.jpg").write_bytes((folder / "3.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes((folder / "4.jpg").read_bytes()[:900])
    (folder / "text.png").write_bytes(b"no picture")
    result = pack(
        folder, tmp_path / "out", "--long-side", 96, "--min-side", 32, "--min-quality", 75,
        "--min-detail", 1, "--json", "--split", "name",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["dropped"] == {
        "broken": 2, "copies": 1, "flat or blurred": 2, "of low quality": 1, "too small": 1,
    }  # fmt: skip
    assert summary["training"] + summary["held_out"] == 21
    assert pictures(tmp_path / "out").keys() == {f"{i}.jpg" for i in range(20)} | {
        "bad-but-large.jpg"
    }
    named = result.stderr.splitlines()
    assert len(named) == 2 and all(line.endswith("; skipped") for line in named)
    assert "broken.jpg: the file ends early" in named[0] and "text.png: not an image" in named[1]
    held_out = members(tmp_path / "out")["val-00000.tar"]
    names = {json.loads(c)["name"] for name, c in held_out.items() if name.endswith("json")}
    assert names == {f"{i}.jpg" for i in range(20) if sources.is_held_out(b"%d.jpg" % i)}


def test_shards_have_about_the_size_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(12):
        noise = np.random.default_rng(seed).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{seed}.png")  # 270 kB each
    assert pack(tmp_path / "photos", tmp_path / "out", "--shard-mb", 1).exit_code == 0
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "out").glob("train-*.tar")}
    assert sorted(sizes) == [f"train-{i:05}.tar" for i in range(3)]
    assert all(1e6 < sizes[name] < 1.3e6 for name in sorted(sizes)[:-1])


def test_a_list_is_packed_too_and_shards_are_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("photos/001.png\nphotos/sub/002.webp\n")
    assert pack(tmp_path / "some.txt", tmp_path / "out").exit_code == 0
    assert pictures(tmp_path / "out").keys() == {"photos/001.png", "photos/sub/002.webp"}
    result = pack(tmp_path / "out", tmp_path / "again")
    assert result.exit_code == 2 and "from a folder or from a list" in result.output


def test_nothing_is_overwritten_unless_forced_and_then_all_of_it(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert pack(folder, out).exit_code == 0
    (out / "train-00001.tar").touch()
    (out / "notes.txt").touch()
    result = pack(folder, out)
    assert result.exit_code == 8 and "train-00000.tar: exists; --force" in result.output
    assert pack(folder, out, "--force", "-q").output == ""
    assert sorted(p.name for p in out.iterdir()) == [
        "notes.txt", "train-00000.tar", "val-00000.tar",
    ]  # fmt: skip


def test_what_cannot_be_packed_has_its_exit_code_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").touch()
    for source, out, code, message in (
        ("photos", "out", 3, "no pictures in it"),
        ("missing", "out", 3, "no such file or folder"),
        ("file", "out", 3, "is no folder"),
    ):
        result = pack(tmp_path / source, tmp_path / out)
        assert result.exit_code == code and message in result.output
        assert len(result.output.splitlines()) == 1 and not (tmp_path / out).exists()
    (tmp_path / "photos" / "a.png").write_bytes(b"no picture")
    result = pack(tmp_path / "photos", tmp_path / "out")
    assert result.exit_code == 3 and "no picture is left to pack: 1 broken" in result.output
    assert list((tmp_path / "out").iterdir()) == []
    assert pack(tmp_path / "photos", tmp_path / "file").exit_code == 8
    assert pack(tmp_path / "photos", tmp_path / "out", "--quality", 0).exit_code == 2


def test_a_packing_that_is_ended_leaves_no_shard(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(400, 600, 0)).save(tmp_path / "photos" / "0.png")
    # A pipe for a picture, which nobody writes to: packing has begun, and waits.
    os.mkfifo(tmp_path / "photos" / "1.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vqcodec", "data", "pack", tmp_path / "photos", out]
    for how in ("terminate", "kill"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not list(out.glob(".vqcodec-*.tmp/train-00000.tar")):
            assert process.poll() is None
            time.sleep(0.05)
        getattr(process, how)()
        assert process.wait() != 0
        assert list(out.glob("*.tar")) == []
        for hidden in out.glob(".vqcodec-*.tmp"):
            shutil.rmtree(hidden)


def test_webdataset_reads_the_shards(folder: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = tmp_path / "out"
    assert pack(folder, out).exit_code == 0
    shards = [str(path) for path in sorted(out.glob("*.tar"))]
    found = {}
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
        (suffix,) = sample.keys() & {"jpg", "png", "webp"}
        assert sample["__key__"] == sample["json"]["sha256"]
        found[sample["json"]["name"]] = np.array(sample[suffix])
    expected = pictures(out)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], pixels) for name, (_, pixels) in expected.items())
