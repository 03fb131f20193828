"""Find, verify, load and list models.

A model is a folder with ``card.toml`` and ``weights.safetensors``. Folders are looked for in the
package, then in each entry of the environment variable VQCODEC_MODELS (separated like PATH), where
no codec may call itself as one of the package does. Loading a model runs no code from it.
"""

import hashlib
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.card import EFFORTS, TUNES, Card, read_card
from vqcodec.container import Header
from vqcodec.errors import (
    NEEDS_TORCH,
    CodecError,
    RateError,
    UsageError,
    VqcodecError,
    reason,
)
from vqcodec.rate import check_rate

if TYPE_CHECKING:
    from vqcodec.codec import Codec
    from vqcodec.decoder import Decoder

DEFAULT = "photo-3"
CHECKPOINT = "last.pt"  # of a training run
_HERE = Path(__file__).parent
# In a wheel models and recipes lie inside the package, in a source tree beside it.
_SHIPPED = _HERE, _HERE.parent
_EFFORT_NAMES = {f"effort{n}": n for n in range(1, EFFORTS + 1)}
_ELSEWHERE = "VQCODEC_MODELS names folders of codecs", "--codec takes the folder of one"


def _folders() -> tuple[list[Path], list[Path]]:
    """Of shipped codecs, and of those that VQCODEC_MODELS names."""
    named = [Path(p) for p in os.environ.get("VQCODEC_MODELS", "").split(os.pathsep) if p]
    shipped, others = (
        [card.parent for root in roots for card in sorted(root.glob("*/card.toml"))]
        for roots in ([root / "models" for root in _SHIPPED], named)
    )
    return shipped, others


def _installed() -> tuple[list[Card], list[CodecError]]:
    """All cards in the order in which they are looked for, and what is wrong with broken ones."""
    found: list[Card] = []
    broken: list[CodecError] = []
    for shipped, folders in zip((True, False), _folders(), strict=True):
        ours = list(found)
        for folder in folders:
            try:
                card = read_card(folder)
                if not shipped:
                    _check_own_name(card, ours)
                found.append(card)
            except CodecError as error:
                broken.append(error)
    return found, broken


def _check_own_name(card: Card, shipped: list[Card]) -> None:
    """Raises CodecError where a codec has the id or number of a shipped one with other weights."""
    for other in shipped:
        if card.sha256 == other.sha256:
            return
        for field in ("id", "number"):
            value = getattr(card, field)
            if value == getattr(other, field):
                raise CodecError(
                    f"{card.path}: its {field} {value} is that of the shipped {other.id}: "
                    f"`vqcodec export RUN -o DIR --name NAME` gives it its own"
                )


def recipes() -> dict[str, Path]:
    """The files of the package's recipes, by name."""
    found = [path for root in _SHIPPED for path in sorted(root.glob("recipes/*.toml"))]
    return {path.stem: path for path in found}


def find_recipe(name: Path) -> Path:
    """The recipe's file, or that of the shipped recipe with this name. Raises UsageError."""
    known = recipes()
    if name.exists() or name.suffix or str(name) != name.name:
        return name
    if name.name not in known:
        raise UsageError(f"no recipe {name.name!r}; there are {', '.join(known)}, or name a file")
    return known[name.name]


def shipped() -> list[Card]:
    """The codecs of the package."""
    return [read_card(folder) for folder in _folders()[0]]


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
    """The codec with an id, or in a folder given by its path.

    For None the one that the environment variable VQCODEC_CODEC names so, or else the default one.
    'photo-3:psnr' is the one that is tuned so, 'photo-3:effort9' and 'photo-3:psnr:effort9' the one
    whose encoder makes that effort.
    """
    if name is None:
        try:
            return find(default_codec())
        except VqcodecError as error:
            raise type(error)(f"VQCODEC_CODEC: {error}") from None
    stem, _, choice = name.rpartition(":")
    if stem and choice in TUNES:
        return find(stem).tuned(choice)
    if stem and choice in _EFFORT_NAMES:
        return find(stem).tuned(effort=_EFFORT_NAMES[choice])
    installed = cards()
    for card in installed:
        if card.id == name:
            return card
    if os.path.exists(os.path.join(name, "card.toml")):
        return read_card(Path(name))
    if os.path.exists(os.path.join(name, CHECKPOINT)):
        raise CodecError(
            f"{name}: a training run without a codec: `vqcodec export {name} -o DIR` makes one"
        )
    names = ", ".join(card.id for card in installed) or "none"
    raise CodecError(f"no codec named {name!r}; installed: {names}; {_ELSEWHERE[0]}", _ELSEWHERE[1])


def default_codec() -> str:
    """What the environment variable VQCODEC_CODEC names, or else DEFAULT."""
    return os.environ.get("VQCODEC_CODEC") or DEFAULT


def default_rate(card: Card) -> str | None:
    """What the environment variable VQCODEC_RATE says; None: the codec's own. Raises RateError."""
    rate = os.environ.get("VQCODEC_RATE") or None
    if rate is not None:
        try:
            check_rate(card, rate)
        except RateError as error:
            raise RateError(f"VQCODEC_RATE: {error}") from None
    return rate


def for_header(header: Header, name: str | None = None) -> Card:
    """The codec that a file was made with, among the installed ones or those that ``name`` names.

    name: as for ``find``. Raises CodecError.
    """
    known = [find(name)] if name is not None else _installed()[0]
    same = [card for card in known if card.number == header.codec]
    if not same:
        where, option = f"installed here; {_ELSEWHERE[0]}", _ELSEWHERE[1]
        if name is not None:
            where, option = f"with {name}, which has number {known[0].number}", ""
        raise CodecError(f"the file was made with codec number {header.codec}, not {where}", option)
    for card in same:
        if card.hash == header.weights_hash:
            return card
    hashes = ", ".join(card.hash.hex() for card in same)
    raise CodecError(
        f"the file was made with other weights of {same[0].id} "
        f"({header.weights_hash.hex()}, installed: {hashes})"
    )


def device_of(name: str) -> str:
    """'auto', 'cpu' or 'cuda' -> 'cpu' or 'cuda', such as 'cuda:1'.

    Raises UsageError where CUDA is missing, and for other devices.
    """
    import torch

    name = str(name)  # a torch.device is understood
    if name.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise UsageError(f"a device is auto, cpu or cuda, not {name}")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", "use --device cpu")
    return name


def is_light() -> bool:
    """Whether numpy decodes what it can, as VQCODEC_RUNTIME says, or else where torch is missing.

    Raises UsageError for another runtime than 'torch' and 'light'.
    """
    runtime = os.environ.get("VQCODEC_RUNTIME")
    if runtime not in (None, "", "torch", "light"):
        raise UsageError(f"VQCODEC_RUNTIME is torch or light, not {runtime!r}")
    return runtime == "light" if runtime else not _has_torch()


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _weights(folder: Path, sha256: str) -> bytes:
    """The file of weights. Raises CodecError where it is not the one with this hash."""
    try:
        weights = (folder / "weights.safetensors").read_bytes()
    except OSError as error:
        raise CodecError(f"{folder}/weights.safetensors: {reason(error)}") from error
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise CodecError(f"{folder}/weights.safetensors is damaged: its hash is not the card's")
    return weights


@lru_cache(maxsize=4)
def _load(folder: Path, sha256: str, device: str) -> "Codec":
    from vqcodec.guest import making_networks, survive_forks

    weights = _weights(folder, sha256)
    with making_networks():
        from vqcodec.codec import Codec

        codec = Codec.from_weights(read_card(folder), weights, device)
    survive_forks()
    return codec


@lru_cache(maxsize=4)
def _load_light(folder: Path, sha256: str) -> "Decoder":
    from vqcodec.light import ladder

    return ladder.load(read_card(folder), _weights(folder, sha256))


def load_decoder(card: Card, device: str = "auto", light: bool | None = None) -> "Decoder":
    """What decodes files of a codec. Kept for the next call.

    It imports torch only where ``light`` does not hold, for CUDA, and for the systems of the
    papers. light: None for what ``is_light`` says.
    """
    light = is_light() if light is None else light
    if light and card.system == "ladder" and str(device) in ("auto", "cpu"):
        return _load_light(card.path, card.sha256)
    return load(card, device)


def load(card: Card, device: str = "auto") -> "Codec":
    """A codec ready to run on a device: 'auto', 'cpu' or 'cuda'. Kept for the next call.

    Raises UsageError where torch is not installed.
    """
    if not _has_torch():
        raise UsageError(f"{card.id}: {NEEDS_TORCH}")
    return _load(card.path, card.sha256, device_of(device)).tuned(card.tune, card.effort)
