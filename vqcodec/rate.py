"""What the user asks for with ``--rate``. Does not import torch."""

import re
from dataclasses import dataclass

from vqcodec.errors import RateError

RATE_UNIT = 256  # on a scale of N bits, a rate point is stored as N times this
VISUAL = 16 * RATE_UNIT  # more, where the file is tuned for the eye and its codec has the choice
TUNES = ("visual", "psnr")  # what such a codec can be tuned to, the default first


@dataclass(frozen=True)
class Rate:
    """What the user asked for: ``kind`` is 'bit', 'bpp', 'bytes' or 'db'."""

    kind: str
    value: float
    grid: str | None = None  # of 'bit': what follows the dash in 9bit-8x8


_RATE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(bit|bpp|kB|KB|MB|B|dB|db)(-\w+)?")


def parse_rate(text: str) -> Rate:
    """'9bit', '7.3bit', '9bit-8x8', '0.25bpp', '12kB' (1000 bytes each), '12000B' or '34dB'."""
    match = _RATE.fullmatch(text.strip())
    if not match or (match[3] and match[2] != "bit"):
        raise RateError(f"rate {text!r} is none of 9bit, 7.3bit, 0.25bpp, 12kB, 12000B, 34dB")
    value, unit = float(match[1]), match[2].lower()
    if not 0 < value < 1e12:
        raise RateError(f"rate {text!r} is out of range")
    factor = {"kb": 1e3, "mb": 1e6}.get(unit, 1)
    kind = "bytes" if unit in ("b", "kb", "mb") else unit
    return Rate(kind, value * factor, match[3][1:] if match[3] else None)
