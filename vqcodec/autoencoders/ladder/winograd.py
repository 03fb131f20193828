"""3x3 convolutions with a quarter of the multiplications.

Winograd's F(4x4, 3x3) in the form of Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (2015), Eq. 8 and section 4.4: y = A^T [(G g G^T) * (B^T d B)] A for each 4x4 tile of the
output, where d is a 6x6 tile of the input and * multiplies pointwise. Summed over the channels, the
products are 36 matrix products over all tiles. The result differs from that of the plain sum by
floating point rounding, so this is for pixels and not for the exact networks of the prior.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BAND_TILES = 192  # in work at once: what is between the transforms stays in cache
_G = (
    torch.tensor(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
        dtype=torch.float64,
    )
    / 24
)


def _transform_input(d: Sequence[Tensor], out: Tensor) -> None:
    """B^T d: six tensors of one shape -> out (6, ...)."""
    torch.add(d[4], d[0], alpha=4, out=out[0]).sub_(d[2], alpha=5)
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(d[5], d[1], alpha=4, out=out[5]).sub_(d[3], alpha=5)


def _transform_output(m: Tensor, out: Tensor) -> None:
    """A^T m: m (6, ...) -> out (4, ...)."""
    sum1, difference1 = m[1] + m[2], m[1] - m[2]
    sum2, difference2 = m[3] + m[4], m[3] - m[4]
    torch.add(m[0], sum1, out=out[0]).add_(sum2)
    torch.add(difference1, difference2, alpha=2, out=out[1])
    torch.add(sum1, sum2, alpha=4, out=out[2])
    torch.add(difference1, difference2, alpha=8, out=out[3]).add_(m[5])


class WinogradConv3x3:
    """A 3x3 convolution with zero padding, of float32 or float64 grids."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight (out, in, 3, 3), bias (out,)."""
        g = _G.to(weight.device)
        points = torch.einsum("xj,yi,ocij->xyco", g, g, weight.double()).flatten(0, 1)
        self._points, self._bias = points.to(weight.dtype).contiguous(), bias  # (36, in, out)

    def __call__(self, grids: Tensor) -> Tensor:
        """grids (B, h, w, in) -> (B, h, w, out)."""
        n, h, w, _ = grids.shape
        high, wide = -(-h // 4), -(-w // 4)  # tiles
        padded = F.pad(grids, (0, 0, 1, 4 * wide - w + 1, 1, 4 * high - h + 1))
        results = grids.new_empty(n, high, 4, wide, 4, len(self._bias))
        rows = max(1, BAND_TILES // wide)
        for grid, result in zip(padded, results, strict=True):
            for top in range(0, high, rows):
                tiles = result[top : top + rows]
                self._band(grid[4 * top : 4 * (top + len(tiles)) + 2], tiles)
        return results.reshape(n, 4 * high, 4 * wide, -1)[:, :h, :w]

    def _band(self, grid: Tensor, out: Tensor) -> None:
        """grid (4 * high + 2, 4 * wide + 2, in) -> out (high, 4, wide, 4, channels)."""
        high, _, wide, _, channels = out.shape
        vertical = grid.new_empty(6, high, *grid.shape[1:])
        _transform_input([grid[i : i + 4 * high - 3 : 4] for i in range(6)], vertical)
        d = grid.new_empty(6, 6, high, wide, grid.shape[2])
        _transform_input([vertical[:, :, j : j + 4 * wide - 3 : 4] for j in range(6)], d)
        m = torch.bmm(d.view(36, high * wide, -1), self._points)
        m[7] += self._bias  # the point (1, 1) goes into each output with the factor 1
        horizontal = grid.new_empty(4, 6, high, wide, channels)
        _transform_output(m.view(6, 6, high, wide, channels), horizontal)
        _transform_output(horizontal.transpose(0, 1), out.permute(1, 3, 0, 2, 4))
