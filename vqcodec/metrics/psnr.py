"""Peak signal-to-noise ratios of 8-bit pictures."""

import math
from collections.abc import Iterable
from itertools import chain

import numpy as np

LUMA = (0.299, 0.587, 0.114)  # of R, G and B: BT.601, as in JFIF


def db(mse: float, peak: float = 255.0) -> float:
    """The PSNR that goes with a mean squared error, in dB; inf where that is 0."""
    return 10 * math.log10(peak**2 / mse) if mse else math.inf


def psnr_db(original: np.ndarray, decoded: np.ndarray | Iterable[np.ndarray]) -> float:
    """Of two uint8 arrays of one shape, over all samples, peak 255, in dB; inf where equal.

    Of the second there may be bands of rows.
    """
    rows = decoded if isinstance(decoded, np.ndarray) else chain.from_iterable(decoded)
    total = 0.0
    for one, other in zip(original, rows, strict=True):  # a row at a time: no large temporaries
        total += float(np.square(one.astype(np.float32) - other).sum(dtype=np.float64))
    return db(total / original.size)


def psnr_luma_db(original: np.ndarray, decoded: np.ndarray) -> float:
    """Of the unrounded luma of two (h, w, 3) uint8 arrays, peak 255, in dB; inf where equal."""
    luma, total = np.array(LUMA, dtype=np.float32), 0.0
    for one, other in zip(original, decoded, strict=True):
        difference = (one.astype(np.float32) - other) @ luma  # (w,): luma is linear
        total += float(np.square(difference).sum(dtype=np.float64))
    return db(3 * total / original.size)
