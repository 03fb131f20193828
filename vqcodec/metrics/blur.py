"""Windows slid over planes, as products with banded matrices.

On a CPU that is at least twenty times faster than a convolution of single channels; the products
here have at most ``_TILE`` columns, so that the time for a pixel does not grow with the picture.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 64  # pixels


def blur(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """(..., h, w) weighed by an odd number of taps along both axes; beyond the borders is 0."""
    radius = len(taps) // 2
    return _columns(_rows(planes, taps, radius), taps, radius)


def window_means(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """As ``blur``, but only where the window is inside: both sides are len(taps) - 1 smaller."""
    return _columns(_rows(planes, taps, 0), taps, 0)


def _rows(planes: Tensor, taps: tuple[float, ...], border: int) -> Tensor:
    """Along each row, with ``border`` zeros before and after it."""
    n, tiles, side = _tiles(planes.shape[-1], taps, border)
    matrix = _band(taps, side, planes.device, planes.dtype)
    if tiles == 1:
        return planes @ matrix[border : border + planes.shape[-1]]
    after = tiles * side + len(taps) - 1 - planes.shape[-1] - border
    parts = F.pad(planes, (border, after)).unfold(-1, side + len(taps) - 1, side)
    # parts (..., h, tiles, side + taps - 1). As one product: torch would make one of each row.
    made = parts.reshape(-1, parts.shape[-1]) @ matrix
    return made.view(*parts.shape[:-2], -1)[..., :n]


def _columns(planes: Tensor, taps: tuple[float, ...], border: int) -> Tensor:
    n, tiles, side = _tiles(planes.shape[-2], taps, border)
    matrix = _band(taps, side, planes.device, planes.dtype).mT
    if tiles == 1:
        return matrix[:, border : border + planes.shape[-2]] @ planes
    after = tiles * side + len(taps) - 1 - planes.shape[-2] - border
    parts = F.pad(planes, (0, 0, border, after)).unfold(-2, side + len(taps) - 1, side)
    return (matrix @ parts.mT).flatten(-3, -2)[..., :n, :]  # parts (..., tiles, w, side + taps - 1)


def _tiles(length: int, taps: tuple[float, ...], border: int) -> tuple[int, int, int]:
    """(n values that come out, tiles that they are cut into, values of a tile)."""
    n = length + 2 * border - len(taps) + 1
    tiles = -(-n // _TILE)
    return n, tiles, -(-n // tiles)


@lru_cache(maxsize=64)
def _band(taps: tuple[float, ...], n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(n + len(taps) - 1, n): column i has the taps from row i on."""
    with torch.inference_mode(False):  # training may use it later
        row = torch.tensor([*taps, *[0.0] * n], dtype=dtype)
        column = row.repeat(n)[: n * (n + len(taps) - 1)]  # each row one value longer: shifted
        return column.view(n, n + len(taps) - 1).T.contiguous().to(device)


def in_floats(x_hat: Tensor, x: Tensor, side: int = 1) -> tuple[Tensor, Tensor]:
    """Pictures in at least float32. Raises ValueError as ``check_pair`` does."""
    check_pair(x_hat, x, side)
    dtype = torch.promote_types(torch.promote_types(x_hat.dtype, x.dtype), torch.float32)
    return x_hat.to(dtype), x.to(dtype)


def check_pair(x_hat: Tensor, x: Tensor, side: int = 1) -> None:
    """Raises ValueError for other shapes than (B, 3, H, W), and for smaller sides."""
    if x_hat.shape != x.shape or x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(
            f"two tensors (B, 3, H, W) are compared, not {(*x_hat.shape,)} and {(*x.shape,)}"
        )
    if min(x.shape[2:]) < side:
        raise ValueError(f"pictures of at least {side}x{side} pixels, not {(*x.shape,)}")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products in float32 itself: a variance is the difference of two much larger numbers."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
