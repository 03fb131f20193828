"""The quality that ``--rate 80q`` asks for: SSIMULACRA2, of a picture of any size."""

import numpy as np
import torch
from torch import Tensor

from vqcodec.guest import own_torch
from vqcodec.metrics.ssimulacra2 import SIDE, scores


def mirrored(x: Tensor, least: int) -> Tensor:
    """x (B, 3, H, W), continued by its mirror image and so on to ``least`` pixels a side."""
    height, width = x.shape[2:]
    if min(height, width) >= least:
        return x

    def places(n: int) -> Tensor:
        at = torch.arange(max(n, least), device=x.device) % (2 * n)
        return torch.minimum(at, 2 * n - 1 - at)

    return x[:, :, places(height)[:, None], places(width)]


@own_torch()
def quality_of(original: np.ndarray, decoded: np.ndarray) -> float:
    """original, decoded: (h, w, 3) uint8 -> SSIMULACRA2, at most 100.

    A side of less than 113 pixels, for which the metric has not all of its scales, is continued by
    the picture's mirror image, and that by the picture, up to 113.
    """
    planes = [
        mirrored(
            torch.from_numpy(np.require(pixels, requirements="W")).permute(2, 0, 1)[None], SIDE
        )
        for pixels in (original, decoded)  # (1, 3, h, w)
    ]
    return float(scores(planes[1], planes[0]))
