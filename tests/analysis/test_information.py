"""Estimates of entropies against closed forms."""

import math

import numpy as np
import pytest
from analysed import codes

from vqcodec.analysis import information


def interval(count: int, a: int, b: int) -> float:
    """Five standard deviations of the mutual information of independent columns, nats.

    2 n I, without a correction, is distributed as chi-square with (a - 1)(b - 1) degrees of
    freedom, whose mean the correction takes away.
    """
    return 5 * math.sqrt(2 * (a - 1) * (b - 1)) / (2 * count)


def test_the_entropy_of_counts_is_shannons_and_the_correction() -> None:
    assert information.entropy(np.array([4, 4, 0, 4, 4])) == pytest.approx(math.log(4) + 3 / 32)
    assert information.entropy(np.array([7, 0])) == 0
    assert information.entropy(np.zeros(3, int)) == 0
    counts = np.array([1, 2, 5])
    plain = -sum(p * math.log(p) for p in counts / 8)
    assert information.entropy(counts) == pytest.approx(plain + 2 / 16)


def test_the_correction_takes_away_the_bias_of_few_samples() -> None:
    found = [information.entropy_of(codes(400, 32, seed)[:, 0]) for seed in range(200)]
    bias = abs(np.mean(found) - math.log(32))
    rest = (32**2 - 1) / (12 * 400**2)  # the next term of the bias, (sum 1/p - 1) / 12n^2
    assert bias < rest + 5 * np.std(found) / math.sqrt(200)
    assert bias < (31 / 800) / 5  # a fifth of what it would be without


def test_equal_columns_share_their_entropy_and_a_parity_shares_nothing_with_one_part() -> None:
    a, b = codes(4000, 2, 0, 2).T
    assert information.mutual_information(a, a) == pytest.approx(information.entropy_of(a))
    assert information.conditional_entropy(a, a) == pytest.approx(0)
    assert abs(information.mutual_information(a, a ^ b)) < interval(4000, 2, 2)
    whole = information.mutual_information(2 * a + b, a)
    assert whole == pytest.approx(information.entropy_of(a))


def test_a_noisy_copy_shares_what_its_channel_lets_through() -> None:
    """A symmetric channel of K symbols: I = log K - H(e) - e log(K - 1)."""
    rng, size, wrong = np.random.default_rng(3), 8, 0.25
    a = rng.integers(0, size, 200_000)
    b = np.where(rng.random(len(a)) < wrong, (a + rng.integers(1, size, len(a))) % size, a)
    h = -wrong * math.log(wrong) - (1 - wrong) * math.log(1 - wrong)
    expected = math.log(size) - h - wrong * math.log(size - 1)
    # One sample says log p(b|a) / p(b), which has two values.
    spread = math.sqrt(wrong * (1 - wrong)) * math.log((1 - wrong) * (size - 1) / wrong)
    near = 5 * spread / math.sqrt(len(a))
    assert information.mutual_information(a, b) == pytest.approx(expected, abs=near)
    left = math.log(size) - expected
    assert information.conditional_entropy(b, a) == pytest.approx(left, abs=near)


@pytest.mark.parametrize("size", [2, 5, 16])
def test_independent_columns_share_nothing_within_the_spread_of_chance(size: int) -> None:
    columns = codes(20_000, size, size, 4)
    matrix = information.dependence(columns)
    assert np.array_equal(matrix, matrix.T)
    beside = ~np.eye(4, dtype=bool)
    assert np.abs(matrix[beside]).max() < interval(20_000, size, size)
    assert information.between(matrix) == pytest.approx(matrix[beside].mean())
    assert matrix.diagonal() == pytest.approx([information.entropy_of(c) for c in columns.T])


def test_shuffled_columns_show_the_bias_of_too_few_samples() -> None:
    """Of 256 x 256 pairs 1000 samples see few: independent columns seem to share much."""
    columns = codes(1000, 256, 1, 2)
    apparent = information.between(information.dependence(columns))
    shuffled = information.shuffled(columns, np.random.default_rng(0))
    assert apparent > 1
    assert information.between(information.dependence(shuffled)) == pytest.approx(apparent, 0.05)
    assert all(
        np.array_equal(*map(np.sort, pair)) for pair in zip(columns.T, shuffled.T, strict=True)
    )


def test_entropy_by_place_is_that_of_the_squares_at_that_place() -> None:
    grid = np.zeros((64, 2, 2, 3), int)
    grid[:, 0, 1, 2] = np.arange(64) % 4
    expected = np.zeros((2, 3))
    expected[1, 2] = (math.log(4) + 3 / 128) / 2  # one of two columns
    assert information.position_entropy(grid) == pytest.approx(expected)
    assert information.sequences(grid).shape == (64 * 6, 2)
    assert np.array_equal(information.sequences(grid)[5], grid[0, :, 1, 2])
