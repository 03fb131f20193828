"""Find, verify, load and list models.

A model is a folder with ``card.toml`` and ``weights.safetensors``. Folders are looked for in each
entry of the environment variable VQCODEC_MODELS (separated like PATH), then in the package. Loading
a model runs no code from it.
"""

import hashlib
import os
import re
import reprlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec.container import MAX_CODEC, Header
from vqcodec.errors import CodecError, UsageError, reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from vqcodec.codec import Codec

DEFAULT = "photo-2"
RATE_UNIT = 256  # on a scale of N bits, a rate point is stored as N times this
_HERE = Path(__file__).parent


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

    @property
    def hash(self) -> bytes:
        """The 4 bytes that files carry."""
        return bytes.fromhex(self.sha256[:8])

    @property
    def split(self) -> str:
        """What the pictures were held out by that it was not trained on: 'content' or 'name'."""
        return str(self.training.get("split", "name"))

    def rate_name(self, index: int) -> str:
        """The name of a stored rate point: of the scale of N bits, 1920 -> '7.5bit'."""
        if not self.points:
            return f"{index / RATE_UNIT:.4g}bit"
        return self.points[index] if index < len(self.points) else f"rate point {index}"


def _folders() -> list[Path]:
    roots = [Path(p) for p in os.environ.get("VQCODEC_MODELS", "").split(os.pathsep) if p]
    # In a wheel the models lie inside the package, in a source tree beside it.
    roots += [_HERE / "models", _HERE.parent / "models"]
    return [card.parent for root in roots for card in sorted(root.glob("*/card.toml"))]


def read_card(folder: Path) -> Card:
    """Raises CodecError for a folder that is not a model."""
    try:
        values = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
        card = Card(
            **{name: _field(values, name) for name in (*_REQUIRED, *_OPTIONAL)}, path=folder
        )
    except OSError as error:
        raise CodecError(f"{folder}: not a model: {reason(error)}") from error
    except (ValueError, RecursionError) as error:  # the first also of TOML and UTF-8
        raise CodecError(f"{folder}/card.toml: not a model card: {error}") from error
    return card


_REQUIRED = ("id", "number", "system", "title", "licence", "rates", "sha256")
_OPTIONAL: dict[str, Any] = {"table": [], "shape": {}, "points": [], "training": {}}


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
        case "training":
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


def _installed() -> tuple[list[Card], list[CodecError]]:
    """All cards in the order in which they are looked for, and what is wrong with broken ones."""
    found: list[Card] = []
    broken: list[CodecError] = []
    for folder in _folders():
        try:
            found.append(read_card(folder))
        except CodecError as error:
            broken.append(error)
    return found, broken


def cards() -> list[Card]:
    """All installed codecs, by number; of two with one id the first found. Not broken ones."""
    found: dict[str, Card] = {}
    for card in _installed()[0]:
        found.setdefault(card.id, card)
    return sorted(found.values(), key=lambda card: card.number)


def broken() -> list[CodecError]:
    """What is wrong with those folders of models whose card cannot be used."""
    return _installed()[1]


def find(name: str | None = None) -> Card:
    """The codec with an id, or in a folder given by its path; the default one for None."""
    name = DEFAULT if name is None else name
    installed = cards()
    for card in installed:
        if card.id == name:
            return card
    if os.path.exists(os.path.join(name, "card.toml")):
        return read_card(Path(name))
    names = ", ".join(card.id for card in installed) or "none"
    raise CodecError(f"no codec named {name!r}; installed: {names}")


def for_header(header: Header, name: str | None = None) -> Card:
    """The codec that a file was made with, among the installed ones or those that ``name`` names.

    name: as for ``find``. Raises CodecError.
    """
    known = [find(name)] if name is not None else _installed()[0]
    same = [card for card in known if card.number == header.codec]
    if not same:
        where = "installed here"
        if name is not None:
            where = f"with {name}, which has number {known[0].number}"
        raise CodecError(f"the file was made with codec number {header.codec}, not {where}")
    for card in same:
        if card.hash == header.weights_hash:
            return card
    hashes = ", ".join(card.hash.hex() for card in same)
    raise CodecError(
        f"the file was made with other weights of {same[0].id} "
        f"({header.weights_hash.hex()}, installed: {hashes})"
    )


def device_of(name: str) -> str:
    """'auto', 'cpu' or 'cuda' -> 'cpu' or 'cuda'. Raises UsageError where CUDA is missing."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available; use --device cpu")
    return name


@lru_cache(maxsize=4)
def _load(folder: Path, sha256: str, device: str) -> "Codec":
    from vqcodec.codec import Codec

    try:
        weights = (folder / "weights.safetensors").read_bytes()
    except OSError as error:
        raise CodecError(f"{folder}/weights.safetensors: {reason(error)}") from error
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise CodecError(f"{folder}/weights.safetensors is damaged: its hash is not the card's")
    return Codec.from_weights(read_card(folder), weights, device)


def load(card: Card, device: str = "auto") -> "Codec":
    """A codec ready to run on a device: 'auto', 'cpu' or 'cuda'. Kept for the next call."""
    return _load(card.path, card.sha256, device_of(device))
