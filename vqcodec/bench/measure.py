"""One picture through every codec: bytes of finished files, metrics of what they decode to, times.

A record is a JSON object and depends on nothing but the picture's pixels and the plan, so it can be
kept: ``key`` names it.
"""

import base64
import hashlib
import io
import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqcodec import metrics, zoo
from vqcodec.bench.references import Reference, available, external
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.errors import RateError, UsageError
from vqcodec.image import Picture, read_rgb
from vqcodec.metrics.psnr import psnr_db

RATES = tuple(f"{n / 2:g}bit" for n in range(10, 21))
SHOWN_RATES = ("6bit", "7bit", "8bit", "9bit")  # of the report's pictures
THUMBNAILS = (64, 256)  # pixels, both sides
EQUAL_SIZE = ("jpeg", "webp", "avif")  # references whose quality is an integer, 1 to 100 or so
QUICK = ("psnr", "psnr_y")  # the others: at every second setting of a reference, and at its last
SHOWN_PIXELS = 2_000_000  # larger pictures are shown as their middle
_VERSION = 3  # of the records; raised when they change


@dataclass(frozen=True)
class Plan:
    """What is measured on every picture. Ids of codecs and references, names of rates, metrics."""

    codecs: tuple[str, ...]
    references: tuple[str, ...]
    rates: tuple[str, ...] = RATES
    metrics: tuple[str, ...] = ("psnr",)
    device: str = "cpu"
    pictures: bool = False  # keep what the report shows

    @property
    def found(self) -> dict[str, Reference]:
        """The references, in their order. Raises UsageError where one is not at hand."""
        return _find(self.references)

    def key(self, pixels: np.ndarray) -> str:
        """Of the record: changes with the pixels, the plan, the weights, the encoders' versions."""
        weights = [zoo.find(name).sha256 for name in self.codecs]
        settings = [(r.settings, str(r.ladder)) for r in self.found.values()]
        about = json.dumps([_VERSION, asdict(self), weights, settings, pixels.shape])
        return hashlib.sha256(about.encode() + pixels.tobytes()).hexdigest()


@lru_cache(maxsize=4)  # of this process: a plugin of Pillow registers itself in each
def _find(names: tuple[str, ...]) -> dict[str, Reference]:
    known = available() | external()
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(f"no encoder for {missing[0]} here; at hand: {', '.join(known)}")
    return {name: known[name] for name in names}


class _Tries:
    """Files of one picture by one reference, each quality encoded once."""

    def __init__(self, reference: Reference, pixels: np.ndarray) -> None:
        self.reference, self.pixels = reference, pixels
        self._files: dict[int, bytes] = {}
        self._psnr: dict[int, float] = {}
        self.seconds: dict[int, float] = {}  # that a quality took to encode

    def file(self, quality: int) -> bytes:
        if quality not in self._files:
            start = time.perf_counter()
            self._files[quality] = self.reference.encode(self.pixels, quality)
            self.seconds[quality] = time.perf_counter() - start
        return self._files[quality]

    def psnr(self, quality: int) -> float:
        if quality not in self._psnr:
            decoded = self.reference.decode(self.file(quality))
            self._psnr[quality] = psnr_db(self.pixels, decoded)
        return self._psnr[quality]

    def within(self, n_bytes: int) -> int:
        """The highest integer quality whose file has at most ``n_bytes``, or the lowest there is.

        By bisection: the size hardly ever falls with the quality, and where it does, by bytes.
        Begins between two neighbours of the files that there are.
        """
        low, high = self.reference.ladder[0], self.reference.ladder[-1]
        if len(self.file(low)) > n_bytes:
            return low
        sizes = {quality: len(file) for quality, file in self._files.items()}
        low = max(quality for quality, size in sizes.items() if size <= n_bytes)
        high = min([high, *(q - 1 for q, size in sizes.items() if size > n_bytes and q > low)])
        while low < high:
            middle = (low + high + 1) // 2
            if len(self.file(middle)) <= n_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def measure(path: Path, plan: Plan, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The record of a picture. Raises InputError or ImageError for what is no picture."""
    return measure_pixels(path.name, read_rgb(path), plan, advance)


def measure_pixels(
    name: str, pixels: np.ndarray, plan: Plan, advance: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """pixels (h, w, 3) uint8. ``advance`` is called after each codec and reference."""
    height, width = pixels.shape[:2]
    points: dict[str, list[dict[str, Any]]] = {}
    decoded: dict[tuple[str, str], tuple[int, float, np.ndarray]] = {}
    for codec_id in plan.codecs:
        points[codec_id] = []
        for rate, point, result in _own(codec_id, pixels, plan):
            points[codec_id].append(point)
            decoded[codec_id, rate] = point["bytes"], psnr_db(pixels, result), result
        advance()
    tries = {}
    for reference in plan.found.values():
        tries[reference.id] = _Tries(reference, pixels)
        last = len(reference.ladder) - 1
        points[reference.id] = [
            _reference(tries[reference.id], quality, plan, i % 2 == 0 or i == last)
            for i, quality in enumerate(reference.ladder)
        ]
        advance()
    equal = [name for name in tries if name in EQUAL_SIZE]
    record: dict[str, Any] = {
        "name": name,
        "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "width": width,
        "height": height,
        "points": points,
        "equal_size": [
            {
                "image": name,
                "thumbnail": None,
                "codec": codec_id,
                "setting": rate,
                "bytes": n_bytes,
                "psnr": _rounded(quality),
                "references": {r: _at(tries[r], n_bytes) for r in equal},
            }
            for (codec_id, rate), (n_bytes, quality, _) in decoded.items()
        ],
    }
    for side in THUMBNAILS:
        record["equal_size"] += _thumbnail(name, pixels, side, plan)
    if plan.pictures:
        record["picture"] = _picture(name, pixels, decoded, tries)
    advance()
    return record


def _own(
    codec_id: str, pixels: np.ndarray, plan: Plan
) -> list[tuple[str, dict[str, Any], np.ndarray]]:
    """(rate, point, decoded pixels) at each rate that the codec offers and the picture allows."""
    codec, found = zoo.load(zoo.find(codec_id), plan.device), []
    for rate in plan.rates:
        start = time.perf_counter()
        try:
            made = compress(codec, Picture(pixels), rate)
        except RateError:  # 34dB where the codec does not reach it
            continue
        middle = time.perf_counter()
        result = decompress(codec, made.data).pixels
        point = _point(rate, made.data, pixels, result, plan.metrics)
        point |= {"encode_s": middle - start, "decode_s": time.perf_counter() - middle}
        point["ideal_bytes"] = round(sum(made.ideal_bits) / 8, 1)
        found.append((rate, _short(point), result))
    return found


def _reference(tries: _Tries, quality: int, plan: Plan, slow: bool) -> dict[str, Any]:
    data, name = tries.file(quality), tries.reference.setting_name(quality)
    start = time.perf_counter()
    decoded = tries.reference.decode(data)
    seconds = {"encode_s": tries.seconds[quality], "decode_s": time.perf_counter() - start}
    chosen = [m for m in plan.metrics if slow or m in QUICK]
    point = _point(name, data, tries.pixels, decoded, chosen)
    point["metrics"] = {m: point["metrics"].get(m) for m in plan.metrics}
    return _short(point | seconds)


def _point(
    setting: str, data: bytes, pixels: np.ndarray, decoded: np.ndarray, which: Collection[str]
) -> dict[str, Any]:
    values = metrics.measure(pixels, decoded, which)
    return {
        "setting": setting,
        "bytes": len(data),
        "metrics": {name: _rounded(value) for name, value in values.items()},
    }


def _short(point: dict[str, Any]) -> dict[str, Any]:
    return point | {k: round(v, 4) for k, v in point.items() if k.endswith("_s")}


def _rounded(value: float | None) -> float | None:
    """For JSON, which has no infinity: null for the metric of two equal pictures."""
    return None if value is None or not np.isfinite(value) else round(value, 5)


def _at(tries: _Tries, n_bytes: int) -> dict[str, Any]:
    """The best file of a reference that is not larger, or else its smallest."""
    quality = tries.within(n_bytes)
    size = len(tries.file(quality))
    return {
        "setting": tries.reference.setting_name(quality),
        "bytes": size,
        "psnr": _rounded(tries.psnr(quality)),
        "too_large": size > n_bytes,
    }


def _thumbnail(name: str, pixels: np.ndarray, side: int, plan: Plan) -> list[dict[str, Any]]:
    """Equal sizes for the middle square of a picture, scaled down to side x side pixels."""
    height, width = pixels.shape[:2]
    square = min(height, width)
    if square < side:
        return []
    top, left = (height - square) // 2, (width - square) // 2
    middle = Image.fromarray(pixels[top : top + square, left : left + square])
    small = np.asarray(middle.resize((side, side), Image.Resampling.LANCZOS))
    tries = {r.id: _Tries(r, small) for r in plan.found.values() if r.id in EQUAL_SIZE}
    found = []
    for codec_id in plan.codecs:
        codec = zoo.load(zoo.find(codec_id), plan.device)
        for rate in plan.rates:
            try:
                made = compress(codec, Picture(small), rate)
            except RateError:
                continue
            quality = psnr_db(small, decompress(codec, made.data).pixels)
            found.append(
                {
                    "image": name,
                    "thumbnail": side,
                    "codec": codec_id,
                    "setting": rate,
                    "bytes": len(made.data),
                    "psnr": _rounded(quality),
                    "references": {r: _at(t, len(made.data)) for r, t in tries.items()},
                }
            )
    return found


def _picture(
    name: str,
    pixels: np.ndarray,
    decoded: dict[tuple[str, str], tuple[int, float, np.ndarray]],
    tries: dict[str, _Tries],
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

    rates = []
    for (codec_id, rate), (n_bytes, quality, result) in decoded.items():
        if rate not in SHOWN_RATES:
            continue
        others = {}
        for name_of, files in tries.items():
            if name_of not in EQUAL_SIZE:
                continue
            at = _at(files, n_bytes)
            data = files.file(files.within(n_bytes))
            mime = files.reference.mime
            if whole and mime:
                source = _uri(mime, data)
            else:
                source = proxy(files.reference.decode(data))
            others[name_of] = {"src": source} | at
        rates.append(
            {
                "setting": rate,
                "codec": codec_id,
                "bytes": n_bytes,
                "psnr": _rounded(quality),
                "ours": proxy(result),
                "references": others,
            }
        )
    return {"image": name, "width": w, "height": h, "original": proxy(pixels), "rates": rates}


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
