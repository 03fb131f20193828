"""What a report says first: how a codec stands by fidelity and by looks.

Each beside an encoder that has the same aim.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from vqcodec.bench.curves import INTERVALS, Curves, bd_of, points_of
from vqcodec.card import Card
from vqcodec.metrics import PANEL

FIDELITY, LOOKS = "psnr", "ssimulacra2"
BESIDE = {FIDELITY: "avif-psnr", LOOKS: "avif"}  # where these are at hand
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
    """For each of our codecs and each aim a sentence, 'text', and the 'percent' that it is of."""
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    others = [c["id"] for c in report["codecs"] if not c["own"]]
    found = []
    for codec in (c for c in report["codecs"] if c["own"]):
        for metric, words in ((FIDELITY, "Fidelity"), (LOOKS, "Looks")):
            if not others or metric not in {m["id"] for m in report["metrics"]}:
                continue
            beside = BESIDE[metric] if BESIDE[metric] in others else others[0]
            rows = {(r["codec"], r["reference"], r["metric"]): r for r in report["bd_rate"]}
            row = rows[codec["id"], beside, metric]
            low, high = INTERVALS[metric]
            label = next(m["label"] for m in report["metrics"] if m["id"] == metric)
            unit = " dB" if metric == FIDELITY else ""
            what = f"{words} ({label} {low:g} to {high:g}{unit})"
            percent = row["used"]["percent"]
            text = f"{what}: {codec['label']} {_needs(percent)} {labels[beside]}"
            judged = [
                p for p in report["panel"] if (p["codec"], p["reference"]) == (codec["id"], beside)
            ]
            if metric == LOOKS and judged and judged[0]["percent"] is not None:
                n = len(judged[0]["each"])
                text += f"; by the mean of {n} other metrics {_needs(judged[0]['percent'])} it"
            if metric in codec["trained_on"]:
                text += f" ({label} is in its loss)"
            found.append({"codec": codec["id"], "metric": metric, "reference": beside,
                          "percent": percent, "text": text + "."})  # fmt: skip
    return found


def _needs(percent: float | None) -> str:
    if percent is None:
        return "cannot be compared with"
    if abs(percent) < 0.5:
        return "needs as many bytes as"
    return f"needs {abs(percent):.0f} % {'more' if percent > 0 else 'fewer'} bytes than"
