"""Directories of TIFF structures (TIFF 6.0): TIFF files, camera raw files, and EXIF data."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import IO, NamedTuple

SUBFILE_TYPE, OLD_SUBFILE_TYPE, COMPRESSION, PHOTOMETRIC, MAKE = 254, 255, 259, 262, 271
BITS, SAMPLES, PLANES, SAMPLE_FORMAT = 258, 277, 284, 339
ORIENTATION, SUB_DIRECTORIES, EXIF_DIRECTORY = 274, 330, 34665
DNG_VERSION = 50706
_DIRECTORIES = {EXIF_DIRECTORY, 34853}
_PACKETS = {700, 34675}  # XMP and ICC profile
_BYTES = 7  # the kind of a field
# Fields that say where the pixels are and how to read them
LAYOUT = {
    *range(254, 260), 262, 263, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320,
    *range(322, 326), 330, 338, 339, 340, 341, 347, *range(512, 522), *range(529, 533),
}  # fmt: skip
REDUCED = 1  # bit of the subfile type
OLD_REDUCED = 2
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST = 4096  # entries of a directory that are looked at
_MOST_DIRECTORIES = 16

_SENSOR = {32803, 34892}  # photometric: colour filter array, linear raw
_RAW_COMPRESSION = {32767, 32769, 34713, 65000, 65535}  # of Sony, Nikon, Kodak, Pentax
_RAW_MAGIC = (
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (4, b"ftypcrx ", "Canon CR3"),
    (8, b"CR\2", "Canon CR2"),
    (6, b"HEAPCCDR", "Canon CRW"),
)


class Entry(NamedTuple):
    """A field of a directory."""

    tag: int
    kind: int
    n: int
    at: int  # offset of its 12 bytes
    value_at: int  # offset of its values
    inline: int  # its last four bytes as a number: an offset, where it has one value


class Directory(NamedTuple):
    entries: dict[int, Entry]
    next_at: int  # offset of the pointer to the next directory
    next: int  # that pointer


def order_of(head: bytes) -> str:
    """The byte order, as struct's letter. Raises ValueError where this is no TIFF structure."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        raise ValueError("not a TIFF structure")
    return order


def directory(data: bytes, at: int, order: str) -> Directory:
    """The directory at an offset. Raises ValueError, struct.error where it is not all there."""
    (count,) = struct.unpack_from(order + "H", data, at)
    if at < 8 or count > _MOST or at + 2 + 12 * count > len(data):
        raise ValueError("a directory is not all there")
    entries: dict[int, Entry] = {}
    for index in range(count):
        place = at + 2 + 12 * index
        tag, kind, n = struct.unpack_from(order + "HHI", data, place)
        (inline,) = struct.unpack_from(order + "I", data, place + 8)
        value_at = inline if _SIZES.get(kind, 1) * n > 4 else place + 8
        entries.setdefault(tag, Entry(tag, kind, n, place, value_at, inline))
    next_at = at + 2 + 12 * count
    follows = struct.unpack_from(order + "I", data, next_at)[0] if next_at + 4 <= len(data) else 0
    return Directory(entries, next_at, follows)


def first_directory(data: bytes) -> tuple[str, Directory]:
    """The byte order and the first directory of EXIF data. Raises ValueError, struct.error."""
    order = order_of(data)
    (at,) = struct.unpack_from(order + "I", data, 4)
    return order, directory(data, at, order)


def number(data: bytes, entry: Entry | None, order: str) -> int | None:
    """The first value of a field of whole numbers; None where it has none."""
    values = list(numbers(data, entry, order))
    return values[0] if values else None


def numbers(data: bytes, entry: Entry | None, order: str) -> Iterator[int]:
    letter = {1: "B", 3: "H", 4: "I", 13: "I"}.get(entry.kind) if entry else None
    if entry is None or letter is None:
        return
    size = struct.calcsize(letter)
    for index in range(min(entry.n, _MOST)):
        at = entry.value_at + index * size
        if at + size > len(data):
            return
        yield struct.unpack_from(order + letter, data, at)[0]


def mended(stream: IO[bytes]) -> tuple[IO[bytes], int]:
    """The same file without the fields of metadata that are broken, and how many those are.

    For their sake Pillow would leave out the fields behind them, or not decode. The same stream
    where nothing was wrong.
    """
    stream.seek(0)
    head = stream.read(8)
    try:
        order = order_of(head)
        (start,) = struct.unpack_from(order + "I", head, 4)
        fields = _directory_at(stream, start, order).entries.values()
    except (OSError, ValueError, struct.error):
        return stream, 0
    end = stream.seek(0, 2)
    new: dict[int, tuple[int, int]] = {}  # (kind, number of values) by the place of a field
    for field in fields:
        size = _SIZES.get(field.kind, 1) * field.n
        is_there = size <= 4 or field.value_at + size <= end
        if field.tag in _DIRECTORIES:
            is_there = is_there and _is_directory(stream, field, order)
        if field.tag not in LAYOUT and not is_there:
            new[start + field.at - 8] = _BYTES, 0
        elif field.tag in _PACKETS and field.kind not in (1, _BYTES):
            # Text is bytes by another name, and numbers are none.
            new[start + field.at - 8] = _BYTES, field.n if field.kind in (2, 6) else 0
    if not new:
        return stream, 0
    stream.seek(0)
    data = bytearray(stream.read())
    for at, (kind, n) in new.items():
        struct.pack_into(order + "HI", data, at + 2, kind, n)
    return BytesIO(data), sum(n == 0 for _, n in new.values())


def _directory_at(stream: IO[bytes], start: int, order: str) -> Directory:
    """The directory at an offset of a file; the places of its fields count as if that were 8."""
    stream.seek(start)
    return directory(bytes(8) + stream.read(2 + 12 * _MOST + 4), 8, order)


def _is_directory(stream: IO[bytes], field: Entry, order: str) -> bool:
    try:
        return field.n == 1 and bool(_directory_at(stream, field.inline, order).entries)
    except (OSError, ValueError, struct.error):
        return False


def samples_of(stream: IO[bytes]) -> str:
    """What the samples of a TIFF are, for the user; empty where that is not to be found out."""
    try:
        stream.seek(0)
        data = stream.read(8)
        order_of(data)  # before all is read of a file that may be large, or a device without an end
        data += stream.read()
        order, first = first_directory(data)
    except (OSError, ValueError, struct.error):
        return ""

    def value(tag: int, usual: int) -> int:
        return number(data, first.entries.get(tag), order) or usual

    if PHOTOMETRIC not in first.entries:  # not of a picture
        return ""
    kind = {2: "signed ", 3: "floating point "}.get(value(SAMPLE_FORMAT, 1), "")
    return f"{kind}samples of {value(BITS, 1)} bits, {value(SAMPLES, 1)} per pixel"


def raw_kind(stream: IO[bytes]) -> str | None:
    """What kind of camera raw file it is, None if it is none. Leaves the stream anywhere.

    Of such a file, programs that take it for a TIFF see the preview in its first directory.
    """
    stream.seek(0)
    data = stream.read(1 << 16)
    for at, magic, kind in _RAW_MAGIC:
        if data[at : at + len(magic)] == magic:
            return kind
    try:
        order = order_of(data)
        (at,) = struct.unpack_from(order + "I", data, 4)
        if at + 2 > len(data):
            stream.seek(0)
            data = stream.read(at + (1 << 16))
        first, _, follows = directory(data, at, order)
    except (ValueError, struct.error, OverflowError):
        return None

    def value(tag: int, of: dict[int, Entry]) -> int:
        return number(data, of.get(tag), order) or 0

    is_raw = (
        DNG_VERSION in first
        or (value(SUBFILE_TYPE, first) & REDUCED and SUB_DIRECTORIES in first)
        or value(PHOTOMETRIC, first) in _SENSOR
        or value(COMPRESSION, first) in _RAW_COMPRESSION
    )
    others = [*numbers(data, first.get(SUB_DIRECTORIES), order)]
    for _ in range(_MOST_DIRECTORIES):
        start = others.pop(0) if others else follows
        if is_raw or not start:
            break
        stream.seek(start)
        there = bytes(8) + stream.read(2 + 12 * _MOST + 4)
        try:
            found = directory(there, 8, order)
        except (ValueError, struct.error):
            break
        is_raw = number(there, found.entries.get(PHOTOMETRIC), order) in _SENSOR
        follows = found.next if start == follows else follows
    if not is_raw:
        return None
    made = first.get(MAKE)
    text = data[made.value_at : made.value_at + min(made.n, 40)] if made else b""
    maker = text.split(b"\0")[0].decode("ascii", "replace").strip()
    return "DNG" if DNG_VERSION in first else maker if maker.isprintable() and maker else "TIFF"
