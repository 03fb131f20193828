"""The container: what is written is read, whole or as far as is asked for."""

from dataclasses import FrozenInstanceError, replace

import pytest
from container_files import (
    ALL,
    HEADER,
    LONG,
    N_HEADER,
    SHORT,
    TAIL,
    by_hand,
    containers,
    crc_of,
    headers,
    part,
    starts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import (
    MAX_CODEC,
    MAX_RATE,
    Box,
    Container,
    Header,
    overhead,
    read,
    write,
)
from vqcodec.errors import (
    ChecksumError,
    FormatError,
    TruncatedError,
    UsageError,
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
    with pytest.raises(ChecksumError, match=r"level 4 of 5 is damaged.*are whole$") as caught:
        read(bytes(data), levels=4)
    assert caught.value.option == "--salvage shows a preview"
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
