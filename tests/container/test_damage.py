"""Damage, and bytes of any kind: nothing passes, and nothing but the errors meant is raised."""

import random
from dataclasses import replace

import pytest
from container_files import (
    ALL,
    HEADER,
    LONG,
    N_HEADER,
    SHORT,
    TAIL,
    check_missing_and_doubled_bytes,
    sentence,
    starts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import Container, read, write
from vqcodec.errors import ChecksumError, FormatError, NotVqcError, TruncatedError, UsageError


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
        assert error.value.option.startswith("--salvage shows") == (whole >= 1)


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
    check_missing_and_doubled_bytes(write(container), read)


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
