"""The .vqc file: a header, sections from coarse to fine, and boxes; docs/format.md describes it.

Knows nothing of codes, tables or pixels: sections are byte strings whose meaning belongs to the
codec. Each part carries a checksum that covers the header too, so a damaged header is found at
the first section. Bytes from outside cause no exception but those of ``vqcodec.errors``.
"""

import zlib
from dataclasses import dataclass

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
MAX_PIXELS = 1 << 28
MAX_SECTIONS = 255
MAX_BOXES = 255

_HASH_BYTES = 4
_TYPE_BYTES = 4
_VARINT_BYTES = 5
_FEW_SECTIONS = 0x0F  # flags: the number of sections, 0 where it stands after the rate
_BOXES = 0x10  # flags: the number of boxes ends the header
_GREY = 0x20
_RESERVED = 0xC0
_LONG_PAYLOAD = 64  # bytes; shorter ones have a checksum of 2 bytes


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
    head = _write_header(container)
    parts = [head]
    crc = zlib.crc32(head)
    for index, payload in enumerate(container.sections):
        parts += [_varint(len(payload)), _checksum(crc, bytes([index]), payload), payload]
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
    header, n_sections, n_boxes, at = _read_header(data)
    if levels is not None and levels < 1:
        raise ValueError(f"levels is at least 1, not {levels}")
    if levels is not None and levels > n_sections:
        raise UsageError(f"the file has {_count(n_sections, 'level')}, not {levels}")
    crc = zlib.crc32(data[:at])
    sections: list[bytes] = []
    boxes: list[Box] = []
    try:
        for index in range(n_sections):
            name = f"level {index + 1} of {n_sections}"
            payload, at = _read_part(data, at, crc, bytes([index]), name)
            sections.append(payload)
        for index in range(n_boxes):
            name = f"box {index + 1} of {n_boxes}"
            kind, at = _take(data, at, _TYPE_BYTES, name)
            payload, at = _read_part(data, at, crc, kind, name)
            if not _is_box_type(kind):
                raise FormatError(f"the type of {name} is not 4 ASCII characters")
            boxes.append(Box(kind.decode("ascii"), payload))
        if at < len(data):
            raise FormatError(f"{_count(len(data) - at, 'byte')} after the end")
    except FormatError as error:
        whole = len(sections)
        if levels is not None and levels <= whole:
            return Container(header, tuple(sections[:levels]))
        verb = "is" if whole == 1 else "are"
        hint = f"; {whole} of {_count(n_sections, 'level')} {verb} whole"
        if whole:
            sight = "a preview" if whole < n_sections else "the picture"
            hint += f" and `--levels {whole}` shows {sight}"
        raise type(error)(f"{error}{hint}") from None
    return Container(header, tuple(sections[:levels]), tuple(boxes))


def overhead(container: Container) -> int:
    """Bytes of the file that are not payload of a section: header, lengths, checksums, boxes."""
    return len(write(container)) - sum(len(payload) for payload in container.sections)


def _write_header(container: Container) -> bytes:
    header, n_sections, n_boxes = container.header, len(container.sections), len(container.boxes)
    if len(header.weights_hash) != _HASH_BYTES:
        raise ValueError(f"weights_hash has {_HASH_BYTES} bytes, not {len(header.weights_hash)}")
    for name, value, low, high in (
        ("codec", header.codec, 0, MAX_CODEC),
        ("width", header.width, 1, MAX_SIDE),
        ("height", header.height, 1, MAX_SIDE),
        ("width * height", header.width * header.height, 1, MAX_PIXELS),
        ("rate", header.rate, 0, MAX_RATE),
        ("the number of sections", n_sections, 1, MAX_SECTIONS),
        ("the number of boxes", n_boxes, 0, MAX_BOXES),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is in {low}..{high}, not {value}")
    few = n_sections if n_sections <= _FEW_SECTIONS else 0
    flags = few | (_BOXES if n_boxes else 0) | (_GREY if header.grey else 0)
    return b"".join(
        [
            MAGIC,
            bytes([flags]),
            _varint(header.codec),
            header.weights_hash,
            _varint(header.width),
            _varint(header.height),
            _varint(header.rate),
            b"" if few else _varint(n_sections),
            _varint(n_boxes) if n_boxes else b"",
        ]
    )


def _read_header(data: bytes) -> tuple[Header, int, int, int]:
    """The header, the numbers of sections and boxes, and the offset of the first section."""
    where = "the header"
    if not data:
        raise NotVqcError("the file is empty")
    if len(data) < len(MAGIC) or data[:3] != MAGIC[:3]:
        raise NotVqcError("not a .vqc file: it does not begin with VQC1")
    if data[3] != MAGIC[3]:
        raise VersionError(f"a .vqc file of an unknown version (byte {data[3]:#04x} after VQC)")
    (flags,), at = _take(data, len(MAGIC), 1, where)
    if flags & _RESERVED:
        raise VersionError(f"a .vqc file with features of a later version (flags {flags:#04x})")
    codec, at = _read_varint(data, at, where)
    weights_hash, at = _take(data, at, _HASH_BYTES, where)
    width, at = _read_varint(data, at, where)
    height, at = _read_varint(data, at, where)
    rate, at = _read_varint(data, at, where)
    n_sections = flags & _FEW_SECTIONS
    if not n_sections:
        n_sections, at = _read_varint(data, at, where)
        if not _FEW_SECTIONS < n_sections <= MAX_SECTIONS:
            raise FormatError(f"the header states {n_sections} sections in the long way")
    n_boxes = 0
    if flags & _BOXES:
        n_boxes, at = _read_varint(data, at, where)
        if not 1 <= n_boxes <= MAX_BOXES:
            raise FormatError(f"the header states {n_boxes} boxes")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise SizeError(f"the header states an absurd size of {width} x {height} pixels")
    if codec > MAX_CODEC:
        raise FormatError(f"the header states codec number {codec}, above {MAX_CODEC}")
    if rate > MAX_RATE:
        raise FormatError(f"the header states rate {rate}, above {MAX_RATE}")
    grey = bool(flags & _GREY)
    return Header(codec, weights_hash, width, height, rate, grey), n_sections, n_boxes, at


def _read_part(data: bytes, at: int, crc: int, label: bytes, name: str) -> tuple[bytes, int]:
    """The verified payload whose length stands at offset ``at``, and the offset after it."""
    length, at = _read_varint(data, at, name)
    stored, at = _take(data, at, _checksum_bytes(length), name)
    payload, at = _take(data, at, length, name)
    if stored != _checksum(crc, label, payload):
        culprit = f"the header or {name}" if label == b"\0" else name
        raise ChecksumError(f"{culprit} is damaged")
    return payload, at


def _take(data: bytes, at: int, length: int, where: str) -> tuple[bytes, int]:
    if length > len(data) - at:
        raise TruncatedError(f"the file ends early, in {where}")
    return data[at : at + length], at + length


def _checksum_bytes(length: int) -> int:
    return 4 if length >= _LONG_PAYLOAD else 2


def _checksum(crc: int, label: bytes, payload: bytes) -> bytes:
    """CRC-32 continued from the header's, or its low 16 bits; the label tells parts apart."""
    value = zlib.crc32(payload, zlib.crc32(label, crc))
    return value.to_bytes(4, "little")[: _checksum_bytes(len(payload))]


def _box_type(box: Box) -> bytes:
    kind = box.type.encode("ascii", "replace")
    if kind.decode("ascii") != box.type or not _is_box_type(kind):
        raise ValueError(f"a box type is 4 printable ASCII characters, not {box.type!r}")
    return kind


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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
