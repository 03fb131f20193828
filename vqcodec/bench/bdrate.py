"""Bjontegaard's delta rate: how many per cent more bits one codec needs for the same quality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator  # type: ignore[import-untyped,unused-ignore]

_RESAMPLES = 10_000
_SEED = 0


@dataclass(frozen=True)
class BdRate:
    """percent: the mean difference in rate; -20 means a fifth less than the anchor.

    It holds for the qualities ``low`` to ``high``, which both curves cover, and is never
    extrapolated: percent is None, and low and high are NaN, where there are no such qualities.
    """

    percent: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Of BD-rates per image, in per cent; low and high: the 95 % interval of the mean."""

    count: int
    mean: float
    median: float
    low: float
    high: float


def bd_rate(
    rate: Sequence[float],
    quality: Sequence[float],
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    low: float | None = None,
    high: float | None = None,
) -> BdRate:
    """The mean difference in log rate between two curves over the qualities that both cover.

    rate: any unit above 0, the same for both. quality: any metric that is better where larger.
    low, high: narrow the interval. The points of a curve may come in any order; those that another
    point beats in both rate and quality are left out, and so are those of infinite quality.

    After VCEG-M33, but interpolated with PCHIP, which does not overshoot between the points as
    the cubic of 2001 does (VCEG-AL22), and integrated exactly.

    Raises ValueError where a curve's lists differ in length, a rate is not above 0 or finite, or
    a quality is NaN.
    """
    curve, anchor = _curve(rate, quality), _curve(anchor_rate, anchor_quality)
    if curve is None or anchor is None:
        return BdRate(None, math.nan, math.nan)
    start = max(curve.x[0], anchor.x[0], -math.inf if low is None else low)
    end = min(curve.x[-1], anchor.x[-1], math.inf if high is None else high)
    if not start < end:
        return BdRate(None, math.nan, math.nan)
    area = curve.integrate(start, end) - anchor.integrate(start, end)
    percent = 100 * math.expm1(area / (end - start))
    return BdRate(percent, float(start), float(end))


def summary(values: Sequence[float]) -> Summary:
    """Of at least one BD-rate. The interval is the percentile bootstrap's, always the same one.

    Raises ValueError where there are no values.
    """
    if not len(values):
        raise ValueError("no values to summarize")
    sample = np.asarray(values, dtype=np.float64)  # (n,)
    rng = np.random.default_rng(_SEED)
    means = [rng.choice(sample, sample.size).mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Summary(
        sample.size, float(sample.mean()), float(np.median(sample)), float(low), float(high)
    )


def _curve(rate: Sequence[float], quality: Sequence[float]) -> PchipInterpolator | None:
    """Log rate as a function of quality; None where fewer than 2 points are left of it."""
    points: list[tuple[float, float]] = []  # (quality, log rate), both increasing
    for bits, value in sorted(zip(rate, quality, strict=True), key=lambda p: (p[0], -p[1])):
        if not 0 < bits < math.inf or math.isnan(value):
            raise ValueError(f"a curve has no point at rate {bits} and quality {value}")
        if math.isfinite(value) and (not points or value > points[-1][0]):
            points.append((value, math.log(bits)))
    if len(points) < 2:
        return None
    return PchipInterpolator(*np.array(points, dtype=np.float64).T)
