"""Peak signal-to-noise ratio."""

import math
from collections.abc import Iterable
from itertools import chain

import numpy as np


def psnr_db(a: np.ndarray, b: np.ndarray | Iterable[np.ndarray]) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, in dB; inf where equal.

    Of the second there may be bands of rows.
    """
    rows = b if isinstance(b, np.ndarray) else chain.from_iterable(b)
    total = 0.0
    for one, other in zip(a, rows, strict=True):  # a row at a time: no large temporaries
        total += float(np.square(one.astype(np.float32) - other).sum(dtype=np.float64))
    return 10 * math.log10(255**2 * a.size / total) if total else math.inf
