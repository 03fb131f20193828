"""What the user asks for with ``--rate``, and a codec's rate points. Does not import torch."""

import re
from dataclasses import dataclass
from difflib import get_close_matches

from vqcodec.card import TUNES, Card
from vqcodec.errors import RateError

RATE_UNIT = 256  # on a scale of N bits, a rate point is stored as N times this
LEAST_BITS, MOST_BITS = 5, 10  # the ends of the scale of N bits
VISUAL = 16 * RATE_UNIT  # more, where the file is tuned for the eye and its codec has the choice
LARGEST_QUALITY = 95.0  # above it SSIMULACRA2 tells rounding errors apart, and no codec reaches it
FORMS = "80q, 8bit, 0.25bpp, 12kB, 12000B or 34dB"


@dataclass(frozen=True)
class Rate:
    """What the user asked for: ``kind`` is 'bit', 'bpp', 'bytes', 'db' or 'quality'."""

    kind: str
    value: float
    grid: str | None = None  # of 'bit': what follows the dash in 9bit-8x8


# Units with their kind and how much one is, and how those of ours are said.
_UNITS = {
    **{"q": ("quality", 1.0), "bit": ("bit", 1.0), "bpp": ("bpp", 1.0), "dB": ("db", 1.0)},
    **{"B": ("bytes", 1.0), "kB": ("bytes", 1e3), "MB": ("bytes", 1e6)},
}
_OTHER_NAMES = {"bits": "bit", "k": "kB", "m": "MB"}
# Beside those: what is written elsewhere, or by mistake, for one of them
_ELSEWHERE = {
    **{"%": "q", "quality": "q", "kib": "kB", "mib": "MB", "kbytes": "kB", "bytes": "B"},
    **{"psnr": "dB", "decibel": "dB"},
}
_RATE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)(-\w+)?")
_ALMOST = re.compile(r"([a-z]*)[\s=:]*(\d+(?:[.,]\d+)?)[\s_-]*([a-z%]*)")


def parse_rate(text: str) -> Rate:
    """'80q', '9bit', '7.3bit', '9bit-8x8', '0.25bpp', '12kB' (1000 bytes each) or '34dB'.

    A number without a unit is a quality, as everywhere else; below 16 it may as well be bits, and
    is refused. Raises RateError, which names the nearest form.
    """
    match = _RATE.fullmatch(text.strip())
    unit = _unit(match[2] or "q") if match else None
    if not match or not unit or (match[3] and unit != "bit"):
        raise RateError(f"no rate {text!r}{_nearest(text)} A rate is {FORMS}")
    value = float(match[1])
    if not match[2] and value < 16:
        raise RateError(f"rate {text!r} has no unit; is it {match[1]}bit or {match[1]}q?")
    kind, factor = _UNITS[unit]
    if kind == "quality":
        if value > LARGEST_QUALITY:
            raise RateError(f"rate {text!r}: a quality is from 0 to {LARGEST_QUALITY:g}")
    elif not 0 < value < 1e12:
        raise RateError(f"rate {text!r} is out of range")
    return Rate(kind, value * factor, match[3][1:] if match[3] else None)


def _unit(written: str) -> str | None:
    """The unit of ours. Capital letters do not matter, but a small b might be a bit or a byte."""
    small = written.lower()
    same = {unit.lower(): unit for unit in _UNITS} | _OTHER_NAMES
    return None if written == "b" else same.get(small)


def _nearest(text: str) -> str:
    """The rate that was meant, as the middle of a sentence, if that can be told."""
    known = {unit.lower(): unit for unit in reversed(_UNITS)} | _OTHER_NAMES | _ELSEWHERE
    parts = _ALMOST.fullmatch(text.lower())
    word = (parts[3] or parts[1] or "q") if parts else ""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if not parts or not close:
        return "."
    return f": did you mean {parts[2].replace(',', '.')}{known[close[0]]}?"


def rate_index(card: Card, rate: Rate) -> int:
    """The rate point nearest to N of ``Nbit``, or the finest of those with its bits and grid.

    Raises RateError for what the codec does not offer.
    """
    name = f"{rate.value:g}bit"
    number = round(rate.value * RATE_UNIT)
    on_scale = LEAST_BITS * RATE_UNIT <= number <= MOST_BITS * RATE_UNIT
    if not card.points and not rate.grid and on_scale:
        visual = card.tunes != () and card.tune in (None, "visual")
        return number + VISUAL * visual
    wanted = f"{name}-{rate.grid}" if rate.grid else None
    for index, point in reversed([*enumerate(card.points)]):
        if point == (wanted or point) and point.partition("-")[0] == name:
            return index
    raise RateError(f"{card.id} offers {card.rates}, not {wanted or name}")


def check_rate(card: Card, text: str) -> None:
    """Raises RateError for what is no rate, and for one that the codec offers on no picture."""
    rate = parse_rate(text)
    if rate.kind == "bit":
        rate_index(card, rate)


def rate_name(card: Card, index: int) -> str:
    """The name of a stored rate point: of the scale of N bits, 1920 -> '7.5bit'."""
    if not card.points:
        index -= VISUAL * (card.tunes != () and index >= VISUAL)
        return f"{index / RATE_UNIT:.4g}bit"
    return card.points[index] if index < len(card.points) else f"rate point {index}"


def tune_name(card: Card, index: int) -> str | None:
    """What a file of a stored rate point is tuned to; None where there is no choice."""
    return (TUNES[0] if index >= VISUAL else TUNES[1]) if card.tunes else None
