"""Bayes' rule on codes against what is known of them."""

import math

import numpy as np
import pytest

from vqcodec.analysis import bayes
from vqcodec.autoencoders.system import Level


def test_noisy_copies_of_the_class_are_right_as_often_as_a_majority_of_them() -> None:
    """Each code is the class, with probability 0.8: of 3, two right ones are enough."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60_000)
    seen = labels[:, None] ^ (rng.random((60_000, 3)) < 0.2)
    found = bayes.accuracies(
        seen[:30_000], labels[:30_000], seen[30_000:], labels[30_000:], np.full(3, 2)
    )
    # After two that differ both classes are as likely: right half of the time, 0.64 + 0.32 / 2.
    expected = [0.8, 0.8, 0.8**3 + 3 * 0.8**2 * 0.2]
    assert found == pytest.approx(expected, abs=5 * 0.4 / math.sqrt(30_000))


def test_a_class_that_only_pairs_tell_needs_the_step_between_them() -> None:
    rng = np.random.default_rng(1)
    seen = rng.integers(0, 2, (20_000, 2))
    labels = seen[:, 0] ^ seen[:, 1]
    half = (seen[:10_000], labels[:10_000], seen[10_000:], labels[10_000:], np.full(2, 2))
    assert bayes.accuracies(*half)[1] == pytest.approx(0.5, abs=5 * 0.5 / 100)
    assert bayes.accuracies(*half, np.array([-1, 0])).tolist()[1] == 1


def test_a_code_that_no_class_has_shown_leaves_the_others_to_decide() -> None:
    seen, labels = np.array([[0, 0], [1, 0], [0, 0], [1, 0]]), np.array([0, 1, 0, 1])
    found = bayes.accuracies(seen, labels, np.array([[0, 3], [1, 3]]), np.array([0, 1]), [2, 4])
    assert found.tolist() == [1, 1]


def test_parents_are_the_column_before_or_the_level_above_or_what_is_left_and_above() -> None:
    grids = [Level("a", (1, 2), (4, 4)), Level("b", (2, 2), (8,)), Level("c", (3, 2), (2,))]
    assert bayes.alphabets(grids).tolist() == [4] * 4 + [8] * 4 + [2] * 6
    assert bayes.parents(grids).tolist() == [
        *(-1, 0, 0, 1),  # a: left; the column before
        *(2, 3, 2, 3),  # b: the last column of a
        *(-1, 8, 8, 10, 10, 12),  # c does not fit b: left, or above
    ]
    cells = [np.arange(10)[:, None, None, None] + np.zeros((10, 2, 1, 2), int)]
    assert bayes.sequence([*cells, *cells]).shape == (10, 8)
