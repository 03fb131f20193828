"""Crops at other scales than their picture has, so that a codec is at home at all of them.

The host resizes with Pillow's bicubic filter, a device with the products of matrices that come
within a step of it.
"""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LOG2_LEAST, LOG2_MOST = -0.6, 0.8  # of the factor: 0.66 to 1.74
_SUPPORT = 2.0  # of the bicubic filter, in pixels of the coarser of the two grids


def side_before(side: int, share: float, u: float) -> int:
    """Of what becomes a crop, in pixels. u: uniform in [0, 1); ``share`` of all are resized."""
    if u >= share:
        return side
    return round(side / 2 ** (LOG2_LEAST + (LOG2_MOST - LOG2_LEAST) * u / share))


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """(n, n, 3) uint8 -> (side, side, 3) uint8."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def resized_on_device(crops: Tensor, before: list[int], side: int) -> Tensor:
    """(n, m, m, 3) uint8, of each the first ``before`` rows and columns -> (n, side, side, 3)."""
    most = crops.shape[1]
    host = torch.from_numpy(np.stack([_matrix(one, side, most) for one in before]))
    if crops.is_cuda:
        host = host.pin_memory()
    rows = host.to(crops.device, non_blocking=True)
    x = torch.einsum("npx,nyxc->nypc", rows, crops.float()).round_().clamp_(0, 255)
    return torch.einsum("npy,nyxc->npxc", rows, x).round_().clamp_(0, 255).byte()


@lru_cache(maxsize=1024)
def _matrix(before: int, side: int, columns: int) -> np.ndarray:
    """(side, columns) float32 that resizes ``before`` samples; the other columns are zero."""
    scale = before / side
    coarse = max(scale, 1.0)
    centre = (np.arange(side) + 0.5) * scale
    first = np.maximum(np.trunc(centre - _SUPPORT * coarse + 0.5), 0)
    end = np.minimum(np.trunc(centre + _SUPPORT * coarse + 0.5), before)
    place = np.arange(columns)
    weights = _bicubic((place - centre[:, None] + 0.5) / coarse)
    weights *= (place >= first[:, None]) & (place < end[:, None])
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Keys's filter (1981) with a = -1/2, as Pillow has it."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
