"""Fitting the priors of ``grid``: which neighbours to look at, and how their codes cluster.

Everything is judged by codes of squares that were held out. A column starts with one table. Then
the best of these steps is taken again and again, as long as it pays: look at one more neighbour,
let a neighbour have twice as many clusters, or do that at the expense of another. Where the bytes
for tables end this, it goes on with more combinations of clusters than tables, and these
combinations are clustered in their turn.

Codes of a neighbour are clustered by what they say about the code (hard expectation maximization:
each goes to the cluster whose table codes what it was seen with in the fewest bits). The tables of
n neighbours are counts, smoothed towards the tables of the first n - 1, down to one table for all
and to equal probabilities; how strongly is chosen for each n. Tables of several combinations are
smoothed towards the one for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from vqcodec.priors.grid import CAUSAL, Column, GridPrior, Neighbour, pack, uniform
from vqcodec.rangecoder import RangeEncoder

Key = tuple[str, int]  # source and column of a neighbour
State = tuple[tuple[Key, int], ...]  # neighbours and their numbers of clusters

STRENGTHS = 4.0 ** np.arange(-4, 9)  # of smoothing, in counts
CELLS = 1 << 20  # that the search looks at; the final tables count all
HELD_OUT = 5  # one square in so many
GAIN, GAIN_BITS = 0.001, 16  # what a step has to save on the squares held out: share, and bits
RIVALS = 8  # neighbours that stay in the race after the first step
EARLIER = 8  # columns before that may be looked at
ITERATIONS = 20
MERGED = 8  # combinations of clusters for each table, at most


def fit(
    level: str,
    codes: Mapping[str, np.ndarray],
    sizes: Mapping[str, Sequence[int]],
    *,
    max_bytes: int = 1 << 19,
    seed: int = 0,
) -> GridPrior:
    """The prior of a level, of the kind that needs the fewest bytes for squares held out.

    Those squares are really encoded, with a uniform prior, with histograms, and with contexts; of
    two that need as many bytes the simpler one is taken. Its tables then count all squares.

    codes: by level, coarse first, those of N training squares, (N, C, h, w) integers; the levels
        before ``level`` are what may be known when it is decoded
    sizes: by level, codewords of each column
    max_bytes: how large tables and maps may become, of which each column gets an equal share (one
        table it has in any case). Within this bound their own size is not counted: they ship with
        the codec, not with the pictures
    seed: of the choice of squares held out

    Raises ValueError for fewer than 2 squares, and for codes that do not fit their sizes.
    """
    names = list(codes)
    above = names[: names.index(level)]
    _check(level, above, codes, sizes)
    order = np.random.default_rng(seed).permutation(len(codes[level]))
    cells = int(np.prod(codes[level].shape[2:]))
    n_searched = max(2, min(len(order), CELLS // max(cells, 1)))
    n_held = max(1, n_searched // HELD_OUT)
    held, seen = order[:n_held], order[n_held:n_searched]

    def part(squares: np.ndarray) -> dict[str, np.ndarray]:
        return {name: codes[name][squares] for name in [*above, level]}

    train, test, everything = part(seen), part(held), {n: codes[n] for n in [*above, level]}
    columns = [
        _Search(level, c, train, test, sizes, max_bytes // len(sizes[level]))
        for c in range(len(sizes[level]))
    ]
    flat = [search.judge(())[1] for search in columns]
    rich = [search.best() for search in columns]
    choice: list[list[_Plan] | None] = [None, flat, rich]
    found = [_prior(plans, level, train, sizes) for plans in choice]
    n_bytes = [_bytes(prior, level, test) for prior in found]
    return _prior(choice[int(np.argmin(n_bytes))], level, everything, sizes)


def _check(
    level: str,
    above: Sequence[str],
    codes: Mapping[str, np.ndarray],
    sizes: Mapping[str, Sequence[int]],
) -> None:
    if {"previous", *CAUSAL} & set(above):
        raise ValueError("a level has the name of a neighbour")
    n, _, h, w = codes[level].shape
    if n < 2:
        raise ValueError("a prior is fitted to 2 squares at least")
    for name in (*above, level):
        b, c, rows, cols = codes[name].shape
        if b != n or h % rows or w % cols or c != len(sizes[name]):
            raise ValueError(f"codes {codes[name].shape} of {name!r} do not fit")
        for column, size in enumerate(sizes[name]):
            found = codes[name][:, column]
            if found.size and not 0 <= found.min() <= found.max() < size:
                raise ValueError(f"a code of {name!r} is not in [0, {size})")


@dataclass(frozen=True)
class _Plan:
    """How to make the tables of a column from codes."""

    column: int
    neighbours: tuple[Neighbour, ...]
    choice: np.ndarray | None  # the table of each combination of clusters, or one for each
    strengths: tuple[float, ...]  # of smoothing, one for each of the ``_margins``


def _prior(
    plans: "list[_Plan] | None",
    level: str,
    codes: Mapping[str, np.ndarray],
    sizes: Mapping[str, Sequence[int]],
) -> GridPrior:
    if plans is None:
        return GridPrior([uniform(size) for size in sizes[level]])
    columns = []
    for plan, size in zip(plans, sizes[level], strict=True):
        symbols = [_symbols(n.source, n.column, level, codes) for n in plan.neighbours]
        maps = [n.clusters for n in plan.neighbours]
        counts = _counts(codes[level][:, plan.column], maps, symbols, size)
        tables = np.full((1, size), 1 / size)
        for n, strength in zip(_margins(counts, plan.choice), plan.strengths, strict=True):
            tables = _smooth(n, tables, strength)
        columns.append(Column(pack(tables), plan.neighbours, plan.choice))
    return GridPrior(columns)


def _bytes(prior: GridPrior, level: str, codes: Mapping[str, np.ndarray]) -> int:
    coder = RangeEncoder()
    prior.encode(coder, codes[level], codes)
    return len(coder.finish())


# --- counts ---------------------------------------------------------------------------------------


def _symbols(source: str, column: int, level: str, codes: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the cells of a level see of a neighbour, (N, h, w) int32: code + 1, or 0."""
    where = source if source in codes else level
    symbols = codes[where][:, column].astype(np.int32) + 1
    h, w = codes[level].shape[2:]
    if source in CAUSAL:
        down, right = CAUSAL[source]
        return np.pad(symbols, ((0, 0), (1, 0), (1, 0)))[:, down : down + h, right : right + w]
    return symbols.repeat(h // symbols.shape[1], 1).repeat(w // symbols.shape[2], 2)


def _counts(
    codes: np.ndarray, maps: Sequence[np.ndarray], symbols: Sequence[np.ndarray], size: int
) -> np.ndarray:
    """How often each code is seen with each combination of clusters, (m_1, ..., m_n, size)."""
    shape = [int(clusters.max()) + 1 for clusters in maps] + [size]
    flat = np.zeros(codes.shape, np.int64)
    for m, clusters, seen in zip(shape, maps, symbols, strict=False):
        flat = flat * m + clusters[seen]
    flat = flat * size + codes
    return np.bincount(flat.ravel(), minlength=int(np.prod(shape))).reshape(shape)


def _margins(counts: np.ndarray, choice: np.ndarray | None) -> list[np.ndarray]:
    """Counts (m_1, ..., m_n, K) -> those of ever more tables, the last all there are: (rows, K).

    With ``choice`` there are those for all and those of the tables that it chooses, else those of
    the first 0, 1, ..., n neighbours.
    """
    n, k = counts.ndim - 1, counts.shape[-1]
    if choice is not None:
        return [
            counts.reshape(-1, k).sum(0, keepdims=True),
            _grouped(counts.reshape(-1, k), choice),
        ]
    return [counts.sum(tuple(range(i, n))).reshape(-1, k) for i in range(n + 1)]


def _grouped(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """counts (n, K), groups (n,) -> their sums in each group, (largest group + 1, K)."""
    sums = np.zeros((int(groups.max()) + 1, counts.shape[1]), counts.dtype)
    np.add.at(sums, groups, counts)
    return sums


def _smooth(counts: np.ndarray, coarser: np.ndarray, strength: float) -> np.ndarray:
    """counts (rows, K), and the tables (rows / m, K) towards which they are smoothed."""
    mass = counts + strength * coarser.repeat(len(counts) // len(coarser), 0)
    return mass / (counts.sum(1, keepdims=True) + strength)


def cluster(counts: np.ndarray, m: int) -> np.ndarray:
    """counts (symbols, K) of what is seen with each symbol -> cluster of each, (symbols,) int64.

    At most ``m`` clusters, numbered without gaps. The first centres are the symbol that is seen
    most often and then, again and again, the one for which the centres so far are worst.
    """
    if len(counts) <= m:
        return np.arange(len(counts))
    k = counts.shape[1]
    overall = (counts.sum(0) + 1) / (counts.sum() + k)
    # What was never seen joins the cluster most like all.
    counts = (counts + 1e-3 * overall).astype(np.float32)

    def log_tables(groups: np.ndarray) -> np.ndarray:
        tables = _smooth(groups, overall[None], np.sqrt(k))
        return np.log2(tables).astype(np.float32)

    alone = log_tables(counts)
    own = (counts * alone).sum(1)
    best = np.full(len(counts), -np.inf, np.float32)
    centre, centres = int(counts.sum(1).argmax()), list[int]()
    while len(centres) < m:
        centres.append(centre)
        best = np.maximum(best, counts @ alone[centre])
        centre = int((own - best).argmax())
    tables, clusters = alone[centres], np.zeros(len(counts), np.int64)
    for _ in range(ITERATIONS):
        nearest = (counts @ tables.T).argmax(1)
        before, clusters = clusters, np.unique(nearest, return_inverse=True)[1]
        if np.array_equal(before, clusters):
            break
        tables = log_tables(_grouped(counts, clusters))
    return clusters


# --- search ---------------------------------------------------------------------------------------


class _Search:
    """The search for the neighbours of one column."""

    def __init__(
        self,
        level: str,
        column: int,
        train: Mapping[str, np.ndarray],
        test: Mapping[str, np.ndarray],
        sizes: Mapping[str, Sequence[int]],
        max_bytes: int,
    ) -> None:
        self.level, self.column, self.train, self.test = level, column, train, test
        self.sizes, self.size, self.max_bytes = sizes, sizes[level][column], max_bytes
        self._seen: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
        self._maps: dict[tuple[Key, int], np.ndarray] = {}
        self._judged: dict[tuple[State, bool], tuple[float, _Plan]] = {}

    @cached_property
    def keys(self) -> list[Key]:
        """All neighbours that there are."""
        h, w = self.train[self.level].shape[2:]
        keys = [("left", self.column)] * (w > 1) + [("up", self.column)] * (h > 1)
        keys += [("previous", c) for c in range(max(0, self.column - EARLIER), self.column)]
        above = [name for name in self.train if name != self.level]
        return keys + [(name, c) for name in above for c in range(len(self.sizes[name]))]

    def best(self) -> _Plan:
        """The plan found, whose tables and maps have at most ``max_bytes``."""
        state = self._climb(1)
        found = [self.judge(state)]
        if not all(self._fits(step, 1) for step in self._steps(state, dict(state))):
            wider = self._climb(MERGED)
            if not self._fits(wider, 1):
                found.append(self.judge(wider, merge=True))
        return min(found, key=lambda judged: judged[0])[1]

    def _climb(self, combinations: int) -> State:
        """The best neighbours and numbers of clusters, if tables chosen by more were as small."""
        state: State = ()
        bits, keys = self.judge(state)[0], self.keys
        while True:
            steps = [step for step in self._steps(state, keys) if self._fits(step, combinations)]
            if not steps:
                return state
            judged = sorted((self.judge(step)[0], i) for i, step in enumerate(steps))
            if not state:
                keys = list(dict.fromkeys(steps[i][0][0] for _, i in judged))[:RIVALS]
            if judged[0][0] > bits * (1 - GAIN) - GAIN_BITS:
                return state
            bits, state = judged[0][0], steps[judged[0][1]]

    def _steps(self, state: State, keys: Iterable[Key]) -> list[State]:
        steps = [(*state, (key, m)) for key in keys if key not in dict(state) for m in (4, 16)]
        for i, j in product(range(len(state)), repeat=2):
            step = dict(state)
            step[state[i][0]] *= 2
            if i != j:
                step[state[j][0]] //= 2
            if max(step.values()) <= 256 and min(step.values()) > 1:
                steps.append(tuple(step.items()))
        return steps

    def _fits(self, state: State, combinations: int) -> bool:
        count = int(np.prod([m for _, m in state]))
        n_bytes = -(-count // combinations) * self.size + self._map_bytes(state)
        return count <= 1 << 16 and n_bytes <= self.max_bytes

    def _map_bytes(self, state: State) -> int:
        count = int(np.prod([m for _, m in state]))
        return 2 * count + sum(self._alphabet(key) for key, _ in state)

    def _alphabet(self, key: Key) -> int:
        """How many symbols a neighbour has: its codes, and none."""
        source, column = key
        level = self.level if source in (*CAUSAL, "previous") else source
        return self.sizes[level][column] + 1

    def judge(self, state: State, merge: bool = False) -> tuple[float, _Plan]:
        """Bits of the codes held out, and the plan with the strengths that are best for them.

        merge: with as many tables as there is room for, instead of one for each combination.
        """
        if (state, merge) not in self._judged:
            maps = [self._map(key, m) for key, m in state]
            train, test = (
                _counts(
                    part[self.level][:, self.column],
                    maps,
                    [self._look(key)[i] for key, _ in state],
                    self.size,
                )
                for i, part in enumerate((self.train, self.test))
            )
            choice = None
            if merge:
                room = (self.max_bytes - self._map_bytes(state)) // self.size
                choice = cluster(train.reshape(-1, self.size), room).astype(np.uint16)
            tables, strengths, bits = np.full((1, self.size), 1 / self.size), [], 0.0
            for seen, held in zip(_margins(train, choice), _margins(test, choice), strict=True):
                rows, cols = np.nonzero(held)
                weights, coarser = held[rows, cols], tables[rows * len(tables) // len(held), cols]
                mass, total = seen[rows, cols], seen.sum(1)[rows]
                costs = [
                    float(-weights @ np.log2((mass + s * coarser) / (total + s))) for s in STRENGTHS
                ]
                bits = min(costs)
                strengths.append(float(STRENGTHS[int(np.argmin(costs))]))
                tables = _smooth(seen, tables, strengths[-1])
            neighbours = [Neighbour(*key, m) for (key, _), m in zip(state, maps, strict=True)]
            plan = _Plan(self.column, tuple(neighbours), choice, tuple(strengths))
            self._judged[state, merge] = bits, plan
        return self._judged[state, merge]

    def _look(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        if key not in self._seen:
            train, test = (_symbols(*key, self.level, part) for part in (self.train, self.test))
            self._seen[key] = train, test
        return self._seen[key]

    def _map(self, key: Key, m: int) -> np.ndarray:
        if (key, m) not in self._maps:
            identity = np.arange(self._alphabet(key))
            codes = self.train[self.level][:, self.column]
            counts = _counts(codes, [identity], [self._look(key)[0]], self.size)
            self._maps[key, m] = cluster(counts, m).astype(np.uint8)
        return self._maps[key, m]
