"""Rate points of a ladder: what stands in a file, and the exact steps that follow from it.

The stored number is N * 256 of ``Nbit``, and 4096 more where the file is tuned for the eye.
Does not import torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vqcodec.arithmetic import exp2_fixed
from vqcodec.autoencoders.ladder.config import BITS_CENTRE, MAX_WEIGHT, MIN_WEIGHT, RANGE
from vqcodec.rate import LEAST_BITS, MOST_BITS, RATE_UNIT, VISUAL

RATE_LOW, RATE_HIGH = LEAST_BITS * RATE_UNIT, MOST_BITS * RATE_UNIT
BANDS = 6  # of rates with a hyper table each, one for each whole N from 5 to 10
_FIXED = 16  # fractional bits of the factors between units
_LOG2_RANGE = 13642  # log2(RANGE) * 2**10, rounded
WEIGHT_STEP = RATE_UNIT // 32  # to whose multiples channels' step weights are rounded: 1/32 octave


@dataclass(frozen=True)
class RatePoint:
    """One setting of the codec. ``index`` is what the file stores."""

    index: int

    @property
    def visual(self) -> bool:
        """Tuned for the eye and not for PSNR."""
        return self.index >= VISUAL

    @property
    def number(self) -> int:
        """N * 256, whatever the file is tuned to."""
        return self.index - VISUAL if self.visual else self.index

    @property
    def bits(self) -> float:
        return self.number / RATE_UNIT

    @property
    def step(self) -> float:
        """Of the rate point; channels' steps may differ from it."""
        return RANGE * 2.0**-self.bits

    def condition(self, count: int) -> tuple[float, ...]:
        """The 3 or 6 conditions of ``config.conditions``, exact in binary."""
        t, v = (self.bits - BITS_CENTRE) / 2, float(self.visual)
        return (t, t * t, t * t * t, v, v * t, v * t * t)[:count]

    @property
    def power(self) -> int:
        """floor(2**N * 2**32), exactly."""
        return power_of_two(self.number)

    @property
    def size(self) -> int:
        """Codewords of a codebook: 2**N, rounded."""
        return codewords(self.number)

    @property
    def band(self) -> int:
        """Row of the hyper tables."""
        return (self.number + RATE_UNIT // 2) // RATE_UNIT - 5 + BANDS * self.visual


@lru_cache(maxsize=4096)  # its square roots take 50 microseconds, and every channel asks for it
def power_of_two(number: int) -> int:
    """floor(2**(number / 256) * 2**32), exactly."""
    return exp2_fixed(number, 8)


def codewords(number: int) -> int:
    """2**(number / 256), rounded."""
    return (power_of_two(number) + (1 << 31)) >> 32


class ChannelSteps:
    """The channels' steps at rate points, exact: each is the rate point's times 2**(k / 32).

    And what follows from them and from the units of the channels: the factors between steps and
    the numbers that the networks of the prior see and give.
    """

    def __init__(self, weights: np.ndarray | None, units: np.ndarray) -> None:
        """weights (C, 1 + conditions) float64, multiples of 2**-12, of ``model.StepWeights``, or
        None where all channels have one step. units (3, C): ``model.unit_tables``.
        """
        self.channels = units.shape[1]
        self.weights = weights
        self._std, self._mean_unit, self._log2_std = units.tolist()

    def exponents(self, rate: RatePoint) -> list[int]:
        """log2 of a step over the rate point's, in 1/256, of each channel."""
        if self.weights is None:
            return [0] * self.channels
        row = (1.0, *rate.condition(self.weights.shape[1] - 1))
        # Multiples of 2**-39 below 2**13: float64 adds them up exactly, in any order.
        log2 = (self.weights * row).sum(1).clip(MIN_WEIGHT, MAX_WEIGHT)
        steps = np.floor(log2 * (RATE_UNIT // WEIGHT_STEP) + 0.5)
        finest = -((RATE_HIGH - rate.number) // WEIGHT_STEP)  # that of the highest rate
        return [WEIGHT_STEP * max(int(k), finest) for k in steps]

    def codewords(self, rate: RatePoint) -> int:
        """Of a codebook: as many as cover the range where the step is the finest."""
        if self.weights is None:
            return rate.size
        return codewords(min(rate.number - int(RATE_UNIT * MIN_WEIGHT), RATE_HIGH))

    def powers(self, rate: RatePoint) -> list[int]:
        """floor(2**32 * RANGE / step) of each channel, exactly."""
        if self.weights is None:
            return [rate.power] * self.channels
        return [power_of_two(rate.number - k) for k in self.exponents(rate)]

    def steps(self, rate: RatePoint) -> np.ndarray:
        """In transform units, (C,) float32: for pixels, which need not be exact."""
        exponents = np.array(self.exponents(rate), np.float64)
        return (rate.step * np.exp2(exponents / RATE_UNIT)).astype(np.float32)

    def mean_over_step(self, rate: RatePoint) -> np.ndarray:
        """The unit of a predicted mean in steps, (C,) float64, with 16 fractional bits."""
        shift = 40 - _FIXED  # the unit has 8 fractional bits, the power 32
        return _fixed(
            unit * power // (int(RANGE) << shift)
            for unit, power in zip(self._mean_unit, self.powers(rate), strict=True)
        )

    def step_over_std(self, rate: RatePoint) -> np.ndarray:
        """A step in standard deviations of the channel, (C,) float64, with 16 fractional bits."""
        return _fixed(
            (int(RANGE) << (40 + _FIXED)) // (std * power)
            for std, power in zip(self._std, self.powers(rate), strict=True)
        )

    def log2_std_over_step(self, rate: RatePoint) -> np.ndarray:
        """(C,) int64, in units of 2**-10."""
        log2_step = _LOG2_RANGE - 4 * (rate.number - np.array(self.exponents(rate), np.int64))
        return np.array(self._log2_std, np.int64) - log2_step


def _fixed(integers: Iterable[int]) -> np.ndarray:
    return np.array(list(integers), np.float64) / 2**_FIXED
