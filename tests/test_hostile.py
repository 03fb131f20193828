"""Whatever the bytes are, decoding ends in a picture or a VqcodecError, soon."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import vqcodec
from vqcodec import container
from vqcodec.container import Box, Container
from vqcodec.errors import FormatError, NotVqcError, SizeError, VqcodecError


@cache
def small() -> bytes:
    """A file of some 60 bytes."""
    pixels = np.add.outer(np.arange(9) * 9, np.arange(17) * 9).astype(np.uint8)
    return vqcodec.encode(pixels, "7bit", device="cpu")


@cache
def content() -> Container:
    return container.read(small())


def assert_refused(data: bytes, levels: int | None = None) -> VqcodecError:
    begun = time.process_time()
    with pytest.raises(VqcodecError) as caught:
        vqcodec.decode_picture(data, levels, "cpu")
    assert time.process_time() - begun < 5
    sentence = str(caught.value)
    assert sentence and "\n" not in sentence
    return caught.value


def assert_survived(data: bytes) -> None:
    """A picture or a VqcodecError."""
    try:
        picture = vqcodec.decode_picture(data, None, "cpu")
    except VqcodecError:
        return
    header = container.read(data).header
    assert (picture.width, picture.height) == (header.width, header.height)


def with_sections(sections: Sequence[bytes]) -> bytes:
    return container.write(replace(content(), sections=tuple(sections)))


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(small())):
        assert_refused(small()[:length])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0x5A])
def test_a_file_with_any_byte_changed_is_refused(mask: int) -> None:
    for at in range(len(small())):
        data = bytearray(small())
        data[at] ^= mask
        assert_refused(bytes(data))


def test_previews_of_cut_files_are_whole_or_refused() -> None:
    for length in range(0, len(small()), 3):
        for levels in (1, 3):
            try:
                picture = vqcodec.decode_picture(small()[:length], levels, "cpu")
            except VqcodecError:
                continue
            assert picture.pixels.shape == (9, 17)


def test_bytes_after_the_end_are_refused() -> None:
    assert_refused(small() + b"\0")
    assert_refused(small() + small())


def test_other_bytes_are_refused_as_no_vqc_file() -> None:
    rng = np.random.default_rng(0)
    for data in (b"", b"\0", b"VQ", b"a line of text\n" * 100, *map(rng.bytes, (10, 1000, 100000))):
        assert isinstance(assert_refused(data), NotVqcError)


def test_random_bytes_behind_a_magic_are_refused() -> None:
    rng = np.random.default_rng(1)
    for length in range(1, 200):
        assert_refused(b"VQC1" + rng.bytes(length))


# ------------------------------------------------------------- sound checksums, crafted contents


def test_random_payloads_decode_to_something_or_are_refused() -> None:
    rng = np.random.default_rng(2)
    for turn in range(20):
        lengths = rng.integers(0, 3 * max(map(len, content().sections)) + 20, 5)
        assert_survived(with_sections([rng.bytes(int(n)) for n in lengths]))
        sections = list(content().sections)
        sections[turn % 5] = rng.bytes(50)
        assert_survived(with_sections(sections))


@pytest.mark.parametrize("payload", [b"", b"\0" * 100, b"\xff" * 100, b"\x80", b"\xff" * 20000])
def test_payloads_at_the_edges_decode_to_something_or_are_refused(payload: bytes) -> None:
    assert_survived(with_sections([payload] * 5))
    for index in range(5):
        sections = list(content().sections)
        sections[index] = payload
        assert_survived(with_sections(sections))


@pytest.mark.parametrize("rate", [1280, 1919, 2560])
def test_payloads_of_another_rate_decode_to_something_or_are_refused(rate: int) -> None:
    header = replace(content().header, rate=rate)
    assert_survived(container.write(replace(content(), header=header)))


@pytest.mark.parametrize("count", [1, 4, 6, 16])
def test_a_wrong_number_of_levels_is_refused(count: int) -> None:
    data = with_sections([content().sections[0]] * count)
    assert isinstance(assert_refused(data), FormatError)


@pytest.mark.parametrize("rate", [0, 1279, 2561, container.MAX_RATE])
def test_a_rate_that_no_encoder_writes_is_refused(rate: int) -> None:
    header = replace(content().header, rate=rate)
    assert "rate" in str(assert_refused(container.write(replace(content(), header=header))))


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize(
    "size", [(20000, 10000), (1 << 14, 1 << 14), (1 << 20, 256), (256, 1 << 20)]
)
def test_sizes_that_the_bytes_cannot_hold_are_refused(
    size: tuple[int, int], levels: int | None
) -> None:
    resource = pytest.importorskip("resource")
    width, height = size
    header = replace(content().header, width=width, height=height)
    data = container.write(replace(content(), header=header))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert isinstance(assert_refused(data, levels), SizeError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("rate", ["5bit", "10bit"])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_no_flat_picture_is_refused_for_its_few_bytes(value: int, rate: str) -> None:
    pixels = np.full((256, 1024, 3), value, np.uint8)
    assert vqcodec.decode_picture(vqcodec.encode(pixels, rate, device="cpu"), device="cpu")


def test_a_first_level_below_the_bound_is_padded_and_decodes_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = vqcodec.load_codec("photo-2", "cpu").system
    point = system.point(1792)
    monkeypatch.setattr(system, "least_bytes", lambda h, w, rate: 77)
    coded = system.encode(np.zeros((9, 17, 3), np.uint8), point)
    assert len(coded.sections[0]) == 77
    latent = system.decode(coded.sections, 9, 17, point)
    assert np.array_equal(latent.numpy(), coded.latent.numpy())


@pytest.mark.parametrize("payload", [b"", b"no PNG", vqcodec.container.MAGIC])
def test_broken_alpha_is_refused(payload: bytes) -> None:
    boxes = (Box("ALPH", payload),)
    assert isinstance(assert_refused(container.write(replace(content(), boxes=boxes))), FormatError)


def test_alpha_of_another_size_is_refused() -> None:
    from vqcodec import image

    boxes = (Box("ALPH", image.encode_alpha(np.zeros((9, 18), np.uint8))),)
    assert isinstance(assert_refused(container.write(replace(content(), boxes=boxes))), FormatError)


def test_metadata_without_sense_is_carried_along() -> None:
    boxes = (Box("EXIF", b"no sense"), Box("ICC ", b""), Box("what", b"?"), Box("DEEP", b""))
    data = container.write(replace(content(), boxes=boxes))
    assert vqcodec.decode_picture(data, device="cpu").exif == b"no sense"
    assert vqcodec.decode(data, device="cpu").size == (17, 9)


# ---------------------------------------------------------------------------------- the program


def assert_program_fails(args: list[str], folder: Path, code: int) -> None:
    before = sorted(folder.rglob("*"))
    command = [sys.executable, "-m", "vqcodec", *args]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("vqcodec: error: ") and result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_the_program_fails_with_one_line_and_its_code(tmp_path: Path) -> None:
    (tmp_path / "good.vqc").write_bytes(small())
    (tmp_path / "cut.vqc").write_bytes(small()[:-1])
    (tmp_path / "text.vqc").write_text("a line of text\n")
    (tmp_path / "empty.vqc").write_bytes(b"")
    header = replace(content().header, width=20000, height=10000)
    (tmp_path / "huge.vqc").write_bytes(container.write(replace(content(), header=header)))
    header = replace(content().header, codec=9999)
    (tmp_path / "foreign.vqc").write_bytes(container.write(replace(content(), header=header)))
    for name, code in (
        ("missing.vqc", 3),
        ("cut.vqc", 5),
        ("text.vqc", 5),
        ("empty.vqc", 5),
        ("huge.vqc", 5),
        ("foreign.vqc", 6),
    ):
        assert_program_fails(["decode", name, "-o", "out.png"], tmp_path, code)
    assert_program_fails(["encode", "good.vqc", "-o", "out.vqc"], tmp_path, 4)
    assert_program_fails(["decode", "good.vqc", "-o", "cut.vqc/out.png"], tmp_path, 8)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_the_program_refuses_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "good.vqc").write_bytes(small())
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert_program_fails(["decode", "good.vqc", "-o", "locked/out.png"], tmp_path, 8)
