"""Priors of grids of codes: codes come back, and what is known is paid for only once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.errors import FormatError
from vqcodec.priors import grid, tables
from vqcodec.priors.grid import Column, GridPrior, Neighbour, histogram, pack, uniform, unpack
from vqcodec.priors.histogram import TOTAL
from vqcodec.rangecoder import Model, RangeDecoder, RangeEncoder

SEEDS = st.integers(0, 2**32 - 1)


def payload_of(prior: GridPrior, codes: np.ndarray, known: dict) -> tuple[bytes, float]:
    coder = RangeEncoder()
    bits = prior.encode(coder, codes, known)
    return coder.finish(), bits


def assert_comes_back(
    prior: GridPrior, codes: np.ndarray, known: dict | None = None
) -> tuple[bytes, float]:
    known = known or {}
    payload, bits = payload_of(prior, codes, known)
    decoded, decoded_bits = prior.decode(RangeDecoder(payload), codes.shape, known)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, codes)
    assert decoded_bits == bits
    assert 8 * len(payload) <= bits + 16 + 0.0002 * codes.size  # see rangecoder
    assert bits >= prior.least_bits(codes.shape)
    return payload, bits


def random_map(rng: np.random.Generator, size: int, clusters: int) -> np.ndarray:
    clusters = min(clusters, size + 1)
    spread = np.concatenate((np.arange(clusters), rng.integers(0, clusters, size + 1 - clusters)))
    return rng.permutation(spread).astype(np.uint8)


def random_prior(
    rng: np.random.Generator, sizes: list[int], above: dict[str, list[int]]
) -> GridPrior:
    """Columns with any tables, and with any neighbours that they may have."""
    columns = []
    for c, size in enumerate(sizes):
        choice = [("left", c, size), ("up", c, size)]
        choice += [("previous", e, sizes[e]) for e in range(c)]
        choice += [(name, e, k) for name, ks in above.items() for e, k in enumerate(ks)]
        chosen = rng.permutation(len(choice))[: rng.integers(0, 4)]
        neighbours = [
            Neighbour(source, column, random_map(rng, k, int(rng.integers(1, 6))))
            for source, column, k in (choice[i] for i in chosen)
        ]
        count = int(np.prod([n.clusters.max() + 1 for n in neighbours], dtype=int))
        n_tables = int(rng.integers(1, count + 1))
        choice = rng.integers(0, n_tables, count).astype(np.uint16) if n_tables < count else None
        tables = pack(rng.random((n_tables, size)) ** 8 + 1e-9)
        columns.append(Column(tables, neighbours, choice))
    return GridPrior(columns)


def random_codes(rng: np.random.Generator, b: int, sizes: list[int], h: int, w: int) -> np.ndarray:
    columns = [rng.integers(0, size, (b, h, w)) for size in sizes]
    return np.stack(columns, 1) if columns else np.zeros((b, 0, h, w), np.int64)


# --- tables in bytes ------------------------------------------------------------------------------


def test_packed_weights_ascend_in_steps_of_at_most_a_sixteenth() -> None:
    assert (np.diff(grid.WEIGHTS) > 0).all()
    assert grid.WEIGHTS[-1] == 31 * 2**14
    assert (np.diff(grid.WEIGHTS[16:]) / grid.WEIGHTS[16:-1]).max() <= 1 / 16


@settings(deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e12)), min_size=1, max_size=300))
def test_unpacked_rows_are_tables_close_to_what_was_packed(weights: list[float]) -> None:
    weights = [*weights, 1.0]
    row = unpack(pack(np.array(weights)))
    assert row.dtype == np.uint32
    assert row.min() >= 1
    assert row.sum(dtype=np.int64) == TOTAL
    share = np.array(weights) / max(weights)
    floor = 2**-19  # of the largest: what is smaller may become zero, but for the 1 in 2**24
    kept = share > 32 * floor
    ratio = (row / row.max())[kept] / share[kept]
    assert np.abs(ratio - 1).max() < 1 / 16 + 0.01


@pytest.mark.parametrize("k", [1, 2, 3, 7, 256, 1000, 65537])
def test_uniform_tables_are_as_equal_as_integers_can_be(k: int) -> None:
    (row,) = uniform(k).tables.rows
    assert row.sum(dtype=np.int64) == TOTAL
    assert row.max() - row.min() == (TOTAL % k > 0)


def test_one_of_256_equal_codes_takes_one_byte() -> None:
    # Code 0 takes even less: a payload is a fraction, whose last zeros are not stored.
    prior = GridPrior([uniform(256)])
    for code in range(256):
        payload, bits = assert_comes_back(prior, np.full((1, 1, 1, 1), code))
        assert payload == bytes([code]).rstrip(b"\0")
        assert bits == 8


@pytest.mark.parametrize(
    "packed",
    [np.zeros((1, 4), np.uint8), np.zeros((1, 0), np.uint8), np.full((1, 4), 255, np.int64)],
)
def test_bytes_that_are_no_tables_are_refused(packed: np.ndarray) -> None:
    with pytest.raises(ValueError, match="packed table"):
        Column(packed)


# --- coding ---------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    SEEDS,
    st.integers(0, 4),
    st.lists(st.sampled_from([1, 2, 3, 5, 16, 300]), min_size=1, max_size=4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_codes_of_any_shape_come_back_and_so_does_any_prefix_of_the_columns(
    seed: int, b: int, sizes: list[int], coarse: tuple[int, int], factor: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    above = {"top": [3, 1], "a.dotted": [7]}
    prior = random_prior(rng, sizes, above)
    h, w = coarse[0] * factor[0], coarse[1] * factor[1]
    known = {name: random_codes(rng, b, ks, *coarse) for name, ks in above.items()}
    codes = random_codes(rng, b, sizes, h, w)
    payload, _ = assert_comes_back(prior, codes, known)
    again = GridPrior.from_tensors(prior.tensors())
    assert again.kind == prior.kind
    assert payload_of(again, codes, known)[0] == payload

    for c in range(len(sizes)):
        _, bits = assert_comes_back(prior, codes[:, :c], known)
        assert_comes_back(prior, codes, {**known, "top": known["top"][:, :1]})  # nor of the others
        decoded, _ = prior.decode(RangeDecoder(payload), (b, c, h, w), known)
        np.testing.assert_array_equal(decoded, codes[:, :c])
        assert bits >= 0


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.binary(max_size=40))
def test_a_damaged_payload_gives_other_codes_or_a_format_error(seed: int, payload: bytes) -> None:
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, [5, 300, 1], {"top": [4]})
    known = {"top": random_codes(rng, 3, [4], 2, 2)}
    try:
        codes, bits = prior.decode(RangeDecoder(payload), (3, 3, 4, 6), known)
    except FormatError:
        return
    assert codes.shape == (3, 3, 4, 6)
    assert codes.min() >= 0 and (codes.max((0, 2, 3)) < [5, 300, 1]).all()
    assert bits >= prior.least_bits(codes.shape)


def test_the_least_bits_are_reached_by_the_likeliest_codes() -> None:
    rng = np.random.default_rng(0)
    prior = GridPrior([histogram(rng.random(k)) for k in (3, 100)])
    likeliest = [int(c.tables.rows[0].argmax()) for c in prior.columns]
    codes = np.broadcast_to(np.reshape(likeliest, (1, 2, 1, 1)), (7, 2, 4, 4))
    _, bits = assert_comes_back(prior, codes)
    assert bits == pytest.approx(prior.least_bits(codes.shape), rel=1e-9)


def test_a_code_that_a_neighbour_tells_costs_nothing() -> None:
    rng = np.random.default_rng(1)
    b, h, w, k = 5, 6, 8, 16
    identity = np.arange(k + 1, dtype=np.uint8)
    tables = pack(np.vstack((np.ones(k), np.eye(k))))  # no code tells nothing, each tells itself
    top = rng.integers(0, k, (b, 2, 2, 4))
    noise = rng.integers(0, k, (b, 2, h, w))
    for source, column, codes, n_untold in (
        ("left", 0, noise[:, :1, :, :1].repeat(w, 3), b * h),
        ("up", 0, noise[:, :1, :1].repeat(h, 2), b * w),
        ("top", 1, top[:, 1:].repeat(3, 2).repeat(2, 3), 0),
        ("previous", 0, np.concatenate((noise, noise[:, :1]), 1), noise.size),
    ):
        told = Column(tables, [Neighbour(source, column, identity)])
        prior = GridPrior([uniform(k)] * (codes.shape[1] - 1) + [told])
        _, bits = assert_comes_back(prior, codes, {"top": top})
        assert bits == pytest.approx(4 * n_untold, abs=0.01)


def test_squares_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(2)
    prior = random_prior(rng, [5, 9], {"top": [4]})
    codes, top = random_codes(rng, 6, [5, 9], 4, 4), random_codes(rng, 6, [4], 2, 2)
    _, together = assert_comes_back(prior, codes, {"top": top})
    alone = sum(payload_of(prior, codes[i : i + 1], {"top": top[i : i + 1]})[1] for i in range(6))
    assert together == pytest.approx(alone, rel=1e-12)


# --- misuse ---------------------------------------------------------------------------------------


def test_codes_outside_of_a_codebook_are_refused() -> None:
    prior = GridPrior([uniform(5), uniform(1)])
    for column, code in ((0, 5), (0, -1), (0, 2**32), (1, 1), (1, -1)):
        codes = np.zeros((2, 2, 3, 3), np.int64)
        codes[1, column, 2, 2] = code
        with pytest.raises(ValueError, match=r"codebook of one|outside"):
            prior.encode(RangeEncoder(), codes)
    with pytest.raises(ValueError, match="3 columns"):
        prior.encode(RangeEncoder(), np.zeros((1, 3, 2, 2), np.int64))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({}, "not known"),
        ({"top": np.zeros((2, 1, 2, 2), np.int64)}, "do not fit"),
        ({"top": np.zeros((1, 1, 3, 2), np.int64)}, "do not fit"),
        ({"top": np.full((1, 1, 2, 2), 4)}, "outside"),
        ({"top": np.full((1, 1, 2, 2), -1)}, "outside"),
    ],
)
def test_coarser_codes_that_do_not_fit_are_refused(known: dict, message: str) -> None:
    neighbour = Neighbour("top", 0, np.zeros(5, np.uint8))
    prior = GridPrior([Column(pack(np.ones((1, 3))), [neighbour])])
    with pytest.raises(ValueError, match=message):
        prior.encode(RangeEncoder(), np.zeros((1, 1, 4, 4), np.int64), known)


@pytest.mark.parametrize(
    ("source", "column"),
    [("previous", 0), ("previous", 1), ("previous", -1), ("left", 1), ("up", 1), ("top", -1)],
)
def test_a_column_cannot_look_ahead_nor_at_what_is_not_there(source: str, column: int) -> None:
    wrong = Neighbour(source, column, np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="cannot look"):
        GridPrior([Column(pack(np.ones((1, 3))), [wrong]), uniform(3)])


def test_tensors_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(3)
    neighbours = [
        Neighbour("left", 0, random_map(rng, 4, 3)),
        Neighbour("up", 0, random_map(rng, 4, 2)),
    ]
    good = GridPrior([Column(pack(rng.random((6, 4))), neighbours)]).tensors()
    assert GridPrior.from_tensors(good).kind == "context"
    for name, array in good.items():
        wrong = [array[:0], array.astype(np.int64), array[..., None]]
        wrong += [array[:-1]] if name == "0.tables" else [array + array.dtype.type(3)]
        for other in wrong:
            with pytest.raises(ValueError, match=r"table|map"):
                GridPrior.from_tensors({**good, name: other})
    for missing in good:
        with pytest.raises(ValueError, match="table"):
            GridPrior.from_tensors({name: a for name, a in good.items() if name != missing})
    for name in ("", "x", "tables", "0.x", "0.left.0", "1.0.left.0", "1.tables", "0.2.left.x"):
        with pytest.raises(ValueError):
            GridPrior.from_tensors({**good, name: good["0.tables"]})


# --- speed ----------------------------------------------------------------------------------------


def test_codes_are_coded_in_groups_and_not_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    codes = (rng.random((6000, 1, 16, 16)) ** 2 * 512).astype(np.int64)
    halves = (np.arange(513) // 64).astype(np.uint8)
    neighbours = [Neighbour("left", 0, halves), Neighbour("up", 0, halves)]
    context = Column(pack(rng.random((81, 512))), neighbours)
    groups: list[int] = []  # codes in each
    write, read = RangeEncoder.encode, RangeDecoder.decode

    def encode(self: RangeEncoder, symbols: np.ndarray, model: Model) -> None:
        groups.append(len(symbols))
        write(self, symbols, model)

    def decode(self: RangeDecoder, count: int, model: Model) -> np.ndarray:
        groups.append(count)
        return read(self, count, model)

    monkeypatch.setattr(RangeEncoder, "encode", encode)
    monkeypatch.setattr(RangeDecoder, "decode", decode)
    chunks, diagonals = -(-codes.size // tables.CHUNK), 31
    for column, some, most in (
        (histogram(np.ones(512)), codes, chunks),
        (context, codes[:200], diagonals * 81),
    ):
        groups.clear()
        assert_comes_back(GridPrior([column]), some)
        assert sum(groups) == 2 * some.size and len(groups) <= 2 * most
