"""Coding with several static tables: each code has a class, and its class chooses the table.

Codes of one class are coded together, which is what makes the range coder fast. They are sorted in
chunks, as the indices of a sort have 8 bytes for each code.
"""

from collections.abc import Iterator

import numpy as np

from vqcodec.rangecoder import TABLE_BITS, Model, RangeDecoder, RangeEncoder

CHUNK = 1 << 20  # codes


class Tables:
    """One table for each class."""

    def __init__(self, rows: np.ndarray, certain: int | None = None) -> None:
        """rows (classes, K) integers >= 1, each row summing to 2**24; classes <= 65536.

        certain: the code that all of class 0 have, which then are not coded.
        """
        self.rows = rows
        self.bits = TABLE_BITS - np.log2(rows)  # (classes, K) float64
        self._certain, self._first = certain or 0, 0 if certain is None else 1
        if certain is not None:
            self.bits[0] = np.where(np.arange(rows.shape[1]) == certain, 0.0, np.inf)
        self._type = np.int16 if rows.shape[1] < 1 << 15 else np.int32
        self._models: dict[int, Model] = {}

    def encode(self, coder: RangeEncoder, codes: np.ndarray, classes: np.ndarray) -> float:
        """codes (n,) integers, classes (n,) uint8 or uint16. Returns their ideal bits.

        Raises ValueError for a code outside of the tables.
        """
        if self.rows.shape[1] == 1:
            if codes.any():
                raise ValueError("a codebook of one codeword has only the code 0")
            return 0.0
        order = _Order(classes, self._first)
        ordered = np.empty(order.starts[-1], codes.dtype)
        for members, place in order.moves():
            ordered[place] = codes[members]
        bits = 0.0
        for part, index in self._parts(order):
            coder.encode(ordered[part], self._model(index))
            bits += float(self.bits[index][ordered[part]].sum())
        return bits

    def decode(self, coder: RangeDecoder, classes: np.ndarray) -> np.ndarray:
        """classes (n,) uint8 or uint16 -> codes (n,) int16, or int32 where K >= 2**15."""
        if self.rows.shape[1] == 1:
            return np.zeros(len(classes), self._type)
        order = _Order(classes, self._first)
        ordered = np.empty(order.starts[-1], self._type)
        for part, index in self._parts(order):
            ordered[part] = coder.decode(part.stop - part.start, self._model(index))
        codes = np.full(len(classes), self._certain, self._type)
        for members, place in order.moves():
            codes[members] = ordered[place]
        return codes

    def ideal_bits(self, codes: np.ndarray, classes: np.ndarray) -> float:
        """codes (n,) and classes (n,) -> sum of -log2 of the codes' probabilities."""
        return float(sum(self.bits[classes[c], codes[c]].sum() for c in _chunks(len(codes))))

    def _parts(self, order: "_Order") -> Iterator[tuple[slice, int]]:
        """Sorted codes in chunks of one class, and that class."""
        for index in range(self._first, len(order.starts) - 1):
            start, end = order.starts[index], order.starts[index + 1]
            for chunk in _chunks(end - start):
                yield slice(start + chunk.start, start + chunk.stop), index

    def _model(self, index: int) -> Model:
        if index not in self._models:
            self._models[index] = Model(self.rows[index])
        return self._models[index]


class _Order:
    """How codes are sorted by class: class k goes to starts[k] to starts[k + 1]."""

    def __init__(self, classes: np.ndarray, first: int) -> None:
        """Classes below ``first``, which is 0 or 1, are left out."""
        size = int(classes.max()) + 1 if len(classes) else 0
        self._orders, self._counts = [], []  # of each chunk
        for part in _chunks(len(classes)):
            chunk = classes[part]
            members = np.flatnonzero(chunk) if first else np.arange(len(chunk))
            kept = chunk[members] if first else chunk
            order = members[np.argsort(kept, kind="stable")]  # a radix sort, for at most 16 bits
            self._orders.append(order.astype(np.int32))
            self._counts.append(np.bincount(kept, minlength=size))
        self.starts: list[int] = [0, *np.cumsum(sum(self._counts)).tolist()]

    def moves(self) -> Iterator[tuple[np.ndarray, slice]]:
        """(positions, place): codes of one class in order, and where they are among the sorted."""
        free = self.starts[:-1]  # the next free place of each class
        for number, (order, counts) in enumerate(zip(self._orders, self._counts, strict=True)):
            present = np.flatnonzero(counts)
            parts = np.split(order, np.cumsum(counts[present]))[:-1]
            for index, members in zip(present.tolist(), parts, strict=True):
                yield members + number * CHUNK, slice(free[index], free[index] + len(members))
                free[index] += len(members)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
