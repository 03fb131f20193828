"""Each kind of bad header, number and box has its error, and is neither read nor written."""

from dataclasses import replace

import pytest
from container_files import HEADER, LONG, by_hand, crc_of, sentence, varint

from vqcodec.container import (
    MAX_CODEC,
    MAX_RATE,
    MAX_SIDE,
    Box,
    Container,
    Header,
    read,
    write,
)
from vqcodec.errors import (
    FormatError,
    NotVqcError,
    SizeError,
    TruncatedError,
    VersionError,
)


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
