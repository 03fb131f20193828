"""Sections to pixels with a trained ladder, by numpy alone."""

from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.numpy

from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.decoder import LadderDecoder
from vqcodec.autoencoders.ladder.rate import ChannelSteps, RatePoint
from vqcodec.card import Card
from vqcodec.decoder import Decoder
from vqcodec.errors import CodecError
from vqcodec.light.exact import round_weights
from vqcodec.light.prior import Prior
from vqcodec.light.synthesis import FoldedSynthesis, Synthesis
from vqcodec.light.weights import Weights
from vqcodec.priors.classes import ClassTables
from vqcodec.progress import Progress, unseen
from vqcodec.rangecoder import RangeDecoder, open_section


def load(card: Card, weights: bytes) -> Decoder:
    """weights: the bytes of weights.safetensors. Raises CodecError if they do not fit."""
    try:
        tensors = safetensors.numpy.load(weights)
        return Decoder(card, LightLadder(LadderConfig.from_dict(card.shape), tensors))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise CodecError(f"{card.id}: the weights cannot be used: {why}") from error


class LightLadder(LadderDecoder[np.ndarray, FoldedSynthesis]):
    """A trained ladder with its tables."""

    def __init__(self, config: LadderConfig, tensors: dict[str, np.ndarray]) -> None:
        """Raises KeyError and ValueError for tensors that are not those of the network."""
        config.check()
        units, hyper, classes = (
            tensors[name] for name in ("units", "hyper_tables", "class_tables")
        )
        if {units.dtype, hyper.dtype, classes.dtype} != {np.dtype(np.int32)}:
            raise ValueError("the tables are not of 32-bit integers")
        super().__init__(config, units, hyper.astype(np.uint32), classes.astype(np.uint32))
        weights, k = Weights(tensors), config.conditions
        channels = None
        if config.weighted:
            channels = round_weights(weights("step_weights.weight", config.channels, 1 + k))
        self.steps = ChannelSteps(channels, units)
        self._prior = Prior(config, weights, self.steps)
        std = (units[0] / 256).astype(np.float32)
        self._synthesis = Synthesis(config, weights.within("synthesis"), std)

    def _latent(
        self,
        z: np.ndarray,
        h: int,
        w: int,
        rate: RatePoint,
        tables: ClassTables,
        coders: list[RangeDecoder],
        count_bits: bool,
        progress: Progress,
    ) -> tuple[np.ndarray, list[float]]:
        latent = np.empty((h, w, self.config.coded_channels(rate.bits)), np.float32)
        bits = self._fill(latent, z, rate, tables, coders, count_bits, progress)
        return latent.reshape(h * w, -1), bits

    def _fill(
        self,
        latent: np.ndarray,
        z: np.ndarray,
        rate: RatePoint,
        tables: ClassTables,
        coders: list[RangeDecoder],
        count_bits: bool = False,
        progress: Progress = unseen,
    ) -> list[float]:
        """latent (h, w, c) of the first slices. Returns the ideal bits of each coder's codes."""
        bits = [0.0] * len(coders)
        for group in self._prior.groups(z, rate, latent, progress):
            decoded, level = group.mean, group.level - 1
            if level < len(coders):
                classes = group.classes.ravel()
                codes = tables.decode(coders[level], classes)
                if count_bits:
                    bits[level] += tables.ideal_bits(codes, classes)
                decoded += codes.reshape(decoded.shape).astype(np.float32) - tables.zero
                if self.config.weighted:  # codes are modulo K: see ``codes.wrapped``
                    decoded -= np.floor((decoded + tables.zero) / tables.size) * tables.size
            latent[group.cells, group.part] = decoded
        return bits

    def draft(
        self, sections: Sequence[bytes], height: int, width: int, rate: RatePoint, scale: int
    ) -> np.ndarray:
        """A picture whose sides are 1 / scale of the whole's, rounded up: (rows, columns, 3) uint8.

        scale: 2, 4, 8 or 16. Only the slices are decoded that have frequencies for this size, and
        only the linear part of the synthesis makes pixels of them.
        """
        h, w = -(-height // 16), -(-width // 16)
        n_slices = min(5 - scale.bit_length() + 1, self.config.coded_slices(rate.bits))
        channels = sum(self.config.slices[:n_slices])
        latent = np.empty((h, w, channels), np.float32)
        z, _ = self._hyper_codes(sections[0], h, w, rate, False)
        tables = ClassTables(self.class_tables, self.steps.codewords(rate))
        coders = [open_section(section) for section in sections[1 : 1 + n_slices]]
        self._fill(latent, z, rate, tables, coders)
        pixels = self._synthesis.draft(latent, self.steps.steps(rate)[:channels], scale)
        return pixels[: -(-height // scale), : -(-width // scale)]

    def _pixels(self, cells: np.ndarray, rate: RatePoint, part: tuple[slice, slice]) -> np.ndarray:
        return self._synthesis_at(rate)(cells)[part]

    def _fold(self, rate: RatePoint) -> FoldedSynthesis:
        steps = self.steps.steps(rate)[: self.config.coded_channels(rate.bits)]
        return self._synthesis.at(steps, rate.condition(self.config.conditions))
