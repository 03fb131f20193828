"""What a report says first: how a codec stands by fidelity and by looks.

Each beside the strongest of the references at that aim.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from vqcodec.bench.curves import INTERVALS, Curves, bd_of, points_of
from vqcodec.card import Card
from vqcodec.metrics import PANEL

FIDELITY, LOOKS = "psnr", "ssimulacra2"
BESIDE = "avif"  # has the panel's metrics, which are too slow for all: it is tuned for the eye
LOSSES = ("mse", "luma", "ms_ssim_y", "ssimulacra2")  # that a recipe's mixture may have


def trained_on(card: Card) -> list[str]:
    """What a codec's loss was made of, of LOSSES. Without a mixture in its card, and tuned for
    PSNR, that is squared error."""
    shares = card.recipe.get("loss", {}) if card.tune != "psnr" else {}
    found = [name for name in LOSSES if isinstance(shares, dict) and shares.get(name, 0) > 0]
    return found or ["mse"]


def panel(curves: Curves, codec: str, reference: str, trained: Sequence[str]) -> dict[str, Any]:
    """BD-rates of mean curves by the panel's metrics that the codec was not trained on.

    'each': per cent by metric. 'percent': their mean; None where one is missing. 'left_out': the
    metrics of the panel that are in the codec's loss.
    """
    judges = [name for name in PANEL if name not in trained]
    each = {
        name: bd_of(points_of(curves[codec], name), points_of(curves[reference], name), name)[
            "percent"
        ]
        for name in judges
    }
    known = [value for value in each.values() if value is not None]
    return {
        "codec": codec,
        "reference": reference,
        "percent": round(fmean(known), 3) if len(known) == len(judges) else None,
        "each": each,
        "left_out": [name for name in PANEL if name in trained],
    }


def headline(report: dict[str, Any]) -> list[dict[str, Any]]:
    """For each of our codecs and each aim a sentence, 'text', and the 'percent' that it is of.

    Where neither aim's metric is in the report its first one is the aim, over all that both reach.
    """
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    metrics = {m["id"]: m for m in report["metrics"]}
    others = [c["id"] for c in report["codecs"] if not c["own"]]
    aims = [name for name in (FIDELITY, LOOKS) if name in metrics] or list(metrics)[:1]
    found = []
    for codec in (c for c in report["codecs"] if c["own"]):
        for metric in aims if others else ():
            row = _strongest(report, codec["id"], others, metric)
            beside, percent = row["reference"], _of_aim(row)["percent"]
            text = f"{_what(metrics[metric], row)}: {codec['label']} {_needs(percent)}"
            text += f" {labels[beside]}"
            if percent is not None and len(others) > 1:
                text += f", the strongest of {len(others)} references"
            judged = [
                p for p in report["panel"] if (p["codec"], p["reference"]) == (codec["id"], beside)
            ]
            if metric == LOOKS and judged and judged[0]["percent"] is not None:
                n, left_out = len(judged[0]["each"]), len(judged[0]["left_out"])
                of = f"{n} of the panel's {n + left_out} metrics"
                text += f"; by the mean of {of} {_needs(judged[0]['percent'])} it"
            if metric in codec["trained_on"]:
                text += f" ({metrics[metric]['label']} is in its loss)"
            found.append({"codec": codec["id"], "metric": metric, "reference": beside,
                          "percent": percent, "text": text + "."})  # fmt: skip
    return found


def _what(metric: dict[str, Any], row: dict[str, Any]) -> str:
    """What is compared, and between which qualities, as a sentence begins."""
    name, label = metric["id"], metric["label"]
    unit = f" {metric['unit']}" if metric["unit"] else ""
    if name in INTERVALS:
        low, high = INTERVALS[name]
        return f"{'Looks' if name == LOOKS else 'Fidelity'} ({label} {low:g} to {high:g}{unit})"
    of = _of_aim(row)
    return label if of["percent"] is None else f"{label} {of['low']:.4g} to {of['high']:.4g}{unit}"


def _of_aim(row: dict[str, Any]) -> dict[str, Any]:
    """The BD-rate within the interval that people use, or over all where there is none."""
    found: dict[str, Any] = row["used"] or row["mean_curve"]
    return found


def _strongest(
    report: dict[str, Any], codec: str, others: Sequence[str], metric: str
) -> dict[str, Any]:
    """The BD-rates against the reference that needs the fewest bytes, of those that compare."""
    rows = [
        row
        for row in report["bd_rate"]
        if (row["codec"], row["metric"]) == (codec, metric) and row["reference"] in others
    ]
    known = [row for row in rows if _of_aim(row)["percent"] is not None]
    return max(known, key=lambda row: _of_aim(row)["percent"], default=rows[0])


def _needs(percent: float | None) -> str:
    if percent is None:
        return "cannot be compared with"
    if abs(percent) < 0.5:
        return "needs as many bytes as"
    return f"needs {abs(percent):.0f} % {'more' if percent > 0 else 'fewer'} bytes than"
