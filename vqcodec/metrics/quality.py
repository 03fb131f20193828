"""The quality that ``--rate 80q`` asks for: SSIMULACRA2, of a picture of any size."""

import numpy as np
import torch

from vqcodec.guest import own_torch
from vqcodec.metrics.ssimulacra2 import SIDE, scores


@own_torch()
def quality_of(original: np.ndarray, decoded: np.ndarray) -> float:
    """original, decoded: (h, w, 3) uint8 -> SSIMULACRA2, at most 100.

    A side of less than 113 pixels, for which the metric has not all of its scales, is continued by
    the picture's mirror image, and that by the picture, up to 113.
    """
    height, width, _ = original.shape
    after = max(SIDE - height, 0), max(SIDE - width, 0)
    planes = [
        torch.from_numpy(np.pad(pixels, ((0, after[0]), (0, after[1]), (0, 0)), "symmetric"))
        .permute(2, 0, 1)[None]
        .contiguous()  # (1, 3, h, w)
        for pixels in (original, decoded)
    ]
    return float(scores(planes[1], planes[0]))
