"""The parts of a file: numbers, checksums, boxes, and whatever else has a length."""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

from vqcodec.errors import ChecksumError, FormatError, TruncatedError

TYPE_BYTES = 4
VARINT_BYTES = 5
LONG_PAYLOAD = 64  # bytes; shorter ones have a checksum of 2 bytes
LONG_PICTURE = 128  # the same of a picture in an archive: it costs 3 bytes more than it has, or 6


@dataclass(frozen=True)
class Box:
    """Something beside the picture. type: 4 printable ASCII characters, e.g. ``"ICC "``."""

    type: str
    payload: bytes


class Part(NamedTuple):
    """A section or box as it stands in the file."""

    name: str
    stored: bytes  # checksum
    payload: bytes

    def checked(self, crc: int, label: bytes) -> bytes:
        """The payload. Raises ChecksumError."""
        if self.stored != checksum(crc, label, self.payload):
            culprit = f"the header or {self.name}" if label == b"\0" else self.name
            raise ChecksumError(f"{culprit} is damaged")
        return self.payload


def read_part(data: bytes, at: int, name: str, tail: bool = False) -> tuple[Part, int]:
    """The section or box at offset ``at``, not verified, and the offset after it.

    Its length stands at the offset, or with ``tail`` nowhere: it ends with the file.
    """
    if tail:
        length = max(0, len(data) - at - 2)
        if length >= LONG_PAYLOAD:
            raise FormatError(f"{name} has {length} bytes, or there are bytes after the end")
    else:
        length, at = read_varint(data, at, name)
    stored, at = take(data, at, checksum_bytes(length), name)
    payload, at = take(data, at, length, name)
    return Part(name, stored, payload), at


def take(data: bytes, at: int, length: int, where: str) -> tuple[bytes, int]:
    if length > len(data) - at:
        raise TruncatedError(f"the file ends early, in {where}")
    return data[at : at + length], at + length


def checksum_bytes(length: int, long: int = LONG_PAYLOAD) -> int:
    return 4 if length >= long else 2


def checksum(crc: int, label: bytes, payload: bytes, long: int = LONG_PAYLOAD) -> bytes:
    """CRC-32 continued from the header's, or its low 16 bits; the label tells parts apart."""
    value = zlib.crc32(payload, zlib.crc32(label, crc))
    return value.to_bytes(4, "little")[: checksum_bytes(len(payload), long)]


def picture_checksum(crc: int, index: int, picture: bytes) -> bytes:
    return checksum(crc, index.to_bytes(4, "little"), picture, LONG_PICTURE)


def box_type(box: Box) -> bytes:
    kind = box.type.encode("ascii", "replace")
    if kind.decode("ascii") != box.type or not _is_box_type(kind):
        raise ValueError(f"a box type is 4 printable ASCII characters, not {box.type!r}")
    return kind


def read_box(kind: bytes, payload: bytes, name: str) -> Box:
    if not _is_box_type(kind):
        raise FormatError(f"the type of {name} is not 4 ASCII characters")
    return Box(kind.decode("ascii"), payload)


def _is_box_type(kind: bytes) -> bool:
    return len(kind) == TYPE_BYTES and all(0x20 <= byte <= 0x7E for byte in kind)


def varint(value: int) -> bytes:
    """Unsigned LEB128: 7 bits per byte, low ones first; the high bit says that more follow."""
    if not 0 <= value < 1 << (7 * VARINT_BYTES):
        raise ValueError(f"{value} does not fit a varint of {VARINT_BYTES} bytes")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    value = 0
    for index in range(VARINT_BYTES):
        (byte,), at = take(data, at, 1, where)
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:  # one number, one spelling
                raise FormatError(f"a number in {where} is longer than it need be")
            return value, at
    raise FormatError(f"a number in {where} has more than {VARINT_BYTES} bytes")


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
