"""Exact evaluation of small networks: the same integers on every machine.

A network may shape the probabilities of the range coder only if its output never differs. Floating
point sums do differ, with the order of summation, so here no sum ever rounds: weights are multiples
of 2**-12, and activations are integers of magnitude at most 2**20, which count units of 2**-10;
both are held in float64. Each product is then an integer times 2**-12, and as long as the
magnitudes of all products of one output add up to less than 2**53 * 2**-12, every partial sum is
representable: any order of summation, any number of threads, and fused multiply-adds give the same
float64. ``FixedLinear`` checks that bound when it is made. After each sum the activation is rounded
to an integer again.

A processor that multiplies bytes does eight such products in the time of one in float64. There, and
where weights and activations have 16 bits, as they nearly always do, both are split into two digits
to the base 256, and four products of bytes take the place of one: the same integers, sooner.

Grids are (h, w, channels) tensors, or (B, h, w, channels) for B of one size, so that a cell's
vector is contiguous in memory. They are kept in float32, which holds any activation exactly, and
widened to float64, or split into digits, for one layer at a time. ``leaky_relu`` is exact in both.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.arithmetic import ACTIVATION_LIMIT, UNITS, WEIGHT_SCALE, check_exact
from vqcodec.processor import multiplies_bytes

CHUNK_CELLS = 768  # in work at once: their patches, 768 x 9 x 128 x 8 bytes = 7 MB, stay in cache
LARGEST_DIGITS = 127 * 256 + 127  # the largest magnitude that two digits hold of either sign
LEAST_INPUTS = 16  # of a linear map that is computed in digits


def round_weights(weights: Tensor) -> Tensor:
    """The nearest multiples of 2**-12, as float64."""
    return torch.floor(weights.double() * WEIGHT_SCALE + 0.5) / WEIGHT_SCALE


def stored_weights(value: Tensor) -> Tensor:
    """A tensor of a weights file as float32: int16 holds multiples of 2**-12, float16 itself."""
    return value.float() / (WEIGHT_SCALE if value.dtype == torch.int16 else 1)


def round_activations(x: Tensor) -> Tensor:
    """Round float64 ``x`` in place to integers, half up, and clip it to +-2**20."""
    return x.add_(0.5).floor_().clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def leaky_relu(x: Tensor) -> Tensor:
    """max(y, y / 8) rounded, where ``x`` is the activation y, or a sum plus 1/2 that rounds to it.

    floor(floor(x) / 8 + 1/2) = floor(x / 8 + 1/2), so that one floor serves both roundings. The
    power of two makes x / 8 exact. Of an int32 activation the result is int32, too.
    """
    if x.dtype == torch.int32:
        larger = torch.maximum(x, x.add(4).bitwise_right_shift_(3))
        return larger.clamp_(-ACTIVATION_LIMIT // 8, ACTIVATION_LIMIT)
    larger = torch.maximum(x, (x * (1 / 8)).add_(0.5)).floor_()
    return larger.clamp_(-ACTIVATION_LIMIT / 8, ACTIVATION_LIMIT)


def log2_magnitude(x: Tensor) -> Tensor:
    """log2(1 + 4 |x|) / 4 with log2 interpolated linearly between the powers of two.

    Differentiable, for training; for multiples of 2**-10 in float64 every operation is exact, and
    the result still has to be rounded to the activation grid.
    """
    u = 1 + 4 * x.abs()
    mantissa, exponent = torch.frexp(u.detach())  # u = mantissa * 2**exponent, 1/2 <= mantissa < 1
    power = u.detach() / (2 * mantissa)  # the power of two at or below u; the division is exact
    return (exponent - 2 + u / power) / 4


def log2_magnitude_units(x: Tensor) -> Tensor:
    """``log2_magnitude`` rounded to units, int32, of float32 multiples of 2**-10 up to 2**11.

    The bits of a float32 are its exponent and, below, its mantissa without the leading one: read as
    an integer they are 2**23 times its logarithm, interpolated linearly, plus the exponent's bias.
    """
    u = x.abs().mul_(4).add_(1).view(torch.int32)
    bias = 127 << 23
    return u.sub_(bias - (1 << 14)).bitwise_right_shift_(15)  # 2**23 * 4 / UNITS, half up


class Digits(NamedTuple):
    """Integers 256 * high + low, in two int8 tensors of one shape."""

    high: Tensor
    low: Tensor


def digits(x: Tensor) -> Digits | None:
    """Of integers in a tensor of any type; None where there is one with more, or no use."""
    if not multiplies_bytes(x.device):
        return None
    least, most = x.aminmax()
    if max(-least.item(), most.item()) > LARGEST_DIGITS:
        return None
    whole = x.to(torch.int16)
    high = whole.add(128).bitwise_right_shift_(8).to(torch.int8)
    return Digits(high, whole.to(torch.int8))  # which keeps the lower byte


class FixedLinear:
    """A linear map on rows, exact in any order of summation.

    weight (out, in) and bias (out,) float, rounded to multiples of 2**-12 and 2**-10 here.
    Raises ValueError where the weights are so large that a sum could exceed 53 bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight, bias = round_weights(weight), round_activations(bias.double() * UNITS)
        largest = weight.abs().sum(1).max().item()
        check_exact(largest)
        self._outputs = len(weight)
        # MKL is faster with this layout, and with columns in multiples of 24
        more = -self._outputs % 24
        self._weight = F.pad(weight, (0, 0, 0, more)).t()  # (in, out)
        self._bias = F.pad(bias + 0.5, (0, more))  # so that flooring the sum rounds it
        # A 256th of a sum shall have 31 bits. With one input torch's product of bytes is wrong (its
        # issue 195066), and with few nothing is gained.
        usable = largest < 1 << 11 and weight.shape[1] >= LEAST_INPUTS
        split = digits(weight * WEIGHT_SCALE) if usable else None
        self._bytes = torch.cat(split).t() if split else None  # (in, 2 * out)
        self._bytes_bias = (16 * bias + 8).to(torch.int32)

    @property
    def takes_digits(self) -> bool:
        return self._bytes is not None

    def _sum(self, rows: Tensor | Digits) -> Tensor:
        """An int32 activation before it is clipped, or float64 that is yet to be rounded down."""
        if isinstance(rows, Tensor):
            split = digits(rows) if self.takes_digits else None
            if split is None:
                sums = torch.addmm(self._bias, rows.double(), self._weight)
                return sums[:, : self._outputs]
            rows = split
        assert self._bytes is not None
        n = self._outputs
        high, low = (torch._int_mm(of, self._bytes) for of in rows)
        # 2**12 times the sum is 2**16 * high[:n] + 2**8 * (high[n:] + low[:n]) + low[n:], of which
        # the last 8 bits do not matter
        sums = high[:, n:].add_(high[:, :n], alpha=256).add_(low[:, :n])
        sums.add_(low[:, n:].bitwise_right_shift_(8)).add_(self._bytes_bias)
        return sums.bitwise_right_shift_(4)

    def __call__(self, rows: Tensor | Digits) -> Tensor:
        """rows (n, in), in units -> (n, out) int32 or float64, in units."""
        sums = self._sum(rows)
        if sums.dtype != torch.int32:
            sums.floor_()
        return sums.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)

    def activated(self, rows: Tensor | Digits) -> Tensor:
        """The same with a leaky ReLU."""
        return leaky_relu(self._sum(rows))


def each_cell(function: Callable[[Tensor], Tensor], grid: Tensor) -> Tensor:
    """Apply a map of rows, such as a ``FixedLinear``, to all cells: (..., C) -> (..., out) float32.

    ``function`` gets chunks of rows and returns activations.
    """
    chunks = grid.reshape(-1, grid.shape[-1]).split(CHUNK_CELLS)
    rows = torch.cat([function(chunk).float() for chunk in chunks])
    return rows.reshape(*grid.shape[:-1], -1)


class _Patches:
    """The 3x3 neighbourhoods of cells, zero outside the grid.

    All parts lie in one place, so each is gone when the next one comes: for large pictures the
    whole would take GiBs.
    """

    def __init__(self, grid: Tensor, dtype: torch.dtype, most: int) -> None:
        """grid (h, w, C) or (B, h, w, C); at most ``most`` cells are asked for at once."""
        *batch, h, w, channels = grid.shape
        padded = grid.new_zeros(*batch, h + 2, w + 2, channels, dtype=dtype)
        padded[..., 1:-1, 1:-1, :] = grid
        # Three neighbours in a row are contiguous.
        cells = padded[..., 0].numel() - 2
        self._triples = padded.as_strided((cells, 3 * channels), (channels, 1))
        self._place = padded.new_empty(3 * most, 3 * channels)

    def at(self, corners: Tensor) -> Tensor:
        """corners (n, 3): first cells of the three rows of each -> (n, 9 * C), tap-major."""
        rows = self._place[: corners.numel()]
        torch.index_select(self._triples, 0, corners.flatten(), out=rows)
        return rows.view(len(corners), -1)


class FixedConv3x3:
    """A 3x3 convolution with zero padding, as patches times a matrix."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight (out, in, 3, 3), bias (out,)."""
        self._linear = FixedLinear(weight.permute(0, 2, 3, 1).flatten(1), bias)

    def chunks(self, grid: Tensor, cells: Tensor) -> Iterator[Tensor]:
        """grid (h, w, C) or (B, h, w, C) float32; cells (n,) int64, flat indices into the grid or
        grids -> (n, out) as of ``FixedLinear``, in parts of CHUNK_CELLS rows.
        """
        h, w = grid.shape[-3:-1]
        row = cells // w
        row = row + row // h * 2  # two rows of padding for each grid before
        corner = row * (w + 2) + cells % w
        index = corner[:, None] + torch.arange(3, device=grid.device) * (w + 2)
        most = min(len(cells), CHUNK_CELLS)
        split = digits(grid) if self._linear.takes_digits else None
        dtype = torch.float64 if split is None else torch.int8
        parts = [_Patches(part, dtype, most) for part in split or (grid,)]
        for corners in index.split(CHUNK_CELLS):
            rows = [part.at(corners) for part in parts]
            yield self._linear(rows[0] if split is None else Digits(*rows))

    def __call__(self, grid: Tensor, cells: Tensor) -> Tensor:
        """grid (..., h, w, C) float32, cells (n,) flat indices -> (n, out)."""
        return torch.cat(list(self.chunks(grid, cells)))

    def everywhere(self, grid: Tensor) -> Tensor:
        """At all cells: grid (..., h, w, C) float32 -> (..., h, w, out) float32."""
        cells = torch.arange(grid.shape[:-1].numel(), device=grid.device)
        rows = torch.cat([rows.float() for rows in self.chunks(grid, cells)])
        return rows.reshape(*grid.shape[:-1], -1)


def pixel_shuffle(grid: Tensor) -> Tensor:
    """(..., h, w, 4 * C) -> (..., 2h, 2w, C), in the order of ``torch.nn.PixelShuffle(2)``."""
    *batch, h, w, c4 = grid.shape
    x = grid.reshape(-1, h, w, c4 // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*batch, 2 * h, 2 * w, c4 // 4)


def clip(x: Tensor) -> Tensor:
    """A sum of activations, in place, as an activation."""
    return x.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
