"""Exact evaluation of small networks: the same integers on every machine.

A network may shape the probabilities of the range coder only if its output never differs. Floating
point sums do differ, with the order of summation, so here no sum ever rounds: weights are multiples
of 2**-12, and activations are integers of magnitude at most 2**20, which count units of 2**-10;
both are held in float64. Each product is then an integer times 2**-12, and as long as the
magnitudes of all products of one output add up to less than 2**53 * 2**-12, every partial sum is
representable: any order of summation, any number of threads, and fused multiply-adds give the same
float64. ``FixedLinear`` checks that bound when it is made. After each sum the activation is rounded
to an integer again.

Grids are (h, w, channels) tensors, or (B, h, w, channels) for B of one size, so that a cell's
vector is contiguous in memory. They are kept in float32, which holds any activation exactly, and
widened to float64 for one layer at a time. ``leaky_relu`` is exact in both.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.arithmetic import ACTIVATION_LIMIT, UNITS, WEIGHT_SCALE, check_exact

CHUNK_CELLS = 768  # in work at once: their patches, 768 x 9 x 128 x 8 bytes = 7 MB, stay in cache


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
    power of two makes x / 8 exact.
    """
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


class FixedLinear:
    """A linear map on rows, exact in any order of summation.

    weight (out, in) and bias (out,) float, rounded to multiples of 2**-12 and 2**-10 here.
    Raises ValueError where the weights are so large that a sum could exceed 53 bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        weight, bias = round_weights(weight), round_activations(bias.double() * UNITS)
        check_exact(weight.abs().sum(1).max().item())
        self._outputs = len(weight)
        # MKL is faster with this layout, and with columns in multiples of 24
        more = -self._outputs % 24
        self._weight = F.pad(weight, (0, 0, 0, more)).t()  # (in, out)
        self._bias = F.pad(bias + 0.5, (0, more))  # so that flooring the sum rounds it

    def _sum(self, rows: Tensor) -> Tensor:
        return torch.addmm(self._bias, rows, self._weight)[:, : self._outputs]

    def __call__(self, rows: Tensor) -> Tensor:
        """rows (n, in) float64, in units -> (n, out) float64, in units."""
        return self._sum(rows).floor_().clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)

    def activated(self, rows: Tensor) -> Tensor:
        """The same with a leaky ReLU."""
        return leaky_relu(self._sum(rows))


def each_cell(function: Callable[[Tensor], Tensor], grid: Tensor) -> Tensor:
    """Apply a map of rows, such as a ``FixedLinear``, to all cells: (..., C) -> (..., out) float32.

    ``function`` gets chunks of rows as float64 and returns activations.
    """
    chunks = grid.reshape(-1, grid.shape[-1]).split(CHUNK_CELLS)
    rows = torch.cat([function(chunk.double()).float() for chunk in chunks])
    return rows.reshape(*grid.shape[:-1], -1)


def patches(grid: Tensor, cells: Tensor) -> Iterator[Tensor]:
    """The 3x3 neighbourhoods of cells, zero outside the grid.

    grid (h, w, C) or (B, h, w, C); cells (n,) int64, flat indices into the grid or grids
    -> (n, 9 * C) float64, tap-major, in parts of CHUNK_CELLS rows: for large pictures the whole
    would take GiBs. All parts lie in one place, so each is gone when the next one comes.
    """
    *batch, h, w, channels = grid.shape
    padded = grid.new_zeros(*batch, h + 2, w + 2, channels, dtype=torch.float64)
    padded[..., 1:-1, 1:-1, :] = grid
    # Three neighbours in a row are contiguous.
    triples = padded.as_strided((padded[..., 0].numel() - 2, 3 * channels), (channels, 1))
    row = cells // w
    row = row + row // h * 2  # two rows of padding for each grid before
    corner = row * (w + 2) + cells % w
    index = corner[:, None] + torch.arange(3, device=grid.device) * (w + 2)
    place = padded.new_empty(3 * min(len(cells), CHUNK_CELLS), 3 * channels)
    for part in index.split(CHUNK_CELLS):
        rows = place[: part.numel()]
        torch.index_select(triples, 0, part.flatten(), out=rows)
        yield rows.view(len(part), -1)


class FixedConv3x3:
    """A 3x3 convolution with zero padding, as ``patches`` times a matrix."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight (out, in, 3, 3), bias (out,)."""
        self.linear = FixedLinear(weight.permute(0, 2, 3, 1).flatten(1), bias)

    def __call__(self, grid: Tensor, cells: Tensor) -> Tensor:
        """grid (..., h, w, C) float32, cells (n,) flat indices -> (n, out) float64."""
        return torch.cat([self.linear(rows) for rows in patches(grid, cells)])

    def everywhere(self, grid: Tensor) -> Tensor:
        """At all cells: grid (..., h, w, C) float32 -> (..., h, w, out) float32."""
        cells = torch.arange(grid.shape[:-1].numel(), device=grid.device)
        rows = torch.cat([self.linear(rows).float() for rows in patches(grid, cells)])
        return rows.reshape(*grid.shape[:-1], -1)


def pixel_shuffle(grid: Tensor) -> Tensor:
    """(..., h, w, 4 * C) -> (..., 2h, 2w, C), in the order of ``torch.nn.PixelShuffle(2)``."""
    *batch, h, w, c4 = grid.shape
    x = grid.reshape(-1, h, w, c4 // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*batch, 2 * h, 2 * w, c4 // 4)


def clip(x: Tensor) -> Tensor:
    """A sum of activations, in place, as an activation."""
    return x.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
