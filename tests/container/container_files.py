"""Files of one picture, well made and by hand, and what they are checked with."""

import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from vqcodec.container import MAX_CODEC, MAX_RATE, Box, Container, Header
from vqcodec.errors import FormatError

HEADER = Header(codec=1, weights_hash=b"\x5e\xa1\xc0\xde", width=48, height=32, rate=777)
N_HEADER = 14  # bytes of HEADER, without boxes


def part(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


# Sections and boxes of 64 bytes and more have a checksum of 32 bits, shorter ones of 16.
LONG = Container(
    HEADER,
    tuple(part(64 + i, i) for i in range(5)),
    (Box("EXIF", part(70, 9)), Box("odd!", part(64, 8))),
)
SHORT = Container(HEADER, tuple(part(n, n) for n in (1, 0, 3, 63)), (Box("ICC ", part(5, 7)),))
# Its last section is in the tail form: it ends with the file and states no length.
TAIL = Container(HEADER, (part(70, 1), part(4, 2), part(9, 3)))
ALL = [pytest.param(c, id=n) for n, c in (("long", LONG), ("short", SHORT), ("tail", TAIL))]


def starts(container: Container) -> list[int]:
    """Offsets at which the sections begin and, at last, at which the last one ends."""
    offsets = [N_HEADER + bool(container.boxes)]
    for payload in container.sections:
        n_length = 1 if len(payload) < 128 else 2
        n_checksum = 4 if len(payload) >= 64 else 2
        offsets.append(offsets[-1] + n_length + n_checksum + len(payload))
    offsets[-1] -= container is TAIL
    return offsets


def sentence(error: Exception) -> str:
    """The error's sentence, after a check that it is one line."""
    text = str(error)
    assert text and "\n" not in text and not text.endswith("."), text
    return text


def check_missing_and_doubled_bytes(data: bytes, read: Callable[[bytes], object]) -> None:
    """A file that lacks a byte, or has one twice, is refused, whichever byte it is."""
    for i in range(len(data)):
        for damaged in (data[:i] + data[i + 1 :], data[:i] + data[i : i + 1] + data[i:]):
            with pytest.raises(FormatError):
                read(damaged)


headers = st.builds(
    Header,
    codec=st.integers(0, MAX_CODEC),
    weights_hash=st.binary(min_size=4, max_size=4),
    width=st.integers(1, 1 << 14) | st.integers(1, 300),
    height=st.integers(1, 1 << 14) | st.integers(1, 300),
    rate=st.integers(0, MAX_RATE) | st.integers(0, 300),
    grey=st.booleans(),
)
types = st.sampled_from(["ICC ", "EXIF", "ALPH", "DEEP"]) | st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=4, max_size=4
)
payloads = st.binary(max_size=80) | st.integers(0, 400).map(bytes)
containers = st.builds(
    Container,
    headers,
    st.lists(payloads, min_size=1, max_size=40).map(tuple),
    st.lists(st.builds(Box, types, payloads), max_size=5).map(tuple),
)


def varint(value: int) -> bytes:
    low = bytes([value & 0x7F | (0x80 if value >> 7 else 0)])
    return low + (varint(value >> 7) if value >> 7 else b"")


def crc_of(*parts: bytes) -> bytes:
    return zlib.crc32(b"".join(parts)).to_bytes(4, "little")


def by_hand(
    flags: int = 1,
    codec: bytes = b"\1",
    width: bytes = b"\1",
    height: bytes = b"\1",
    rate: bytes = b"\0",
    counts: bytes = b"",
    rest: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """A file with one empty section and, unless the arguments break a rule, a sound one."""
    head = b"VQC1" + bytes([flags]) + codec + b"hash" + width + height + rate + counts
    if rest:
        return head + rest(head)
    return head + b"\0" + crc_of(head, b"\0")[:2]
