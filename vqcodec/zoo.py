"""Find, verify, load and list models.

A model is a folder with ``card.toml`` and ``weights.safetensors``. Folders are looked for in each
entry of the environment variable VQCODEC_MODELS (separated like PATH), then in the package. Loading
a model runs no code from it.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec.container import Header
from vqcodec.errors import CodecError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from vqcodec.codec import Codec

DEFAULT = "photo-2"
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

    @property
    def hash(self) -> bytes:
        """The 4 bytes that files carry."""
        return bytes.fromhex(self.sha256[:8])


def _folders() -> list[Path]:
    roots = [Path(p) for p in os.environ.get("VQCODEC_MODELS", "").split(os.pathsep) if p]
    # In a wheel the models lie inside the package, in a source tree beside it.
    roots += [_HERE / "models", _HERE.parent / "models"]
    return [card.parent for root in roots for card in sorted(root.glob("*/card.toml"))]


def read_card(folder: Path) -> Card:
    """Raises CodecError for a folder that is not a model."""
    try:
        card = tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
        return Card(
            card["id"], card["number"], card["system"], card["title"], card["licence"],
            card["rates"], card["sha256"], card.get("table", []), card.get("shape", {}), folder,
        )  # fmt: skip
    except OSError as error:
        raise CodecError(f"{folder}: not a model: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise CodecError(f"{folder}/card.toml: not a model card: {error}") from error


def cards() -> list[Card]:
    """All installed codecs, by number; of two with one id the first found."""
    found: dict[str, Card] = {}
    for folder in _folders():
        card = read_card(folder)
        found.setdefault(card.id, card)
    return sorted(found.values(), key=lambda card: card.number)


def find(name: str | None = None) -> Card:
    """The codec with an id, or in a folder given by its path; the default one for None."""
    name = name or DEFAULT
    installed = cards()
    for card in installed:
        if card.id == name:
            return card
    if (Path(name) / "card.toml").exists():
        return read_card(Path(name))
    names = ", ".join(card.id for card in installed) or "none"
    raise CodecError(f"no codec named {name!r}; installed: {names}")


def for_header(header: Header) -> Card:
    """The codec that a file was made with."""
    same = [card for card in cards() if card.number == header.codec]
    if not same:
        raise CodecError(f"the file was made with codec number {header.codec}, not installed here")
    for card in same:
        if card.hash == header.weights_hash:
            return card
    raise CodecError(
        f"the file was made with other weights of {same[0].id} "
        f"({header.weights_hash.hex()}, installed: {same[0].hash.hex()})"
    )


def device_of(name: str) -> str:
    """'auto', 'cpu' or 'cuda' -> 'cpu' or 'cuda'. Raises CodecError where CUDA is missing."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise CodecError("no CUDA device is available; use --device cpu")
    return name


@lru_cache(maxsize=4)
def _load(folder: Path, sha256: str, device: str) -> "Codec":
    from vqcodec.codec import Codec

    try:
        weights = (folder / "weights.safetensors").read_bytes()
    except OSError as error:
        raise CodecError(f"{folder}/weights.safetensors: {error.strerror}") from error
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise CodecError(f"{folder}/weights.safetensors is damaged: its hash is not the card's")
    return Codec.from_weights(read_card(folder), weights, device)


def load(card: Card, device: str = "auto") -> "Codec":
    """A codec ready to run on a device: 'auto', 'cpu' or 'cuda'. Kept for the next call."""
    return _load(card.path, card.sha256, device_of(device))
