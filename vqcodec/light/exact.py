"""The exact layers of ``fixedpoint`` in numpy: the same integers, for the same reasons.

Activations are integers in float64 while a layer works on them, and in float32 where they are kept:
both hold them exactly. Weights are multiples of 2**-12.
"""

from collections.abc import Callable, Iterator

import numpy as np

from vqcodec.arithmetic import ACTIVATION_LIMIT, UNITS, WEIGHT_SCALE, check_exact

Array = np.ndarray
CHUNK_CELLS = 768  # in work at once, as in ``fixedpoint``


def round_weights(value: Array) -> Array:
    """The nearest multiples of 2**-12, as float64."""
    x: Array = np.floor(value.astype(np.float64) * WEIGHT_SCALE + 0.5)
    x /= WEIGHT_SCALE
    return x


def round_activations(x: Array) -> Array:
    """Round float64 ``x`` in place to integers, half up, and clip it to +-2**20."""
    x += 0.5
    return _clipped(np.floor(x, out=x), -ACTIVATION_LIMIT)


def leaky_relu(x: Array) -> Array:
    """As ``fixedpoint.leaky_relu``, of an activation, or a sum plus 1/2 that rounds to it."""
    smaller = x * (1 / 8)
    smaller += 0.5
    np.maximum(x, smaller, out=smaller)
    return _clipped(np.floor(smaller, out=smaller), -ACTIVATION_LIMIT / 8)


def _clipped(x: Array, least: float) -> Array:
    """``x`` in place, to ``least`` .. 2**20."""
    np.maximum(x, least, out=x)
    np.minimum(x, ACTIVATION_LIMIT, out=x)
    return x


def log2_magnitude_units(x: Array) -> Array:
    """As ``fixedpoint.log2_magnitude_units``: float32 multiples of 2**-10 up to 2**11 -> int32."""
    u = np.abs(x)
    u *= 4
    u += 1
    bits: Array = u.view(np.int32)
    bits -= (127 << 23) - (1 << 14)
    bits >>= 15
    return bits


class Linear:
    """A linear map on rows. See ``fixedpoint.FixedLinear``."""

    def __init__(self, weight: Array, bias: Array) -> None:
        """weight (out, in), bias (out,), as ``Weights`` gives them. Raises ValueError for large
        ones."""
        weight = round_weights(weight)
        check_exact(float(np.abs(weight).sum(1).max()))
        self._weight = np.ascontiguousarray(weight.T)
        bias = round_activations(bias.astype(np.float64) * UNITS)
        self._bias = bias + 0.5  # so that flooring the sum rounds it

    def _sum(self, rows: Array) -> Array:
        x: Array = rows @ self._weight
        x += self._bias
        return x

    def __call__(self, rows: Array) -> Array:
        """rows (n, in) float64, in units -> (n, out) float64, in units."""
        x = self._sum(rows)
        return _clipped(np.floor(x, out=x), -ACTIVATION_LIMIT)

    def activated(self, rows: Array) -> Array:
        """The same with a leaky ReLU."""
        return leaky_relu(self._sum(rows))


class Film:
    """Scale and shift per channel. See ``priors.network.FixedFilm``."""

    def __init__(self, weight: Array) -> None:
        """weight (2 * C, k), as ``Weights`` gives it."""
        self._weight = round_weights(weight)

    def at(self, condition: tuple[float, ...]) -> Callable[[Array], Array]:
        """Scale, shift and leaky ReLU: a map of x (n, C) float64 in units, which it overwrites."""
        scale, shift = np.split(round_weights((self._weight * condition).sum(1)), 2)
        scale, shift = 1 + scale, shift * UNITS + 0.5

        def apply(x: Array) -> Array:
            x *= scale
            x += shift
            return leaky_relu(x)

        return apply


def each_cell(function: Callable[[Array], Array], grid: Array) -> Array:
    """Apply a map of rows, such as a ``Linear``, to all cells: (h, w, C) -> (h, w, out) float32."""
    rows = grid.reshape(-1, grid.shape[-1])
    starts = range(0, len(rows), CHUNK_CELLS)
    chunks = [function(rows[i : i + CHUNK_CELLS].astype(np.float64)) for i in starts]
    return np.concatenate(chunks, dtype=np.float32).reshape(*grid.shape[:2], -1)


def patches(grid: Array, cells: Array) -> Iterator[Array]:
    """The 3x3 neighbourhoods of cells, zero outside the grid.

    grid (h, w, C), cells (n,) flat indices -> (n, 9 * C) float64, tap-major, CHUNK_CELLS at once.
    """
    h, w, channels = grid.shape
    padded = np.zeros((h + 2, w + 2, channels))
    padded[1:-1, 1:-1] = grid
    # Three neighbours in a row are contiguous.
    shape, stride = ((h + 2) * (w + 2) - 2, 3 * channels), padded.itemsize
    triples = np.lib.stride_tricks.as_strided(padded, shape, (channels * stride, stride))
    corners = cells // w * (w + 2) + cells % w
    index = corners[:, None] + np.arange(3) * (w + 2)
    for i in range(0, len(cells), CHUNK_CELLS):
        part = index[i : i + CHUNK_CELLS]
        yield triples[part].reshape(len(part), -1)


def everywhere(function: Callable[[Array], Array], grid: Array) -> Array:
    """Apply a map of ``patches`` to all cells: (h, w, C) -> (h, w, out) float32."""
    h, w, _ = grid.shape
    chunks = [function(rows) for rows in patches(grid, np.arange(h * w))]
    return np.concatenate(chunks, dtype=np.float32).reshape(h, w, -1)


def pixel_shuffle(grid: Array) -> Array:
    """(h, w, 4 * C) -> (2h, 2w, C), in the order of ``torch.nn.PixelShuffle(2)``."""
    h, w, c4 = grid.shape
    x = grid.reshape(h, w, c4 // 4, 2, 2).transpose(0, 3, 1, 4, 2)
    return x.reshape(2 * h, 2 * w, c4 // 4)
