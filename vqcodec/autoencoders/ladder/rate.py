"""Rate points of a ladder: what stands in a file, and the exact steps that follow from it.

The stored number is N * 256 of ``Nbit``, and 4096 more where the file is tuned for the eye.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.autoencoders.ladder.config import BITS_CENTRE, RANGE
from vqcodec.autoencoders.ladder.model import MAX_WEIGHT, MIN_WEIGHT, mean_unit
from vqcodec.rate import LEAST_BITS, MOST_BITS, RATE_UNIT, VISUAL

RATE_LOW, RATE_HIGH = LEAST_BITS * RATE_UNIT, MOST_BITS * RATE_UNIT
BANDS = 6  # of rates with a hyper table each, one for each whole N from 5 to 10
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
    return fixedpoint.exp2_fixed(number, 8)


def codewords(number: int) -> int:
    """2**(number / 256), rounded."""
    return (power_of_two(number) + (1 << 31)) >> 32


class ChannelSteps:
    """The channels' steps at rate points, exact: each is the rate point's times 2**(k / 32)."""

    def __init__(self, weights: Tensor | None, channels: int) -> None:
        """weights (C, 1 + conditions) of ``model.StepWeights``, or None where all have one step."""
        self.channels = channels
        self.weights = None if weights is None else fixedpoint.round_weights(weights.cpu())

    def exponents(self, rate: RatePoint) -> list[int]:
        """log2 of a step over the rate point's, in 1/256, of each channel."""
        if self.weights is None:
            return [0] * self.channels
        row = (1.0, *rate.condition(self.weights.shape[1] - 1))
        # Multiples of 2**-39 below 2**13: float64 adds them up exactly, in any order.
        log2 = (self.weights * torch.tensor(row, dtype=torch.float64)).sum(1)
        log2 = log2.clamp_(MIN_WEIGHT, MAX_WEIGHT)
        steps = torch.floor(log2 * (RATE_UNIT // WEIGHT_STEP) + 0.5)
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

    def steps(self, rate: RatePoint) -> Tensor:
        """In transform units, (C,) float32: for pixels, which need not be exact."""
        exponents = torch.tensor(self.exponents(rate), dtype=torch.float64)
        return (rate.step * torch.exp2(exponents / RATE_UNIT)).float()


def unit_tables(std: Tensor) -> Tensor:
    """(3, C) int32, made once at export: std * 2**8, mean unit * 2**8, log2(std) * 2**10.

    They are shipped with the weights because a square root or a logarithm may round differently
    on another machine.
    """
    std = std.double()
    rows = (std * 256, mean_unit(std) * 256, std.log2() * 1024)
    return torch.stack([torch.floor(row + 0.5) for row in rows]).to(torch.int32)
