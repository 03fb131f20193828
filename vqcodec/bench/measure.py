"""One picture through every codec: bytes of finished files, metrics of what they decode to, times.

A record is a JSON object and depends on nothing but the picture's pixels and the plan.
"""

import base64
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqcodec.bench.plan import THUMBNAILS, Plan
from vqcodec.bench.references import Reference
from vqcodec.bench.tries import OwnCodec, Setting, Tries
from vqcodec.errors import RateError
from vqcodec.metrics import PANEL

QUICK = ("psnr", "psnr_y")
LONG = 8  # settings: of more only every second has all metrics, and the last
SHOWN_PIXELS = 2_000_000  # larger pictures are shown as their middle


def measure_pixels(
    name: str,
    pixels: np.ndarray,
    plan: Plan,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """pixels (h, w, 3) uint8. cache: a folder, see ``Tries``. ``advance``: at each of its steps."""
    height, width = pixels.shape[:2]
    own = {codec: Tries(OwnCodec(codec, plan.device), pixels, cache) for codec in plan.codecs}
    others = {r.id: Tries(r, pixels, cache) for r in plan.found.values()}
    points: dict[str, list[dict[str, Any]]] = {}
    for codec, tries in own.items():
        points[codec] = list(_points(tries, plan.rates, plan, advance))
        tries.save()
    for reference, tries in others.items():
        ladder = plan.found[reference].ladder
        points[reference] = list(_points(tries, ladder, plan, advance, reference))
        tries.save()
    record: dict[str, Any] = {
        "name": name,
        "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "width": width,
        "height": height,
        "points": points,
        "equal_size": list(_equal(name, None, own, others, plan, advance)),
    }
    for side in THUMBNAILS:
        if min(height, width) >= side:
            small = _thumbnail(pixels, side)
            ours = {codec: Tries(OwnCodec(codec, plan.device), small, cache) for codec in own}
            theirs = {r.id: Tries(r, small, cache) for r in plan.equal}
            record["equal_size"] += _equal(name, side, ours, theirs, plan, advance)
            _save(ours, theirs)
    if plan.pictures:
        record["picture"] = _picture(name, pixels, own, others, plan)
    _save(own, others)
    return record


def _points(
    tries: Tries,
    settings: Sequence[Setting],
    plan: Plan,
    advance: Callable[[], None],
    reference: str | None = None,
) -> Iterator[dict[str, Any]]:
    """At each setting; of our codecs, where it names none, those that the picture allows."""
    outside = plan.panel_of is not None and reference not in (None, *plan.panel_of)
    for i, setting in enumerate(settings):
        all_of_them = len(settings) <= LONG or i % 2 == 0 or i == len(settings) - 1
        which = [
            metric
            for metric in plan.metrics
            if metric in QUICK or (all_of_them and not (outside and metric in PANEL))
        ]
        try:
            n_bytes = len(tries.file(setting))
        except RateError:  # 34dB where the codec does not reach it
            continue
        finally:
            advance()
        values = tries.measured(setting, which)
        yield {
            "setting": _setting_name(tries, setting),
            "bytes": n_bytes,
            "metrics": {metric: values.get(metric) for metric in plan.metrics},
            **tries.times(setting),
        }


def _setting_name(tries: Tries, setting: Setting) -> str:
    encoder = tries.encoder
    return encoder.setting_name(int(setting)) if isinstance(encoder, Reference) else str(setting)


def _equal(
    name: str,
    side: int | None,
    own: dict[str, Tries],
    others: dict[str, Tries],
    plan: Plan,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Each of our files of the shown rates beside the best of each reference that is not larger."""
    for codec, tries in own.items():
        for rate in plan.shown:
            try:
                n_bytes = len(tries.file(rate))
            except RateError:
                continue
            finally:
                advance()
            yield {
                "image": name,
                "thumbnail": side,
                "codec": codec,
                "setting": rate,
                "bytes": n_bytes,
                "metrics": tries.measured(rate, plan.judges),
                "references": {r.id: _at(others[r.id], n_bytes, plan) for r in plan.equal},
            }


def _at(tries: Tries, n_bytes: int, plan: Plan) -> dict[str, Any]:
    """The best file of a reference that is not larger, or else its smallest."""
    quality = within(tries, n_bytes)
    size = len(tries.file(quality))
    return {
        "setting": _setting_name(tries, quality),
        "bytes": size,
        "metrics": tries.measured(quality, plan.judges),
        "too_large": size > n_bytes,
    }


def within(tries: Tries, n_bytes: int) -> int:
    """The setting of the largest file of a reference with at most ``n_bytes``, or its smallest.

    By bisection of the ladder, and between two of its steps by interpolation of the sizes, whose
    logarithm is nearly straight there: the size hardly ever falls along the ladder.
    """
    assert isinstance(tries.encoder, Reference)
    ladder = tries.encoder.ladder

    def size(setting: int) -> int:
        return len(tries.file(setting))

    if size(ladder[0]) > n_bytes:
        return ladder[0]
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if size(ladder[middle]) <= n_bytes:
            low = middle
        else:
            high = middle - 1
    if low == len(ladder) - 1:
        return ladder[-1]
    good, bad = ladder[low], ladder[low + 1]
    step = 1 if good < bad else -1  # compression ratios fall
    while (gap := abs(bad - good)) > 1:
        grown = math.log(n_bytes / size(good)) / math.log(size(bad) / size(good))
        between = good + step * min(max(1, round(gap * grown)), gap - 1)
        if size(between) <= n_bytes:
            good = between
        else:
            bad = between
    return good


def _thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a picture, scaled down to side x side pixels."""
    height, width = pixels.shape[:2]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    middle = Image.fromarray(pixels[top : top + square, left : left + square])
    return np.asarray(middle.resize((side, side), Image.Resampling.LANCZOS))


def _picture(
    name: str, pixels: np.ndarray, own: dict[str, Tries], others: dict[str, Tries], plan: Plan
) -> dict[str, Any]:
    """What the report shows of a picture, as data URIs.

    Files of references that browsers show are kept as they are; other pixels, ours among them, as
    WebP of quality 95 (about 46 dB, not visible): numbers are of the true pixels.
    """
    height, width = pixels.shape[:2]
    whole = height * width <= SHOWN_PIXELS
    h, w = (height, width) if whole else (min(height, 1024), min(width, 1536))
    rows = slice((height - h) // 2, (height - h) // 2 + h)
    columns = slice((width - w) // 2, (width - w) // 2 + w)

    def proxy(shown: np.ndarray) -> str:
        stream = io.BytesIO()
        image = Image.fromarray(np.ascontiguousarray(shown[rows, columns]))
        image.save(stream, "WEBP", quality=95, method=4)
        return _uri("image/webp", stream.getvalue())

    def source(tries: Tries, n_bytes: int) -> str:
        quality = within(tries, n_bytes)
        mime = plan.found[tries.encoder.id].mime if isinstance(tries.encoder, Reference) else None
        if whole and mime:
            return _uri(mime, tries.file(quality))
        return proxy(tries.decoded(quality))

    rates = []
    for row in _equal(name, None, own, others, plan):
        tries = own[row["codec"]]
        rates.append(
            {
                "setting": row["setting"],
                "codec": row["codec"],
                "bytes": row["bytes"],
                "metrics": row["metrics"],
                "ours": proxy(tries.decoded(row["setting"])),
                "references": {
                    reference: {"src": source(others[reference], row["bytes"])} | found
                    for reference, found in row["references"].items()
                },
            }
        )
    return {"image": name, "width": w, "height": h, "original": proxy(pixels), "rates": rates}


def _save(*groups: dict[str, Tries]) -> None:
    for group in groups:
        for tries in group.values():
            tries.save()


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
