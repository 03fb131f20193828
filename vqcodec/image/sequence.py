"""What the headers of AV1 and HEVC streams say of colours, where the file around them does not.

The AV1 Bitstream & Decoding Process Specification, 5.3 and 5.5; ITU-T H.265, 7.3.2.2 and annex E.
"""

from typing import NamedTuple

_MOST = 1024  # bytes of a header that are looked at
_MOST_UNITS = 64  # before it: a file of empty ones would take minutes
_SEQUENCE_HEADER, _SPS = 1, 33  # types of an OBU, and of a NAL unit
_CHOSEN = 2  # by each picture: AV1's SELECT_SCREEN_CONTENT_TOOLS


class Colour(NamedTuple):
    """Code points of ITU-T H.273."""

    primaries: int
    transfer: int
    full_range: bool = True


class _Bits:
    """Bits of bytes, the highest first. Raises ValueError where there are no more."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, n: int) -> int:
        self._left -= n
        if self._left < 0:
            raise ValueError("a header ends early")
        return self._value >> self._left & ((1 << n) - 1)

    def golomb(self) -> int:
        """An Exp-Golomb code, ue(v) of H.265 and uvlc() of AV1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def colour_of_av1(data: bytes) -> Colour | None:
    """Of the first sequence header among OBUs; None where it says nothing or is broken."""
    try:
        return _av1_colour(_Bits(_sequence_header(data)))
    except (ValueError, IndexError):
        return None


def colour_of_hevc(config: bytes) -> Colour | None:
    """Of the first sequence parameter set in an HEVCDecoderConfigurationRecord (hvcC)."""
    try:
        return _hevc_colour(_Bits(_parameter_set(config)))
    except (ValueError, IndexError):
        return None


def _sequence_header(data: bytes) -> bytes:
    at = 0
    for _ in range(_MOST_UNITS):
        head = data[at]
        at += 2 if head & 4 else 1  # an extension
        size = len(data) - at
        if head & 2:
            size = 0
            for shift in range(0, 56, 7):
                byte = data[at]
                at += 1
                size |= (byte & 127) << shift
                if byte < 128:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            return data[at : at + min(size, _MOST)]
        at += size
    raise ValueError("no sequence header")


def _av1_colour(bits: _Bits) -> Colour | None:
    take = bits.take
    profile, _, reduced = take(3), take(1), take(1)
    if reduced:
        take(5)
    else:
        _skip_operating_points(bits)
    widths = take(4) + 1, take(4) + 1
    take(sum(widths))
    if not reduced and take(1):  # frame ids
        take(7)
    take(3)
    if not reduced:
        take(4)
        has_order = take(1)
        take(2 * has_order)
        screen_content = _CHOSEN if take(1) else take(1)
        if screen_content and not take(1):
            take(1)
        take(3 * has_order)
    take(3)
    if take(1) and profile == 2:  # high bit depth
        take(1)
    if profile != 1:
        take(1)  # monochrome
    return Colour(take(8), take(8)) if take(1) else None


def _skip_operating_points(bits: _Bits) -> None:
    take = bits.take
    delay_bits = 0
    if take(1):  # timing
        take(64)
        if take(1):
            bits.golomb()
        if take(1):  # a decoder's model
            delay_bits = take(5) + 1
            take(42)
    has_delay = take(1)
    for _ in range(take(5) + 1):
        take(12)
        if take(5) > 7:
            take(1)
        if delay_bits and take(1):
            take(2 * delay_bits + 1)
        if has_delay and take(1):
            take(4)


def _parameter_set(config: bytes) -> bytes:
    """Without its two bytes of head, and without the bytes that keep start codes out."""
    at = 23
    for _ in range(config[22]):
        kind, count = config[at] & 63, int.from_bytes(config[at + 1 : at + 3], "big")
        at += 3
        for _ in range(min(count, _MOST_UNITS)):
            length = int.from_bytes(config[at : at + 2], "big")
            if kind == _SPS:
                unit = config[at + 4 : at + 2 + min(length, _MOST)]
                return unit.replace(b"\0\0\3", b"\0\0")
            at += 2 + length
    raise ValueError("no parameter set")


def _hevc_colour(bits: _Bits) -> Colour | None:
    take, golomb = bits.take, bits.golomb
    take(4)
    most_layers = take(3)
    take(1)
    _skip_profile(bits, most_layers)
    golomb()
    if golomb() == 3:  # 4:4:4
        take(1)
    golomb(), golomb()  # width, height
    if take(1):  # a window
        [golomb() for _ in range(4)]
    golomb(), golomb()  # depths
    order_bits = golomb() + 4
    [golomb() for _ in range(3 if not take(1) else 3 * (most_layers + 1))]
    [golomb() for _ in range(6)]
    if take(1) and take(1):
        _skip_scaling_lists(bits)
    take(2)
    if take(1):  # PCM
        take(8)
        golomb(), golomb(), take(1)
    _skip_reference_sets(bits)
    if take(1):
        take((order_bits + 1) * golomb())
    take(2)
    if not take(1):  # VUI
        return None
    if take(1) and take(8) == 255:  # a ratio of the pixels' sides
        take(32)
    if take(1):
        take(1)
    if not take(1):  # the signal
        return None
    take(4)
    return Colour(take(8), take(8)) if take(1) else None


def _skip_profile(bits: _Bits, most_layers: int) -> None:
    bits.take(96)
    layers = [(bits.take(1), bits.take(1)) for _ in range(most_layers)]
    if layers:
        bits.take(2 * (8 - most_layers))
    for has_profile, has_level in layers:
        bits.take(88 * has_profile + 8 * has_level)


def _skip_scaling_lists(bits: _Bits) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.take(1):
                bits.golomb()
                continue
            [bits.golomb() for _ in range((size > 1) + min(64, 1 << (4 + 2 * size)))]


def _skip_reference_sets(bits: _Bits) -> None:
    for index in range(bits.golomb()):
        if index and bits.take(1):
            raise ValueError("a set of another set's pictures, which no still picture has")
        for _ in range(bits.golomb() + bits.golomb()):
            bits.golomb(), bits.take(1)
