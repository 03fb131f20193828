"""BD-rates: what a delta of rate means, where it is not defined, and the published numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="pip install scipy")

from vqcodec.bench.bdrate import BdRate, bd_rate, summary

KODAK = json.loads((Path(__file__).parents[1] / "data" / "kodak_curves.json").read_text())["curves"]
NOWHERE = BdRate(None, math.nan, math.nan)

RATE = [0.1, 0.2, 0.45, 0.8, 1.7]
QUALITY = [24.0, 27.5, 31.0, 33.25, 38.0]

# Curves as they are measured: more bits, more quality, in steps that a metric can tell apart.
curves = st.lists(st.tuples(st.floats(0.05, 0.9), st.floats(0.1, 5)), min_size=2, max_size=9).map(
    lambda steps: (
        [float(r) for r in np.exp(np.cumsum([step for step, _ in steps]) - 3)],
        [float(q) for q in np.cumsum([step for _, step in steps]) + 20],
    )
)


def close(percent: float | None, expected: float) -> bool:
    return percent is not None and math.isclose(percent, expected, rel_tol=1e-7, abs_tol=1e-7)


@given(curves)
@settings(deadline=None)
def test_a_curve_is_nothing_better_than_itself(curve: tuple[list[float], list[float]]) -> None:
    found = bd_rate(*curve, *curve)
    assert close(found.percent, 0)
    assert (found.low, found.high) == (curve[1][0], curve[1][-1])


@given(curves, st.floats(0.1, 10))
@settings(deadline=None)
def test_a_factor_on_all_rates_is_the_bd_rate(
    curve: tuple[list[float], list[float]], factor: float
) -> None:
    rate, quality = curve
    found = bd_rate([factor * r for r in rate], quality, rate, quality)
    assert close(found.percent, 100 * (factor - 1))


def test_half_the_rate_is_minus_50_percent() -> None:
    found = bd_rate([r / 2 for r in RATE], QUALITY, RATE, QUALITY)
    assert found.percent == pytest.approx(-50)
    assert (found.low, found.high) == (24, 38)


@given(curves, curves)
@settings(deadline=None)
def test_swapping_the_curves_inverts_the_ratio(
    one: tuple[list[float], list[float]], other: tuple[list[float], list[float]]
) -> None:
    there, back = bd_rate(*one, *other), bd_rate(*other, *one)
    if there.percent is None or back.percent is None:
        assert there == back == NOWHERE
        return
    assert (there.low, there.high) == (back.low, back.high)
    if there.high - there.low > 1e-3:
        ratio = 1 + there.percent / 100
        assert math.isclose(1 + back.percent / 100, 1 / ratio, rel_tol=1e-6)


def test_straight_curves_have_the_ratio_in_the_middle_of_the_overlap() -> None:
    """PCHIP keeps straight lines, so the integral is that of a straight line too."""
    ours, theirs = np.array([25.0, 28, 31, 40]), np.array([22.0, 27, 30, 35])
    found = bd_rate(np.exp(0.10 * ours), ours, np.exp(0.13 * theirs), theirs)
    assert (found.low, found.high) == (25, 35)
    assert close(found.percent, 100 * math.expm1(-0.03 * 30))


def test_the_integral_is_that_of_a_fine_sum() -> None:
    from scipy.integrate import trapezoid
    from scipy.interpolate import PchipInterpolator

    anchor_rate, anchor_quality = [0.15, 0.5, 0.6, 2.0], [22.0, 29.0, 29.5, 36.0]
    q = np.linspace(24, 36, 200_001)
    ours = PchipInterpolator(QUALITY, np.log(RATE))(q)
    theirs = PchipInterpolator(anchor_quality, np.log(anchor_rate))(q)
    expected = 100 * math.expm1(trapezoid(ours - theirs, q) / 12)
    found = bd_rate(RATE, QUALITY, anchor_rate, anchor_quality)
    assert found.percent == pytest.approx(expected, abs=1e-6)
    assert (found.low, found.high) == (24, 36)


def test_nothing_is_extrapolated() -> None:
    above = [q + 14.5 for q in QUALITY]
    assert bd_rate(RATE, QUALITY, RATE, above) == NOWHERE
    touching = [q + 14 for q in QUALITY]  # one common quality has no width
    assert bd_rate(RATE, QUALITY, RATE, touching) == NOWHERE


def test_low_and_high_narrow_the_interval() -> None:
    steeper = [r * 1.05**q for r, q in zip(RATE, QUALITY, strict=True)]
    inside = bd_rate(steeper, QUALITY, RATE, QUALITY, low=27.5, high=33.25)
    assert (inside.low, inside.high) == (27.5, 33.25)
    alone = bd_rate(steeper[1:4], QUALITY[1:4], RATE, QUALITY)
    assert (alone.low, alone.high) == (27.5, 33.25)
    wide = bd_rate(steeper, QUALITY, RATE, QUALITY, low=-100, high=1000)
    assert wide == bd_rate(steeper, QUALITY, RATE, QUALITY)
    assert bd_rate(steeper, QUALITY, RATE, QUALITY, low=38) == NOWHERE
    assert bd_rate(steeper, QUALITY, RATE, QUALITY, low=33, high=30) == NOWHERE


def test_the_order_of_the_points_does_not_matter() -> None:
    order = [3, 0, 4, 1, 2]
    shuffled = [RATE[i] for i in order], [QUALITY[i] for i in order]
    other = [r * 1.3 for r in RATE], [q - 1 for q in QUALITY]
    assert bd_rate(*shuffled, *other) == bd_rate(RATE, QUALITY, *other)


def test_points_that_another_one_beats_are_left_out() -> None:
    other = [r * 1.3 for r in RATE], [q - 1 for q in QUALITY]
    expected = bd_rate(RATE, QUALITY, *other)
    worse_and_larger, as_good_and_larger, as_large_and_worse = (0.3, 26), (0.22, 27.5), (0.2, 25)
    rate, quality = RATE[:], QUALITY[:]
    for r, q in (worse_and_larger, as_good_and_larger, as_large_and_worse, (0.2, 27.5)):
        rate.append(r)
        quality.append(q)
    assert bd_rate(rate, quality, *other) == expected


def test_lossless_points_are_left_out() -> None:
    other = [r * 1.3 for r in RATE], [q - 1 for q in QUALITY]
    assert bd_rate([*RATE, 9.0], [*QUALITY, math.inf], *other) == bd_rate(RATE, QUALITY, *other)


def test_fewer_than_two_points_are_no_curve() -> None:
    assert bd_rate([], [], RATE, QUALITY) == NOWHERE
    assert bd_rate([0.5], [30.0], RATE, QUALITY) == NOWHERE
    assert bd_rate(RATE, QUALITY, [0.5, 0.6], [30.0, 29.0]) == NOWHERE


def test_two_points_are_a_straight_line() -> None:
    line = [0.25, 1.0], [28.0, 32.0]
    found = bd_rate(*line, [0.5, 2.0], [28.0, 32.0])
    assert found.percent == pytest.approx(-50)


@pytest.mark.parametrize(
    ("rate", "quality"),
    [
        ([0.0, 1], [20, 30]),
        ([-1, 1], [20, 30]),
        ([1, math.inf], [20, 30]),
        ([1, 2], [20, math.nan]),
    ],
)
def test_what_no_curve_can_hold_is_refused(rate: list[float], quality: list[float]) -> None:
    with pytest.raises(ValueError, match="a curve has no point at"):
        bd_rate(rate, quality, RATE, QUALITY)
    with pytest.raises(ValueError, match="a curve has no point at"):
        bd_rate(RATE, QUALITY, rate, quality)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        bd_rate(RATE[:-1], QUALITY, RATE, QUALITY)


@pytest.mark.parametrize("name", [name for name in KODAK if name != "jpeg"])
def test_published_curves_on_kodak(name: str) -> None:
    """Against the BD-rates that were computed from them before, apart from this program."""
    ours, jpeg = KODAK[name], KODAK["jpeg"]
    found = bd_rate(ours["bpp"], ours["psnr_db"], jpeg["bpp"], jpeg["psnr_db"])
    assert found.percent == pytest.approx(ours["bd_rate_percent"], abs=0.5)  # whole per cents
    assert found.low == max(min(ours["psnr_db"]), min(jpeg["psnr_db"]))
    assert found.high == min(max(ours["psnr_db"]), max(jpeg["psnr_db"]))


def test_summary() -> None:
    values = np.random.default_rng(1).normal(-30, 8, 24)
    found = summary(values)
    assert found.count == 24
    assert found.mean == pytest.approx(values.mean())
    assert found.median == pytest.approx(np.median(values))
    # for a mean of 24, near the interval of the normal distribution
    error = values.std(ddof=1) / math.sqrt(24)
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)
    assert summary(list(values)) == found  # each run draws the same samples


def test_summary_of_one_value_and_of_none() -> None:
    found = summary([-12.5])
    assert (found.count, found.mean, found.median, found.low, found.high) == (1, *[-12.5] * 4)
    with pytest.raises(ValueError, match="no values"):
        summary([])
