"""Scale classes: which table a code is coded with.

A prior network predicts log2 of the scale of each code. Rounded down to one of 64 classes, it picks
a table. The codes of class 0 are always the zero codeword and are not coded.
"""

import numpy as np

from vqcodec.arithmetic import UNITS
from vqcodec.priors.histogram import TOTAL, integer_rows
from vqcodec.priors.tables import Tables
from vqcodec.rangecoder import RangeDecoder, RangeEncoder

CLASSES = 64
WIDTH = 192  # of a class, in units of 2**-10 octaves: 3/16 octave
LOWEST = -4608  # lower end of class 0: -4.5 octaves, in the same units
LARGEST = 1024  # codewords of the largest codebook; tables of smaller ones are cut from it


def logistic_weights() -> np.ndarray:
    """Probabilities (64, 1024) of a logistic variable at the middle of each class."""
    log2_scale = (LOWEST + WIDTH * (np.arange(CLASSES) + 0.5)) / UNITS
    rate = 2.0 ** -log2_scale[:, None]
    edges = np.arange(LARGEST + 1) - LARGEST // 2 - 0.5
    with np.errstate(over="ignore"):
        upper_tail = 1 / (1 + np.exp(np.abs(edges) * rate))  # beyond |edge|: never cancels
    below = np.where(edges < 0, upper_tail, 1 - upper_tail)
    mass = np.where(
        edges[1:] <= 0,
        np.diff(below),
        np.where(edges[:-1] >= 0, -np.diff(upper_tail), np.diff(below)),
    )
    return np.maximum(mass, 1e-30)


def fit(counts: np.ndarray, strength: float = 64.0) -> np.ndarray:
    """Tables (64, 1024) uint32 from counts (64, 1024) of codes on training images.

    Each class is smoothed with ``strength`` pseudo-counts of its logistic formula, and made
    symmetric: the sign of a code is noise once its mean is predicted.
    """
    formula = logistic_weights()
    formula /= formula.sum(1, keepdims=True)
    mirrored = counts.astype(np.float64)
    mirrored[:, 1:] = (mirrored[:, 1:] + mirrored[:, :0:-1]) / 2
    return integer_rows(mirrored + strength * formula)


class ClassTables:
    """The tables of all classes for codebooks of one size."""

    def __init__(self, largest: np.ndarray, size: int) -> None:
        """largest (64, 1024) uint32; size: codewords, 2..1024. What lies outside goes to zero."""
        self.size, self.zero = size, size // 2
        first = LARGEST // 2 - self.zero
        rows = largest[:, first : first + size].astype(np.int64)
        rows[:, self.zero] += TOTAL - rows.sum(1)
        self.rows = rows.astype(np.uint32)
        self._tables = Tables(self.rows, certain=self.zero)
        self.bits = self._tables.bits  # (64, size) float64, for the encoder's choices

    def encode(self, coder: RangeEncoder, codes: np.ndarray, classes: np.ndarray) -> float:
        """codes (n,) integers, classes (n,) uint8. Returns their ideal bits."""
        return self._tables.encode(coder, codes, classes)

    def decode(self, coder: RangeDecoder, classes: np.ndarray) -> np.ndarray:
        """classes (n,) uint8 -> codes (n,) int16."""
        return self._tables.decode(coder, classes)

    def ideal_bits(self, codes: np.ndarray, classes: np.ndarray) -> float:
        """Of codes (n,) in classes (n,)."""
        return self._tables.ideal_bits(codes, classes)
