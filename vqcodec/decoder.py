"""A codec that decodes: a card, and the system that makes pictures of its files.

Does not import torch: ``codec`` has all that torch does, and ``light`` decodes without it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from vqcodec.card import Card
from vqcodec.container import Header, Region
from vqcodec.progress import Progress, unseen
from vqcodec.rangecoder import RangeDecoder

P = TypeVar("P")  # a rate point, as a system has it
L = TypeVar("L")  # a latent: what a decoder finds in the sections


class DecodingSystem(Protocol[P, L]):
    """What a system does with a file. What ``point`` makes of a stored rate point, and what a
    latent is, is the system's own affair."""

    def point(self, index: int) -> P: ...
    def levels(self, point: P) -> int: ...
    def least_bytes(self, height: int, width: int, point: P) -> int: ...
    def decode(
        self,
        sections: Sequence[bytes | RangeDecoder],
        height: int,
        width: int,
        point: P,
        ideal: list[float] | None = None,
        progress: Progress = unseen,
    ) -> L: ...
    def bands(
        self,
        latent: L,
        height: int,
        width: int,
        point: P,
        region: Region | None = None,
        progress: Progress = unseen,
    ) -> Iterator[np.ndarray]: ...


class Decoder:
    """A trained system with its card."""

    def __init__(self, card: Card, system: DecodingSystem[Any, Any]) -> None:
        self.card, self.system = card, system

    def bands(
        self,
        latent: object,
        header: Header,
        region: Region | None = None,
        progress: Progress = unseen,
    ) -> Iterator[np.ndarray]:
        """The pixels of a file from top to bottom: (rows, columns[, 3]) uint8, grey where it is.

        latent: what ``system`` made of the file's sections. region: the part that is wanted.
        """
        point = self.system.point(header.rate)
        bands = self.system.bands(latent, header.height, header.width, point, region, progress)
        return map(grey, bands) if header.grey else bands


def whole(bands: Iterable[np.ndarray], *shape: int) -> np.ndarray:
    """Bands of rows as an array (h, w[, 3]) uint8 of that shape."""
    pixels, at = np.empty(shape, np.uint8), 0
    for band in bands:
        pixels[at : at + len(band)] = band
        at += len(band)
    return pixels


def grey(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> (h, w), the nearest grey: the mean of the three channels."""
    mean: np.ndarray = (pixels.sum(2, dtype=np.uint16) + 1) // 3
    return mean.astype(np.uint8)
