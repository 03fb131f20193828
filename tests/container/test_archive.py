"""Archives: what is written is read, each picture alone, and damage costs what it hits."""

import time
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from archive_files import BOTH, DIGIT, HEADER, MIXED
from container_files import check_missing_and_doubled_bytes, part, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import (
    MAX_BOXES,
    MAX_PICTURES,
    MAX_RATE,
    MAX_SECTIONS,
    MAX_SIDE,
    Box,
    Container,
    Header,
    is_archive,
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
    VersionError,
)


def fixed_bytes(data: bytes) -> int:
    """Bytes of an archive before its first picture."""
    archive = read_archive(data)
    n_lengths = sum(1 + (archive._lengths[i] >= 128) for i in range(len(archive)))
    return len(data) - sum(map(archive.cost, range(len(archive)))) + n_lengths


payloads = st.binary(max_size=80) | st.integers(0, 400).map(bytes)
types = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=4, max_size=4)
headers = st.builds(
    Header,
    codec=st.just(77),
    weights_hash=st.just(b"hash"),
    width=st.just(32) | st.integers(1, 1 << 14),
    height=st.just(32) | st.integers(1, 1 << 14),
    rate=st.just(9) | st.integers(0, MAX_RATE),
    grey=st.booleans(),
)
containers = st.builds(
    Container,
    headers,
    st.lists(payloads, min_size=1, max_size=20).map(tuple),
    st.lists(st.builds(Box, types, payloads), max_size=3).map(tuple),
)
alike = st.lists(st.lists(payloads, min_size=2, max_size=2), min_size=1, max_size=9).map(
    lambda pictures: [Container(HEADER, tuple(sections)) for sections in pictures]
)


# What is written is read.


@given(alike | st.lists(containers, min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(pictures: list[Container]) -> None:
    data = write_archive(pictures)
    archive = read_archive(data)
    assert is_archive(data)
    assert [*archive] == pictures
    assert write_archive([*archive]) == data
    costs = [archive.cost(i) for i in range(len(archive))]
    assert sum(costs) < len(data) <= sum(costs) + 29


@given(st.lists(containers, min_size=2, max_size=9))
@settings(max_examples=200, deadline=None)
def test_an_archive_is_hardly_larger_than_its_files(pictures: list[Container]) -> None:
    # The header that they share may be that of none of them.
    assert len(write_archive(pictures)) <= sum(len(write(picture)) for picture in pictures) + 12


@pytest.mark.parametrize("n_sections", [1, 2, 15, 16, MAX_SECTIONS])
@pytest.mark.parametrize("n_boxes", [0, 1, MAX_BOXES])
def test_any_number_of_sections_and_boxes_is_read(n_sections: int, n_boxes: int) -> None:
    sections = tuple(bytes([i]) * (i % 3) for i in range(n_sections))
    picture = Container(HEADER, sections, tuple(Box("noTe", bytes([i])) for i in range(n_boxes)))
    for pictures in ([picture], [picture] * 3, [picture, DIGIT]):
        assert [*read_archive(write_archive(pictures))] == pictures


@pytest.mark.parametrize("size", [0, 1, 63, 64, 125, 126, 127, 128, 129, 16383, 16384])
def test_a_picture_of_128_bytes_has_a_checksum_of_4(size: int) -> None:
    data = write_archive([DIGIT, Container(HEADER, (part(size, 1),)), DIGIT])
    archive = read_archive(data)
    assert archive.cost(1) == size + (3 if size < 128 else 6 if size < 16384 else 7)
    assert archive[1].sections == (part(size, 1),) and archive[2] == DIGIT


def test_pictures_are_indexed_as_in_a_list() -> None:
    archive = read_archive(write_archive(MIXED))
    assert len(archive) == 4 and archive[-1] == archive[3] == MIXED[3]
    for index in (4, -5):
        with pytest.raises(IndexError):
            archive[index]


# It is small.


def test_a_picture_of_72_bytes_costs_at_most_76() -> None:
    picture = Container(HEADER, (part(72, 1),))
    in_two = Container(HEADER, (part(60, 1), part(12, 2)))
    for pictures, cost in (
        ([picture] * 3, 75),
        ([picture, DIGIT, MIXED[1]], 76),
        ([in_two] * 3, 76),
    ):
        assert read_archive(write_archive(pictures)).cost(0) == cost


def test_digits_of_one_code_cost_4_bytes_each_and_17_once() -> None:
    for count in (1, 2, 100):
        assert len(write_archive([DIGIT] * count)) == 18 + 4 * count
    assert len(write_archive([DIGIT] * 1000)) == 19 + 4 * 1000


def test_what_most_pictures_have_is_stored_once() -> None:
    other = replace(DIGIT, header=replace(HEADER, width=31, rate=8))
    archive = read_archive(write_archive([other, DIGIT, DIGIT]))
    assert archive.header == HEADER
    assert [archive.cost(i) for i in range(3)] == [5 + 3, 5, 5]


# Damage is found, and costs what it hits.


def pictures_of(data: bytes) -> list[Container]:
    return [*read_archive(data)]


@pytest.mark.parametrize("pictures", BOTH)
def test_a_file_cut_anywhere_is_truncated(pictures: list[Container]) -> None:
    data = write_archive(pictures)
    begin = fixed_bytes(data)
    for size in range(len(data)):
        with pytest.raises(NotVqcError if size < 4 else TruncatedError) as error:
            pictures_of(data[:size])
        assert "\n" not in str(error.value)
        if size < begin:
            with pytest.raises(FormatError):
                read_archive(data[:size])


@pytest.mark.parametrize("pictures", BOTH)
def test_the_pictures_before_a_cut_are_whole(pictures: list[Container]) -> None:
    data = write_archive(pictures)
    archive = read_archive(data[:-1])
    assert [archive[i] for i in range(len(pictures) - 1)] == pictures[:-1]
    name = f"picture {len(pictures)} of {len(pictures)}"
    with pytest.raises(TruncatedError, match=name):
        archive[-1]


@pytest.mark.parametrize("pictures", BOTH)
def test_any_single_changed_byte_is_found_and_costs_one_picture(pictures: list[Container]) -> None:
    # With a checksum of 16 bits one change in 65536 is missed; these are files without one.
    data = write_archive(pictures)
    begin = fixed_bytes(data)
    for position in range(len(data)):
        damaged = bytearray(data)
        for mask in range(1, 256):
            damaged[position] = data[position] ^ mask
            if position < begin:
                with pytest.raises(FormatError):
                    read_archive(bytes(damaged))
                continue
            archive, lost = read_archive(bytes(damaged)), 0
            for index, picture in enumerate(pictures):
                try:
                    assert archive[index] == picture
                except ChecksumError as error:
                    assert f"picture {index + 1} of {len(pictures)} is damaged" in str(error)
                    lost += 1
            assert lost == 1


@pytest.mark.parametrize("pictures", BOTH)
def test_a_missing_or_doubled_byte_is_found(pictures: list[Container]) -> None:
    check_missing_and_doubled_bytes(write_archive(pictures), pictures_of)


def test_swapped_pictures_are_found() -> None:
    for size in (5, 200):
        data = write_archive([Container(HEADER, (b"a" * size,)), Container(HEADER, (b"b" * size,))])
        begin = fixed_bytes(data)
        half = (len(data) - begin) // 2
        swapped = data[:begin] + data[begin + half :] + data[begin : begin + half]
        for index in range(2):
            with pytest.raises(ChecksumError):
                read_archive(swapped)[index]


@pytest.mark.parametrize("n_extra", [1, 2, 1000])
def test_bytes_after_the_end_are_refused(n_extra: int) -> None:
    noun = "1 byte" if n_extra == 1 else f"{n_extra} bytes"
    with pytest.raises(FormatError, match=f"^{noun} after the end"):
        read_archive(write_archive(MIXED) + bytes(n_extra))


def test_an_archive_is_no_picture_and_a_picture_no_archive() -> None:
    for count, noun in ((1, "1 picture,"), (3, "3 pictures,")):
        for levels in (None, 1):
            with pytest.raises(FormatError, match=f"^an archive of {noun}"):
                read(write_archive([DIGIT] * count), levels)
    with pytest.raises(FormatError, match="not an archive"):
        read_archive(write(DIGIT))
    damaged = bytearray(write_archive([DIGIT]))
    damaged[12] ^= 1
    with pytest.raises(ChecksumError, match="the header is damaged"):
        read(bytes(damaged))
    for data in (b"", b"VQC1", b"VQC1\x01", b"VQC2\x81", write(DIGIT), b"\x89PNG\x80"):
        assert not is_archive(data)
    assert is_archive(write_archive([DIGIT])[:5])


# Any bytes end in pictures or in a FormatError, soon and in little memory.


def only_format_errors(data: bytes) -> None:
    try:
        archive = read_archive(data)
    except FormatError as error:
        assert str(error) and "\n" not in str(error)
        return
    for index in range(len(archive)):
        try:
            archive[index]
        except FormatError as error:
            assert str(error) and "\n" not in str(error)


@given(st.binary(max_size=200), st.sampled_from([b"VQC1", b"VQC1\x81", b"VQC1\x91"]))
@settings(max_examples=500, deadline=None)
def test_random_bytes_raise_only_format_errors(data: bytes, start: bytes) -> None:
    only_format_errors(start + data)


def by_hand(
    *pictures: bytes,
    flags: int = 0x81,
    size: bytes = b"\1\1",
    rate: bytes = b"\0",
    sections: bytes = b"",
    count: bytes | None = None,
) -> bytes:
    """An archive with sound checksums, whatever it says."""
    head = b"VQC1" + bytes([flags]) + b"\3hash" + size + rate + sections
    head += varint(len(pictures)) if count is None else count
    head += b"".join(varint(len(picture)) for picture in pictures)
    data = head + zlib.crc32(head).to_bytes(4, "little")
    for index, picture in enumerate(pictures):
        crc = zlib.crc32(head + index.to_bytes(4, "little") + picture).to_bytes(4, "little")
        data += crc[: 2 if len(picture) < 128 else 4] + picture
    return data


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.sampled_from([1, 3, 0x11, 0]))
@settings(max_examples=1000, deadline=None)
def test_random_contents_with_sound_checksums_raise_only_format_errors(
    pictures: list[bytes], flags: int
) -> None:
    data = by_hand(*pictures, flags=0x80 | flags, sections=b"" if flags else b"\x10")
    assert len(read_archive(data)) == len(pictures)
    only_format_errors(data)


def test_archives_by_hand_are_read() -> None:
    header = Header(3, b"hash", 1, 1, 0)
    assert pictures_of(by_hand(b"xyz")) == [Container(header, (b"xyz",))]
    assert pictures_of(by_hand(b"\2xyz", flags=0x82)) == [Container(header, (b"xy", b"z"))]
    own = b"\xf1\5\6\7" + b"\1x" + b"noTe\2hi" + b"noTf\0"
    assert pictures_of(by_hand(own, flags=0x91)) == [
        Container(
            Header(3, b"hash", 5, 6, 7, True), (b"x",), (Box("noTe", b"hi"), Box("noTf", b""))
        )
    ]


@pytest.mark.parametrize(
    ("picture", "error"),
    [
        pytest.param(b"", TruncatedError, id="no flags"),
        pytest.param(b"\x41", TruncatedError, id="no size"),
        pytest.param(b"\x41\0\1x", SizeError, id="no width"),
        pytest.param(b"\x41" + varint(MAX_SIDE + 1) + varint(1), SizeError, id="absurd size"),
        pytest.param(b"\x81" + varint(MAX_RATE + 1), FormatError, id="rate"),
        pytest.param(b"\x00\x00", FormatError, id="no section"),
        pytest.param(b"\x00\x0f" + bytes(20), FormatError, id="15 sections in the long way"),
        pytest.param(b"\x00\x80\x02" + bytes(300), FormatError, id="256 sections"),
        pytest.param(b"\x02\x04abc", TruncatedError, id="length above the rest"),
        pytest.param(b"\x02\xff\xff\xff\xff\x7fabc", TruncatedError, id="absurd length"),
        pytest.param(b"\x02\x81\x00abc", FormatError, id="length in the long way"),
        pytest.param(b"\x11\x01x", TruncatedError, id="no box"),
        pytest.param(b"\x11\x01xnoTe\x05hi", TruncatedError, id="box above the rest"),
        pytest.param(b"\x11\x01xno\0e\x00", FormatError, id="type"),
        pytest.param(b"\x11\x01x" + b"noTe\0" * 256, FormatError, id="256 boxes"),
    ],
)
def test_contents_that_break_a_rule_are_refused(picture: bytes, error: type[FormatError]) -> None:
    archive = read_archive(by_hand(b"\1ok", picture, b"\1ok", flags=0x91))
    with pytest.raises(error, match="picture 2 of 3"):
        archive[1]
    assert archive[0].sections == archive[2].sections == (b"ok",)


def test_headers_that_break_a_rule_are_refused() -> None:
    for flags in (0xC1, 0xD1):
        with pytest.raises(VersionError):
            read_archive(by_hand(b"x", flags=flags))
    with pytest.raises(SizeError):
        read_archive(by_hand(b"x", size=b"\0\1"))
    for count in (0, MAX_PICTURES + 1, (1 << 35) - 1):
        with pytest.raises(FormatError, match="number of pictures"):
            read_archive(by_hand(count=varint(count)))
    with pytest.raises(FormatError, match="longer than it need be"):
        read_archive(by_hand(b"x", count=b"\x81\0"))


def test_absurd_counts_and_lengths_are_refused_before_anything_is_allocated() -> None:
    absurd = b"\xff\xff\xff\xff\x7f"  # 2^35 - 1
    head = b"VQC1\x81\3hash\1\1\0" + varint(1000) + absurd * 1000
    archive = head + zlib.crc32(head).to_bytes(4, "little")
    many = b"VQC1\x81\3hash\1\1\0" + varint(MAX_PICTURES) + bytes(100)
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(TruncatedError):
        read_archive(many)
    for index in (0, 1, 999):
        with pytest.raises(TruncatedError):
            read_archive(archive)[index]
    assert time.process_time() - begun < 1
    assert tracemalloc.get_traced_memory()[1] < 200_000  # bytes
    tracemalloc.stop()


# What cannot be written is refused.


@pytest.mark.parametrize(
    "pictures",
    [
        pytest.param([], id="none"),
        pytest.param([DIGIT] * (MAX_PICTURES + 1), id="too many"),
        pytest.param([DIGIT, replace(DIGIT, header=replace(HEADER, codec=4))], id="codec"),
        pytest.param(
            [DIGIT, replace(DIGIT, header=replace(HEADER, weights_hash=b"1234"))], id="weights"
        ),
        pytest.param([DIGIT, replace(DIGIT, header=replace(HEADER, width=0))], id="size"),
        pytest.param([DIGIT, Container(HEADER, ())], id="no section"),
        pytest.param([DIGIT, Container(HEADER, (b"",), (Box("ICC", b""),))], id="type"),
        pytest.param([Container(HEADER, (b"",), (Box("noTe", b""),) * 256)], id="boxes"),
    ],
)
def test_arguments_outside_their_ranges_are_not_written(pictures: list[Container]) -> None:
    with pytest.raises(ValueError):
        write_archive(pictures)
