"""What a codec's card says: a TOML file beside its weights, read and checked.

Imports nothing of ours but errors.
"""

import re
import reprlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqcodec.errors import CodecError, UsageError, reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_CODEC = (1 << 14) - 1  # the largest number of a codec; files have 2 bytes for it
EFFORTS = 9  # the greatest effort, in the search for better codes
TUNES = ("visual", "psnr")  # what a codec with the choice can be tuned to, the default first


@dataclass(frozen=True)
class Card:
    """What is known of a codec without loading it."""

    id: str
    number: int  # stands in every file; never reused
    system: str
    title: str
    licence: str
    rates: str  # what ``--rate`` takes, for messages
    sha256: str  # of weights.safetensors, hexadecimal
    table: list[dict[str, Any]]  # measured points: rate, bpp, psnr_db
    shape: dict[str, Any]  # sizes of the networks that differ from the system's defaults
    path: Path  # the folder
    points: list[str]  # names of the rate points, where there is no scale of N bits
    training: dict[str, Any]  # how it was trained
    recipe: dict[str, Any]  # all that training it took, by table
    default_rate: str  # what files get where none is named
    tune: str | None = None  # what files are tuned to, where that was chosen
    effort: int = 1  # that their encoder makes, up to EFFORTS

    @property
    def hash(self) -> bytes:
        """The 4 bytes that files carry."""
        return bytes.fromhex(self.sha256[:8])

    @property
    def split(self) -> str:
        """What the pictures were held out by that it was not trained on: 'content' or 'name'."""
        return str(self.training.get("split", "name"))

    @property
    def tunes(self) -> tuple[str, ...]:
        """What files can be tuned to, the default first; empty where there is no choice."""
        return TUNES if self.shape.get("tuned") is True else ()

    def check_choices(self) -> None:
        """Raises UsageError where there is one way to decode a file: see ``decompress.Choices``."""
        if self.system == "ladder":
            raise UsageError(f"{self.id} has one way to decode a file")

    def tuned(self, tune: str | None = None, effort: int | None = None) -> "Card":
        """The same, with a tune or an effort chosen; None leaves it as it is. Raises UsageError."""
        if tune not in (None, *self.tunes):
            choice = f"is tuned for {' or '.join(self.tunes)}" if self.tunes else "has no choice"
            raise UsageError(f"{self.id} {choice}: there is no tune {tune!r}")
        if effort is not None and effort not in range(1, EFFORTS + 1):
            raise UsageError(f"an effort is a whole number from 1 to {EFFORTS}, not {effort!r}")
        if self.system != "ladder" and (effort or 1) > 1:
            raise UsageError(f"{self.id} has one effort, 1: its encoder does not search")
        if (tune, effort) == (None, None):
            return self
        return replace(self, tune=tune or self.tune, effort=effort or self.effort)


def read_card(folder: Path) -> Card:
    """Raises CodecError for a folder that is not a model."""
    try:
        values = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
        found = {name: _field(values, name) for name in (*_REQUIRED, *_OPTIONAL)}
        points, rate = found["points"], found["default_rate"]
        if points and rate and rate not in points:
            raise ValueError(f"default_rate {rate!r} is none of its points")
        found["default_rate"] = rate or (points[-1] if points else USUAL_RATE)
        card = Card(**found, path=folder)
    except OSError as error:
        raise CodecError(f"{folder}: not a model: {reason(error)}") from error
    except (ValueError, RecursionError) as error:  # the first also of TOML and UTF-8
        raise CodecError(f"{folder}/card.toml: not a model card: {error}") from error
    return card


_REQUIRED = ("id", "number", "system", "title", "licence", "rates", "sha256")
_OPTIONAL: dict[str, Any] = {
    "table": [], "shape": {}, "points": [], "training": {}, "recipe": {}, "default_rate": "",
}  # fmt: skip
USUAL_RATE = "8bit"  # on a scale of N bits


def _field(card: dict[str, Any], name: str) -> Any:
    """A field of a card. Raises ValueError where it is missing or cannot be what it should."""
    value = card.get(name, _OPTIONAL.get(name))
    if value is None:
        raise ValueError(f"{name} is missing")
    match name:
        case "number":
            good = type(value) is int and 0 <= value <= MAX_CODEC
        case "table":
            good = isinstance(value, list) and all(isinstance(row, dict) for row in value)
        case "points":
            good = isinstance(value, list) and all(isinstance(point, str) for point in value)
        case "training" | "recipe":
            good = isinstance(value, dict)
        case "shape":  # before a network of these sizes is made; 'places' is of its training alone
            good = isinstance(value, dict) and all(
                _is_size(size) for key, size in value.items() if key != "places"
            )
        case "id":  # names files and folders in places
            good = isinstance(value, str) and re.fullmatch(r"\w[\w.-]{0,63}", value) is not None
        case "sha256":
            good = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
        case _:
            good = isinstance(value, str)
    if not good:
        raise ValueError(f"{name} cannot be {reprlib.repr(value)}")
    return value


def _is_size(value: Any) -> bool:
    """Whether it is a size of a network, or sizes of some parts, that a machine can hold."""
    if isinstance(value, list):
        return len(value) <= 256 and all(map(_is_size, value))
    return isinstance(value, str) or (isinstance(value, int | float) and 0 <= value <= 1 << 16)
