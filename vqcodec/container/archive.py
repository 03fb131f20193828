"""An archive: a file of many pictures of one codec, each of which can be read alone."""

import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from typing import BinaryIO, TypeVar

from vqcodec.container.header import (
    ARCHIVE,
    BOXES,
    FEW_SECTIONS,
    GREY,
    HEADER_BYTES,
    HEADS,
    MAGIC,
    MAX_BOXES,
    MAX_PICTURES,
    MAX_RATE,
    OWN_RATE,
    OWN_SIZE,
    Container,
    Header,
    check,
    read_header,
    read_n_sections,
    read_number,
    read_size,
    shape,
    write_header,
)
from vqcodec.container.parts import (
    LONG_PICTURE,
    TYPE_BYTES,
    VARINT_BYTES,
    Box,
    box_type,
    checksum_bytes,
    counted,
    picture_checksum,
    read_box,
    read_varint,
    take,
    varint,
)
from vqcodec.errors import ChecksumError, FormatError, KindError, TruncatedError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Archive:
    """Pictures of one codec in one file; ``archive[i]`` verifies and parses picture i alone.

    ``archive[i]`` raises IndexError, and TruncatedError, ChecksumError, SizeError or FormatError
    where that picture is not whole: the others are none the worse. Nothing but that picture is
    read of a file.

    header: what holds for the pictures that do not say otherwise.
    """

    header: Header
    _n_sections: int
    _heads: bool
    _file: BinaryIO = field(repr=False)
    _crc: int = field(repr=False)  # of all before the first picture, less the checksum there
    _lengths: "array[int]" = field(repr=False)  # of the pictures, without their checksums
    _starts: "array[int]" = field(repr=False)  # of their checksums, and the end of the last one

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> Container:
        index = range(len(self))[index]
        name = f"picture {index + 1} of {len(self)}"
        start, end = self._starts[index], self._starts[index + 1]
        self._file.seek(start)
        part, _ = take(self._file.read(end - start), 0, end - start, name)
        at = len(part) - self._lengths[index]
        data = part[at:]
        if part[:at] != picture_checksum(self._crc, index, data):
            raise ChecksumError(f"{name} is damaged")
        return self._read_picture(data, name)

    def __iter__(self) -> Iterator[Container]:
        return (self[index] for index in range(len(self)))

    def cost(self, index: int) -> int:
        """Bytes of the file that are there for one picture: its length, checksum and content."""
        n_length = len(varint(self._lengths[index]))
        return n_length + self._starts[index + 1] - self._starts[index]

    def _read_picture(self, data: bytes, name: str) -> Container:
        header, n_sections, has_boxes, at = self.header, self._n_sections, False, 0
        if self._heads:
            (flags,), at = take(data, at, 1, name)
            width, height, rate = header.width, header.height, header.rate
            if flags & OWN_SIZE:
                width, height, at = read_size(data, at, name)
            if flags & OWN_RATE:
                rate, at = read_number(data, at, name, "rate", 0, MAX_RATE)
            n_sections, at = read_n_sections(data, at, flags, name)
            has_boxes, grey = bool(flags & BOXES), bool(flags & GREY)
            header = Header(header.codec, header.weights_hash, width, height, rate, grey)
        lengths: list[int] = []
        for _ in range(n_sections if has_boxes else n_sections - 1):
            length, at = read_varint(data, at, name)
            lengths.append(length)
        if not has_boxes:  # the last section ends with the picture
            lengths.append(max(0, len(data) - at - sum(lengths)))
        sections: list[bytes] = []
        for length in lengths:
            section, at = take(data, at, length, name)
            sections.append(section)
        boxes: list[Box] = []
        while has_boxes and (at < len(data) or not boxes):
            kind, at = take(data, at, TYPE_BYTES, name)
            length, at = read_varint(data, at, name)
            payload, at = take(data, at, length, name)
            boxes.append(read_box(kind, payload, f"box {len(boxes) + 1} of {name}"))
        if len(boxes) > MAX_BOXES:
            raise FormatError(f"{name} has {len(boxes)} boxes")
        return Container(header, tuple(sections), tuple(boxes))


def is_archive(data: bytes) -> bool:
    """Whether a file, or its first 5 bytes, begins as an archive does."""
    return len(data) > len(MAGIC) and data.startswith(MAGIC) and bool(data[len(MAGIC)] & ARCHIVE)


def write_archive(containers: Sequence[Container]) -> bytes:
    """One file of 1 to MAX_PICTURES pictures of one codec; nothing of them is lost.

    A picture has 3 bytes more than its sections (6 if these have 128 bytes or more), a length for
    each section but the last, and 1 byte more where the pictures differ in anything but content.
    Raises ValueError where an argument is out of its range, or the codecs differ.
    """
    if not 1 <= len(containers) <= MAX_PICTURES:
        raise ValueError(f"an archive has 1..{MAX_PICTURES} pictures, not {len(containers)}")
    for container in containers:
        check(container)
    headers = [container.header for container in containers]
    if len({(header.codec, header.weights_hash) for header in headers}) > 1:
        raise ValueError("the pictures of an archive are of one codec")
    width, height = _commonest((header.width, header.height) for header in headers)
    shared = Header(
        headers[0].codec,
        headers[0].weights_hash,
        width,
        height,
        _commonest(header.rate for header in headers),
        _commonest(header.grey for header in headers),
    )
    n_sections = _commonest(len(container.sections) for container in containers)
    heads = any(
        container.boxes or container.header != shared or len(container.sections) != n_sections
        for container in containers
    )
    pictures = [_write_picture(container, shared if heads else None) for container in containers]
    flags = ARCHIVE | (HEADS if heads else 0)
    head = write_header(shared, flags, n_sections, len(pictures))
    head += b"".join(varint(len(picture)) for picture in pictures)
    crc = zlib.crc32(head)
    parts = [head, crc.to_bytes(4, "little")]
    for index, picture in enumerate(pictures):
        parts += [picture_checksum(crc, index, picture), picture]
    return b"".join(parts)


def read_archive(source: bytes | BinaryIO) -> Archive:
    """The archive, of which only the header and the lengths are read and verified here.

    source: the file, or one that is open and stays so, and can be sought.

    Raises NotVqcError, VersionError, SizeError, TruncatedError, ChecksumError or FormatError, and
    KindError for a picture.
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, SEEK_END)
    file.seek(0)
    data = file.read(HEADER_BYTES)
    flags, header, n_sections, n_pictures, at = read_header(data)
    if not flags & ARCHIVE:
        raise KindError("a picture, not an archive of pictures")
    if n_pictures > size - at:  # each length has a byte at least
        raise TruncatedError("the file ends early, in the header")
    lengths = array("Q", bytes(8 * n_pictures))
    for index in range(n_pictures):
        if len(data) - at < VARINT_BYTES:  # what there must be more: lengths and the checksum
            data += file.read(max(0, n_pictures - index + 4 - (len(data) - at)))
        lengths[index], at = read_varint(data, at, "the header")
    data += file.read(max(0, at + 4 - len(data)))
    crc = zlib.crc32(data[:at])
    stored, at = take(data, at, 4, "the header")
    if stored != crc.to_bytes(4, "little"):
        raise ChecksumError("the header is damaged")
    starts = array("Q", [at])
    for length in lengths:
        at += checksum_bytes(length, LONG_PICTURE) + length
        starts.append(at)
    if at < size:
        raise FormatError(f"{counted(size - at, 'byte')} after the end")
    return Archive(header, n_sections, bool(flags & HEADS), file, crc, lengths, starts)


def _write_picture(container: Container, shared: Header | None) -> bytes:
    """A picture of an archive, with flags of its own where ``shared`` is given."""
    parts = [] if shared is None else [_write_head(container, shared)]
    measured = container.sections if container.boxes else container.sections[:-1]
    parts += [varint(len(section)) for section in measured]
    parts += container.sections
    for box in container.boxes:
        parts += [box_type(box), varint(len(box.payload)), box.payload]
    return b"".join(parts)


def _write_head(container: Container, shared: Header) -> bytes:
    header, n_sections = container.header, len(container.sections)
    own_size = (header.width, header.height) != (shared.width, shared.height)
    own_rate = header.rate != shared.rate
    flags = shape(header, n_sections) | (BOXES if container.boxes else 0)
    flags |= (OWN_SIZE if own_size else 0) | (OWN_RATE if own_rate else 0)
    return b"".join(
        [
            bytes([flags]),
            varint(header.width) + varint(header.height) if own_size else b"",
            varint(header.rate) if own_rate else b"",
            b"" if flags & FEW_SECTIONS else varint(n_sections),
        ]
    )


def _commonest(values: Iterable[T]) -> T:
    """Of several the first, so that a file has one spelling."""
    return Counter(values).most_common(1)[0][0]
