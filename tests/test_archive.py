"""Archives through the API and the program: many pictures to one file and back."""

import json
import os
import re
import unicodedata
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vqcodec
from vqcodec import archive, container, image, zoo
from vqcodec.cli.program import program
from vqcodec.container import Box, Container, Header
from vqcodec.errors import (
    ChecksumError,
    InputError,
    RateError,
    UsageError,
    VqcodecError,
)

SUMMARY = re.compile(r"\d+ files: ")  # of several
SOURCES = ("a.png", "b.png", "c.png")


@cache
def photo() -> np.ndarray:
    with Image.open(Path(__file__).parent / "data" / "photo.png") as im:
        return np.array(im)


@cache
def arrays() -> tuple[np.ndarray, ...]:
    """Two pictures of a size, colour, and a grey one."""
    return (
        np.ascontiguousarray(photo()[150:166, 230:254]),
        np.ascontiguousarray(photo()[60:76, 90:114]),
        np.ascontiguousarray(photo()[60:69, 90:107, 1]),
    )


@cache
def packed() -> bytes:
    return vqcodec.encode_many(arrays(), "5bit", device="cpu")


def alone(index: int, rate: str = "5bit") -> np.ndarray:
    """The pixels that the picture has as a file of its own."""
    return np.array(vqcodec.decode(vqcodec.encode(arrays()[index], rate, device="cpu")))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the pictures in it."""
    monkeypatch.chdir(tmp_path)
    for name, pixels in zip(SOURCES, arrays(), strict=True):
        Image.fromarray(pixels).save(name)
    return tmp_path


def run(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(program, args, prog_name="vqcodec", input=stdin)


def encode(*args: str) -> bytes:
    """Makes set.vqc of the pictures."""
    result = run("encode", *SOURCES, "-o", "set.vqc", "--rate", "5bit", *args)
    assert result.exit_code == 0, result.output
    return Path("set.vqc").read_bytes()


def new_files() -> set[str]:
    found = {path.as_posix() for path in Path().rglob("*") if path.is_file()}
    return found - {*SOURCES, "set.vqc"}


def assert_fails(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not SUMMARY.match(line)]
    assert len(lines) == 1 and lines[0].startswith("vqcodec: error: "), result.stderr
    for word in words:
        assert word in lines[0]


def pixels_of(name: str) -> np.ndarray:
    with Image.open(name) as im:
        return np.array(im)


def cut_in(data: bytes, number: int) -> bytes:
    """The archive with a byte of a picture changed."""
    costs = [container.read_archive(data).cost(index) for index in range(3)]
    damaged = bytearray(data)
    damaged[len(data) - 1 - sum(costs[number:]) + (3 - number)] ^= 1
    return bytes(damaged)


# ---------------------------------------------------------------------------------- the API


def test_pictures_come_back_as_from_files_of_their_own() -> None:
    images = vqcodec.decode_many(packed(), device="cpu")
    assert [im.mode for im in images] == ["RGB", "RGB", "L"]
    for index, im in enumerate(images):
        np.testing.assert_array_equal(np.array(im), alone(index))
    previews = vqcodec.decode_many(packed(), levels=1, device="cpu")
    assert [im.size for im in previews] == [im.size for im in images]


def test_an_archive_is_smaller_than_its_files() -> None:
    files = [vqcodec.encode(pixels, "5bit", device="cpu") for pixels in arrays()]
    assert len(packed()) < sum(map(len, files)) - 10 * len(files)


def test_rates_of_quality_and_of_bits_per_pixel_hold_for_each_picture() -> None:
    data = vqcodec.encode_many(arrays()[:2], "30dB", device="cpu")
    points = {picture.header.rate for picture in container.read_archive(data)}
    assert len(points) == 2
    for index, im in enumerate(vqcodec.decode_many(data, device="cpu")):
        np.testing.assert_array_equal(np.array(im), alone(index, "30dB"))
    opened = container.read_archive(vqcodec.encode_many(arrays()[:2], "2bpp", device="cpu"))
    assert all(opened.cost(index) * 8 <= 2 * 16 * 24 for index in range(2))


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(UsageError, match="not 0"):
        vqcodec.encode_many([], "5bit", device="cpu")
    for rate in ("12kB", "500B"):
        with pytest.raises(RateError, match="size of one file"):
            vqcodec.encode_many(arrays(), rate, device="cpu")
    with pytest.raises(UsageError, match=r"^a picture, not an archive of pictures$"):
        vqcodec.decode_many(vqcodec.encode(arrays()[0], "5bit", device="cpu"))
    with pytest.raises(UsageError, match=r"^an archive of 3 pictures, not a picture$"):
        vqcodec.decode(packed())
    Path("set.vqc").write_bytes(packed())
    with pytest.raises(OSError, match="an archive of 3 pictures"):
        Image.open("set.vqc")


def test_alpha_and_metadata_are_carried_along() -> None:
    alpha = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)
    exif = Image.Exif()
    exif[0x010E] = "a description"
    im = Image.fromarray(np.dstack((arrays()[0], alpha)), "RGBA")
    im.save("a.png", exif=exif)
    first, *_ = vqcodec.decode_many(vqcodec.encode_many(SOURCES, "5bit", device="cpu"))
    assert np.array_equal(np.array(first)[..., 3], alpha)
    assert first.getexif()[0x010E] == "a description"


# ------------------------------------------------------------------------------ hostile files


def refused(data: bytes) -> VqcodecError:
    with pytest.raises(VqcodecError) as caught:
        vqcodec.decode_many(data, device="cpu")
    assert str(caught.value) and "\n" not in str(caught.value)
    return caught.value


def test_an_archive_cut_anywhere_or_with_any_byte_changed_is_refused() -> None:
    for at in range(len(packed())):
        refused(packed()[:at])
        for mask in (0x01, 0x80, 0x5A):
            damaged = bytearray(packed())
            damaged[at] ^= mask
            refused(bytes(damaged))


def test_a_picture_that_its_bytes_cannot_hold_is_refused() -> None:
    opened = container.read_archive(packed())
    header = Header(opened.header.codec, opened.header.weights_hash, 20000, 10000, 1280)
    huge = container.write_archive([Container(header, opened[0].sections), opened[1]])
    assert "cannot hold" in str(refused(huge))
    Path("set.vqc").write_bytes(huge)
    result = run("decode", "set.vqc", "-o", "out")
    assert result.exit_code == 5 and "cannot hold" in result.stderr
    assert new_files() == {"out/0002.png"}


# ---------------------------------------------------------------------------------- names


@given(st.text(max_size=300) | st.text('./\\:*?"<>|\0\n\x1b\u202e .~aA', max_size=12))
def test_no_name_leaves_the_folder_or_is_hidden(name: str) -> None:
    stem = archive.harmless(name.encode("utf-8", "replace"))
    assert os.path.basename(stem) == stem and not stem.startswith(".")
    assert not set(stem) & set('/\\:*?"<>|')
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in stem)
    assert len(stem.encode()) <= 201 and stem == stem.strip(". ")


@given(st.binary(max_size=300))
def test_any_bytes_make_a_name_that_is_harmless_already(name: bytes) -> None:
    stem = archive.harmless(name)
    assert archive.harmless(stem.encode()) == stem


@pytest.mark.parametrize(
    ("stored", "stem"),
    [
        ("holiday 1", "holiday 1"),
        ("Strandkörbe, früh", "Strandkörbe, früh"),
        ("v1.2", "v1.2"),
        ("..", ""),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..\\x", "_x"),
        ("C:\\x", "C__x"),
        (".hidden", "hidden"),
        ("a\0b\nc\x1b[31m", "a_b_c_[31m"),
        ("nul", "_nul"),
        ("COM1.txt", "_COM1.txt"),
        ("", ""),
    ],
)
def test_names_are_made_harmless(stored: str, stem: str) -> None:
    assert archive.harmless(stored.encode()) == stem


def stems_of(*names: str | None) -> list[str]:
    pictures = [Container(Header(1, b"hash", 1, 1, 0), (b"x",)) for _ in names]
    named = [
        archive.with_name(picture, name) if name is not None else picture
        for picture, name in zip(pictures, names, strict=True)
    ]
    return archive.stems(container.read_archive(container.write_archive(named)))


def test_pictures_without_a_name_of_their_own_are_numbered() -> None:
    assert stems_of(None, None) == ["0001", "0002"]
    assert stems_of("a", "..", "b") == ["a", "0002", "b"]
    assert stems_of("a", "b", "A") == ["0001-a", "b", "0003-A"]
    assert stems_of("0002", None) == ["0001-0002", "0002-0002"]
    assert stems_of(*["x"] * 10000)[9999] == "10000-x"


# --------------------------------------------------------------------------------- the program


def test_several_pictures_become_one_file_and_come_back() -> None:
    result = run("encode", *SOURCES, "-o", "set.vqc", "--rate", "5bit")
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line.split(" -> ")[0] for line in lines] == [*SOURCES, "3 pictures"]
    assert f"{len(packed())} B" in lines[-1] and "bpp" in lines[-1]
    assert Path("set.vqc").read_bytes() == packed() and new_files() == set()

    result = run("decode", "set.vqc", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert new_files() == {f"out/000{i}.png" for i in (1, 2, 3)}
    for index in range(3):
        np.testing.assert_array_equal(pixels_of(f"out/000{index + 1}.png"), alone(index))


def test_a_folder_becomes_an_archive_and_an_archive_a_folder_with_its_name() -> None:
    result = run("encode", ".", "-o", "set.VQC", "--rate", "5bit", "--json")
    assert Path("set.VQC").read_bytes() == packed()
    *records, whole = map(json.loads, result.stdout.splitlines())
    assert [record["input"] for record in records] == [f"./{name}" for name in SOURCES]
    assert (whole["pictures"], whole["bytes"]) == (3, len(packed()))
    n_pixels = sum(record["width"] * record["height"] for record in records)
    assert whole["bpp"] == pytest.approx(8 * len(packed()) / n_pixels)
    Path("set.VQC").rename("set.vqc")
    assert run("decode", "set.vqc").exit_code == 0
    assert new_files() == {f"set/000{i}.png" for i in (1, 2, 3)}


def test_an_archive_that_is_larger_than_its_pictures_is_said_to_be() -> None:
    for name in ("a.pbm", "b.pbm"):
        Path(name).write_bytes(b"P1 1 1 0")
    result = run("encode", "a.pbm", "b.pbm", "-o", "set.vqc", "--rate", "8bit")
    n_bytes = Path("set.vqc").stat().st_size
    assert n_bytes > 16
    said = f"the file is larger than its input: 16 B became {n_bytes} B"
    assert result.stderr == f"vqcodec: warning: 2 pictures: {said}\n"


def test_an_output_folder_takes_files_and_not_an_archive() -> None:
    Path("there.vqc").mkdir()
    assert run("encode", "a.png", "b.png", "-o", "there.vqc", "--rate", "5bit").exit_code == 0
    assert run("encode", "a.png", "-o", "one.vqc", "--rate", "5bit").exit_code == 0
    assert new_files() == {"there.vqc/a.vqc", "there.vqc/b.vqc", "one.vqc"}
    assert not container.is_archive(Path("one.vqc").read_bytes())


def test_names_are_stored_where_they_are_asked_for() -> None:
    assert encode() == packed()
    data = encode("--names", "--force")
    boxes = [picture.boxes for picture in container.read_archive(data)]
    assert boxes == [(Box("NAME", name.encode()),) for name in "abc"]
    assert run("decode", "set.vqc", "-o", "out", "--format", "ppm").exit_code == 0
    assert new_files() == {"out/a.ppm", "out/b.ppm", "out/c.ppm"}
    assert_fails(run("encode", "a.png", "--names"), 2, "--names is for an archive")


def test_one_picture_goes_to_a_file_or_stdout() -> None:
    data = encode("--names")
    assert run("decode", "set.vqc", "--index", "2", "-o", "x.png").exit_code == 0
    np.testing.assert_array_equal(pixels_of("x.png"), alone(1))
    for args in (["set.vqc", "-o", "-"], ["-"]):
        result = run("decode", *args, "--index", "3", stdin=data)
        assert result.exit_code == 0, result.stderr
        np.testing.assert_array_equal(image.read(result.stdout_bytes, "-").pixels, alone(2))
    assert run("decode", "set.vqc", "--index", "1", "--levels", "1").exit_code == 0
    assert new_files() == {"x.png", "set.png"}


def test_archives_and_files_are_decoded_together() -> None:
    encode()
    run("encode", "a.png", "--rate", "5bit")
    result = run("decode", "a.vqc", "set.vqc", "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    outputs = ["out/a.png", *(f"out/set/000{i}.png" for i in (1, 2, 3))]
    assert [record["output"] for record in records] == outputs
    opened = container.read_archive(packed())
    assert [record["bytes"] for record in records[1:]] == [opened.cost(i) for i in range(3)]


def test_a_damaged_picture_costs_only_itself() -> None:
    data = encode("--names")
    for number in (1, 2, 3):
        damaged = cut_in(data, number)
        with pytest.raises(ChecksumError):
            container.read_archive(damaged)[number - 1]
        Path("set.vqc").write_bytes(damaged)
        result = run("decode", "set.vqc", "-o", f"out{number}")
        words = f"set.vqc: picture {number} of 3 is damaged"
        assert_fails(result, 5, words)
        names = {"a", "b", "c"} - {"abc"[number - 1]}
        assert {path.stem for path in Path(f"out{number}").iterdir()} == names
        assert_fails(run("info", "set.vqc"), 5, words)
        record = json.loads(run("info", "set.vqc", "--json").stdout)
        assert ["error" in picture for picture in record["pictures"]].index(True) == number - 1


def test_info_lists_the_pictures_and_counts_every_byte() -> None:
    data = encode("--names")
    record = json.loads(run("info", "set.vqc", "--json", "--ideal").stdout)
    assert (record["codec"], record["bytes"]) == (zoo.DEFAULT, len(data))
    pictures = record["pictures"]
    assert [picture["name"] for picture in pictures] == ["a", "b", "c"]
    assert [picture["grey"] for picture in pictures] == [False, False, True]
    assert all(len(picture["ideal_bits"]) == 5 for picture in pictures)
    for picture in pictures:
        assert sum(picture["sections"]) + picture["overhead"] == picture["bytes"]
    assert sum(picture["bytes"] for picture in pictures) + record["overhead"] == len(data)

    lines = run("info", "set.vqc").stdout.splitlines()
    assert zoo.DEFAULT in lines[1] and lines[2].split() == ["pictures", "3"]
    assert "24 x 16, colour, 5bit" in lines[3] and "17 x 9, grey, 5bit" in lines[5]
    rows = [line.split() for line in lines if " B" in line]
    sizes = [int(row[row.index("B") - 1]) for row in rows]
    assert sum(sizes[:-1]) == sizes[-1] == len(data)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["encode", *SOURCES, "-o", "set.vqc"], 8, "set.vqc: exists"),
        (["encode", *SOURCES, "-o", "no/set.vqc"], 8, "no such folder"),
        (["encode", *SOURCES, "-o", "new.vqc", "--rate", "1kB"], 7, "size of one file"),
        (["encode", *SOURCES, "-o", "new.vqc", "--rate", "good"], 7, "good"),
        (["encode", "-", "a.png", "-o", "new.vqc"], 2, "stdin"),
        (["encode", "set.vqc", "a.png", "-o", "set.vqc", "--force"], 8, "would be overwritten"),
        (["decode", "set.vqc", "-o", "new.png"], 2, "set.vqc: an archive goes to a folder"),
        (["decode", "set.vqc", "-o", "-"], 2, "set.vqc: an archive goes to a folder"),
        (["decode", "set.vqc", "-o", "a.png", "--index", "1"], 8, "a.png: exists"),
        (["decode", "set.vqc", "--index", "4"], 2, "no picture 4, but 1 to 3"),
        (["decode", "set.vqc", "--index", "0"], 2, "--index"),
        (["decode", "one.vqc", "--index", "1", "-o", "x.png"], 2, "one.vqc: a picture, not"),
        (["decode", "-", "-o", "out"], 2, "-: an archive of 3 pictures, not a picture; --index 1"),
        (["decode", "cut.vqc", "-o", "out"], 5, "cut.vqc: the header is damaged"),
        (["info", "cut.vqc"], 5, "cut.vqc: the header is damaged"),
    ],
)
def test_each_error_is_one_line_with_its_code(args: list[str], code: int, words: str) -> None:
    Path("set.vqc").write_bytes(packed())
    damaged = bytearray(packed())
    damaged[12] ^= 1
    Path("cut.vqc").write_bytes(damaged)
    Path("one.vqc").write_bytes(vqcodec.encode(arrays()[2], "5bit", device="cpu"))
    before = new_files()
    assert_fails(run(*args, stdin=packed()), code, words)
    assert new_files() == before and Path("set.vqc").read_bytes() == packed()


def test_an_archive_is_written_whole_or_not_at_all() -> None:
    Path("b.png").write_text("no picture")
    result = run("encode", *SOURCES, "-o", "new.vqc", "--rate", "5bit")
    assert result.exit_code == 4 and new_files() == set()
    errors = result.stderr.splitlines()
    assert errors[0].startswith("vqcodec: error: b.png: ")
    assert errors[1:] == ["vqcodec: error: new.vqc: not written, as 1 of its pictures failed"]


def test_pictures_of_an_archive_do_not_replace_files() -> None:
    encode()
    Path("out").mkdir()
    Path("out/0002.png").write_text("precious")
    assert_fails(run("decode", "set.vqc", "-o", "out"), 8, "out/0002.png: exists")
    assert new_files() == {"out/0001.png", "out/0002.png", "out/0003.png"}
    assert Path("out/0002.png").read_text() == "precious"
    assert run("decode", "set.vqc", "-o", "out", "--force").exit_code == 0
    np.testing.assert_array_equal(pixels_of("out/0002.png"), alone(1))


def test_python_reads_one_picture_of_a_path_of_a_file_and_of_bytes(tmp_path: Path) -> None:
    data, path = packed(), tmp_path / "set.vqc"
    path.write_bytes(data)
    expected = vqcodec.decode_many(data, device="cpu")
    for source in (data, path, str(path), BytesIO(data)):
        found = vqcodec.decode(source, index=2, device="cpu")
        assert np.array_equal(np.array(found), np.array(expected[1]))
    for index in (0, -1, len(expected) + 1):
        with pytest.raises(UsageError, match=f"no picture {index}, but 1 to {len(expected)}"):
            vqcodec.decode(path, index=index, device="cpu")
    with pytest.raises(InputError, match="no such file"):
        vqcodec.decode(tmp_path / "other.vqc", index=1)


def test_python_decodes_a_path_and_a_region(tmp_path: Path) -> None:
    path = tmp_path / "one.vqc"
    path.write_bytes(vqcodec.encode(arrays()[0], "5bit", device="cpu"))
    whole = np.array(vqcodec.decode(path, device="cpu"))
    part = vqcodec.decode(path, region=(3, 2, 10, 7), device="cpu")
    assert np.array_equal(np.array(part), whole[2:9, 3:13])
