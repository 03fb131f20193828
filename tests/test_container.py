"""The container: what is written is read, and nothing else is."""

import random
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import (
    MAX_CODEC,
    MAX_RATE,
    MAX_SIDE,
    Box,
    Container,
    Header,
    overhead,
    read,
    read_archive,
    write,
    write_archive,
)
from vqcodec.errors import (
    ChecksumError,
    FormatError,
    NotVqcError,
    SizeError,
    TruncatedError,
    UsageError,
    VersionError,
)

FORMAT_MD = Path(__file__).parents[1] / "docs" / "format.md"
HEADER = Header(codec=1, weights_hash=b"\x5e\xa1\xc0\xde", width=48, height=32, rate=777)
N_HEADER = 14  # bytes of HEADER, without boxes


def part(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


# Sections and boxes of 64 bytes and more have a checksum of 32 bits, shorter ones of 16.
LONG = Container(
    HEADER,
    tuple(part(64 + i, i) for i in range(5)),
    (Box("EXIF", part(70, 9)), Box("odd!", part(64, 8))),
)
SHORT = Container(HEADER, tuple(part(n, n) for n in (1, 0, 3, 63)), (Box("ICC ", part(5, 7)),))
# Its last section is in the tail form: it ends with the file and states no length.
TAIL = Container(HEADER, (part(70, 1), part(4, 2), part(9, 3)))
ALL = [pytest.param(c, id=n) for n, c in (("long", LONG), ("short", SHORT), ("tail", TAIL))]


def starts(container: Container) -> list[int]:
    """Offsets at which the sections begin and, at last, at which the last one ends."""
    offsets = [N_HEADER + bool(container.boxes)]
    for payload in container.sections:
        n_length = 1 if len(payload) < 128 else 2
        n_checksum = 4 if len(payload) >= 64 else 2
        offsets.append(offsets[-1] + n_length + n_checksum + len(payload))
    offsets[-1] -= container is TAIL
    return offsets


def sentence(error: Exception) -> str:
    """The error's sentence, after a check that it is one line."""
    text = str(error)
    assert text and "\n" not in text and not text.endswith("."), text
    return text


headers = st.builds(
    Header,
    codec=st.integers(0, MAX_CODEC),
    weights_hash=st.binary(min_size=4, max_size=4),
    width=st.integers(1, 1 << 14) | st.integers(1, 300),
    height=st.integers(1, 1 << 14) | st.integers(1, 300),
    rate=st.integers(0, MAX_RATE) | st.integers(0, 300),
    grey=st.booleans(),
)
types = st.sampled_from(["ICC ", "EXIF", "ALPH", "DEEP"]) | st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=4, max_size=4
)
payloads = st.binary(max_size=80) | st.integers(0, 400).map(bytes)
containers = st.builds(
    Container,
    headers,
    st.lists(payloads, min_size=1, max_size=40).map(tuple),
    st.lists(st.builds(Box, types, payloads), max_size=5).map(tuple),
)


# What is written is read.


@given(containers)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(container: Container) -> None:
    data = write(container)
    assert read(data) == container
    assert overhead(container) == len(data) - sum(map(len, container.sections))


@given(containers, st.data())
@settings(max_examples=100, deadline=None)
def test_levels_of_a_whole_file_come_with_its_boxes(
    container: Container, data: st.DataObject
) -> None:
    levels = data.draw(st.integers(1, len(container.sections)))
    expected = replace(container, sections=container.sections[:levels])
    assert read(write(container), levels=levels) == expected


@pytest.mark.parametrize("n_sections", [1, 15, 16, 127, 128, 255])
@pytest.mark.parametrize("n_boxes", [0, 1, 127, 128, 255])
def test_any_number_of_sections_and_boxes_is_read(n_sections: int, n_boxes: int) -> None:
    sections = tuple(bytes([i]) * (i % 3) for i in range(n_sections))
    container = Container(HEADER, sections, tuple(Box("noTe", bytes([i])) for i in range(n_boxes)))
    assert read(write(container)) == container


@pytest.mark.parametrize("size", [0, 1, 63, 64, 127, 128, 16383, 16384, 1 << 21])
def test_a_payload_of_64_bytes_has_a_checksum_of_4(size: int) -> None:
    container = Container(HEADER, (bytes(size),))
    n_length = 1 + (size >= 1 << 7) + (size >= 1 << 14) + (size >= 1 << 21)
    n_length = n_length if size >= 64 else 0  # the tail form
    assert overhead(container) == N_HEADER + n_length + (4 if size >= 64 else 2)
    assert read(write(container)) == container


def test_an_unknown_box_is_kept() -> None:
    container = Container(HEADER, (b"x",), (Box("zz~ ", b"?"), Box("EXIF", b"known")))
    assert read(write(container)).boxes == container.boxes


def test_the_parsed_file_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        read(write(SHORT)).header.width = 9  # type: ignore[misc]


# The tail form.


def test_a_digit_of_one_code_is_a_file_of_16_bytes() -> None:
    container = Container(Header(3, b"hash", 32, 32, 9), (b"\x2a",))
    assert len(write(container)) == 16
    assert read(write(container)) == container


@given(containers)
@settings(deadline=None)
def test_a_last_section_of_less_than_64_bytes_states_no_length(container: Container) -> None:
    tail = not container.boxes and len(container.sections[-1]) < 64
    data = write(container)
    assert bool(data[4] & 0x40) == tail
    if tail:
        assert data.endswith(container.sections[-1])
        longer = replace(container, boxes=(Box("noTe", b""),))  # B, length, and the box
        assert len(write(longer)) == len(data) + 1 + 1 + 7


@pytest.mark.parametrize("size", [0, 1, 63])
def test_a_short_last_section_may_state_its_length(size: int) -> None:
    payload = part(size, size)
    data = by_hand(
        rest=lambda head: bytes([size]) + crc_of(head, b"\0", payload)[:2] + payload,
    )
    assert read(data).sections == (payload,)
    assert len(write(read(data))) == len(data) - 1


def test_a_tail_has_at_most_63_bytes() -> None:
    for size in (64, 1000):
        payload = part(size, size)
        for n_checksum in (2, 4):
            data = by_hand(
                0x41,
                rest=lambda h, p=payload, n=n_checksum: crc_of(h, b"\0", p)[:n] + p,  # type: ignore[misc]
            )
            with pytest.raises(FormatError, match="bytes after the end"):
                read(data)


# The header is small.


def header_bytes(header: Header, n_sections: int = 1, n_boxes: int = 0) -> int:
    empty = Container(header, (b"",) * n_sections, (Box("noTe", b""),) * n_boxes)
    return len(write(empty)) - 3 * n_sections - 7 * n_boxes + (not n_boxes)


@pytest.mark.parametrize("n_sections", [1, 5, 15])
@pytest.mark.parametrize("rate", [0, 127, 128, (1 << 14) - 1])
def test_header_of_images_up_to_127x127_has_at_most_14_bytes(n_sections: int, rate: int) -> None:
    sizes = [header_bytes(Header(127, b"hash", n, n, rate), n_sections) for n in range(1, 128)]
    assert max(sizes) == 12 + (1 if rate < 128 else 2)


def test_no_header_has_more_than_24_bytes() -> None:
    largest = Header(MAX_CODEC, b"hash", 1 << 14, 1 << 14, MAX_RATE, True)
    assert header_bytes(largest, n_sections=255, n_boxes=255) == 24


@given(headers)
@settings(deadline=None)
def test_any_header_has_at_most_24_bytes(header: Header) -> None:
    assert header_bytes(header) <= 24


# Damage is found.


@pytest.mark.parametrize("container", ALL)
def test_a_file_cut_anywhere_is_truncated(container: Container) -> None:
    data = write(container)
    ends = starts(container)
    n_header, n_sections = ends[0], len(container.sections)
    for size in range(len(data)):
        # A tail of which 2 bytes are left has a checksum, and that is not its own.
        tail = container is TAIL and size >= ends[-2] + 2
        expected = NotVqcError if size < 4 else ChecksumError if tail else TruncatedError
        with pytest.raises(expected) as error:
            read(data[:size])
        text = sentence(error.value)
        if size < n_header:
            continue
        whole = sum(size >= end for end in ends[1:])
        assert f"{whole} of {n_sections} levels" in text
        assert ("`--salvage` shows" in text) == (whole >= 1)


@pytest.mark.parametrize("container", ALL)
def test_any_single_changed_byte_is_found(container: Container) -> None:
    # Certain for parts with 32 bits of checksum. With 16 bits one change in 65536 is missed; SHORT
    # and TAIL are files in which there is none.
    data = write(container)
    missed = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        for mask in range(1, 256):
            damaged[position] = data[position] ^ mask
            try:
                read(bytes(damaged))
                missed += 1
            except FormatError as error:
                sentence(error)
    assert missed == 0


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_burst_of_damage_of_4_bytes_in_a_long_payload_is_found(data: st.DataObject) -> None:
    file = write(LONG)
    ends = starts(LONG)
    index = data.draw(st.integers(0, len(LONG.sections) - 1))
    first = data.draw(st.integers(ends[index + 1] - len(LONG.sections[index]), ends[index + 1] - 4))
    burst = data.draw(st.binary(min_size=4, max_size=4).filter(any))
    changed = bytes(a ^ b for a, b in zip(file[first : first + 4], burst, strict=True))
    with pytest.raises(ChecksumError, match=f"level {index + 1} of 5 is damaged"):
        read(file[:first] + changed + file[first + 4 :])


@pytest.mark.parametrize("container", ALL)
def test_a_missing_or_doubled_byte_is_found(container: Container) -> None:
    data = write(container)
    for i in range(len(data)):
        for damaged in (data[:i] + data[i + 1 :], data[:i] + data[i : i + 1] + data[i:]):
            with pytest.raises(FormatError):
                read(damaged)


def test_swapped_sections_are_found() -> None:
    for size in (5, 70):
        container = Container(HEADER, (b"a" * size, b"b" * size, b"c"))
        data = write(container)
        begin, middle, end, _ = starts(container)
        with pytest.raises(ChecksumError):
            read(data[:begin] + data[middle:end] + data[begin:middle] + data[end:])


def test_sections_under_another_header_are_found() -> None:
    data = write(LONG)
    other = write(replace(LONG, header=replace(HEADER, weights_hash=b"1234")))
    with pytest.raises(ChecksumError, match="the header or level 1 of 5 is damaged"):
        read(other[: N_HEADER + 1] + data[N_HEADER + 1 :])


def test_a_box_under_another_type_is_found() -> None:
    data = write(LONG)
    with pytest.raises(ChecksumError, match="box 1 of 2"):
        read(data.replace(b"EXIF", b"ALPH"))


@pytest.mark.parametrize("n_extra", [1, 2, 1000])
@pytest.mark.parametrize("container", ALL)
def test_bytes_after_the_end_are_refused(container: Container, n_extra: int) -> None:
    noun = "1 byte" if n_extra == 1 else f"{n_extra} bytes"
    expected = f"^{noun} after the end"
    if container is TAIL:
        expected = "level 3 of 3 is damaged" if n_extra < 50 else "bytes after the end"
    with pytest.raises(FormatError, match=expected):
        read(write(container) + bytes(n_extra))


# Any bytes end in a file or in a FormatError, or have fewer levels than are asked for.


def only_format_errors(data: bytes, levels: int | None = None) -> None:
    try:
        read(data, levels)
    except FormatError as error:
        sentence(error)
    except UsageError:
        assert levels is not None


@given(st.binary(max_size=200), st.sampled_from([b"", b"VQC", b"VQC1", b"VQC1\x01", b"VQC1\x10"]))
@settings(max_examples=500, deadline=None)
def test_random_bytes_raise_only_format_errors(data: bytes, start: bytes) -> None:
    only_format_errors(start + data)
    only_format_errors(start + data, levels=2)


def test_thousands_of_random_files_raise_only_format_errors() -> None:
    rng = random.Random(5)
    whole = write(SHORT)
    for _ in range(10_000):
        only_format_errors(b"VQC1" + rng.randbytes(rng.randrange(60)), rng.choice([None, 1, 3]))
        mixed = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            mixed[rng.randrange(4, len(mixed))] = rng.randrange(256)
        only_format_errors(bytes(mixed), rng.choice([None, 1, 4]))


# Previews.


@pytest.mark.parametrize("container", ALL)
def test_any_prefix_of_whole_sections_is_a_preview(container: Container) -> None:
    data = write(container)
    for levels, end in enumerate(starts(container)[1:], start=1):
        expected = Container(container.header, container.sections[:levels])
        for size in range(end, len(data)):
            assert read(data[:size], levels=levels) == expected
        with pytest.raises(ChecksumError if container is TAIL and levels == 3 else TruncatedError):
            read(data[: end - 1], levels=levels)


def test_damage_after_the_preview_costs_only_the_boxes() -> None:
    data = bytearray(write(LONG))
    data[starts(LONG)[3] + 20] ^= 1  # in section 4
    for levels in (1, 2, 3):
        assert read(bytes(data), levels=levels) == Container(HEADER, LONG.sections[:levels])
    with pytest.raises(
        ChecksumError, match=r"level 4 of 5 is damaged.*`--salvage` shows a preview"
    ):
        read(bytes(data), levels=4)
    assert read(write(LONG) + b"more", levels=5) == Container(HEADER, LONG.sections)


def test_damage_inside_the_preview_is_found() -> None:
    data = bytearray(write(LONG))
    data[starts(LONG)[1] - 1] ^= 1
    for levels in (1, 2, None):
        with pytest.raises(ChecksumError, match=r"0 of 5 levels are whole$"):
            read(bytes(data), levels=levels)


def test_too_many_levels_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(UsageError, match="the file has 5 levels, not 6"):
        read(write(LONG), levels=6)
    with pytest.raises(UsageError, match="the file has 1 level, not 2"):
        read(write(Container(HEADER, (b"",))), levels=2)
    for levels in (0, -1):
        with pytest.raises(ValueError):
            read(write(LONG), levels=levels)


# Each kind of bad header has its error.


def test_other_files_are_not_vqc() -> None:
    with pytest.raises(NotVqcError, match="the file is empty"):
        read(b"")
    for data in (
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"VQ",
        b"VQC",
        b"\xff\xd8\xff",
        b"vqc1" + bytes(9),
    ):
        with pytest.raises(NotVqcError, match=r"not a \.vqc file"):
            read(data)


def test_other_versions_are_refused() -> None:
    data = write(LONG)
    for version in (b"0", b"2", b"\n", b"\xff"):
        with pytest.raises(VersionError) as error:
            read(b"VQC" + version + data[4:])
        sentence(error.value)
    for reserved in (0x50, 0xC0, 0xD0):
        with pytest.raises(VersionError):
            read(data[:4] + bytes([data[4] | reserved]) + data[5:])


def varint(value: int) -> bytes:
    low = bytes([value & 0x7F | (0x80 if value >> 7 else 0)])
    return low + (varint(value >> 7) if value >> 7 else b"")


def crc_of(*parts: bytes) -> bytes:
    return zlib.crc32(b"".join(parts)).to_bytes(4, "little")


def by_hand(
    flags: int = 1,
    codec: bytes = b"\1",
    width: bytes = b"\1",
    height: bytes = b"\1",
    rate: bytes = b"\0",
    counts: bytes = b"",
    rest: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """A file with one empty section and, unless the arguments break a rule, a sound one."""
    head = b"VQC1" + bytes([flags]) + codec + b"hash" + width + height + rate + counts
    if rest:
        return head + rest(head)
    return head + b"\0" + crc_of(head, b"\0")[:2]


def test_a_file_by_hand_is_read() -> None:
    assert read(by_hand()) == Container(Header(1, b"hash", 1, 1, 0), (b"",))


@pytest.mark.parametrize("field", ["codec", "width", "height", "rate"])
@pytest.mark.parametrize("spelling", [b"\x80\0", b"\x81\0", b"\x81\x80\0", b"\x81\x80\x80\x80\0"])
def test_a_number_has_one_spelling(field: str, spelling: bytes) -> None:
    with pytest.raises(FormatError, match="longer than it need be"):
        read(by_hand(**{field: spelling}))  # type: ignore[arg-type]


def test_a_length_has_one_spelling() -> None:
    def long_zero(head: bytes) -> bytes:
        return b"\x80\0" + crc_of(head, b"\0")[:2]

    with pytest.raises(FormatError, match="longer than it need be"):
        read(by_hand(rest=long_zero))


@pytest.mark.parametrize("field", ["codec", "width", "height", "rate"])
def test_a_number_has_at_most_5_bytes(field: str) -> None:
    for spelling in (b"\xff" * 5 + b"\x01", b"\xff" * 5, b"\x80" * 50):
        with pytest.raises(FormatError, match="more than 5 bytes"):
            read(by_hand(**{field: spelling}))  # type: ignore[arg-type]


SIZES = [(0, 1), (1, 0), (0, 0), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)]
SIZES += [((1 << 35) - 1, (1 << 35) - 1)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_absurd_sizes_are_neither_read_nor_written(width: int, height: int) -> None:
    with pytest.raises(SizeError, match=f"{width} x {height}"):
        read(by_hand(width=varint(width), height=varint(height)))
    with pytest.raises(ValueError):
        write(Container(replace(HEADER, width=width, height=height), (b"",)))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (MAX_SIDE, MAX_SIDE), (1, MAX_SIDE)])
def test_the_largest_sizes_are_read(width: int, height: int) -> None:
    container = Container(replace(HEADER, width=width, height=height), (b"",))
    assert read(write(container)) == container


def test_absurd_lengths_are_refused_before_anything_is_allocated() -> None:
    for length in (1, 63, 64, 1 << 20, (1 << 35) - 1):
        data = by_hand(rest=lambda head, n=length: varint(n) + bytes(4))  # type: ignore[misc]
        if length == 1:
            data = data[:-2]  # a length of 1 without the byte itself
        with pytest.raises(TruncatedError, match="in level 1 of 1"):
            read(data)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"flags": 0, "counts": b"\x00"}, id="no section"),
        pytest.param({"flags": 0, "counts": b"\x0f"}, id="15 sections in the long way"),
        pytest.param({"flags": 0, "counts": b"\x80\x02"}, id="256 sections"),
        pytest.param({"flags": 0x11, "counts": b"\x00"}, id="no box"),
        pytest.param({"flags": 0x11, "counts": b"\x80\x02"}, id="256 boxes"),
        pytest.param({"codec": varint(MAX_CODEC + 1)}, id="codec"),
        pytest.param({"rate": varint(MAX_RATE + 1)}, id="rate"),
    ],
)
def test_numbers_outside_their_ranges_are_refused(fields: dict[str, bytes]) -> None:
    with pytest.raises(FormatError, match="the header states"):
        read(by_hand(**fields))  # type: ignore[arg-type]


def test_a_box_type_is_ascii() -> None:
    def with_box(kind: bytes) -> bytes:
        def rest(head: bytes) -> bytes:
            sums = [crc_of(head, label)[:2] for label in (b"\0", kind)]
            return b"\0" + sums[0] + kind + b"\0" + sums[1]

        return by_hand(flags=0x11, counts=b"\1", rest=rest)

    assert read(with_box(b"noTe")).boxes == (Box("noTe", b""),)
    for kind in (b"no\0e", b"no\ne", b"no\xffe", b"\x7foTe"):
        with pytest.raises(FormatError, match="the type of box 1 of 1"):
            read(with_box(kind))


@pytest.mark.parametrize(
    "container",
    [
        Container(replace(HEADER, codec=-1), (b"",)),
        Container(replace(HEADER, codec=MAX_CODEC + 1), (b"",)),
        Container(replace(HEADER, rate=-1), (b"",)),
        Container(replace(HEADER, rate=MAX_RATE + 1), (b"",)),
        Container(replace(HEADER, width=-3, height=-3), (b"",)),
        Container(replace(HEADER, weights_hash=b"abc"), (b"",)),
        Container(replace(HEADER, weights_hash=b"abcde"), (b"",)),
        Container(HEADER, ()),
        Container(HEADER, (b"",) * 256),
        Container(HEADER, (b"",), (Box("noTe", b""),) * 256),
        Container(HEADER, (b"",), (Box("ICC", b""),)),
        Container(HEADER, (b"",), (Box("EXIF2", b""),)),
        Container(HEADER, (b"",), (Box("noT\u00e9", b""),)),
        Container(HEADER, (b"",), (Box("noT\n", b""),)),
    ],
)
def test_arguments_outside_their_ranges_are_not_written(container: Container) -> None:
    with pytest.raises(ValueError):
        write(container)


# The document and the module.


def examples() -> list[bytes]:
    """The files that the document shows."""
    blocks = re.findall(r"```hex\n(.*?)```", FORMAT_MD.read_text(encoding="utf-8"), re.DOTALL)
    return [b"".join(bytes.fromhex(line[:16]) for line in b.splitlines()) for b in blocks]


def test_the_examples_of_the_document_are_these_files() -> None:
    data, tail, archive = examples()
    digit = Container(Header(3, b"\x5e\xa1\xc0\xde", 32, 32, 9), (b"\x2a",))
    grey = Header(3, b"\x5e\xa1\xc0\xde", 300, 2, 9, grey=True)
    pictures = [
        digit,
        replace(digit, sections=(b"\7\1",)),
        Container(grey, (b"\x7c\xc6", b"\xcf"), (Box("NAME", b"x"),)),
    ]
    assert (len(tail), read(tail), write(digit)) == (16, digit, tail)
    assert (len(archive), list(read_archive(archive))) == (47, pictures)
    assert write_archive(pictures) == archive
    container = Container(
        Header(codec=1, weights_hash=b"\x5e\xa1\xc0\xde", width=300, height=2, rate=9, grey=True),
        (b"\x7c\xc6", b"\xcf\xb5\x32"),
        (Box("noTe", b"hi"),),
    )
    assert len(data) == 35
    assert read(data) == container
    assert write(container) == data


def test_the_checksums_of_the_document_are_those_of_the_file() -> None:
    data = write(LONG)
    at = starts(LONG)
    for index, payload in enumerate(LONG.sections):
        crc = crc_of(data[: at[0]], bytes([index]), payload)
        assert data[at[index] + 1 : at[index] + 5] == crc
    kind, size = data[at[-1] : at[-1] + 4], data[at[-1] + 4]
    crc = crc_of(data[: at[0]], kind, LONG.boxes[0].payload)
    assert (kind, size) == (b"EXIF", 70)
    assert data[at[-1] + 5 : at[-1] + 9] == crc
    assert zlib.crc32(b"123456789") == 0xCBF43926


def test_importing_the_container_imports_nothing_heavy() -> None:
    code = "import sys, vqcodec.container; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=FORMAT_MD.parents[1],
    )
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    # Pillow and numpy come with the package itself, which registers its format with Pillow.
    assert not loaded & {"torch", "constriction", "safetensors", "click", "rich"}
