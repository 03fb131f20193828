"""Records of pictures to the report: mean curves, BD-rates, equal sizes, who measured and where.

The report is the JSON of ``--json``; the terminal, the CSV file and the HTML page are views of it.
"""

import datetime
import math
import os
import platform
from collections.abc import Sequence
from typing import Any

import PIL
import torch

import vqcodec
from vqcodec import zoo
from vqcodec.bench.bdrate import bd_rate, summary
from vqcodec.bench.measure import Plan
from vqcodec.metrics import METRICS

Points = Sequence[dict[str, Any]]


def report(
    records: Sequence[dict[str, Any]],
    plan: Plan,
    *,
    command: str,
    skipped: Sequence[dict[str, Any]] = (),
    speed: Sequence[dict[str, Any]] = (),
    memory: dict[str, float | None] | None = None,
) -> dict[str, Any]:
    """All that was found, ready for JSON. Pictures for the page are not in it."""
    chosen = [m for m in METRICS if m.id in plan.metrics]
    names = [*plan.codecs, *plan.references]
    curves = {name: mean_curve(records, name) for name in names}
    return {
        "vqcodec": vqcodec.__version__,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": machine(plan.device),
        "codecs": [_codec(name) for name in plan.codecs]
        + [
            {"id": r.id, "own": False, "label": r.label, "settings": r.settings}
            for r in plan.found.values()
        ],
        "metrics": [
            {"id": m.id, "label": m.label, "unit": m.unit, "source": m.source} for m in chosen
        ],
        "images": [
            {k: v for k, v in record.items() if k not in ("equal_size", "picture")}
            for record in records
        ],
        "curves": curves,
        "bd_rate": [
            compared(records, curves, codec, reference, metric.id)
            for metric in chosen
            for codec in plan.codecs
            for reference in names
            if reference != codec
        ],
        "equal_size": [row for record in records for row in record["equal_size"]],
        "speed": list(speed),
        "memory": memory,
        "skipped": list(skipped),
    }


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
    records: Sequence[dict[str, Any]],
    curves: dict[str, list[dict[str, Any]]],
    codec: str,
    reference: str,
    metric: str,
) -> dict[str, Any]:
    """BD-rate of ``codec`` against ``reference``, of the mean curves and of each picture.

    Where the mean curves have none, 'why' is "too small" (a picture, for this metric), "too few
    points" or "no overlap". A single picture has no interval: 'low95' and 'high95' are None.
    """
    ours, theirs = _curve(curves[codec], metric), _curve(curves[reference], metric)
    mean: dict[str, Any] = _bd(ours, theirs, metric)
    side = next(m.side for m in METRICS if m.id == metric)
    if mean["percent"] is not None:
        mean["why"] = None
    elif any(min(record["width"], record["height"]) < side for record in records):
        mean["why"] = "too small"
    else:
        mean["why"] = "too few points" if min(len(ours), len(theirs)) < 2 else "no overlap"
    each = [
        _bd(
            _curve([_with_bpp(r, p) for p in r["points"][codec]], metric),
            _curve([_with_bpp(r, p) for p in r["points"][reference]], metric),
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
    return {
        "codec": codec,
        "reference": reference,
        "metric": metric,
        "mean_curve": mean,
        "per_image": per_image,
    }


def left_out(records: Sequence[dict[str, Any]], plan: Plan) -> list[str]:
    """A line for each codec with rates that not every picture has: mean curves lack them."""
    lines = []
    for codec in plan.codecs:
        made = [point["setting"] for record in records for point in record["points"][codec]]
        short = [rate for rate in plan.rates if made.count(rate) < len(records)]
        if short:
            n = len(records)
            which = ", ".join(f"{rate} (possible on {made.count(rate)} of {n})" for rate in short)
            lines.append(f"{codec}: not in the mean curve: {which}")
    return lines


def to_scale(metric: str, value: float) -> float:
    """Where BD-rate is taken: similarities in dB, -10 log10(1 - s), as papers plot MS-SSIM."""
    if metric in ("ssim", "ms_ssim"):
        return -10 * math.log10(max(1 - value, 1e-9))
    return value


def _from_scale(metric: str, value: float) -> float:
    return 1 - 10 ** (-value / 10) if metric in ("ssim", "ms_ssim") else value


def _curve(points: Points, metric: str) -> list[tuple[float, float]]:
    return [
        (p["bpp"], to_scale(metric, p["metrics"][metric]))
        for p in points
        if p["metrics"][metric] is not None
    ]


def _bd(
    ours: list[tuple[float, float]], theirs: list[tuple[float, float]], metric: str
) -> dict[str, float | None]:
    if not ours or not theirs:
        return {"percent": None, "low": None, "high": None}
    rate, quality = zip(*ours, strict=True)
    anchor_rate, anchor_quality = zip(*theirs, strict=True)
    found = bd_rate(rate, quality, anchor_rate, anchor_quality)
    return {
        "percent": None if found.percent is None else round(found.percent, 3),
        "low": None if found.percent is None else round(_from_scale(metric, found.low), 4),
        "high": None if found.percent is None else round(_from_scale(metric, found.high), 4),
    }


def _bpp(record: dict[str, Any], point: dict[str, Any]) -> float:
    return float(8 * point["bytes"] / (record["width"] * record["height"]))


def _with_bpp(record: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    return point | {"bpp": _bpp(record, point)}


def _codec(name: str) -> dict[str, Any]:
    card = zoo.find(name)
    settings = f"vqcodec {vqcodec.__version__}, weights {card.sha256[:8]}: {card.title}"
    return {"id": name, "own": True, "label": name, "settings": settings}


def machine(device: str) -> dict[str, Any]:
    """Where the numbers come from."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
