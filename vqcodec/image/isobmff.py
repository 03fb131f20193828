"""Boxes of AVIF, HEIF and JPEG 2000 files (ISO/IEC 14496-12, 23008-12, 15444-1)."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import IO, NamedTuple

from vqcodec.image.sequence import Colour, colour_of_av1, colour_of_hevc

_FULL = {b"meta", b"iref"}  # boxes whose content begins with version and flags
_MOST = 4096  # boxes that are looked at
_LEAST_OF_JP2 = {(b"jp2h", b"colr"): 7, (b"jp2h", b"res ", b"resc"): 10}  # bytes of the content
_SPACES_OF_JP2 = {0, 12, 15, 16, 17, 18}  # of two levels, CMYK, sRGB, grey and sYCC
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_UUIDS = {
    b"JpgTiffExif->JP2": "EXIF",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "IPTC",
    bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03"): "GeoTIFF",
}


class Contents(NamedTuple):
    """What a file says of its picture beside the pixels."""

    colour: Colour | None = None
    bits: int = 8  # per sample
    lost: tuple[str, ...] = ()


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(type, start and end of the content) of each, as far as they are whole."""
    end = len(data) if end is None else end
    for _ in range(_MOST):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            return
        yield kind, start + head + (4 if kind in _FULL else 0), start + size
        start += size


def _at(
    data: bytes, *path: bytes, within: tuple[int, int | None] = (0, None)
) -> Iterator[tuple[int, int]]:
    """(start, end) of the contents of boxes that lie in others: the names, the outermost first."""
    for kind, start, end in boxes(data, *within):
        if kind == path[0]:
            yield from _at(data, *path[1:], within=(start, end)) if path[1:] else [(start, end)]


def contents(data: bytes) -> Contents:
    """Of an AVIF or HEIF file; whatever is broken in it is left out."""
    try:
        return _contents(data)
    except (struct.error, IndexError):
        return Contents()


def _contents(data: bytes) -> Contents:
    meta = next(((a, b) for kind, a, b in boxes(data) if kind == b"meta"), None)
    if meta is None:
        return Contents()
    parts = {kind: (a, b) for kind, a, b in boxes(data, *meta)}
    primary = _primary(data, parts[b"pitm"][0]) if b"pitm" in parts else 1
    properties = {kind: (a, b) for kind, a, b in boxes(data, *parts.get(b"iprp", (0, 0)))}
    all_of = list(boxes(data, *properties.get(b"ipco", (0, 0))))
    owned = _associations(data, *properties[b"ipma"]) if b"ipma" in properties else {}

    def properties_of(item: int) -> list[tuple[bytes, int, int]]:
        return [all_of[i - 1] for i in owned.get(item, []) if 0 < i <= len(all_of)]

    colour, bits = None, 8
    for kind, a, b in properties_of(primary):
        if kind == b"colr" and data[a : a + 4] == b"nclx" and b - a >= 8:
            primaries, transfer = struct.unpack_from(">HH", data, a + 4)
            colour = Colour(primaries, transfer)  # decoders have widened the range
        elif kind == b"pixi" and b - a > 5:
            bits = max(data[a + 5 : a + 5 + data[a + 4]], default=8)
    if colour is None:  # as decoders do, by what is coded: of tiles, the first
        item = _first_tile(data, parts, primary) or primary
        colour = _colour_of_stream(data, parts, item, properties_of(item))
    lost: dict[str, None] = {}
    types = _types(data, *parts[b"iinf"]) if b"iinf" in parts else {}
    if any(data[at : at + 4] == b"tmap" for at in types.values()):
        lost["gain map"] = None
    for kind, a, b in all_of:
        if kind == b"auxC":
            urn = data[a + 4 : b]
            if b"hdrgainmap" in urn:
                lost["gain map"] = None
            elif b"depth" in urn or b"disparity" in urn:
                lost["depth map"] = None
            elif b"alpha" not in urn and b"auxid:1" not in urn:
                lost["auxiliary picture"] = None
    if any(kind in (b"moov", b"mpvd") for kind, _, _ in boxes(data)):
        lost["motion video"] = None
    return Contents(colour, bits, tuple(lost))


def _colour_of_stream(
    data: bytes, parts: dict[bytes, tuple[int, int]], item: int,
    properties: list[tuple[bytes, int, int]],
) -> Colour | None:  # fmt: skip
    for kind, a, b in properties:
        if kind == b"hvcC":
            return colour_of_hevc(data[a:b])
        if kind == b"av1C":
            coded = b""
            with suppress(IndexError, KeyError):
                coded = data[_place(data, parts, item)]
            return colour_of_av1(coded) or colour_of_av1(data[a + 4 : b])
    return None


def _first_tile(data: bytes, parts: dict[bytes, tuple[int, int]], item: int) -> int | None:
    """The first of the items that an item is put together from."""
    start, end = parts.get(b"iref", (0, 0))
    letter = ">I" if start and data[start - 4] else ">H"
    step = struct.calcsize(letter)
    for kind, a, _ in boxes(data, start, end):
        if kind == b"dimg" and struct.unpack_from(letter, data, a)[0] == item:
            return int(struct.unpack_from(letter, data, a + step + 2)[0])
    return None


def _place(data: bytes, parts: dict[bytes, tuple[int, int]], item: int) -> slice:
    """Where the first part of an item lies in the file. Raises IndexError, KeyError."""
    at = parts[b"iloc"][0]
    version = data[at]
    n_offset, n_length, n_base, n_index = (
        data[at + 4 + i // 2] >> (0 if i % 2 else 4) & 15 for i in range(4)
    )
    n_index *= version > 0
    at += 6

    def take(n: int) -> int:
        nonlocal at
        at += n
        if at > len(data):
            raise IndexError
        return int.from_bytes(data[at - n : at], "big")

    for _ in range(min(take(4 if version == 2 else 2), _MOST)):
        found = take(4 if version == 2 else 2)
        is_inside = bool(version and take(2) & 15)  # of the box idat, or of another item
        take(2)
        base, count = take(n_base), take(2)
        if found == item and count:
            take(n_index)
            start = base + take(n_offset) + (parts[b"idat"][0] if is_inside else 0)
            length = take(n_length)
            return slice(start, start + length if length else None)
        at += count * (n_index + n_offset + n_length)
    return slice(0)


def without_metadata(data: bytes) -> bytes:
    """The same file, whose items of metadata have types that no decoder knows. No byte moves."""
    made = bytearray(data)
    with suppress(struct.error, IndexError):
        for start, end in _at(data, b"meta", b"iinf"):
            for place in _types(data, start, end).values():
                if data[place : place + 4] in (b"Exif", b"mime"):
                    made[place : place + 4] = b"skip"
    return bytes(made)


def _primary(data: bytes, at: int) -> int:
    version = data[at]
    return int(struct.unpack_from(">I" if version else ">H", data, at + 4)[0])


def _types(data: bytes, start: int, end: int) -> dict[int, int]:
    """Where the type of each item stands."""
    at = start + (8 if data[start] else 6)
    places = {}
    for kind, a, _ in boxes(data, at, end):
        if kind == b"infe" and data[a] >= 2:
            wide = data[a] == 3
            (item,) = struct.unpack_from(">I" if wide else ">H", data, a + 4)
            places[item] = a + (10 if wide else 8)
    return places


def _associations(data: bytes, start: int, end: int) -> dict[int, list[int]]:
    """The properties of each item, counted from 1."""
    version, flags = data[start], data[start + 3]
    (count,) = struct.unpack_from(">I", data, start + 4)
    at, owned = start + 8, {}
    for _ in range(min(count, _MOST)):
        (item,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        n = data[at]
        at += 1
        letter, mask = (">H", 0x7FFF) if flags & 1 else (">B", 0x7F)
        step = struct.calcsize(letter)
        if at + n * step > end:
            break
        owned[item] = [struct.unpack_from(letter, data, at + i * step)[0] & mask for i in range(n)]
        at += n * step
    return owned


def jp2_mended(stream: IO[bytes]) -> tuple[IO[bytes], int]:
    """The same JPEG 2000 file without boxes that are too short, for whose sake it would not be
    read, and how many those are. The same stream where nothing was wrong. No byte moves."""
    stream.seek(0)
    data = stream.read()
    bad = []
    for path, least in _LEAST_OF_JP2.items():
        bad += [start for start, end in _at(data, *path) if end - start < least]
    if not bad:
        return stream, 0
    made = bytearray(data)
    for start in bad:
        made[start - 4 : start] = b"free"
    return BytesIO(made), len(bad)


def jp2_xmp(data: bytes) -> bytes | None:
    """XMP in a JPEG 2000 file."""
    for kind, a, b in boxes(data):
        if kind == b"uuid" and data[a : a + 16] == XMP_UUID:
            return data[a + 16 : b]
    return None


def jp2_icc(data: bytes) -> bytes | None:
    """The first profile of a JPEG 2000 file that says its colours so."""
    for start, end in _at(data, b"jp2h", b"colr"):
        return data[start + 3 : end] if data[start : start + 1] in (b"\2", b"\3") else None
    return None


def jp2_odd_space(data: bytes) -> int | None:
    """The number of the first colour space that a JPEG 2000 file names (ISO/IEC 15444-1, I.5.3.3,
    15444-2, M.11.7.3), where it is one that no decoder makes sRGB or grey of."""
    for start, end in _at(data, b"jp2h", b"colr"):
        if data[start : start + 1] != b"\1" or end - start < 7:
            return None
        (number,) = struct.unpack_from(">I", data, start + 3)
        return None if number in _SPACES_OF_JP2 else int(number)
    return None


def jp2_resolution(data: bytes) -> tuple[float, float] | None:
    """Pixels per inch, across and down, at which a JPEG 2000 file is to be shown."""
    for start, end in _at(data, b"jp2h", b"res ", b"resd"):
        if end - start >= 10:
            # Fractions per metre and their powers of ten, down before across
            y, y_over, x, x_over, y_power, x_power = struct.unpack_from(">4H2b", data, start)
            across = 0.0254 * x / max(1, x_over) * 10.0**x_power
            return across, 0.0254 * y / max(1, y_over) * 10.0**y_power
    return None


def jp2_lost(data: bytes) -> list[str]:
    """What is in a JPEG 2000 file beside the picture, and is not kept."""
    found = [data[a : a + 16] for kind, a, _ in boxes(data) if kind == b"uuid"]
    found = [name for name in found if name != XMP_UUID]
    return list(dict.fromkeys(_UUIDS.get(name, "data of a program") for name in found))


def jp2_bits(data: bytes) -> int:
    """Bits per sample of a JPEG 2000 file."""
    for start, end in _at(data, b"jp2h", b"ihdr"):
        if end - start >= 11 and data[start + 10] != 255:
            return (data[start + 10] & 0x7F) + 1
    return 8


def jxl_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a JPEG XL file states (ISO/IEC 18181-1, SizeHeader)."""
    if data[:2] != b"\xff\x0a":
        parts = [data[a + 4 * (k == b"jxlp") : b] for k, a, b in _jxl_boxes(data)]
        data = b"".join(parts)[:64]
    if data[:2] != b"\xff\x0a":
        return None
    bits = _Bits(int.from_bytes(data[2:20], "little"))
    small = bits.take(1)

    def side() -> int:
        if small:
            return 8 * (bits.take(5) + 1)
        return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1

    height = side()
    ratio = bits.take(3)
    ratios = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
    if ratio:
        over, under = ratios[ratio - 1]
        return height * over // under, height
    return side(), height


def jxl_lost(data: bytes) -> list[str]:
    """What is in a JPEG XL file beside the picture, and is not kept."""
    names = {b"jhgm": "gain map", b"jumb": "JUMBF data"}
    return list(dict.fromkeys(names[kind] for kind, _, _ in boxes(data) if kind in names))


def _jxl_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    return ((k, a, b) for k, a, b in boxes(data) if k in (b"jxlc", b"jxlp"))


class _Bits:
    """Bits of a number, the lowest first."""

    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, n: int) -> int:
        taken = self._value & ((1 << n) - 1)
        self._value >>= n
        return taken
