"""Fitted priors: near the entropy of sources that are known, and of the kind that fits them."""

import subprocess
import sys

import numpy as np
import pytest

from vqcodec.priors import grid_fit
from vqcodec.priors.grid import GridPrior
from vqcodec.priors.grid_fit import cluster, fit
from vqcodec.rangecoder import RangeDecoder, RangeEncoder

K = 32
Codes = dict[str, np.ndarray]


def draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """One code for each row of p (..., K)."""
    index = (rng.random(p.shape[:-1])[..., None] > p.cumsum(-1)).sum(-1)
    return np.minimum(index, p.shape[-1] - 1)


def source(kind: str, n: int, seed: int) -> tuple[Codes, float]:
    """Codes of n squares in which the last column follows a neighbour, and their true bits.

    The seed is that of the codes; the source itself is the same for all seeds. The true bits are
    minus log2 of the probabilities with which the codes were drawn.
    """
    rules = np.random.default_rng(99)
    follows = rules.dirichlet(np.full(K, 0.1), (4, K))  # entropies of about 2.3 bits
    rng = np.random.default_rng(seed)
    top = rng.integers(0, K, (n, 1, 2, 4))
    y = np.zeros((n, 1 + (kind == "previous"), 4, 8), np.int64)
    p = np.full((n, 4, 8, K), 1 / K)  # of the last column
    if kind == "previous":
        y[:, 0] = rng.integers(0, K, (n, 4, 8))
        p = follows[0, y[:, 0]]
    elif kind == "top":
        p = follows[0, top[:, 0]].repeat(2, 1).repeat(2, 2)
    for i in range(4):
        for j in range(8):
            if kind in ("left", "up"):
                row, column = (i, j - 1) if kind == "left" else (i - 1, j)
                if min(row, column) >= 0:
                    p[:, i, j] = follows[0, y[:, 0, row, column]]
            elif kind == "left and top" and j:
                # what comes after a code depends on the class of the coarser one, code modulo 4
                p[:, i, j] = follows[top[:, 0, i // 2, j // 2] % 4, y[:, 0, i, j - 1]]
            y[:, -1, i, j] = draw(rng, p[:, i, j])
    chosen = np.take_along_axis(p, y[:, -1, :, :, None], -1)
    bits = -np.log2(chosen).sum() + np.log2(K) * y[:, :-1].size
    return {"top": top, "y": y}, float(bits)


def sizes_of(codes: Codes) -> dict[str, tuple[int, ...]]:
    return {name: (K,) * values.shape[1] for name, values in codes.items()}


def coded(prior: GridPrior, level: str, codes: Codes) -> tuple[float, int]:
    """Ideal bits and bytes, once the codes have come back from them."""
    coder = RangeEncoder()
    bits = prior.encode(coder, codes[level], codes)
    payload = coder.finish()
    decoded, _ = prior.decode(RangeDecoder(payload), codes[level].shape, codes)
    np.testing.assert_array_equal(decoded, codes[level])
    return bits, len(payload)


@pytest.mark.parametrize("kind", ["left", "up", "previous", "top", "left and top", "nothing"])
def test_codes_that_follow_a_neighbour_cost_little_more_than_their_entropy(kind: str) -> None:
    train, _ = source(kind, 3000, seed=0)
    fresh, true_bits = source(kind, 500, seed=1)
    prior = fit("y", train, sizes_of(train))
    bits, n_bytes = coded(prior, "y", fresh)
    # That another model saves x bits on codes drawn from the true one has a chance below 2**-x.
    assert true_bits - 20 < bits < 1.03 * true_bits
    assert 8 * n_bytes < bits + 16
    looked_at = {n.source for n in prior.columns[-1].neighbours}
    assert looked_at == (set() if kind == "nothing" else set(kind.split(" and ")))
    assert prior.kind == ("uniform" if kind == "nothing" else "context")
    flat = fit("y", train, sizes_of(train), max_bytes=0)  # no room for more than histograms
    assert flat.kind in ("uniform", "histogram")
    assert kind == "nothing" or bits < 0.85 * coded(flat, "y", fresh)[0]


@pytest.mark.parametrize("n", [2, 200, 2000])
@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_independent_codes_get_no_context(n: int, skew: float) -> None:
    p = np.exp(-skew * np.arange(K))
    p /= p.sum()
    train, fresh = (
        draw(np.random.default_rng(seed), np.broadcast_to(p, (squares, 2, 4, 4, K)))
        for seed, squares in enumerate((n, 500))
    )
    prior = fit("y", {"y": train}, {"y": (K, K)})
    assert prior.kind == ("histogram" if skew else "uniform")
    bits, _ = coded(prior, "y", {"y": fresh})
    entropy = -(p * np.log2(p)).sum()
    assert bits / fresh.size == pytest.approx(entropy, rel=0.3 if n == 2 else 0.02)


def test_a_column_that_never_varies_costs_almost_nothing() -> None:
    codes = np.random.default_rng(0).integers(0, 512, (300, 3, 4, 4))
    codes[:, 1] = 317
    prior = fit("y", {"y": codes}, {"y": (512,) * 3})
    many = np.broadcast_to(codes[:1, 1:2], (5000, 1, 4, 4))
    own = GridPrior([prior.columns[1]])
    bits, n_bytes = coded(own, "y", {"y": many})
    assert bits < 0.0001 * many.size
    assert n_bytes <= 1 + bits / 8
    bits, _ = coded(prior, "y", {"y": codes})
    assert bits < 1.01 * 9 * codes[:, ::2].size


def test_codes_and_contexts_that_were_never_seen_come_back() -> None:
    train, _ = source("left and top", 400, seed=0)
    train = {name: codes // 2 for name, codes in train.items()}
    prior = fit("y", train, sizes_of(train))
    assert prior.kind == "context"
    rng = np.random.default_rng(1)
    other = {name: rng.integers(0, K, codes.shape) for name, codes in train.items()}
    bits, _ = coded(prior, "y", other)
    assert bits < 24 * other["y"].size
    larger = {"top": rng.integers(0, K, (3, 1, 4, 4)), "y": rng.integers(0, K, (3, 1, 16, 12))}
    coded(prior, "y", larger)


@pytest.mark.parametrize("max_bytes", [0, 500, 4000, 40000])
def test_tables_and_maps_stay_within_their_bytes(max_bytes: int) -> None:
    train, _ = source("left and top", 1000, seed=0)
    prior = fit("y", train, sizes_of(train), max_bytes=max_bytes)
    assert sum(array.nbytes for array in prior.tensors().values()) <= max(K + 2, max_bytes)
    assert prior.kind == ("context" if max_bytes else "histogram")


def test_combinations_that_say_the_same_share_a_table() -> None:
    # 32 x 4 combinations choose one of 16 tables; there is room for 36 tables and the maps.
    rules = np.random.default_rng(0)
    chosen, follows = rules.integers(0, 16, (4, K)), rules.dirichlet(np.full(K, 0.1), 16)

    def codes(n: int, seed: int) -> tuple[Codes, float]:
        rng = np.random.default_rng(seed)
        first, second = rng.integers(0, 4, (n, 1, 4, 4)), rng.integers(0, K, (n, 1, 4, 4))
        p = follows[chosen[first, second]]
        y = draw(rng, p)
        bits = -np.log2(np.take_along_axis(p, y[..., None], -1)).sum()
        return {"first": first, "second": second, "y": y}, float(bits)

    train, _ = codes(4000, 1)
    fresh, true_bits = codes(1000, 2)
    sizes = {"first": (4,), "second": (K,), "y": (K,)}
    prior = fit("y", train, sizes, max_bytes=36 * K + 38 + 2 * 33 * 5)
    (column,) = prior.columns
    assert len(column.packed) < len(column.choice)
    bits, _ = coded(prior, "y", fresh)
    assert true_bits - 20 < bits < 1.05 * true_bits


def test_fitting_again_gives_the_same_prior() -> None:
    train, _ = source("left", 300, seed=0)
    one, other = (fit("y", train, sizes_of(train), seed=5).tensors() for _ in range(2))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (3, 2, 1, 5), (300, 1, 1, 1), (2, 1, 7, 1)])
def test_few_codes_are_enough(shape: tuple[int, int, int, int]) -> None:
    codes = np.random.default_rng(0).integers(0, 256, shape)
    prior = fit("y", {"y": codes}, {"y": (256,) * shape[1]})
    bits, _ = coded(prior, "y", {"y": codes})
    assert bits < 1.05 * 8 * codes.size


def test_a_large_level_is_searched_in_part_and_counted_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, _ = source("left", 2000, seed=0)
    fresh, _ = source("left", 500, seed=1)
    monkeypatch.setattr(grid_fit, "CELLS", 400 * 32)
    part = fit("y", {name: codes[:400] for name, codes in train.items()}, sizes_of(train))
    whole = fit("y", train, sizes_of(train))
    assert coded(whole, "y", fresh)[0] < 0.99 * coded(part, "y", fresh)[0]


# --- clusters -------------------------------------------------------------------------------------


def test_clusters_are_those_that_were_planted() -> None:
    rng = np.random.default_rng(0)
    planted = np.concatenate((np.arange(5), rng.integers(0, 5, 95)))
    tables = rng.dirichlet(np.full(K, 0.3), 5)
    counts = np.stack([rng.multinomial(200, tables[c]) for c in planted])
    found = cluster(counts, 5)
    pairs = set(zip(planted.tolist(), found.tolist(), strict=True))
    assert len(pairs) == 5 and set(found.tolist()) == set(range(5))


def test_clusters_have_no_gaps_and_there_may_be_fewer() -> None:
    same = np.tile(np.arange(K), (40, 1))
    assert set(cluster(same, 8).tolist()) == {0}
    assert cluster(np.zeros((300, 3)), 256).max() < 256
    assert cluster(same[:7], 8).tolist() == list(range(7))  # nothing to do


def test_a_symbol_never_seen_joins_the_cluster_most_like_all_codes() -> None:
    counts = np.zeros((30, 4))
    counts[:10, 0], counts[10:29, 1:] = 100, 100
    found = cluster(counts, 2)
    assert found[29] == found[20] != found[0]


# --- misuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "sizes", "message"),
    [
        ({"y": np.zeros((1, 1, 2, 2), int)}, {"y": (4,)}, "2 squares"),
        ({"y": np.full((9, 1, 2, 2), 4)}, {"y": (4,)}, r"not in \[0, 4\)"),
        ({"y": np.full((9, 1, 2, 2), -1)}, {"y": (4,)}, r"not in \[0, 4\)"),
        ({"y": np.zeros((9, 1, 2, 2), int)}, {"y": (4, 4)}, "do not fit"),
        ({"up": np.zeros((9, 1, 1, 1), int)}, {"up": (4,)}, "name of a neighbour"),
        ({"x": np.zeros((8, 1, 2, 2), int)}, {"x": (4,)}, "do not fit"),
        ({"x": np.zeros((9, 1, 4, 2), int)}, {"x": (4,)}, "do not fit"),
        ({"x": np.full((9, 1, 1, 1), 4)}, {"x": (4,)}, r"of 'x' is not in \[0, 4\)"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes: Codes, sizes: dict, message: str) -> None:
    codes = {**codes, "y": codes.get("y", np.zeros((9, 1, 2, 2), int))}
    with pytest.raises(ValueError, match=message):
        fit("y", codes, {"y": (4,), **sizes})


def test_priors_of_grids_do_without_torch() -> None:
    program = "import sys, vqcodec.priors.grid_fit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
