"""Training data: where pictures lie, what is held out, what is decoded and what is skipped."""

import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqcodec.errors import ImageError, InputError
from vqcodec.training import data, sources
from vqcodec.training.batches import Batches, Crops
from vqcodec.training.data import Decoded, Skipped


def all_of(items: Sequence[Any], name: str) -> Iterable[Any]:
    return items


def refuse(why: str) -> None:
    raise AssertionError(why)


def png(height: int, width: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def starts_with_0(content: bytes) -> bool:
    return sha256(content).hexdigest().startswith("0")


def write_shard(path: Path, members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    return [png(12, 16, seed) for seed in range(60)]


@pytest.fixture
def folder(tmp_path: Path, contents: list[bytes]) -> Path:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for number, content in enumerate(contents):
        where = "sub" if number % 3 else "."
        (tmp_path / "photos" / where / f"{number:02}.png").write_bytes(content)
    return tmp_path / "photos"


# --- sources --------------------------------------------------------------------------------------


def test_pictures_are_found_below_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt"):
        (tmp_path / name).write_text(name)
    source = sources.find(tmp_path)
    assert [source.content(i).decode() for i in range(len(source))] == [
        "a.JPG", "b.png", "sub/c.webp",
    ]  # fmt: skip
    assert source.name(2) == str(tmp_path / "sub" / "c.webp")


def test_a_list_has_paths_relative_to_it_and_comments(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "b.png", "sub/c.png"):
        (tmp_path / name).write_text(name)
    lines = ["\ufeff# of mine", "sub/c.png", "", f"  {tmp_path / 'a'}  ", "#b.png"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines), encoding="utf-8")
    source = sources.find(tmp_path / "list.txt")
    assert [source.content(i).decode() for i in range(len(source))] == ["sub/c.png", "a"]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_shards_are_named_by_patterns_or_their_folder(tmp_path: Path, format: int) -> None:
    long = "x" * 60 + "/" + "y" * 70
    for number in range(8, 12):
        members = {
            f"{number}/a.jpg": b"a%d" % number, f"{number}/a.json": b"{}",
            f"{long}.b.PNG": b"b%d" % number, f"{number}/c.cls": b"3",
        }  # fmt: skip
        write_shard(tmp_path / f"s-{number:02}.tar", members, format)

    def read(name: str) -> list[bytes]:
        source = sources.find(tmp_path / name)
        return [source.content(i) for i in range(len(source))]

    whole = [b"a8", b"b8", b"a9", b"b9", b"a10", b"b10", b"a11", b"b11"]
    assert read("") == read("s-*.tar") == read("s-{08..11}.tar") == whole
    assert read("s-{08,1?}.tar") == whole[:2] + whole[4:]
    assert read("s-09.tar") == whole[2:4]
    assert sources.find(tmp_path).name(2) == f"{tmp_path / 's-09.tar'}: 9/a.jpg"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "no pictures in it"),
        ("empty.txt", "no pictures in it"),
        ("missing", "no such file or folder"),
        ("missing.txt", "no such file"),
        ("missing.tar", "no such file"),
        ("missing-*.tar", "no such file"),
        ("a.png", "is no folder, a list"),
        ("both", "has pictures and shards"),
        ("broken.tar", "not a whole, uncompressed tar file"),
        ("short.tar", "not a whole, uncompressed tar file"),
        ("gzip.tar", "not a whole, uncompressed tar file"),
    ],
)
def test_what_has_no_pictures_is_an_input_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.png").write_bytes(b"")
    write_shard(tmp_path / "both" / "a.tar", {})
    (tmp_path / "broken.tar").write_bytes(b"no tar file" * 100)
    write_shard(tmp_path / "short.tar", {"a.png": bytes(2000), "b.png": bytes(2000)})
    (tmp_path / "short.tar").write_bytes((tmp_path / "short.tar").read_bytes()[:4000])
    with tarfile.open(tmp_path / "gzip.tar", "w:gz"):
        pass
    with pytest.raises(InputError, match=message) as caught:
        sources.find(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name.split("-")[0]))
    assert "\n" not in str(caught.value)


# --- the split ------------------------------------------------------------------------------------


def test_content_decides_what_is_held_out_whatever_the_names(
    folder: Path, contents: list[bytes], tmp_path: Path
) -> None:
    expected = {content for content in contents if starts_with_0(content)}
    assert 0 < len(expected) < 10
    (tmp_path / "renamed").mkdir()
    for number, content in enumerate(contents):
        (tmp_path / "renamed" / f"{1000 - number}.png").write_bytes(content)
    write_shard(tmp_path / "a.tar", {f"{i}.png": content for i, content in enumerate(contents)})
    for place in (folder, tmp_path / "renamed", tmp_path / "a.tar"):
        source = sources.find(place)
        training, held_out = data.split(source, "content", all_of, refuse)
        assert sorted([*training, *held_out]) == list(range(60))
        assert {source.content(i) for i in held_out} == expected


def test_names_decide_where_that_is_asked_for(folder: Path, contents: list[bytes]) -> None:
    training, held_out = data.split(sources.find(folder), "name", all_of, refuse)
    assert sorted([*training, *held_out]) == list(range(60))
    source = sources.find(folder)
    names = {Path(source.name(i)).name for i in held_out}
    assert names == {f"{i:02}.png" for i in range(60) if starts_with_0(b"%02d.png" % i)} != set()
    write_shard(folder.parent / "a.tar", {f"x/{i:02}.png": c for i, c in enumerate(contents)})
    held_out = data.split(sources.find(folder.parent / "a.tar"), "name", all_of, refuse)[1]
    assert {f"{i:02}.png" for i in held_out} == names


@pytest.mark.parametrize("by", ["content", "name"])
def test_shards_for_validation_are_held_out(tmp_path: Path, contents: list[bytes], by: str) -> None:
    for number, name in enumerate(("mine-train-0", "mine-validation-0", "oval-1")):
        part = contents[20 * number : 20 * number + 20]
        write_shard(tmp_path / f"{name}.tar", {f"{i}.png": c for i, c in enumerate(part)})
    training, held_out = data.split(sources.find(tmp_path), by, all_of, refuse)
    assert list(held_out) == list(range(20, 40))
    assert list(training) == [*range(20), *range(40, 60)]


def test_files_that_cannot_be_opened_are_in_neither_part(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere")
    named: list[str] = []
    training, held_out = data.split(sources.find(folder), "content", all_of, named.append)
    assert len(training) + len(held_out) == 60
    assert named == [f"{folder / 'gone.png'}: no such file or directory"]


# --- decoding -------------------------------------------------------------------------------------


def test_crops_are_the_same_decoded_once_or_each_time(folder: Path) -> None:
    source = sources.find(folder)
    (folder / "07b.png").write_bytes(b"broken")
    source = sources.find(folder)
    made = []
    for n_bytes, workers in ((10**9, 0), (20 * 12 * 16 * 3, 2), (0, 2), (0, 0)):
        pictures = Decoded(source, np.arange(len(source)), (0, 10), 12)
        pictures.keep(n_bytes, all_of, lambda why: None)
        assert len(pictures.kept) <= 60 and (n_bytes == 0) == (not pictures.kept)
        batches = Batches(Crops(pictures), lambda step: (8, 8), workers)
        made.append(np.stack([batches.batch(step) for step in range(12)]))
        batches.close()
    assert all(np.array_equal(made[0], other) for other in made[1:])


def test_pictures_are_upright_in_colour_and_at_their_scales(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(colours[..., :3]).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(colours[..., 0]).save(tmp_path / "b.png")
    Image.fromarray(colours).save(tmp_path / "c.png")
    Image.fromarray(colours[..., 1].astype(np.uint16) * 257).save(tmp_path / "d.png")
    pictures = Decoded(sources.find(tmp_path), np.arange(4), (0, 10))
    assert len(pictures) == 8
    assert np.array_equal(pictures[0], np.rot90(colours[..., :3], -1))
    assert np.array_equal(pictures[1], np.repeat(colours[..., :1], 3, -1))
    assert np.array_equal(pictures[2], colours[..., :3])
    assert np.array_equal(pictures[3], np.repeat(colours[..., 1:2], 3, -1))
    assert [pictures[i].shape for i in range(4, 8)] == [(15, 10, 3)] + 3 * [(10, 15, 3)]


def bomb() -> bytes:
    """A PNG file of some hundred bytes that says that it has 10^10 pixels."""
    content = bytearray(png(1, 1, 0))
    content[16:24] = (10**5).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_what_cannot_be_used_is_named_once_and_listed(folder: Path, tmp_path: Path) -> None:
    for number in range(9):
        (folder / f"broken-{number}.png").write_bytes(b"broken")
    (folder / "cut.png").write_bytes(png(40, 40, 0)[:900])
    (folder / "small.png").write_bytes(png(11, 90, 0))
    (folder / "bomb.png").write_bytes(bomb())
    source = sources.find(folder)
    said: list[str] = []
    skipped = Skipped(said.append, tmp_path / "skipped.jsonl")
    pictures = Decoded(source, np.arange(len(source)), (0, 10), 12)
    pictures.keep(50 * 12 * 16 * 3, all_of, skipped)
    crops = Crops(pictures, report=skipped)
    batches = Batches(crops, lambda step: (16, 8), 2)
    for step in range(60):
        batches.batch(step)
    batches.close()
    assert len(skipped.seen) == 12
    listed = [json.loads(line)["skipped"] for line in (tmp_path / "skipped.jsonl").open()]
    assert len(listed) == 12 and set(listed) == skipped.seen
    assert f"{folder / 'small.png'}: 90 x 11 pixels; 12 a side are needed" in listed
    assert f"{folder / 'bomb.png'}: 100000 x 100000 pixels; 1 to {2**27} can be read" in listed
    assert said[:10] == [f"{why}; skipped" for why in listed[:10]]
    assert said[10:] == [f"more pictures are skipped, see {tmp_path / 'skipped.jsonl'}"]


def test_held_out_pictures_are_from_all_over() -> None:
    assert data.spread(7, 100) == list(range(7))
    assert data.spread(100, 5) == [0, 20, 40, 60, 80]
    assert data.spread(0, 5) == []
    pictures = [np.full((4, 4, 3), i, np.uint8) for i in range(9)]
    assert [x[0, 0, 0] for x in data.usable(pictures, data.spread(9, 3), refuse)] == [0, 3, 6]


def test_an_unusable_picture_always_raises(folder: Path) -> None:
    (folder / "00.png").write_bytes(b"broken")
    pictures = Decoded(sources.find(folder), np.arange(60))
    pictures.keep(10**6, all_of, lambda why: None)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"00\.png: not an image"):
            pictures[0]


# --- WebDataset -----------------------------------------------------------------------------------


def test_shards_by_webdataset_are_read(tmp_path: Path, contents: list[bytes]) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number, content in enumerate(contents):
            writer.write({"__key__": f"{number:03}", "png": content, "json": {"n": number}})
    source = sources.find(tmp_path)
    assert [source.content(i) for i in range(len(source))] == contents
    assert np.array_equal(Decoded(source, np.array([7]))[0], pixels_of(contents[7]))
