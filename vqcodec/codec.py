"""A loaded codec: a card, and the system with its weights on a device, which torch works with."""

from collections.abc import Sequence, Set
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch

from vqcodec import autoencoders
from vqcodec.autoencoders import grid_codec
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.model import Ladder
from vqcodec.card import Card
from vqcodec.decoder import Decoder, DecodingSystem
from vqcodec.errors import CodecError
from vqcodec.fixedpoint import stored_weights
from vqcodec.progress import Progress, unseen
from vqcodec.rate import Rate, rate_index

BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 23}  # of pictures that are encoded together


P = TypeVar("P")  # a rate point, as a system has it
L = TypeVar("L")
L_co = TypeVar("L_co", covariant=True)
# What a decoder finds in the sections: latents (h * w, c) of a ladder, or codes of each level
Latent: TypeAlias = torch.Tensor | list[np.ndarray]


class Coded(Protocol[L_co]):
    """What a coder made of a picture."""

    @property
    def sections(self) -> Sequence[bytes]:
        """Coarse first."""

    @property
    def ideal_bits(self) -> list[float]:
        """Of each section."""

    @property
    def latent(self) -> L_co:
        """What a decoder finds in the sections."""


class Coder(DecodingSystem[P, L], Protocol[P, L]):
    """What a system on a device does: a ``LadderCodec`` or a ``GridCodec``.

    Rate points are stored as integers, the least bits first; ``span`` has the first and the last of
    a tune.
    """

    grey_only: bool

    @property
    def rdo(self) -> float | None:
        """Squared steps that a bit is worth in the choice of codes; None: there is no choice."""

    @property
    def model(self) -> torch.nn.Module: ...

    def span(self, tune: str | None = None) -> tuple[int, int]: ...
    def encode(
        self,
        pixels: np.ndarray,
        point: P,
        progress: Progress = unseen,
        rdo: float | None = None,  # in place of its own
    ) -> Coded[L]: ...
    def encode_many(self, pictures: Sequence[np.ndarray], point: P) -> Sequence[Coded[L]]: ...
    def searching(self, effort: int) -> "Coder[P, L]":
        """The same with an encoder that makes that effort."""


class Codec(Decoder):
    """A trained system with its card, on a device."""

    system: Coder[Any, Any]

    def __init__(self, card: Card, system: Coder[Any, Any]) -> None:
        super().__init__(card, system)

    @classmethod
    def from_weights(cls, card: Card, weights: bytes, device: str) -> "Codec":
        """weights: the bytes of weights.safetensors. Raises CodecError if they do not fit."""
        try:
            tensors = safetensors.torch.load(weights)
            if not all(torch.isfinite(value).all() for value in tensors.values()):
                raise ValueError("a weight is not a number")
            system = _system(card, tensors, torch.device(device))
        except (
            safetensors.SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            why = " ".join(str(error).split())  # torch's have several lines
            raise CodecError(f"{card.id}: the weights cannot be used: {why}") from error
        return cls(card, system)

    @property
    def batch_pixels(self) -> int:
        """Of pictures of one size that go through the networks together."""
        return BATCH_PIXELS[next(self.system.model.parameters()).device.type]

    def tuned(self, tune: str | None = None, effort: int | None = None) -> "Codec":
        """The same, but what it encodes is tuned so, or with that effort: see ``Card.tuned``."""
        card = self.card.tuned(tune, effort)
        return Codec(card, self.system.searching(card.effort))

    @property
    def span(self) -> tuple[int, int]:
        """The stored numbers of the rate points with the least and the most bits."""
        return self.system.span(self.card.tune)

    def rate_index(self, rate: Rate) -> int:
        """The rate point nearest to ``Nbit``. Raises RateError for what is not offered."""
        return rate_index(self.card, rate)


def _system(card: Card, tensors: dict[str, torch.Tensor], device: torch.device) -> Coder[Any, Any]:
    if card.system == "ladder":
        return _load_ladder(card, tensors, device)
    return _load_grids(card, tensors, device)


def _load_ladder(card: Card, tensors: dict[str, torch.Tensor], device: torch.device) -> LadderCodec:
    units, hyper, classes = (
        tensors.pop(name) for name in ("units", "hyper_tables", "class_tables")
    )
    model = Ladder(LadderConfig.from_dict(card.shape)).float()
    state = {name: stored_weights(value) for name, value in tensors.items()}
    state["std"] = units[0].float() / 256
    _fill(model, state, {"hyper_scale", "hyper_mean"})
    if {units.dtype, hyper.dtype, classes.dtype} != {torch.int32}:
        raise ValueError("the tables are not of 32-bit integers")
    tables = hyper.numpy().astype(np.uint32), classes.numpy().astype(np.uint32)
    return LadderCodec(model, units, *tables, device)


def _load_grids(card: Card, tensors: dict[str, torch.Tensor], device: torch.device) -> GridCodec:
    if card.system not in autoencoders.SYSTEMS:
        raise CodecError(f"{card.id}: this version does not know the system {card.system!r}")
    kind, config = autoencoders.classes(card.system)
    model = kind(config.from_dict(card.shape)).float()  # whatever the default is
    own = [name for name in tensors if not name.startswith(grid_codec.PRIOR)]
    _fill(model, {name: stored_weights(tensors.pop(name)) for name in own})
    priors = grid_codec.load_priors(model, {k: v.numpy() for k, v in tensors.items()})
    if tuple(card.points) != model.rates:
        raise ValueError("the card's rate points are not those of its shape")
    return GridCodec(model, priors, device)


def _fill(
    model: torch.nn.Module, state: dict[str, torch.Tensor], absent: Set[str] = frozenset()
) -> None:
    """Load weights; those named in ``absent`` may be missing. Raises ValueError for others."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - absent:
        raise ValueError("they are not those of this version's network")
