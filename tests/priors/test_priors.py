"""Priors: integer tables, scale classes, and networks whose exact form follows their float form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec import fixedpoint
from vqcodec.priors import classes, network
from vqcodec.priors.classes import CLASSES, LARGEST, LOWEST, WIDTH, ClassTables
from vqcodec.priors.histogram import TOTAL, Histogram, integer_rows
from vqcodec.priors.network import CellNet, FixedCellNet, FixedFilm
from vqcodec.rangecoder import RangeDecoder, RangeEncoder, ideal_bits

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**32 - 1)
FORMULA = integer_rows(classes.logistic_weights())


# --- integer tables -------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.just(0.0), st.floats(1e-30, 1e12)), min_size=2, max_size=300
    ).filter(any)
)  # fmt: skip
def test_rows_are_positive_and_sum_to_the_total(weights: list[float]) -> None:
    row = integer_rows(np.array(weights))
    assert row.dtype == np.uint32
    assert row.min() >= 1
    assert row.sum(dtype=np.int64) == TOTAL
    share = np.array(weights) / sum(weights)
    assert np.abs(row / TOTAL - share).max() < 3 * len(weights) / TOTAL


def test_rows_keep_their_shape_and_sum_each() -> None:
    weights = np.random.default_rng(0).random((3, 4, 64))
    rows = integer_rows(weights)
    assert rows.shape == (3, 4, 64)
    assert (rows.sum(-1, dtype=np.int64) == TOTAL).all()
    assert np.array_equal(rows[1, 2], integer_rows(weights[1, 2]))
    assert integer_rows(np.ones(1 << 20)).min() >= 1


def test_a_histogram_gives_unseen_codes_the_smoothing() -> None:
    counts = np.zeros((2, 16))
    counts[:, 3] = 100
    tables = Histogram.fit(counts, smoothing=1.0).tables
    assert tables.shape == (2, 16)
    assert tables[0, 3] / tables[0, 4] == pytest.approx(101, rel=1e-3)


# --- scale classes --------------------------------------------------------------------------------


def test_classes_begin_at_their_edges() -> None:
    starts = LOWEST + WIDTH * torch.arange(CLASSES)
    for offset, expected in ((0, 0), (WIDTH - 1, 0), (-1, -1)):
        result = network.classify((starts + offset).double())
        assert result.dtype == torch.uint8
        assert result.tolist() == [max(0, i + expected) for i in range(CLASSES)]
    far = torch.tensor([-(2.0**20), 2.0**20], dtype=torch.float64)
    assert network.classify(far).tolist() == [0, CLASSES - 1]


def test_a_larger_scale_never_has_a_lower_class() -> None:
    scales = torch.arange(-8 * 1024, 10 * 1024).double()
    assert (network.classify(scales).int().diff() >= 0).all()


def test_logistic_weights_are_symmetric_and_miss_only_the_tails() -> None:
    weights = classes.logistic_weights()
    assert weights.shape == (CLASSES, LARGEST)
    assert np.allclose(weights[:, 1:], weights[:, :0:-1], rtol=1e-9, atol=1e-29)
    rate = 2.0 ** -((LOWEST + WIDTH * (np.arange(CLASSES) + 0.5)) / 2**10)
    with np.errstate(over="ignore"):
        tails = 1 / (1 + np.exp(512.5 * rate)) + 1 / (1 + np.exp(511.5 * rate))
    assert np.allclose(weights.sum(1) + tails, 1, atol=1e-12)
    assert (np.diff(weights[:, LARGEST // 2 :], axis=1) <= 0).all()
    assert (np.diff(weights[:, LARGEST // 2]) < 1e-12).all()  # wider classes are flatter


def test_fitted_tables_are_symmetric_and_follow_the_counts() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((CLASSES, LARGEST))
    for row, scale in zip(counts, 2.0 ** np.linspace(-4, 7, CLASSES), strict=True):
        codes = np.rint(rng.logistic(0, scale, 20000)).astype(int) + LARGEST // 2
        row += np.bincount(codes.clip(0, LARGEST - 1), minlength=LARGEST)
    tables = classes.fit(counts).astype(np.int64)
    assert (tables.sum(1) == TOTAL).all() and tables.min() >= 1
    # but for the rounding error, below one for each codeword, which goes to the largest entry
    difference = np.abs(tables[:, 1:] - tables[:, :0:-1])
    assert (np.count_nonzero(difference, 1) <= 2).all()
    assert difference.max() <= LARGEST
    share = tables[10:50] / TOTAL
    assert np.abs(share - counts[10:50] / counts[10:50].sum(1, keepdims=True)).max() < 0.02
    assert np.array_equal(classes.fit(np.zeros_like(counts)), FORMULA)


def test_tables_of_every_size_are_valid() -> None:
    for size in range(32, LARGEST + 1):
        tables = ClassTables(FORMULA, size)
        assert tables.rows.shape == (CLASSES, size)
        assert tables.rows.min() >= 1
        assert (tables.rows.sum(1, dtype=np.int64) == TOTAL).all()
        assert tables.rows[:, tables.zero].min() >= FORMULA[:, LARGEST // 2].min()
    assert np.array_equal(tables.rows, FORMULA)  # the largest is not cut


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(32, LARGEST), st.integers(0, 3000))
def test_codes_come_back_and_class_zero_costs_nothing(seed: int, size: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tables = ClassTables(FORMULA, size)
    chosen = rng.integers(0, CLASSES, n).astype(np.uint8)
    codes = rng.integers(0, size, n).astype(np.int32)
    codes[chosen == 0] = tables.zero
    encoder = RangeEncoder()
    bits = tables.encode(encoder, codes, chosen)
    payload = encoder.finish()
    assert np.array_equal(tables.decode(RangeDecoder(payload), chosen), codes)
    assert bits == pytest.approx(tables.bits[chosen, codes].sum(), rel=1e-12)
    by_class = sum(ideal_bits(codes[chosen == c], tables.rows[c]) for c in range(1, CLASSES))
    assert bits == pytest.approx(by_class, rel=1e-9)
    assert abs(8 * len(payload) - bits) < 9 + 0.006 * n

    encoder = RangeEncoder()
    only = chosen != 0
    assert tables.encode(encoder, codes[only], chosen[only]) == pytest.approx(bits, rel=1e-12)
    assert encoder.finish() == payload


def test_the_first_class_is_always_the_zero_codeword() -> None:
    tables = ClassTables(FORMULA, 158)
    encoder = RangeEncoder()
    zeros, first = np.full(500, tables.zero), np.zeros(500, np.uint8)
    assert tables.encode(encoder, zeros, first) == 0
    assert encoder.finish() == b""
    assert (tables.decode(RangeDecoder(b""), first) == 79).all()
    assert np.isinf(np.delete(tables.bits[0], 79)).all()


# --- networks -------------------------------------------------------------------------------------


def cubic(t: float) -> tuple[float, float, float]:
    """The conditions of a rate point."""
    return t, t * t, t * t * t


def random_net(inputs: int, hidden: int, outputs: int, seed: int) -> CellNet:
    """With weights that are on the grid of the exact form, none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    net = CellNet(inputs, hidden, outputs).eval().requires_grad_(False)
    for p in net.parameters():
        weights = torch.randn(p.shape, generator=generator) * 0.2
        p.copy_(torch.round(weights * 2**10) / 2**10)
    return net


@pytest.mark.parametrize("t", [-1.25, 0.0, 0.3515625, 1.25])
def test_the_exact_form_follows_the_float_form(t: float) -> None:
    net = random_net(5, 8, 6, seed=0)
    generator = torch.Generator().manual_seed(1)
    grid = torch.randint(-3000, 3000, (7, 9, 5), generator=generator).float()
    inputs = grid.double().permute(2, 0, 1)[None] / 2**10
    expected = net.double()(inputs, torch.tensor([cubic(t)]).double())
    units = FixedCellNet(net, CPU)(grid, torch.arange(63), cubic(t))
    exact = units / 2**10
    assert exact.abs().max() > 0.5  # something is computed
    assert (exact - expected[0].permute(1, 2, 0).reshape(63, 6)).abs().max() < 0.01
    assert torch.equal(units.round(), units)


def test_the_exact_form_has_one_result_for_any_layout_chunk_and_choice_of_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = random_net(5, 8, 6, seed=2)
    grid = torch.randn(7, 9, 5, generator=torch.Generator().manual_seed(3)).double()
    grid = fixedpoint.round_activations(grid * 2**10).float()
    expected = FixedCellNet(net, CPU)(grid, torch.arange(63), cubic(0.5))
    other = FixedCellNet(net.to(memory_format=torch.channels_last), CPU)
    monkeypatch.setattr(fixedpoint, "CHUNK_CELLS", 5)
    strided = grid.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    cells = torch.randperm(63, generator=torch.Generator().manual_seed(4))
    assert torch.equal(other(strided, cells, cubic(0.5)), expected[cells])


def test_fixed_film_is_the_rounded_cubic() -> None:
    net = random_net(3, 4, 2, seed=5)
    for index in (1280, 1281, 1869, 2048, 2560):
        t = (index / 256 - 7.5) / 2
        scale, shift = FixedFilm(net.film, CPU).at(cubic(t))
        powers = torch.tensor([t, t * t, t * t * t], dtype=torch.float64)
        exact = (net.film.linear.weight.double() * powers).sum(1)
        assert (torch.cat((scale - 1, shift)) - exact).abs().max() <= 2**-13
        assert torch.equal((scale * 2**12).round(), scale * 2**12)


def test_film_is_the_identity_before_training() -> None:
    net = CellNet(3, 4, 2)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(net.film(x, torch.tensor([cubic(0.7)])), x)
    scale, shift = FixedFilm(net.film, CPU).at(cubic(0.75))
    assert (scale == 1).all() and (shift == 0).all()
