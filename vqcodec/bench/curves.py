"""Curves of rate and quality, of pictures and of their mean, and BD-rates between them."""

import math
from collections.abc import Sequence
from typing import Any

from vqcodec.bench.bdrate import bd_rate, summary
from vqcodec.metrics import METRICS

Points = Sequence[dict[str, Any]]
Curves = dict[str, list[dict[str, Any]]]  # by codec or reference
# Compared in dB, -10 log10(1 - s), as papers plot MS-SSIM.
SIMILARITIES = {metric.id for metric in METRICS if metric.similarity}
# The qualities that people use, of PSNR in dB and of SSIMULACRA2: where BD-rates say most.
INTERVALS = {"psnr": (27.0, 34.0), "ssimulacra2": (30.0, 85.0)}


def mean_curve(records: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Mean bpp and mean metrics of each setting that every picture has."""
    settings = [p["setting"] for p in records[0]["points"][name]] if records else []
    curve = []
    for setting in settings:
        rates, values = [], []
        for record in records:
            for point in record["points"][name]:
                if point["setting"] == setting:
                    rates.append(_bpp(record, point))
                    values.append(point["metrics"])
        if len(rates) < len(records):
            continue
        means = {
            metric: None
            if any(v[metric] is None for v in values)
            else round(sum(v[metric] for v in values) / len(values), 5)
            for metric in values[0]
        }
        bpp = round(sum(rates) / len(rates), 6)
        curve.append({"setting": setting, "bpp": bpp, "metrics": means})
    return curve


def compared(
    records: Sequence[dict[str, Any]], curves: Curves, codec: str, reference: str, metric: str
) -> dict[str, Any]:
    """BD-rate of ``codec`` against ``reference``, of the mean curves and of each picture.

    'mean_curve': over all qualities that both reach. Where there are none, its 'why' is "too small"
    (a picture, for this metric), "not measured", "too few points" or "no overlap". 'used': of the
    same curves within INTERVALS, for the metrics that it names. 'per_image': a single picture has
    no interval: its 'low95' and 'high95' are None.
    """
    ours, theirs = points_of(curves[codec], metric), points_of(curves[reference], metric)
    mean: dict[str, Any] = bd_of(ours, theirs, metric)
    side = next(m.side for m in METRICS if m.id == metric)
    if mean["percent"] is not None:
        mean["why"] = None
    elif any(min(record["width"], record["height"]) < side for record in records):
        mean["why"] = "too small"
    elif not (ours and theirs):
        mean["why"] = "not measured"
    else:
        mean["why"] = "too few points" if min(len(ours), len(theirs)) < 2 else "no overlap"
    each = [
        bd_of(
            points_of([_with_bpp(r, p) for p in r["points"][codec]], metric),
            points_of([_with_bpp(r, p) for p in r["points"][reference]], metric),
            metric,
        )["percent"]
        for r in records
    ]
    known = [value for value in each if value is not None]
    per_image: dict[str, Any] = {"count": len(known), "no_overlap": len(each) - len(known)}
    found = summary(known) if known else None
    for name, of in (("mean", "mean"), ("median", "median"), ("low95", "low"), ("high95", "high")):
        given = found and (len(known) > 1 or of in ("mean", "median"))
        per_image[name] = round(getattr(found, of), 3) if given else None
    used = bd_of(ours, theirs, metric, *INTERVALS[metric]) if metric in INTERVALS else None
    return {
        "codec": codec,
        "reference": reference,
        "metric": metric,
        "mean_curve": mean,
        "used": used,
        "per_image": per_image,
    }


def to_scale(metric: str, value: float) -> float:
    """Where BD-rate is taken: in dB for similarities."""
    return -10 * math.log10(max(1 - value, 1e-9)) if metric in SIMILARITIES else value


def _from_scale(metric: str, value: float) -> float:
    return 1 - 10 ** (-value / 10) if metric in SIMILARITIES else value


def points_of(points: Points, metric: str) -> list[tuple[float, float]]:
    """(bpp, quality) of those that have the metric."""
    return [
        (p["bpp"], to_scale(metric, p["metrics"][metric]))
        for p in points
        if p["metrics"].get(metric) is not None
    ]


def bd_of(
    ours: Sequence[tuple[float, float]],
    theirs: Sequence[tuple[float, float]],
    metric: str,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, float | None]:
    """'percent', and the qualities 'low' and 'high' that it is of: those that both curves have,
    at most from ``low`` to ``high``."""
    if not ours or not theirs:
        return {"percent": None, "low": None, "high": None}
    ends = [None if end is None else to_scale(metric, end) for end in (low, high)]
    rate, quality = zip(*ours, strict=True)
    anchor_rate, anchor_quality = zip(*theirs, strict=True)
    found = bd_rate(rate, quality, anchor_rate, anchor_quality, *ends)
    return {
        "percent": None if found.percent is None else round(found.percent, 3),
        "low": None if found.percent is None else round(_from_scale(metric, found.low), 4),
        "high": None if found.percent is None else round(_from_scale(metric, found.high), 4),
    }


def _bpp(record: dict[str, Any], point: dict[str, Any]) -> float:
    return float(8 * point["bytes"] / (record["width"] * record["height"]))


def _with_bpp(record: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    return point | {"bpp": _bpp(record, point)}
