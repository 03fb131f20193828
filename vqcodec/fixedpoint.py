"""Exact evaluation of small networks: the same integers on every machine.

A network may shape the probabilities of the range coder only if its output never differs. Floating
point sums do differ, with the order of summation, so here no sum ever rounds: weights are multiples
of 2**-12, activations are multiples of 2**-10 of magnitude at most 2**10, both held in float64.
Each product is then an integer times 2**-22, and as long as the magnitudes of all products of one
output add up to less than 2**53 * 2**-22, every partial sum is representable: any order of
summation, any number of threads, and fused multiply-adds give the same float64. ``FixedLinear``
checks that bound when it is made. After each sum the activation is rounded to its grid again.

Grids are (h, w, channels) tensors, or (B, h, w, channels) for B of one size, so that a cell's
vector is contiguous in memory. They are kept in float32, which holds any activation exactly, and
widened to float64 a chunk of cells at a time. ``leaky_relu`` is exact in both.
"""

from collections.abc import Callable, Iterator
from math import isqrt

import torch
from torch import Tensor

WEIGHT_BITS = 12
ACTIVATION_BITS = 10
ACTIVATION_LIMIT = 2.0**10
_ACTIVATION_SCALE = 2.0**ACTIVATION_BITS
_WEIGHT_SCALE = 2.0**WEIGHT_BITS
_EXACT = 2.0**53
CHUNK_CELLS = (
    768  # cells in work at once: their patches, 768 x 9 x 256 x 8 bytes = 14 MB, stay in cache
)


def round_weights(weights: Tensor) -> Tensor:
    """The nearest multiples of 2**-12, as float64."""
    return torch.floor(weights.double() * _WEIGHT_SCALE + 0.5) / _WEIGHT_SCALE


def stored_weights(value: Tensor) -> Tensor:
    """A tensor of a weights file as float32: int16 holds multiples of 2**-12, float16 itself."""
    return value.float() / (_WEIGHT_SCALE if value.dtype == torch.int16 else 1)


def round_activations(x: Tensor) -> Tensor:
    """Round float64 ``x`` in place to multiples of 2**-10, half up, and clip it to +-2**10."""
    x.mul_(_ACTIVATION_SCALE).add_(0.5).floor_().mul_(1 / _ACTIVATION_SCALE)
    return x.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def leaky_relu(x: Tensor) -> Tensor:
    """max(x, x / 8) rounded to the grid, of ``x`` on it; the power of two makes x / 8 exact.

    Only what is negative needs rounding, and rounding keeps the order: so round first.
    """
    eighth = (x * (_ACTIVATION_SCALE / 8)).add_(0.5).floor_().mul_(1 / _ACTIVATION_SCALE)
    return torch.maximum(x, eighth)


def log2_magnitude(x: Tensor) -> Tensor:
    """log2(1 + 4 |x|) / 4 with log2 interpolated linearly between the powers of two.

    Differentiable, for training; for multiples of 2**-10 in float64 every operation is exact, and
    the result still has to be rounded to the activation grid.
    """
    u = 1 + 4 * x.abs()
    mantissa, exponent = torch.frexp(u.detach())  # u = mantissa * 2**exponent, 1/2 <= mantissa < 1
    power = u.detach() / (2 * mantissa)  # the power of two at or below u; the division is exact
    return (exponent - 2 + u / power) / 4


def exp2_fixed(numerator: int, log2_denominator: int, bits: int = 32) -> int:
    """floor(2**(numerator / 2**log2_denominator) * 2**bits), by integer square roots alone."""
    x = 1 << (numerator + (bits << log2_denominator))
    for _ in range(log2_denominator):
        x = isqrt(x)
    return x


class FixedLinear:
    """A linear map on rows, exact in any order of summation.

    weight (out, in) and bias (out,) float, rounded to multiples of 2**-12 and 2**-10 here.
    Raises ValueError where the weights are so large that a sum could exceed 53 bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight, bias = round_weights(weight), round_activations(bias.double().clone())
        largest = weight.abs().sum(1).max().item() * ACTIVATION_LIMIT + ACTIVATION_LIMIT
        if not largest * _WEIGHT_SCALE * _ACTIVATION_SCALE < _EXACT:
            raise ValueError("weights too large for exact evaluation in 53 bits")
        # In units of the grid of activations, a half included, so that flooring the sum rounds it
        self._weight = (weight * _ACTIVATION_SCALE).t().contiguous()  # (in, out)
        self._bias = bias * _ACTIVATION_SCALE + 0.5

    def __call__(self, rows: Tensor) -> Tensor:
        """rows (n, in) on the activation grid -> (n, out) on the activation grid."""
        units = torch.addmm(self._bias, rows, self._weight).floor_()
        return units.mul_(1 / _ACTIVATION_SCALE).clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def each_cell(function: Callable[[Tensor], Tensor], grid: Tensor) -> Tensor:
    """Apply a map of rows, such as a ``FixedLinear``, to all cells: (..., C) -> (..., out) float32.

    ``function`` gets chunks of rows as float64 and returns activations.
    """
    chunks = grid.reshape(-1, grid.shape[-1]).split(CHUNK_CELLS)
    rows = torch.cat([function(chunk.double()).float() for chunk in chunks])
    return rows.reshape(*grid.shape[:-1], -1)


def patches(grid: Tensor, cells: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of cells, zero outside the grid.

    grid (h + 2, w + 2, C) or (B, h + 2, w + 2, C), padded with zeros; cells (n,) int64, flat
    indices into the grid or grids without the padding -> (n, 9 * C) float64, tap-major.
    """
    tall, wide = grid.shape[-3:-1]
    row = cells // (wide - 2)
    row = row + row // (tall - 2) * 2  # two rows of padding for each grid before
    corner = row * wide + cells % (wide - 2)
    taps = [dy * wide + dx for dy in range(3) for dx in range(3)]
    index = corner[:, None] + torch.tensor(taps, device=grid.device)
    rows = grid.reshape(-1, grid.shape[-1]).index_select(0, index.flatten())
    return rows.reshape(len(cells), -1).double()


class FixedConv3x3:
    """A 3x3 convolution with zero padding, as patches times a matrix."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        out = weight.shape[0]
        self.linear = FixedLinear(weight.permute(0, 2, 3, 1).reshape(out, -1), bias)

    def __call__(self, grid: Tensor, cells: Tensor) -> Tensor:
        """grid (..., h, w, C) float32, cells (n,) flat indices -> (n, out) float64."""
        return torch.cat(list(self.chunks(grid, cells)))

    def everywhere(self, grid: Tensor) -> Tensor:
        """At all cells: grid (..., h, w, C) float32 -> (..., h, w, out) float32."""
        cells = torch.arange(grid.shape[:-1].numel(), device=grid.device)
        rows = torch.cat([rows.float() for rows in self.chunks(grid, cells)])
        return rows.reshape(*grid.shape[:-1], -1)

    def chunks(self, grid: Tensor, cells: Tensor) -> Iterator[Tensor]:
        """The same in parts of CHUNK_CELLS rows: for large pictures the whole would take GiBs."""
        padded = torch.nn.functional.pad(grid, (0, 0, 1, 1, 1, 1))
        for part in cells.split(CHUNK_CELLS):
            yield self.linear(patches(padded, part))


def pixel_shuffle(grid: Tensor) -> Tensor:
    """(..., h, w, 4 * C) -> (..., 2h, 2w, C), in the order of ``torch.nn.PixelShuffle(2)``."""
    *batch, h, w, c4 = grid.shape
    x = grid.reshape(-1, h, w, c4 // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*batch, 2 * h, 2 * w, c4 // 4)


def clip(x: Tensor) -> Tensor:
    """A sum of activations, in place, as an activation."""
    return x.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
