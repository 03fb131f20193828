"""Units and limits of exact arithmetic, of both its forms: ``fixedpoint`` and ``light``."""

from math import isqrt

WEIGHT_BITS = 12
WEIGHT_SCALE = 2.0**WEIGHT_BITS  # weights are integers over this
ACTIVATION_BITS = 10
UNITS = 2.0**ACTIVATION_BITS  # in one
ACTIVATION_LIMIT = 1 << 20  # magnitude, in units
_EXACT = 2.0**53


def check_exact(largest: float) -> None:
    """largest: sum of the magnitudes of one output's weights. Raises ValueError for too large."""
    if not (largest + 1) * ACTIVATION_LIMIT * WEIGHT_SCALE < _EXACT:
        raise ValueError("weights too large for exact evaluation in 53 bits")


def exp2_fixed(numerator: int, log2_denominator: int, bits: int = 32) -> int:
    """floor(2**(numerator / 2**log2_denominator) * 2**bits), by integer square roots alone."""
    x = 1 << (numerator + (bits << log2_denominator))
    for _ in range(log2_denominator):
        x = isqrt(x)
    return x
