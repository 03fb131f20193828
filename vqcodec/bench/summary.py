"""Records of pictures to the report: mean curves, BD-rates, equal sizes, who measured and where.

The report is the JSON of ``--json``; the terminal, the CSV file and the HTML page are views of it.
"""

import datetime
import os
import platform
from collections.abc import Sequence
from typing import Any

import PIL
import torch

import vqcodec
from vqcodec import zoo
from vqcodec.bench import aims
from vqcodec.bench.curves import INTERVALS, compared, mean_curve
from vqcodec.bench.plan import Plan
from vqcodec.metrics import METRICS, PANEL


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
    codecs = [_codec(name) for name in plan.codecs]
    judged = all(name in plan.metrics for name in PANEL)
    result: dict[str, Any] = {
        "vqcodec": vqcodec.__version__,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": machine(plan.device),
        "codecs": codecs
        + [
            {"id": r.id, "own": False, "label": r.label, "settings": r.settings}
            for r in plan.found.values()
        ],
        "metrics": [
            {"id": m.id, "label": m.label, "unit": m.unit, "source": m.source} for m in chosen
        ],
        "intervals": INTERVALS,
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
        "panel": [
            aims.panel(curves, codec["id"], reference, codec["trained_on"])
            for codec in codecs
            for reference in plan.references
            if judged and (plan.panel_of is None or reference in plan.panel_of)
        ],
        "equal_size": [row for record in records for row in record["equal_size"]],
        "speed": list(speed),
        "memory": memory,
        "skipped": list(skipped),
    }
    return result | {"headline": aims.headline(result)}


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


def _codec(name: str) -> dict[str, Any]:
    card = zoo.find(name)
    settings = f"vqcodec {vqcodec.__version__}, weights {card.sha256[:8]}: {card.title}"
    trained = aims.trained_on(card)
    label = name.replace(":effort", ", effort ").replace(":", " for ")
    return {"id": name, "own": True, "label": label, "settings": settings, "trained_on": trained}


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
