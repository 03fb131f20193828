"""Coding with several static tables: each code has a class, and its class chooses the table.

Codes of one class are coded together, which is what makes the range coder fast.
"""

import numpy as np

from vqcodec.rangecoder import TABLE_BITS, Model, RangeDecoder, RangeEncoder


class Tables:
    """One table for each class."""

    def __init__(self, rows: np.ndarray) -> None:
        """rows (classes, K) integers >= 1, each row summing to 2**24; classes <= 65536."""
        self.rows = rows
        self.bits = TABLE_BITS - np.log2(rows)  # (classes, K) float64
        self._models: dict[int, Model] = {}

    def encode(self, coder: RangeEncoder, codes: np.ndarray, classes: np.ndarray) -> None:
        """codes (n,) integers, classes (n,) uint8 or uint16.

        Raises ValueError for a code outside of the tables.
        """
        if self.rows.shape[1] > 1:
            for index, members in _by_class(classes):
                coder.encode(codes[members], self._model(index))
        elif codes.any():
            raise ValueError("a codebook of one codeword has only the code 0")

    def decode(self, coder: RangeDecoder, classes: np.ndarray) -> np.ndarray:
        """classes (n,) uint8 or uint16 -> codes (n,) int32."""
        codes = np.zeros(len(classes), np.int32)
        if self.rows.shape[1] > 1:
            for index, members in _by_class(classes):
                codes[members] = coder.decode(len(members), self._model(index))
        return codes

    def ideal_bits(self, codes: np.ndarray, classes: np.ndarray) -> float:
        """codes (n,) and classes (n,) -> sum of -log2 of the codes' probabilities."""
        return float(self.bits[classes, codes].sum())

    def _model(self, index: int) -> Model:
        if index not in self._models:
            self._models[index] = Model(self.rows[index])
        return self._models[index]


def _by_class(classes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(class, positions of its members in order) for the classes present, in ascending order."""
    order = np.argsort(classes, kind="stable")  # a radix sort, for at most 16 bits
    counts = np.bincount(classes)
    present = np.flatnonzero(counts)
    parts = np.split(order, np.cumsum(counts[present])[:-1])
    return list(zip(present.tolist(), parts, strict=True)) if len(classes) else []
