"""Pages of ``vqcodec bench`` and ``compare``: HTML files that load nothing from anywhere else."""

import json
import math
import re
from importlib import resources
from typing import Any

_PART = re.compile(r"^(?:<!--|/\*)(\w+\.\w+)(?:-->|\*/)\n", re.MULTILINE)


def html(report: dict[str, Any], pictures: list[dict[str, Any]]) -> str:
    """The page of bench.

    report: what ``--json`` writes. pictures: for every picture its size in pixels, its original
    and, per rate, our picture and those of the references as data: URLs; may be empty.
    """
    return page("report.html", {"report": report, "pictures": pictures})


def page(name: str, data: dict[str, Any]) -> str:
    """A template beside this file with its data, and with the files that it names between signs of
    comments: the style, the script and the elements that the pages share.

    ASCII where the template is; the caller writes it as UTF-8. Numbers that JSON lacks (the PSNR of
    two equal pictures is infinite) become null: the pages leave them out of plots and show a dash
    in tables.
    """
    text = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))
    template = _PART.sub(lambda part: _file(part[1]), _file(name))
    before, after = template.split("/*DATA*/")
    # Names come from outside. Not only "</script>" matters: after "<!--<script" the browser would
    # not see the end of the script element either, so no "<" is left at all.
    return before + text.replace("<", "\\u003c") + after


def _file(name: str) -> str:
    return resources.files("vqcodec.bench").joinpath(name).read_text("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
