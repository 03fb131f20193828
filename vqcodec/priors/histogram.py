"""Static integer tables, made once from counts of codes on training images."""

import numpy as np

TOTAL = 1 << 24  # what the integers of a table add up to; see rangecoder.TABLE_BITS


def integer_rows(weights: np.ndarray) -> np.ndarray:
    """Nonnegative weights (..., K) to tables (..., K) uint32: each >= 1, each row sums to 2**24.

    The rounding error of a row goes to its largest entry. K is at most 2**20.
    """
    weights = np.asarray(weights, np.float64)
    k = weights.shape[-1]
    share = weights / weights.sum(-1, keepdims=True)
    rows = 1 + np.floor(share * (TOTAL - k)).astype(np.int64)
    largest = rows.argmax(-1)[..., None]
    rest = TOTAL - rows.sum(-1, keepdims=True)
    np.put_along_axis(rows, largest, np.take_along_axis(rows, largest, -1) + rest, -1)
    return rows.astype(np.uint32)


class Histogram:
    """One table for each column of a level."""

    def __init__(self, tables: np.ndarray) -> None:
        """tables (columns, K) uint32."""
        self.tables = tables

    @classmethod
    def fit(cls, counts: np.ndarray, smoothing: float = 0.5) -> "Histogram":
        """counts (columns, K) of codes on training images, plus ``smoothing`` for each."""
        return cls(integer_rows(counts + smoothing))
