"""The report of ``vqcodec bench`` as one HTML file that loads nothing from anywhere else."""

import json
import math
from importlib import resources
from typing import Any

_PLACE = "/*DATA*/"


def html(report: dict[str, Any], pictures: list[dict[str, Any]]) -> str:
    """The page, ASCII where the template is; the caller writes it as UTF-8.

    report: what ``--json`` writes. pictures: for every picture its size in pixels, its original
    and, per rate, our picture and those of the references as data: URLs; may be empty. Numbers
    that JSON lacks (the PSNR of two equal pictures is infinite) become null: the page leaves
    them out of plots and shows a dash in tables.
    """
    template = resources.files("vqcodec.bench").joinpath("report.html").read_text("utf-8")
    before, after = template.split(_PLACE)
    data = json.dumps(
        {"report": _finite(report), "pictures": _finite(pictures)},
        allow_nan=False,
        separators=(",", ":"),
    )
    # Names come from outside. Not only "</script>" matters: after "<!--<script" the browser would
    # not see the end of the script element either, so no "<" is left at all.
    return before + data.replace("<", "\\u003c") + after


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
