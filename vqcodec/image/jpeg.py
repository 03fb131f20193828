"""The segments of a JPEG file (ITU-T T.81): what it has beside the picture, and its end."""

import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_BARE = {0x01, 0xD8, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_RESOURCES = {1028: "IPTC", 1058: "EXIF"}
_VIDEO = re.compile(rb"ftyp(mp4|isom|iso\d|qt  |avc1|MSNV|M4V|hevc|3gp)")


class Segment(NamedTuple):
    marker: int
    at: int  # of its first byte, 0xff; any number of them may stand before it
    payload: bytes


class Walk(NamedTuple):
    """A file from its start to the end of its first picture."""

    segments: list[Segment]  # those with a length
    end: int | None  # behind the end marker; None where there is none


def walk(data: bytes) -> Walk:
    segments: list[Segment] = []
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == EOI[1]:
            return Walk(segments, at)
        if marker in _BARE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        segments.append(Segment(marker, at - 2, data[at + 2 : at + length]))
        at += max(2, length)
    return Walk(segments, None)


def size_of_cut(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a file whose pixels begin, and that has no end; None for another."""
    segments, end = walk(data)
    if end is not None or not any(segment.marker == 0xDA for segment in segments):
        return None
    for marker, _, body in segments:
        if marker in _FRAMES and len(body) >= 5:
            return int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
    return None


def without_cut_segment(data: bytes) -> bytes:
    """The same up to the segment within which it ends, if any, whose rest a decoder would await."""
    at = walk(data).segments[-1].at
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:at] if at + 2 + max(2, length) > len(data) else data


def has_profile(data: bytes) -> bool:
    """Whether there is an ICC profile, or a part of one."""
    name = b"ICC_PROFILE\0"
    return name in data and any(s.payload.startswith(name) for s in walk(data).segments)


def without_metadata(data: bytes) -> bytes:
    """The same picture without the segments that no decoder needs, or that are too short."""
    kept, at = [], 0
    for segment in walk(data).segments:
        n_bytes = 4 + len(segment.payload)
        least = {0xE0: 12, 0xEE: 12}.get(segment.marker)  # of JFIF and Adobe
        is_metadata = 0xE0 <= segment.marker <= 0xEF or segment.marker == 0xFE
        if is_metadata and (least is None or len(segment.payload) < least):
            kept.append(data[at : segment.at])
            at = segment.at + n_bytes
    return b"".join(kept) + data[at:]


def is_whole(data: bytes, decode: Callable[[BytesIO], np.ndarray]) -> bool:
    """Whether nothing but the end marker is missing of a file that has none.

    Bits behind the last scan change nothing where it has all its blocks.
    """
    if not _has_all_scans(walk(data).segments):
        return False
    # Bits that go on where a scan is cut, to see whether anything still asks for them
    noise = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()
    more = decode(BytesIO(data + noise + EOI))
    return np.array_equal(decode(BytesIO(data + EOI)), more)


def _has_all_scans(segments: list[Segment]) -> bool:
    """Whether the scans that are begun give each coefficient to its last bit."""
    missing: set[tuple[int, int]] = set()  # (component, coefficient)
    for marker, _, body in segments:
        if marker in _FRAMES and len(body) > 5:
            components = body[6 : 6 + 3 * body[5] : 3]
            missing = {(c, k) for c in components for k in range(64)}
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if bits & 0x0F == 0:
                scanned = body[1 : 1 + 2 * body[0] : 2]
                missing -= {(c, k) for c in scanned for k in range(first, last + 1)}
    return not missing


def lost(data: bytes, xmp: bytes) -> list[str]:
    """What is beside the picture and is not kept, a few words each."""
    found: dict[str, None] = {}  # in order
    segments, end = walk(data)
    n_pictures = 1
    for marker, _, payload in segments:
        name = ""
        if payload.startswith(_ISO_GAIN_MAP):
            continue  # the versions of a gain map, which is named where it is
        if marker == 0xFE:
            name = "comment"
        elif marker == 0xED and payload.startswith(b"Photoshop 3.0\0"):
            found.update(dict.fromkeys(photoshop(payload[14:])))
        elif marker == 0xE1 and payload.startswith(_EXTENDED_XMP):
            name = "extended XMP"
        elif marker == 0xE2 and payload.startswith(b"MPF\0"):
            n_pictures = max(n_pictures, _n_pictures(payload[4:]))
        elif marker == 0xEB and b"jumb" in payload[:64]:
            name = "content credentials" if b"c2pa" in payload else "JUMBF data"
        elif marker in {0xE3, *range(0xE4, 0xEC), 0xEF} or (
            marker == 0xE2 and not payload.startswith((b"ICC_PROFILE\0", b"MPF\0"))
        ):
            ident = payload.split(b"\0")[0][:20].decode("ascii", "replace")
            shown = f" ({ident})" if ident.isprintable() and ident else ""
            name = f"APP{marker - 0xE0} data{shown}"
        if name:
            found[name] = None
    rest = data[end:] if end is not None else b""
    has_gain_map = b"hdrgm:Version" in xmp or any(
        word in rest for word in (b"hdrgm:Version", b"HDRGainMap", _ISO_GAIN_MAP)
    )
    if has_gain_map and (n_pictures > 1 or SOI in rest):
        found["gain map"] = None
        n_pictures -= 1
    if n_pictures > 1:
        s = "s" if n_pictures > 2 else ""
        found[f"{n_pictures - 1} further picture{s} (views or a gain map)"] = None
    if _VIDEO.search(rest):
        found["motion video"] = None
    elif rest.strip(b"\0") and n_pictures == 1 and not has_gain_map:
        found[f"{len(rest)} bytes behind the picture"] = None
    return list(found)


def photoshop(data: bytes) -> list[str]:
    """What image resources hold (Adobe Photoshop File Formats Specification)."""
    return said_of_resources(_resources(data))


def said_of_resources(resources: Iterable[tuple[int, int]]) -> list[str]:
    """Of the number and length of each, what is not kept."""
    found: dict[str, None] = {}
    for kind, length in resources:
        if kind in _RESOURCES and length:
            found[_RESOURCES[kind]] = None
        elif 2000 <= kind <= 2997:
            found["paths"] = None
    return list(found)


def _resources(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        kind = int.from_bytes(data[at + 4 : at + 6], "big")
        at += 6 + (data[at + 6] + 2) // 2 * 2  # a Pascal string, padded
        length = int.from_bytes(data[at : at + 4], "big")
        at += 4 + (length + 1) // 2 * 2
        yield kind, length


def _n_pictures(index: bytes) -> int:
    """Of a multi-picture file (CIPA DC-007)."""
    order = "little" if index[:2] == b"II" else "big"

    def value(at: int, n: int) -> int:
        return int.from_bytes(index[at : at + n], order)  # type: ignore[arg-type]

    at = value(4, 4)
    for place in range(at + 2, at + 2 + 12 * min(value(at, 2), 64), 12):
        if value(place, 2) == 0xB001:
            return min(value(place + 8, 4), 1000)
    return 1
