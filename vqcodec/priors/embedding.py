"""The prior of a network: the class of an exact embedding picks the table of a code.

A network that was trained with its codes says, from the codes of the coarser levels, what it
expects of each cell of the next: an embedding, which has to be the same multiples of 2**-10 on
every machine (see ``fixedpoint``). The class of a cell is the nearest of a few centroids, in
integers, and each class has a table, made once from the codes of training squares.

A network walks down the levels of a picture and remembers what it knows. Between two levels this
state is kept in the picture's ``Remembering`` codes; where codes come without a memory, or the
picture is so large that it would not fit, the walk starts anew, which is slower and gives the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vqcodec.arithmetic import ACTIVATION_BITS
from vqcodec.fixedpoint import CHUNK_CELLS
from vqcodec.guest import own_torch
from vqcodec.priors.grid import Known, Shape, Sizes, pack, unpack
from vqcodec.priors.tables import Tables
from vqcodec.rangecoder import RangeDecoder, RangeEncoder

CLASSES = 256
SAMPLED_SQUARES, SAMPLED_CELLS = 1 << 11, 1 << 16  # at most, that the centroids are fitted to
ITERATIONS = 30
STRENGTH = 16.0  # of the network's own opinion in the tables, in counts
BATCH = 64  # squares that are walked at once in fitting
REMEMBERED = 1 << 9  # squares whose state is kept: some 100 MB in a network of 64 channels
MAX_DIMENSIONS = 1 << 11  # of an embedding: squared distances are integers below 2**53


class Walk(Protocol):
    """What a network knows of B squares, from the coarsest level on."""

    level: int  # that comes next

    def embedding(self) -> Tensor:
        """What it expects of the next level: (B, h, w, D), multiples of 2**-10 up to 2**10."""

    def put(self, codes: np.ndarray) -> None:
        """Go on by a level with its codes (B, 1, h, w). Raises ValueError where they do not fit."""


class Network(Protocol):
    """An exact network."""

    @property
    def names(self) -> Sequence[str]:
        """Of its levels, coarse first."""

    def walk(self, squares: int) -> Walk: ...

    def probabilities(self, level: int, embeddings: Tensor) -> Tensor:
        """Its own opinion, for fitting: embeddings (n, D) -> probabilities of codes (n, K)."""


class Remembering(dict[str, np.ndarray]):
    """Codes of the coarser levels of one picture, with the state of the network that saw them."""

    walk: Walk | None = None


class EmbeddingPrior:
    """The ``LevelPrior`` of one level of a network."""

    kind = "network"

    def __init__(
        self, network: Network, level: int, centroids: np.ndarray, packed: np.ndarray
    ) -> None:
        """level: its number; centroids (J, D) int32 in units of 2**-10; packed (J, K): tables.

        J is at most 256. Raises ValueError where the shapes do not fit.
        """
        if centroids.ndim != 2 or centroids.dtype != np.int32 or packed.ndim != 2:
            raise ValueError("centroids and tables are rows of integers")
        count, dim = centroids.shape
        if len(packed) != count or not 1 <= count <= 256 or not 1 <= dim <= MAX_DIMENSIONS:
            raise ValueError("a network's prior has one table for each of 1 to 256 centroids")
        if int(np.abs(centroids.astype(np.int64)).max()) > 1 << 20:
            raise ValueError("a centroid is out of range")
        self.network, self.level = network, level
        self.centroids, self.packed, self.tables = centroids, packed, Tables(unpack(packed))

    @classmethod
    def from_tensors(
        cls, network: Network, level: int, tensors: Mapping[str, np.ndarray]
    ) -> "EmbeddingPrior":
        """The prior of what ``tensors`` returned. Raises ValueError where it was something else."""
        if set(tensors) != {"centroids", "tables"}:
            raise ValueError("the prior of a network has centroids and tables")
        return cls(network, level, tensors["centroids"], tensors["tables"])

    def encode(self, coder: RangeEncoder, codes: np.ndarray, known: Known) -> float:
        """See ``LevelPrior``."""
        b, c, h, w = codes.shape
        classes = self._classes((b, c, h, w), known)
        return self.tables.encode(coder, codes.ravel(), classes)

    def decode(self, coder: RangeDecoder, shape: Shape, known: Known) -> tuple[np.ndarray, float]:
        """See ``LevelPrior``."""
        classes = self._classes(shape, known)
        codes = self.tables.decode(coder, classes)
        return codes.astype(np.int64).reshape(shape), self.tables.ideal_bits(codes, classes)

    def least_bits(self, shape: Shape) -> float:
        """See ``LevelPrior``: every code might be the likeliest of the most certain table."""
        return float(np.prod(shape)) * float(self.tables.bits.min()) * (1 - 2**-40)

    def check(self, shape: Sizes, coarser: Mapping[str, Sizes]) -> None:
        """See ``LevelPrior``. A walk that expects something else is found by ``_classes``."""
        if shape[0] != self.packed.shape[1:]:
            raise ValueError(f"codebooks of {shape[0]}; the prior has {self.packed.shape[1]}")
        dim = self.network.walk(1).embedding().shape[-1]
        if dim != self.centroids.shape[1]:
            raise ValueError(f"an embedding has {dim} dimensions, a centroid other ones")

    def tensors(self) -> dict[str, np.ndarray]:
        return {"centroids": self.centroids, "tables": self.packed}

    def _classes(self, shape: Shape, known: Known) -> np.ndarray:
        """The class of each cell, in the order of the codes, (n,) uint8."""
        b, c, h, w = shape
        if c != 1:
            raise ValueError(f"{c} columns; a network's level has one")
        if len(self.centroids) == 1:  # as on top, where nothing is known
            return np.zeros(b * h * w, np.uint8)
        if b > REMEMBERED:  # in parts, each walked anew, so that memory is bounded
            parts = [slice(i, min(i + REMEMBERED, b)) for i in range(0, b, REMEMBERED)]
            classes = [
                self._classes((s.stop - s.start, c, h, w), {n: k[s] for n, k in known.items()})
                for s in parts
            ]
            return np.concatenate(classes)
        embedding = self._walk(b, known).embedding()
        if embedding.shape[:3] != (b, h, w):
            raise ValueError(f"a grid of {h} x {w} cells does not belong to the level")
        return nearest(embedding.flatten(0, 2), self.centroids)

    def _walk(self, squares: int, known: Known) -> Walk:
        """A walk that has arrived at the level."""
        memory = known if isinstance(known, Remembering) else Remembering()
        walk = memory.walk
        if walk is None or walk.level > self.level:
            walk = memory.walk = self.network.walk(squares)
        while walk.level < self.level:
            name = self.network.names[walk.level]
            if name not in known or len(known[name]) != squares:
                raise ValueError(f"the codes of level {name} of the {squares} squares are missing")
            walk.put(known[name])
        return walk


def nearest(rows: Tensor, centroids: np.ndarray) -> np.ndarray:
    """Index of the nearest centroid, the first of several: rows (n, D) -> (n,) uint8.

    rows are multiples of 2**-10, centroids (J, D) in that unit. All numbers are integers below
    3 D 2**40 <= 2**53, so that they are exact in float64.
    """
    table = torch.from_numpy(centroids).to(rows.device, torch.float64)
    squares = (table * table).sum(1)
    found = [
        torch.addmm(squares, part.double() * 2**ACTIVATION_BITS, table.t(), alpha=-2).argmin(1)
        for part in rows.split(CHUNK_CELLS)
    ]
    return torch.cat(found).to(torch.uint8).cpu().numpy()


# --- fitting --------------------------------------------------------------------------------------


@own_torch()
def fit(
    network: Network,
    codes: Mapping[str, np.ndarray],
    *,
    classes: int = CLASSES,
    seed: int = 0,
) -> dict[str, EmbeddingPrior]:
    """The priors of all levels of a network.

    codes: by level, those of N training squares, (N, 1, h, w) integers

    The table of a class is the mean of the network's own probabilities over its cells, weighted as
    ``STRENGTH`` codes, and the codes seen there.
    """
    rng = np.random.default_rng(seed)
    count = len(codes[network.names[0]])
    drawn = rng.permutation(count)[:SAMPLED_SQUARES]
    share = SAMPLED_CELLS / len(drawn)  # cells of each square that the centroids are fitted to
    samples: list[list[Tensor]] = [[] for _ in network.names]
    for level, rows, _ in _walked(network, codes, np.sort(drawn)):
        n = round(share * BATCH)
        chosen = torch.from_numpy(rng.permutation(len(rows))[:n])
        samples[level].append(rows[chosen.to(rows.device)].float())
    centroids, masses = [], []
    for level, sample in enumerate(map(torch.cat, samples)):
        centroids.append(cluster(sample, classes))
        opinion = network.probabilities(level, sample).double().cpu().numpy()
        mass = _sums(nearest(sample, centroids[level]), opinion, len(centroids[level]))
        masses.append(mass * STRENGTH / mass.sum(1, keepdims=True))
    for level, rows, symbols in _walked(network, codes, np.arange(count)):
        mass = masses[level]
        seen = nearest(rows, centroids[level]).astype(np.int64) * mass.shape[1] + symbols
        mass += np.bincount(seen, minlength=mass.size).reshape(mass.shape)
    return {
        name: EmbeddingPrior(network, level, centroids[level], pack(masses[level]))
        for level, name in enumerate(network.names)
    }


def _walked(
    network: Network, codes: Mapping[str, np.ndarray], squares: np.ndarray
) -> Iterator[tuple[int, Tensor, np.ndarray]]:
    """(level, embeddings (n, D), codes (n,)) of the chosen squares, in batches."""
    for first in range(0, len(squares), BATCH):
        batch = squares[first : first + BATCH]
        walk = network.walk(len(batch))
        for level, name in enumerate(network.names):
            grid = codes[name][batch]
            yield level, walk.embedding().flatten(0, 2), grid.ravel()
            walk.put(grid)


def cluster(rows: Tensor, count: int) -> np.ndarray:
    """At most ``count`` centroids (J, D) int32 of rows (n, D), all nearest to some row.

    k-means on the grid of activations; it starts with different rows, the first ones.
    """
    units = (rows.double() * 2**ACTIVATION_BITS).round().cpu().numpy()
    _, first = np.unique(units, axis=0, return_index=True)
    centroids = units[np.sort(first)[:count]].astype(np.int32)
    for _ in range(ITERATIONS):
        classes = nearest(rows, centroids)
        members = np.bincount(classes, minlength=len(centroids))
        means = _sums(classes, units, len(centroids)) / np.maximum(members, 1)[:, None]
        centroids = np.unique(np.rint(means[members > 0]).astype(np.int32), axis=0)
    return centroids[np.bincount(nearest(rows, centroids), minlength=len(centroids)) > 0]


def _sums(classes: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Sums of rows (n, D) by class, (count, D)."""
    total = np.zeros((count, rows.shape[1]))
    np.add.at(total, classes, rows)
    return total
