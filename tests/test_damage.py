"""What is left of damaged files: `decode --salvage`, `verify`, and the limits of `--max-pixels`."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vqcodec
from vqcodec import archive, container, image
from vqcodec.cli.program import program
from vqcodec.container import Box, Container, Header
from vqcodec.errors import FormatError, ImageError, SizeError

ROWS, COLUMNS = np.mgrid[:40, :50]
PIXELS = np.stack([ROWS * 6, COLUMNS * 5, ROWS + COLUMNS], 2).astype(np.uint8)
ALPHA = (ROWS * 6).astype(np.uint8)


@cache
def photo() -> bytes:
    """A colour picture with alpha and EXIF: 6 levels, 2 boxes."""
    exif = Image.Exif()
    exif[0x010E] = "a test"
    picture = image.Picture(PIXELS, ALPHA, exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    return vqcodec.encode_picture(picture, "8bit", device="cpu")


def damaged(payload: bytes, data: bytes | None = None) -> bytes:
    """The file with one bit changed in the middle of a section or box."""
    data = photo() if data is None else data
    assert data.count(payload) == 1
    at = data.index(payload) + len(payload) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def run(*args: str) -> Result:
    return CliRunner().invoke(program, [*args])


# -------------------------------------------------------------------------------- the container

CONTENT = Container(
    Header(3, b"hash", 30, 20, 9),
    (b"coarse", bytes(100), b"finer" * 20, b"finest"),
    (Box("EXIF", b"exif"), Box("what", b"\1" * 70)),
)


def test_a_sound_file_is_salvaged_whole() -> None:
    assert container.salvage(container.write(CONTENT)) == (CONTENT, ())


@pytest.mark.parametrize("index", [1, 2, 3])
def test_sections_before_the_damage_and_all_boxes_are_salvaged(index: int) -> None:
    data = damaged(CONTENT.sections[index], container.write(CONTENT))
    content, problems = container.salvage(data)
    assert content == replace(CONTENT, sections=CONTENT.sections[:index])
    assert problems == (
        f"level {index + 1} of 4 is damaged",
        f"{index} of 4 levels can be decoded",
    )


def test_a_damaged_box_costs_only_itself() -> None:
    data = damaged(b"exif", container.write(CONTENT))
    assert container.salvage(data) == (
        replace(CONTENT, boxes=CONTENT.boxes[1:]),
        ("box 1 of 2 is damaged",),
    )


def test_every_damage_is_told() -> None:
    data = damaged(CONTENT.boxes[1].payload, damaged(b"finest", container.write(CONTENT))) + b"!"
    assert container.salvage(data)[1] == (
        "level 4 of 4 is damaged",
        "box 2 of 2 is damaged",
        "1 byte after the end",
        "3 of 4 levels can be decoded",
    )


@pytest.mark.parametrize("part", [b"coarse", b"hash"])
def test_nothing_is_salvaged_without_the_header_and_the_first_section(part: bytes) -> None:
    with pytest.raises(FormatError, match="the header or level 1 of 4 is damaged"):
        container.salvage(damaged(part, container.write(CONTENT)))


@given(st.data())
def test_what_is_salvaged_of_any_damage_is_a_prefix(data: st.DataObject) -> None:
    file = bytearray(container.write(CONTENT))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(file) - 1))
        file[at] ^= data.draw(st.integers(1, 255))
    file = file[: data.draw(st.integers(len(file) // 2, len(file)))]
    try:
        content, problems = container.salvage(bytes(file))
    except FormatError:
        return
    # Checksums of 2 bytes let one damage in 65536 pass, which 100 examples do not meet.
    assert content.header == CONTENT.header
    assert content.sections == CONTENT.sections[: len(content.sections)]
    assert set(content.boxes) <= set(CONTENT.boxes)
    assert bool(problems) == (bytes(file) != container.write(CONTENT))


# ------------------------------------------------------------------------------------ --salvage


def test_salvage_decodes_what_is_whole_and_says_what_is_not(tmp_path: Path) -> None:
    content = container.read(photo())
    exif = next(box.payload for box in content.boxes if box.type == "EXIF")
    (tmp_path / "a.vqc").write_bytes(damaged(exif, damaged(content.sections[3])))
    failed = run("decode", str(tmp_path / "a.vqc"))
    assert failed.exit_code == 5 and "; --salvage shows a preview\n" in failed.stderr
    result = run("decode", "--salvage", "--json", str(tmp_path / "a.vqc"))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["missing"] == [
        "level 4 of 6 is damaged",
        "box 2 of 2 is damaged",
        "3 of 6 levels can be decoded",
    ]
    assert result.stderr.count("vqcodec: warning: ") == 3
    expected = vqcodec.decode_picture(photo(), 3, "cpu")
    read = image.read(tmp_path / "a.png", "a")
    np.testing.assert_array_equal(read.pixels, expected.pixels)
    np.testing.assert_array_equal(read.alpha, ALPHA)
    assert read.exif is None


def test_salvage_of_a_sound_file_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.vqc").write_bytes(photo())
    result = run("decode", "--salvage", "--json", str(tmp_path / "a.vqc"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["missing"] == []
    read = image.read(tmp_path / "a.png", "a")
    np.testing.assert_array_equal(read.pixels, vqcodec.decode_picture(photo(), None, "cpu").pixels)


def test_salvage_shows_no_more_levels_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.vqc").write_bytes(photo()[:-200])
    assert run("decode", "--salvage", "--levels", "1", str(tmp_path / "a.vqc")).exit_code == 0
    read = image.read(tmp_path / "a.png", "a").pixels
    np.testing.assert_array_equal(read, vqcodec.decode_picture(photo(), 1, "cpu").pixels)


def test_what_cannot_be_salvaged_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.vqc").write_bytes(damaged(container.read(photo()).sections[0]))
    result = run("decode", "--salvage", str(tmp_path / "a.vqc"))
    assert result.exit_code == 5 and "level 1 of 6 is damaged" in result.stderr
    assert not (tmp_path / "a.png").exists()


# --------------------------------------------------------------------------------------- verify


def test_verify_says_which_files_are_sound(tmp_path: Path) -> None:
    first, second = container.read(photo()).sections[:2]
    files = {
        "sound": (photo(), []),
        "cut": (photo()[:-1], [5]),
        "twice": (damaged(second) + b"!", [5, 5, 5]),
        "dead": (damaged(first), [5]),
        "text": (b"a line of text", [5]),
    }
    for name, (data, _) in files.items():
        (tmp_path / f"{name}.vqc").write_bytes(data)
    names = [str(tmp_path / f"{name}.vqc") for name in (*files, "missing")]
    result = run("verify", "--json", *names)
    assert result.exit_code == 5
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["input"] for record in records] == names
    assert [record["sound"] for record in records] == [True] + [False] * 5
    codes = [[error["exit_code"] for error in record["errors"]] for record in records]
    assert codes == [codes for _, codes in files.values()] + [[3]]
    assert "1 byte after the end" in records[2]["errors"][1]["error"]
    assert sorted(tmp_path.iterdir()) == sorted(map(Path, names[:-1]))  # nothing is written


def test_verify_prints_a_line_for_each_file(tmp_path: Path) -> None:
    (tmp_path / "a.vqc").write_bytes(photo())
    assert run("verify", str(tmp_path / "a.vqc")).stdout == f"{tmp_path / 'a.vqc'}: sound\n"
    assert run("verify", "-q", str(tmp_path / "a.vqc")).stdout == ""


def test_verify_finds_what_no_checksum_finds(tmp_path: Path) -> None:
    content = container.read(photo())
    broken = replace(content, boxes=(Box("ALPH", b"no PNG"),))
    (tmp_path / "alpha.vqc").write_bytes(container.write(broken))
    foreign = replace(content, header=replace(content.header, codec=9999))
    (tmp_path / "foreign.vqc").write_bytes(container.write(foreign))
    for name, code in (("alpha", 5), ("foreign", 6)):
        assert run("verify", str(tmp_path / f"{name}.vqc")).exit_code == code


def test_verify_checks_every_picture_of_an_archive(tmp_path: Path) -> None:
    content = container.read(vqcodec.encode(PIXELS, "6bit", device="cpu"))
    broken = replace(content, boxes=(Box("ALPH", b"no PNG"),))
    pictures = [archive.with_name(content, "unlike"), content, broken]
    data = container.write_archive(pictures)
    (tmp_path / "a.vqc").write_bytes(damaged(b"unlike", data))
    result = run("verify", str(tmp_path / "a.vqc"))
    assert (result.exit_code, result.stdout) == (5, "")
    first, second = result.stderr.splitlines()
    assert first.endswith("picture 1 of 3 is damaged")
    assert "picture 3 of 3: broken alpha" in second


# --------------------------------------------------------------------------------------- limits


def test_a_picture_above_the_limit_is_neither_coded_nor_decoded(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "a.vqc").write_bytes(photo())
    limit = ("--max-pixels", "1999")
    for args, code in (
        (("encode", "a.png", "-o", "b.vqc"), 4),
        (("decode", "a.vqc", "-o", "b.png"), 5),
        (("decode", "--salvage", "a.vqc", "-o", "c.png"), 5),
        (("verify", "a.vqc"), 5),
    ):
        paths = [str(tmp_path / arg) if "." in arg else arg for arg in args]
        result = run(*paths, *limit)
        assert result.exit_code == code
        assert "50 x 40 pixels" in result.stderr and "1999" in result.stderr
        assert run(*paths, "--max-pixels", "2000").exit_code == 0


def test_the_limit_holds_in_python(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), Image.fromarray(PIXELS)):
        with pytest.raises(ImageError, match="can be read"):
            vqcodec.encode(source, device="cpu", max_pixels=1999)
    with pytest.raises(SizeError, match=r"at most 1999 are decoded$"):
        vqcodec.decode(photo(), device="cpu", max_pixels=1999)
    packed = container.write_archive([container.read(photo())])
    with pytest.raises(SizeError, match=r"at most 1999 are decoded$"):
        vqcodec.decode_many(packed, device="cpu", max_pixels=1999)


@pytest.mark.parametrize("size", [(20001, 20000), (1 << 20, 1 << 20)])
def test_the_limit_stands_without_being_asked_for(size: tuple[int, int]) -> None:
    content = container.read(photo())
    header = replace(content.header, width=size[0], height=size[1])
    huge = replace(content, header=header, sections=(bytes(1 << 20), *content.sections[1:]))
    with pytest.raises(SizeError, match="at most 400000000"):
        vqcodec.decode(container.write(huge), device="cpu")


@pytest.mark.parametrize("format", ["ICO", "ICNS"])
def test_images_inside_icons_which_have_a_size_of_their_own_are_not_opened(
    format: str, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "icon", format=format)
    with pytest.raises(ImageError, match="not an image that can be read"):
        image.read(tmp_path / "icon", "icon")
