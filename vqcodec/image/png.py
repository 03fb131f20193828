"""The chunks of a PNG file (W3C Recommendation, 3rd edition): what is sound, kept, and lost."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP = b"XML:com.adobe.xmp"
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_MOST_TEXT = 1 << 20  # bytes of one text, which Pillow refuses above that
_MOST_TEXTS = 1 << 25  # of all of them
_MOST_PACKED = 1 << 24  # of a profile or XMP, unpacked
# Chunks of the standard and of registered extensions that say nothing that is lost
_USUAL = {
    *(b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"eXIf"),
    *(b"bKGD", b"hIST", b"pHYs", b"sPLT", b"acTL", b"fcTL", b"fdAT", b"iDOT", b"vpAg", b"oFFs"),
    *(b"orNT", b"CgBI", b"dSIG"),
}
_LEAST = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"acTL": 8, b"fcTL": 26, b"fdAT": 4}


class Chunk(NamedTuple):
    kind: bytes
    at: int  # of its length
    length: int
    content: bytes  # empty for what is long, of the critical ones but IHDR and PLTE
    sound: bool  # its checksum is right, where it was looked at

    @property
    def text(self) -> tuple[bytes, bytes, bool]:
        """(keyword, text as it stands there, whether that is packed)."""
        keyword, _, rest = self.content.partition(b"\0")
        if self.kind == b"zTXt":
            return keyword, rest[1:], True
        if self.kind == b"iTXt":
            parts = rest[2:].split(b"\0", 2)
            return keyword, parts[2] if len(parts) == 3 else b"", rest[:1] == b"\1"
        return keyword, rest, False


def chunks(stream: IO[bytes]) -> Iterator[Chunk]:
    """All, as far as they are whole. Contents of the picture's data are not read."""
    at = len(SIGNATURE)
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        content, sound = b"", True
        if kind not in {b"IDAT", b"fdAT", b"IEND"}:
            content = stream.read(length)
            crc = stream.read(4)
            if len(crc) < 4:
                return
            sound = zlib.crc32(content, zlib.crc32(kind)) == int.from_bytes(crc, "big")
        yield Chunk(kind, at, length, content, sound)
        if kind == b"IEND":
            return
        at += 12 + length


def unpacked(data: bytes, most: int) -> bytes | None:
    """None where there are more than ``most`` bytes in it, or it is broken."""
    try:
        worker = zlib.decompressobj()
        found = worker.decompress(data, most)
        return found if worker.eof or not worker.unconsumed_tail else None
    except zlib.error:
        return None


class Mended(NamedTuple):
    """A file without the chunks that Pillow would not read, for all that they are no pixels."""

    stream: IO[bytes]
    chunks: list[Chunk]  # the sound ones
    icc: bytes | None  # a profile that is too long for Pillow
    xmp: bytes | None
    notes: list[str]


def mended(stream: IO[bytes]) -> Mended:
    """The same stream where nothing was wrong."""
    found: list[Chunk] = []
    bad, notes = [], []
    icc = xmp = None
    n_text = 0
    for chunk in chunks(stream):
        why = ""
        if not chunk.sound and chunk.kind not in _CRITICAL:
            why = f"damaged {_name(chunk.kind)} chunk dropped"
        elif chunk.length < _least(chunk.kind, found):
            why = f"{_name(chunk.kind)} chunk dropped: it is too short"
        elif chunk.kind in _TEXT:
            keyword, text, packed = chunk.text
            plain = unpacked(text, _MOST_PACKED) if packed else text
            if chunk.kind == b"zTXt" and chunk.content[len(keyword) + 1 :][:1] > b"\0":
                plain = None  # packed in a way that does not exist
            if keyword == XMP and plain is not None and len(plain) <= _MOST_PACKED:
                xmp = plain
            length = len(plain) if plain is not None else _MOST_PACKED + 1
            n_text += length
            if (length > _MOST_TEXT or n_text > _MOST_TEXTS) and keyword != XMP:
                why = f"text {_word(keyword)} dropped: it is too long, or broken"
            elif length > _MOST_TEXT:
                bad.append(chunk)
                continue
        elif chunk.kind == b"iCCP":
            rest = chunk.content.partition(b"\0")[2]
            profile = unpacked(rest[1:], _MOST_PACKED)
            if rest[:1] != b"\0" or not profile:
                why = "broken ICC profile dropped"
            elif len(profile) >= _MOST_TEXT:
                icc = profile
                bad.append(chunk)
        if why:
            notes.append(why)
            bad.append(chunk)
        else:
            found.append(chunk)
    if bad:
        stream = _without(stream, bad)
    return Mended(stream, found, icc, xmp, notes)


def _least(kind: bytes, found: list[Chunk]) -> int:
    """Bytes of a chunk without which Pillow refuses the file."""
    if kind == b"tRNS" and found and len(found[0].content) == 13:
        return {0: 2, 2: 6}.get(found[0].content[9], 0)
    return _LEAST.get(kind, 0)


def _without(stream: IO[bytes], bad: list[Chunk]) -> BytesIO:
    stream.seek(0)
    data = stream.read()
    parts, at = [], 0
    for chunk in bad:
        parts.append(data[at : chunk.at])
        at = chunk.at + 12 + chunk.length
    return BytesIO(b"".join(parts) + data[at:])


def lost(found: list[Chunk]) -> list[str]:
    """What is beside the picture and is not kept, a few words each."""
    words: dict[str, None] = {}
    keywords = [_word(c.text[0]) for c in found if c.kind in _TEXT and c.text[0] != XMP]
    if keywords:
        words[f"text ({', '.join(dict.fromkeys(keywords))})"] = None
    for chunk in found:
        if chunk.kind == b"caBX":
            words["content credentials"] = None
        elif chunk.kind == b"tIME":
            words["time of the last change"] = None
        elif chunk.kind not in _USUAL | _TEXT | _CRITICAL:
            words[f"{_name(chunk.kind)} chunk"] = None
    return list(words)


def before_pixels(found: list[Chunk]) -> dict[bytes, bytes]:
    """Contents of the first chunk of each kind, where they must stand to be heeded."""
    contents: dict[bytes, bytes] = {}
    for chunk in found:
        if chunk.kind == b"IDAT":
            break
        contents.setdefault(chunk.kind, chunk.content)
    return contents


def size(found: list[Chunk]) -> tuple[int, int] | None:
    """(width, height) that the header states."""
    if not found or found[0].kind != b"IHDR" or len(found[0].content) != 13:
        return None
    width, height = struct.unpack_from(">II", found[0].content)
    return width, height


def completed(stream: IO[bytes], partly: bool) -> tuple[BytesIO, float] | None:
    """A whole file of what is there of the picture, black below, and the share that is there.

    It takes as much memory as the header says that the picture has. None where not even the
    header is there, and unless ``partly``, where a part is missing.
    """
    stream.seek(0)
    data = stream.read()
    found = list(chunks(BytesIO(data)))
    if size(found) is None:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", found[0].content)
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    has_colours = colour != 3 or any(chunk.kind == b"PLTE" for chunk in found)
    if samples is None or not width or not height or not has_colours:
        return None
    whole = sum(
        rows * (1 + (columns * depth * samples + 7) // 8)
        for columns, rows in _passes(width, height, interlaced)
    )
    worker, rows = zlib.decompressobj(), bytearray()
    for chunk in found:
        if chunk.kind != b"IDAT" or worker.eof:
            continue
        content = data[chunk.at + 8 : chunk.at + 8 + chunk.length]
        try:
            for at in range(0, len(content), 512):  # an error loses no more than that
                rows += worker.decompress(content[at : at + 512], max(1, whole - len(rows)))
        except zlib.error:
            break
    share = min(1.0, len(rows) / whole)
    if share < 1 and not partly:
        return None
    body = bytes(rows[:whole]).ljust(whole, b"\0")
    parts = [_chunk(c.kind, c.content) for c in found if c.kind not in {b"IDAT", b"IEND"}]
    parts += [_chunk(b"IDAT", zlib.compress(body, 1)), _chunk(b"IEND", b"")]
    return BytesIO(SIGNATURE + b"".join(parts)), share


def _passes(width: int, height: int, interlaced: int) -> list[tuple[int, int]]:
    """(columns, rows) of each, which have pixels."""
    if not interlaced:
        return [(width, height)]
    steps = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4)]
    steps += [(0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, dx, y, dy in steps]
    return [(w, h) for w, h in sizes if w > 0 and h > 0]


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def _name(kind: bytes) -> str:
    return _word(kind) or "unnamed"


def _word(keyword: bytes) -> str:
    text = keyword[:79].decode("latin-1")
    return "".join(c if c.isprintable() else "?" for c in text)
