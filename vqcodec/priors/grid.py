"""Priors of grids of codes: integer tables, chosen by codes that are already known.

A level is a grid of cells with one code for each column. Its codes (B, C, h, w) are those of B
squares of the training size, of which a picture is a mosaic. Column c of all cells is coded before
column c + 1, and the table of a code depends on nothing coded later, so that a prefix of the
columns can be coded alone. Nothing is ever looked up across the edge of a square.

    uniform    every code of a column is exactly as likely, up to one part in 2**24
    histogram  one table for each column
    context    the table is chosen by neighbours: the code to the left, the code above, earlier
               columns of the cell ("previous"), and codes of coarser levels at the same place

A neighbour's code is looked up in a map to a few clusters, and the combination of the clusters of
all neighbours in a map to tables, as there may be fewer tables than combinations. Where left or up
are used, the cells of an anti-diagonal are coded at once, those of all squares; else all cells of a
column. ``grid_fit`` makes these tables and maps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from vqcodec.priors.histogram import TOTAL
from vqcodec.priors.tables import Tables
from vqcodec.rangecoder import RangeDecoder, RangeEncoder

Shape = tuple[int, int, int, int]  # (B, C, h, w)
Sizes = tuple[tuple[int, ...], tuple[int, int]]  # codewords of each column, and (h, w)
Known = Mapping[str, np.ndarray]  # codes (B, C', h', w') of coarser levels; h' divides h, w' w
Cells = tuple[int, np.ndarray, np.ndarray]  # a column, and rows (n,) and columns (n,) of the grid
_NONE: Known = MappingProxyType({})


class LevelPrior(Protocol):
    """The model of the codes of one level."""

    @property
    def kind(self) -> str: ...

    def encode(self, coder: RangeEncoder, codes: np.ndarray, known: Known) -> float:
        """codes (B, C, h, w) integers, known: codes of coarser levels. Returns their ideal bits.

        Raises ValueError for codes outside of the codebooks, and where ``known`` does not fit.
        """

    def decode(self, coder: RangeDecoder, shape: Shape, known: Known) -> tuple[np.ndarray, float]:
        """The codes (B, C, h, w) int64 and their ideal bits.

        Raises FormatError for a payload that no encoder writes.
        """

    def least_bits(self, shape: Shape) -> float:
        """A lower bound of the ideal bits of any codes of that shape."""

    def check(self, shape: Sizes, coarser: Mapping[str, Sizes]) -> None:
        """Raises ValueError where it is not for codes of ``shape``, with ``coarser`` ones known."""

    def tensors(self) -> dict[str, np.ndarray]:
        """What ships in the weights file; ``from_tensors`` gives the prior back."""


# --- tables in one byte for each code -------------------------------------------------------------

# Of a probability only its ratio to the largest of its row is stored, as a number with 4 bits of
# mantissa and 4 of exponent: 0, 1, ..., 31, 32, 34, ..., 62, 64, 68, ..., 31 * 2**14. The rounding
# costs about 0.0001 bits for each code that is coded.
_BYTES = np.arange(256)
WEIGHTS = np.where(_BYTES < 32, _BYTES, (16 + _BYTES % 16) << np.maximum(_BYTES // 16 - 1, 0))


def pack(probabilities: np.ndarray) -> np.ndarray:
    """Rows (..., K) of nonnegative numbers, not all zero -> (..., K) uint8, the largest 255."""
    largest = probabilities.max(-1, keepdims=True)
    middle = (WEIGHTS[1:] + WEIGHTS[:-1]) / 2
    return np.searchsorted(middle, probabilities / largest * WEIGHTS[-1]).astype(np.uint8)


def unpack(packed: np.ndarray) -> np.ndarray:
    """(..., K) uint8 -> tables (..., K) uint32, each entry >= 1, that sum to 2**24.

    Only integers are computed with. Equal bytes differ by at most 1. K is at most 2**20. Raises
    ValueError for a row without an entry of 255.
    """
    if packed.dtype != np.uint8 or packed.ndim == 0 or 0 in packed.shape:
        raise ValueError("packed tables are bytes, and there is one at least")
    if not (packed.max(-1) == 255).all():
        raise ValueError("the largest entry of a packed table is 255")
    below = WEIGHTS[packed].cumsum(-1)
    edges = below * (TOTAL - packed.shape[-1]) // below[..., -1:]
    return (1 + np.diff(edges, axis=-1, prepend=0)).astype(np.uint32)


# --- the tables of one column ---------------------------------------------------------------------


class Neighbour(NamedTuple):
    """Where a code's class comes from."""

    source: str  # 'left', 'up', 'previous', or the name of a coarser level
    column: int  # of the coarser level, or of this one; 'left' and 'up' are of the same column
    clusters: np.ndarray  # (K + 1,) uint8: of no code (outside of the square), and of each code


CAUSAL = {"left": (1, 0), "up": (0, 1)}  # where they are in a field with one more row and column


class Column:
    """The tables of one column and the neighbours that choose one of them."""

    def __init__(
        self,
        packed: np.ndarray,
        neighbours: Sequence[Neighbour] = (),
        choice: np.ndarray | None = None,
    ) -> None:
        """packed (tables, K) uint8; choice (combinations,) uint16, the table of each combination.

        The cluster of the last neighbour varies fastest. Without ``choice`` each combination has
        its own table. Raises ValueError where maps and tables do not fit each other.
        """
        self.packed, self.neighbours = packed, tuple(neighbours)
        self.tables = Tables(unpack(packed))
        self.parts: list[np.ndarray] = []  # what each neighbour's symbols add to the combination
        count = 1
        for neighbour in reversed(self.neighbours):
            clusters = neighbour.clusters
            if clusters.dtype != np.uint8 or clusters.ndim != 1 or len(clusters) < 2:
                raise ValueError("a map to clusters has one byte for each code and for none")
            self.parts.insert(0, (clusters * np.int64(count)).astype(np.uint16))
            count *= int(clusters.max()) + 1
        if packed.ndim != 2 or max(len(packed), count) > 1 << 16:
            raise ValueError("there are at most 65536 tables, in rows, and combinations")
        self.choice = np.arange(len(packed), dtype=np.uint16) if choice is None else choice
        if self.choice.dtype != np.uint16 or self.choice.shape != (count,):
            raise ValueError("there is one table for each combination of clusters")
        if int(self.choice.max()) >= len(packed):
            raise ValueError("a combination of clusters chooses a table that does not exist")

    @property
    def causal(self) -> bool:
        return any(neighbour.source in CAUSAL for neighbour in self.neighbours)


def uniform(size: int) -> Column:
    """A column in which each of ``size`` codes is as likely."""
    return Column(np.full((1, size), 255, np.uint8))


def histogram(probabilities: np.ndarray) -> Column:
    """A column with one table; probabilities (K,) of any sum."""
    return Column(pack(probabilities)[None])


# --- the prior of a level -------------------------------------------------------------------------


class GridPrior:
    """The ``LevelPrior`` of all kinds."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Raises ValueError for a column that looks where it may not, such as at a later one."""
        self.columns = tuple(columns)
        for index, column in enumerate(self.columns):
            for neighbour in column.neighbours:
                source, seen, _ = neighbour
                within = 0 <= seen < index if source == "previous" else seen >= 0
                if not within or (source in CAUSAL and seen != index):
                    raise ValueError(f"column {index} cannot look at {source} column {seen}")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "GridPrior":
        """The inverse of ``tensors``. Raises ValueError for what it cannot have returned."""
        tables: dict[int, np.ndarray] = {}
        choices: dict[int, np.ndarray] = {}
        neighbours: dict[int, dict[int, Neighbour]] = {}
        for name, array in tensors.items():
            c, _, rest = name.partition(".")
            if rest == "tables":
                tables[int(c)] = array
            elif rest == "choice":
                choices[int(c)] = array
            else:
                i, _, rest = rest.partition(".")
                source, _, column = rest.rpartition(".")
                neighbours.setdefault(int(c), {})[int(i)] = Neighbour(source, int(column), array)
        count = len(tables)
        columns = set(range(count))
        if set(tables) != columns or set(choices) != columns or not columns >= set(neighbours):
            raise ValueError("the tables of a column are missing")
        ordered = [sorted(neighbours.get(c, {}).items()) for c in range(count)]
        return cls(
            [
                Column(tables[c], [n for _, n in pairs], choices[c])
                for c, pairs in enumerate(ordered)
            ]
        )

    @property
    def kind(self) -> str:
        """'uniform', 'histogram' or 'context': what the least simple of the columns is."""
        if any(column.neighbours for column in self.columns):
            return "context"
        alike = all((column.packed == 255).all() for column in self.columns)
        return "uniform" if alike else "histogram"

    def encode(self, coder: RangeEncoder, codes: np.ndarray, known: Known = _NONE) -> float:
        """See ``LevelPrior``. A prefix of the columns may be given."""
        by_cell = np.moveaxis(codes, 0, -1)  # (C, h, w, B)

        def write(tables: Tables, classes: np.ndarray, cells: Cells) -> np.ndarray:
            symbols = by_cell[cells].ravel()
            tables.encode(coder, symbols, classes)
            return symbols

        b, c, h, w = codes.shape
        return self._code((b, c, h, w), known, write)[1]

    def decode(
        self, coder: RangeDecoder, shape: Shape, known: Known = _NONE
    ) -> tuple[np.ndarray, float]:
        """See ``LevelPrior``."""
        return self._code(shape, known, lambda tables, classes, _: tables.decode(coder, classes))

    def _code(
        self,
        shape: Shape,
        known: Known,
        code: Callable[[Tables, np.ndarray, Cells], np.ndarray],
    ) -> tuple[np.ndarray, float]:
        """Code groups of cells in order: codes (B, C, h, w) int64, and their ideal bits."""
        b, c, h, w = shape
        if c > len(self.columns):
            raise ValueError(f"{c} columns; the prior has {len(self.columns)}")
        bits = 0.0
        fields = np.zeros((c, h + 1, w + 1, b), np.int32)  # code + 1, or 0 for no code
        for index, (column, field) in enumerate(zip(self.columns, fields, strict=False)):
            ready = np.zeros((h, w, b), np.uint16)  # what all but the causal neighbours add up to
            for neighbour, part in zip(column.neighbours, column.parts, strict=True):
                if neighbour.source == "previous":
                    ready += part[fields[neighbour.column, 1:, 1:]]
                elif neighbour.source not in CAUSAL:
                    ready += _from_above(neighbour, part, shape, known)
            for rows, cols in _groups(h, w, column.causal):
                combinations = ready[rows, cols]  # (n, B)
                for neighbour, part in zip(column.neighbours, column.parts, strict=True):
                    if neighbour.source in CAUSAL:
                        down, right = CAUSAL[neighbour.source]
                        combinations += part[field[rows + down, cols + right]]
                classes = column.choice[combinations.ravel()]
                symbols = code(column.tables, classes, (index, rows, cols))
                bits += column.tables.ideal_bits(symbols, classes)
                field[rows + 1, cols + 1] = symbols.reshape(len(rows), b) + 1
        return np.moveaxis(fields[:, 1:, 1:], -1, 0).astype(np.int64) - 1, bits

    def least_bits(self, shape: Shape) -> float:
        """See ``LevelPrior``: every code might be the likeliest of the most certain table."""
        b, c, h, w = shape
        certain = sum(float(column.tables.bits.min()) for column in self.columns[:c])
        return b * h * w * certain * (1 - 2**-40)  # sums of floats may round down

    def check(self, shape: Sizes, coarser: Mapping[str, Sizes]) -> None:
        """See ``LevelPrior``."""
        sizes, (h, w) = shape
        if len(self.columns) < len(sizes):
            raise ValueError(f"{len(sizes)} columns; the prior has {len(self.columns)}")
        for index, (size, column) in enumerate(zip(sizes, self.columns, strict=False)):
            if column.packed.shape[1] != size:
                raise ValueError(f"column {index} has {size} codewords, which its tables have not")
            for source, seen, clusters in column.neighbours:
                known = (sizes, (h, w)) if source in (*CAUSAL, "previous") else coarser.get(source)
                if known is None or h % known[1][0] or w % known[1][1]:
                    raise ValueError(f"column {index} cannot look at {source!r}")
                if seen < len(known[0]) and len(clusters) != known[0][seen] + 1:
                    raise ValueError(f"column {index} has no map for the codes of {source!r}")

    def tensors(self) -> dict[str, np.ndarray]:
        """Of column c: "c.tables" (tables, K) uint8 and "c.choice" (combinations,) uint16.

        And for its neighbour i "c.i.source.column" (K' + 1,) uint8.
        """
        found = {}
        for c, column in enumerate(self.columns):
            found[f"{c}.tables"] = column.packed
            found[f"{c}.choice"] = column.choice
            for i, n in enumerate(column.neighbours):
                found[f"{c}.{i}.{n.source}.{n.column}"] = n.clusters
        return found


def _groups(h: int, w: int, causal: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (n,) and columns (n,) of the cells that are coded at once: anti-diagonals, or all."""
    rows, cols = np.indices((h, w)).reshape(2, -1)
    if not causal:
        yield rows, cols
        return
    for diagonal in range(h + w - 1):
        rows = np.arange(max(0, diagonal - w + 1), min(h, diagonal + 1))
        yield rows, diagonal - rows


def _from_above(neighbour: Neighbour, part: np.ndarray, shape: Shape, known: Known) -> np.ndarray:
    """What a coarser level adds to the classes of all cells, (h, w, B)."""
    b, _, h, w = shape
    codes = known.get(neighbour.source)
    if codes is None:
        raise ValueError(f"the codes of the level {neighbour.source!r} are not known")
    if len(codes) != b or h % codes.shape[2] or w % codes.shape[3]:
        raise ValueError(f"codes {codes.shape} of {neighbour.source!r} do not fit those of {shape}")
    if neighbour.column >= codes.shape[1]:  # a prefix of its columns was coded
        return np.broadcast_to(part[0], (h, w, b))
    symbols = np.moveaxis(codes[:, neighbour.column], 0, -1) + 1
    if symbols.size and not 0 < symbols.min() <= symbols.max() < len(part):
        raise ValueError(f"a code of {neighbour.source!r} is outside of its codebook")
    coarse = part[symbols]  # (h', w', B)
    return coarse.repeat(h // codes.shape[2], 0).repeat(w // codes.shape[3], 1)
