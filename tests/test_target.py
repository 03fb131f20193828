"""The search for a target, on measures that are functions."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.target import Search


def search(
    measure: Callable[[int], float],
    target: float,
    tolerance: float,
    *,
    at_least: bool,
    **guess: float,
) -> Search:
    """Of points from 0 to 200."""
    start, slope = int(guess.get("start", 100)), guess.get("slope", 0.01)
    found = Search(0, 200, target, tolerance, at_least=at_least, start=start, slope=slope)
    for point in found:
        assert 0 <= point <= 200 and point not in found.measures
        found.measures[point] = measure(point)
    return found


@given(
    st.lists(st.floats(0.001, 3), min_size=1, max_size=6),
    st.floats(-1, 12),
    st.booleans(),
    st.integers(0, 200),
    st.floats(0.0001, 1),
)
def test_what_is_found_is_nearest_to_the_target(
    jumps: list[float], target: float, at_least: bool, start: int, slope: float
) -> None:
    def measure(point: int) -> float:
        return point / 100 + sum(jump for i, jump in enumerate(jumps) if point > 30 * (i + 1))

    done = search(measure, target, 1e-9, at_least=at_least, start=start, slope=slope)
    good = [p for p in range(201) if (measure(p) >= target if at_least else measure(p) <= target)]
    expected = (min(good) if at_least else max(good)) if good else None
    if done.found is not None and expected is not None:
        assert measure(done.found) == pytest.approx(measure(expected), abs=1e-9)
    else:
        assert done.found is expected is None
        assert (200 if at_least else 0) in done.measures
    assert len(done.measures) < 30


def test_a_measure_within_the_tolerance_ends_it() -> None:
    done = search(lambda point: point / 100, 0.7, 0.05, at_least=True)
    assert done.hit and done.found is not None and 70 <= done.found <= 75
    assert len(done.measures) <= 3


def test_a_gap_is_no_hit() -> None:
    done = search(lambda point: point // 50, 0.5, 0.01, at_least=False)
    assert done.found == 49 and not done.hit and 50 in done.measures


def test_a_measure_may_be_infinite() -> None:
    """As the PSNR of a picture that is decoded exactly, of one colour for example."""
    assert search(lambda _: math.inf, 34, 0.01, at_least=True).found == 0
    assert search(lambda p: math.inf if p > 150 else 30.0, 34, 0.01, at_least=True).found == 151


def test_a_search_tells_where_it_ended_and_the_slope_there() -> None:
    found = search(lambda point: point**2 / 100, 49.0, 0.5, at_least=True, start=100)
    last, slope = found.near()
    assert last == found.found == list(found.measures)[-1]
    assert slope == pytest.approx(1.4, abs=0.3)  # that of the curve at 70
    alone = search(float, 100.0, 0.5, at_least=True, start=100, slope=0.7)
    assert alone.near() == (100, 0.7)
