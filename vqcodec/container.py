"""The .vqc file: a header, sections from coarse to fine, and boxes; docs/format.md describes it.

A file holds one picture, or as an archive many of one codec, which then share one header.

Knows nothing of codes, tables or pixels: sections are byte strings whose meaning belongs to the
codec. Each part carries a checksum that covers the header too, so a damaged header is found at
the first section. Bytes from outside cause no exception but those of ``vqcodec.errors``.
"""

import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from typing import BinaryIO, NamedTuple, TypeVar

from vqcodec.errors import (
    ChecksumError,
    FormatError,
    NotVqcError,
    SizeError,
    TruncatedError,
    UsageError,
    VersionError,
)

MAGIC = b"VQC1"
MAX_CODEC = (1 << 14) - 1  # 2 bytes as a varint
MAX_RATE = (1 << 21) - 1  # 3 bytes as a varint; with MAX_CODEC this keeps any header at 24 bytes
MAX_SIDE = 1 << 20  # pixels
MAX_PIXELS = 400_000_000  # of a picture that is read or decoded, unless the caller says otherwise
MAX_SECTIONS = 255
MAX_BOXES = 255
MAX_PICTURES = 1 << 20  # of an archive

_HASH_BYTES = 4
_TYPE_BYTES = 4
_VARINT_BYTES = 5
_HEADER_BYTES = 9 + 6 * _VARINT_BYTES  # at most, magic, flags and hash included
# The flags of a picture.
_FEW_SECTIONS = 0x0F  # the number of sections, 0 where it stands after the rate
_BOXES = 0x10  # the number of boxes ends the header
_GREY = 0x20
_TAIL = 0x40  # the last section ends with the file and states no length
_ARCHIVE = 0x80
# In an archive's flags, and in those of a picture in it.
_HEADS = 0x10  # each picture begins with flags of its own
_OWN_SIZE = 0x40
_OWN_RATE = 0x80
_LONG_PAYLOAD = 64  # bytes; shorter ones have a checksum of 2 bytes
_LONG_PICTURE = 128  # the same of a picture in an archive: it costs 3 bytes more than it has, or 6

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What the decoder must know before the first section.

    codec: its number, 0..MAX_CODEC. weights_hash: first 4 bytes of the SHA-256 of its weights file.
    width, height: pixels. rate: 0..MAX_RATE, its meaning belongs to the codec.
    """

    codec: int
    weights_hash: bytes
    width: int
    height: int
    rate: int
    grey: bool = False


@dataclass(frozen=True)
class Box:
    """Something beside the picture. type: 4 printable ASCII characters, e.g. ``"ICC "``."""

    type: str
    payload: bytes


@dataclass(frozen=True)
class Container:
    """The content of one file; sections stand from coarse to fine, 1 to MAX_SECTIONS of them."""

    header: Header
    sections: tuple[bytes, ...]
    boxes: tuple[Box, ...] = ()


def write(container: Container) -> bytes:
    """The file. Raises ValueError where an argument is out of its range."""
    _check(container)
    flags = (_BOXES if container.boxes else 0) | (_TAIL if _has_tail(container) else 0)
    head = _write_header(container.header, flags, len(container.sections), len(container.boxes))
    parts = [head]
    crc = zlib.crc32(head)
    for index, payload in enumerate(container.sections):
        parts += [_varint(len(payload)), _checksum(crc, bytes([index]), payload), payload]
    if flags & _TAIL:
        del parts[-3]  # the last length
    for box in container.boxes:
        kind = _box_type(box)
        parts += [kind, _varint(len(box.payload)), _checksum(crc, kind, box.payload), box.payload]
    return b"".join(parts)


def read(data: bytes, levels: int | None = None) -> Container:
    """The content of a file, every checksum verified.

    With ``levels`` only the first so many sections are returned, and only they must be sound: the
    rest may be missing or damaged. The boxes of such a file are left out unless all of it is sound.

    Raises NotVqcError, VersionError, SizeError, TruncatedError, ChecksumError or FormatError,
    UsageError where the file has fewer levels, and ValueError where ``levels`` is below 1.
    """
    found = _survey(data)
    n_sections, whole = found.n_sections, len(found.sections)
    if levels is not None and levels < 1:
        raise ValueError(f"levels is at least 1, not {levels}")
    if levels is not None and levels > n_sections:
        raise UsageError(f"the file has {_count(n_sections, 'level')}, not {levels}")
    if not found.problems:
        return Container(found.header, tuple(found.sections[:levels]), tuple(found.boxes))
    if levels is not None and levels <= whole:
        return Container(found.header, tuple(found.sections[:levels]))
    error, verb = found.problems[0], "is" if whole == 1 else "are"
    hint = f"; {whole} of {_count(n_sections, 'level')} {verb} whole"
    if whole:
        sight = "a preview" if whole < n_sections else "the picture"
        hint += f" and `--salvage` shows {sight}"
    raise type(error)(f"{error}{hint}")


def salvage(data: bytes) -> tuple[Container, tuple[str, ...]]:
    """What is whole of a damaged file, and a line for each thing that is not.

    The sections before the first damaged one, as a section means nothing without those before it,
    and every sound box that can still be found. Raises as ``read`` where that is no section.
    """
    found = _survey(data)
    n_sections, whole = found.n_sections, len(found.sections)
    if not whole:
        raise found.problems[0]
    problems = list(map(str, found.problems))
    if whole < n_sections:
        problems.append(f"{whole} of {_count(n_sections, 'level')} can be decoded")
    content = Container(found.header, tuple(found.sections), tuple(found.boxes))
    return content, tuple(problems)


def overhead(container: Container) -> int:
    """Bytes of the file that are not payload of a section: header, lengths, checksums, boxes."""
    return len(write(container)) - sum(len(payload) for payload in container.sections)


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
        part, _ = _take(self._file.read(end - start), 0, end - start, name)
        at = len(part) - self._lengths[index]
        data = part[at:]
        if part[:at] != _picture_checksum(self._crc, index, data):
            raise ChecksumError(f"{name} is damaged")
        return self._read_picture(data, name)

    def __iter__(self) -> Iterator[Container]:
        return (self[index] for index in range(len(self)))

    def cost(self, index: int) -> int:
        """Bytes of the file that are there for one picture: its length, checksum and content."""
        n_length = len(_varint(self._lengths[index]))
        return n_length + self._starts[index + 1] - self._starts[index]

    def _read_picture(self, data: bytes, name: str) -> Container:
        header, n_sections, has_boxes, at = self.header, self._n_sections, False, 0
        if self._heads:
            (flags,), at = _take(data, at, 1, name)
            width, height, rate = header.width, header.height, header.rate
            if flags & _OWN_SIZE:
                width, height, at = _read_size(data, at, name)
            if flags & _OWN_RATE:
                rate, at = _read_number(data, at, name, "rate", 0, MAX_RATE)
            n_sections, at = _read_n_sections(data, at, flags, name)
            has_boxes, grey = bool(flags & _BOXES), bool(flags & _GREY)
            header = Header(header.codec, header.weights_hash, width, height, rate, grey)
        lengths: list[int] = []
        for _ in range(n_sections if has_boxes else n_sections - 1):
            length, at = _read_varint(data, at, name)
            lengths.append(length)
        if not has_boxes:  # the last section ends with the picture
            lengths.append(max(0, len(data) - at - sum(lengths)))
        sections: list[bytes] = []
        for length in lengths:
            section, at = _take(data, at, length, name)
            sections.append(section)
        boxes: list[Box] = []
        while has_boxes and (at < len(data) or not boxes):
            kind, at = _take(data, at, _TYPE_BYTES, name)
            length, at = _read_varint(data, at, name)
            payload, at = _take(data, at, length, name)
            boxes.append(_box(kind, payload, f"box {len(boxes) + 1} of {name}"))
        if len(boxes) > MAX_BOXES:
            raise FormatError(f"{name} has {len(boxes)} boxes")
        return Container(header, tuple(sections), tuple(boxes))


def is_archive(data: bytes) -> bool:
    """Whether a file, or its first 5 bytes, begins as an archive does."""
    return len(data) > len(MAGIC) and data.startswith(MAGIC) and bool(data[len(MAGIC)] & _ARCHIVE)


def write_archive(containers: Sequence[Container]) -> bytes:
    """One file of 1 to MAX_PICTURES pictures of one codec; nothing of them is lost.

    A picture has 3 bytes more than its sections (6 if these have 128 bytes or more), a length for
    each section but the last, and 1 byte more where the pictures differ in anything but content.
    Raises ValueError where an argument is out of its range, or the codecs differ.
    """
    if not 1 <= len(containers) <= MAX_PICTURES:
        raise ValueError(f"an archive has 1..{MAX_PICTURES} pictures, not {len(containers)}")
    for container in containers:
        _check(container)
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
    flags = _ARCHIVE | (_HEADS if heads else 0)
    head = _write_header(shared, flags, n_sections, len(pictures))
    head += b"".join(_varint(len(picture)) for picture in pictures)
    crc = zlib.crc32(head)
    parts = [head, crc.to_bytes(4, "little")]
    for index, picture in enumerate(pictures):
        parts += [_picture_checksum(crc, index, picture), picture]
    return b"".join(parts)


def read_archive(source: bytes | BinaryIO) -> Archive:
    """The archive, of which only the header and the lengths are read and verified here.

    source: the file, or one that is open and stays so, and can be sought.

    Raises NotVqcError, VersionError, SizeError, TruncatedError, ChecksumError or FormatError,
    the last for a picture too.
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, SEEK_END)
    file.seek(0)
    data = file.read(_HEADER_BYTES)
    flags, header, n_sections, n_pictures, at = _read_header(data)
    if not flags & _ARCHIVE:
        raise FormatError("a picture, not an archive of pictures")
    if n_pictures > size - at:  # each length has a byte at least
        raise TruncatedError("the file ends early, in the header")
    lengths = array("Q", bytes(8 * n_pictures))
    for index in range(n_pictures):
        if len(data) - at < _VARINT_BYTES:  # what there must be more: lengths and the checksum
            data += file.read(max(0, n_pictures - index + 4 - (len(data) - at)))
        lengths[index], at = _read_varint(data, at, "the header")
    data += file.read(max(0, at + 4 - len(data)))
    crc = zlib.crc32(data[:at])
    stored, at = _take(data, at, 4, "the header")
    if stored != crc.to_bytes(4, "little"):
        raise ChecksumError("the header is damaged")
    starts = array("Q", [at])
    for length in lengths:
        at += _checksum_bytes(length, _LONG_PICTURE) + length
        starts.append(at)
    if at < size:
        raise FormatError(f"{_count(size - at, 'byte')} after the end")
    return Archive(header, n_sections, bool(flags & _HEADS), file, crc, lengths, starts)


def _write_picture(container: Container, shared: Header | None) -> bytes:
    """A picture of an archive, with flags of its own where ``shared`` is given."""
    parts = [] if shared is None else [_write_head(container, shared)]
    measured = container.sections if container.boxes else container.sections[:-1]
    parts += [_varint(len(section)) for section in measured]
    parts += container.sections
    for box in container.boxes:
        parts += [_box_type(box), _varint(len(box.payload)), box.payload]
    return b"".join(parts)


def _write_head(container: Container, shared: Header) -> bytes:
    header, n_sections = container.header, len(container.sections)
    own_size = (header.width, header.height) != (shared.width, shared.height)
    own_rate = header.rate != shared.rate
    flags = _shape(header, n_sections) | (_BOXES if container.boxes else 0)
    flags |= (_OWN_SIZE if own_size else 0) | (_OWN_RATE if own_rate else 0)
    return b"".join(
        [
            bytes([flags]),
            _varint(header.width) + _varint(header.height) if own_size else b"",
            _varint(header.rate) if own_rate else b"",
            b"" if flags & _FEW_SECTIONS else _varint(n_sections),
        ]
    )


def _check(container: Container) -> None:
    """Raises ValueError for what cannot be written."""
    header = container.header
    if len(header.weights_hash) != _HASH_BYTES:
        raise ValueError(f"weights_hash has {_HASH_BYTES} bytes, not {len(header.weights_hash)}")
    for name, value, low, high in (
        ("codec", header.codec, 0, MAX_CODEC),
        ("width", header.width, 1, MAX_SIDE),
        ("height", header.height, 1, MAX_SIDE),
        ("rate", header.rate, 0, MAX_RATE),
        ("the number of sections", len(container.sections), 1, MAX_SECTIONS),
        ("the number of boxes", len(container.boxes), 0, MAX_BOXES),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is in {low}..{high}, not {value}")


def _has_tail(container: Container) -> bool:
    return not container.boxes and len(container.sections[-1]) < _LONG_PAYLOAD


def _shape(header: Header, n_sections: int) -> int:
    """The flags that a picture has anywhere."""
    return (n_sections if n_sections <= _FEW_SECTIONS else 0) | (_GREY if header.grey else 0)


def _write_header(header: Header, flags: int, n_sections: int, count: int) -> bytes:
    """``flags`` less those of ``_shape``; ``count`` of boxes or pictures ends it, unless 0."""
    flags |= _shape(header, n_sections)
    return b"".join(
        [
            MAGIC,
            bytes([flags]),
            _varint(header.codec),
            header.weights_hash,
            _varint(header.width),
            _varint(header.height),
            _varint(header.rate),
            b"" if flags & _FEW_SECTIONS else _varint(n_sections),
            _varint(count) if count else b"",
        ]
    )


def _read_header(data: bytes) -> tuple[int, Header, int, int, int]:
    """The flags, the header, the numbers of sections and of boxes, and the offset behind.

    In an archive it is the number of pictures in place of that of boxes.
    """
    where = "the header"
    if not data:
        raise NotVqcError("the file is empty")
    if len(data) < len(MAGIC) or data[:3] != MAGIC[:3]:
        raise NotVqcError("not a .vqc file: it does not begin with VQC1")
    if data[3] != MAGIC[3]:
        raise VersionError(f"a .vqc file of an unknown version (byte {data[3]:#04x} after VQC)")
    (flags,), at = _take(data, len(MAGIC), 1, where)
    if flags & _TAIL and flags & (_BOXES | _ARCHIVE):
        raise VersionError(f"a .vqc file with features of a later version (flags {flags:#04x})")
    codec, at = _read_number(data, at, where, "codec number", 0, MAX_CODEC)
    weights_hash, at = _take(data, at, _HASH_BYTES, where)
    width, height, at = _read_size(data, at, where)
    rate, at = _read_number(data, at, where, "rate", 0, MAX_RATE)
    n_sections, at = _read_n_sections(data, at, flags, where)
    count = 0
    if flags & _ARCHIVE:
        count, at = _read_number(data, at, where, "number of pictures", 1, MAX_PICTURES)
    elif flags & _BOXES:
        count, at = _read_number(data, at, where, "number of boxes", 1, MAX_BOXES)
    header = Header(codec, weights_hash, width, height, rate, bool(flags & _GREY))
    return flags, header, n_sections, count, at


def _read_size(data: bytes, at: int, where: str) -> tuple[int, int, int]:
    """Width, height and the offset behind."""
    width, at = _read_varint(data, at, where)
    height, at = _read_varint(data, at, where)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise SizeError(f"{where} states an absurd size of {width} x {height} pixels")
    return width, height, at


def _read_n_sections(data: bytes, at: int, flags: int, where: str) -> tuple[int, int]:
    few = flags & _FEW_SECTIONS
    if few:
        return few, at
    return _read_number(data, at, where, "number of sections", _FEW_SECTIONS + 1, MAX_SECTIONS)


def _read_number(
    data: bytes, at: int, where: str, noun: str, low: int, high: int
) -> tuple[int, int]:
    value, at = _read_varint(data, at, where)
    if not low <= value <= high:
        raise FormatError(f"{where} states a {noun} of {value}, which is not in {low}..{high}")
    return value, at


class _Survey(NamedTuple):
    """A file of one picture, read to its end."""

    header: Header
    n_sections: int
    sections: list[bytes]  # before the first damaged one
    boxes: list[Box]  # the sound ones
    problems: list[FormatError]


def _survey(data: bytes) -> _Survey:
    """All that can be found, and what is wrong. Raises where the header cannot be read."""
    flags, header, n_sections, n_boxes, at = _read_header(data)
    if flags & _ARCHIVE:
        n_pictures = _count(len(read_archive(data)), "picture")
        raise FormatError(f"an archive of {n_pictures}, not a picture; `--index 1` is its first")
    crc = zlib.crc32(data[:at])
    found = _Survey(header, n_sections, [], [], [])
    for index in range(n_sections + n_boxes):
        try:
            if index < n_sections:
                name, label = f"level {index + 1} of {n_sections}", bytes([index])
                tail = bool(flags & _TAIL) and index + 1 == n_sections
            else:
                name, tail = f"box {index - n_sections + 1} of {n_boxes}", False
                label, at = _take(data, at, _TYPE_BYTES, name)
            part, at = _read_part(data, at, name, tail)
        except FormatError as error:  # where the next part begins nobody knows
            found.problems.append(error)
            return found
        try:
            payload = part.checked(crc, label)
            if index >= n_sections:
                found.boxes.append(_box(label, payload, name))
            elif not found.problems:
                found.sections.append(payload)
        except FormatError as error:
            found.problems.append(error)
    if at < len(data):
        found.problems.append(FormatError(f"{_count(len(data) - at, 'byte')} after the end"))
    return found


class _Part(NamedTuple):
    """A section or box as it stands in the file."""

    name: str
    stored: bytes  # checksum
    payload: bytes

    def checked(self, crc: int, label: bytes) -> bytes:
        """The payload. Raises ChecksumError."""
        if self.stored != _checksum(crc, label, self.payload):
            culprit = f"the header or {self.name}" if label == b"\0" else self.name
            raise ChecksumError(f"{culprit} is damaged")
        return self.payload


def _read_part(data: bytes, at: int, name: str, tail: bool = False) -> tuple[_Part, int]:
    """The section or box at offset ``at``, not verified, and the offset after it.

    Its length stands at the offset, or with ``tail`` nowhere: it ends with the file.
    """
    if tail:
        length = max(0, len(data) - at - 2)
        if length >= _LONG_PAYLOAD:
            raise FormatError(f"{name} has {length} bytes, or there are bytes after the end")
    else:
        length, at = _read_varint(data, at, name)
    stored, at = _take(data, at, _checksum_bytes(length), name)
    payload, at = _take(data, at, length, name)
    return _Part(name, stored, payload), at


def _take(data: bytes, at: int, length: int, where: str) -> tuple[bytes, int]:
    if length > len(data) - at:
        raise TruncatedError(f"the file ends early, in {where}")
    return data[at : at + length], at + length


def _checksum_bytes(length: int, long: int = _LONG_PAYLOAD) -> int:
    return 4 if length >= long else 2


def _checksum(crc: int, label: bytes, payload: bytes, long: int = _LONG_PAYLOAD) -> bytes:
    """CRC-32 continued from the header's, or its low 16 bits; the label tells parts apart."""
    value = zlib.crc32(payload, zlib.crc32(label, crc))
    return value.to_bytes(4, "little")[: _checksum_bytes(len(payload), long)]


def _picture_checksum(crc: int, index: int, picture: bytes) -> bytes:
    return _checksum(crc, index.to_bytes(4, "little"), picture, _LONG_PICTURE)


def _box_type(box: Box) -> bytes:
    kind = box.type.encode("ascii", "replace")
    if kind.decode("ascii") != box.type or not _is_box_type(kind):
        raise ValueError(f"a box type is 4 printable ASCII characters, not {box.type!r}")
    return kind


def _box(kind: bytes, payload: bytes, name: str) -> Box:
    if not _is_box_type(kind):
        raise FormatError(f"the type of {name} is not 4 ASCII characters")
    return Box(kind.decode("ascii"), payload)


def _is_box_type(kind: bytes) -> bool:
    return len(kind) == _TYPE_BYTES and all(0x20 <= byte <= 0x7E for byte in kind)


def _varint(value: int) -> bytes:
    """Unsigned LEB128: 7 bits per byte, low ones first; the high bit says that more follow."""
    if not 0 <= value < 1 << (7 * _VARINT_BYTES):
        raise ValueError(f"{value} does not fit a varint of {_VARINT_BYTES} bytes")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    value = 0
    for index in range(_VARINT_BYTES):
        (byte,), at = _take(data, at, 1, where)
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:  # one number, one spelling
                raise FormatError(f"a number in {where} is longer than it need be")
            return value, at
    raise FormatError(f"a number in {where} has more than {_VARINT_BYTES} bytes")


def _commonest(values: Iterable[T]) -> T:
    """Of several the first, so that a file has one spelling."""
    return Counter(values).most_common(1)[0][0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
