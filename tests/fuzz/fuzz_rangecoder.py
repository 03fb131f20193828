"""The range coder: any payload decodes to symbols of the tables, which can be encoded again."""

import numpy as np

from vqcodec.errors import FormatError
from vqcodec.priors.grid import unpack
from vqcodec.rangecoder import RangeDecoder, RangeEncoder


def check(data: bytes) -> None:
    """data: how many tables, for each its size, its packed bytes and a count; then the payload."""
    parts, at = [], 1
    for _ in range(data[0] % 4 + 1 if data else 0):
        size = 2 + (data[at] if at < len(data) else 0)
        packed = np.frombuffer(data[at + 1 : at + 1 + size].ljust(size, b"\0"), np.uint8).copy()
        packed[packed.argmax()] = 255
        at += 1 + size
        count = int.from_bytes(data[at : at + 2], "little") % 5000
        at += 2
        parts.append((unpack(packed[None])[0], count))
    decoder, encoder, decoded = RangeDecoder(data[at:]), RangeEncoder(), []
    try:
        for table, count in parts:
            symbols = decoder.decode(count, table)
            assert len(symbols) == count
            assert not count or (symbols.min() >= 0 and symbols.max() < len(table))
            decoded.append(symbols)
    except FormatError:
        return
    for (table, _), symbols in zip(parts, decoded, strict=True):
        encoder.encode(symbols, table)
    payload = encoder.finish()
    assert not payload.endswith(b"\0")
    again = RangeDecoder(payload)
    for (table, count), symbols in zip(parts, decoded, strict=True):
        assert np.array_equal(again.decode(count, table), symbols)
