"""Files of one picture by one encoder, each made once and measured once, also across runs."""

import base64
import hashlib
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import vqcodec
from vqcodec import metrics, zoo
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.errors import RateError
from vqcodec.files import atomic_write
from vqcodec.image import Picture

Setting = str | int  # one of our rates, or a quality of a reference
_VERSION = 4  # of the files in the cache; raised when they change


class Encoder(Protocol):
    """What makes files: a ``Reference``, or one of our codecs.

    settings: all that its files depend on but the pixels and the setting.
    """

    @property
    def settings(self) -> str: ...

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes: ...

    def decode(self, data: bytes) -> np.ndarray: ...


class OwnCodec:
    """One of our codecs, by a name for ``zoo.find``, as an ``Encoder``; its settings are rates."""

    def __init__(self, name: str, device: str) -> None:
        self._card, self._device = zoo.find(name), device
        self.settings = f"vqcodec {vqcodec.__version__}, {self._card.sha256}, {device}"
        self.settings += f", {self._card.tune}" if self._card.tune else ""
        self.settings += f", effort {self._card.effort}" if self._card.effort > 1 else ""
        self.ideal_bytes = 0.0  # of the file that was made last

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        """Raises RateError where the codec cannot have that rate on that picture."""
        made = compress(zoo.load(self._card, self._device), Picture(pixels), str(setting))
        self.ideal_bytes = round(sum(made.ideal_bits) / 8, 1)
        return made.data

    def decode(self, data: bytes) -> np.ndarray:
        return decompress(zoo.load(self._card, self._device), data).pixels


class Tries:
    """Files of ``pixels`` (h, w, 3) uint8 by their settings, with what was measured of them.

    cache: a folder that keeps them in a file of its own for each picture and encoder, so that
    another run measures only what this one did not: a rate, a metric, a reference more.
    """

    def __init__(self, encoder: Encoder, pixels: np.ndarray, cache: Path | None = None) -> None:
        self.encoder, self.pixels = encoder, pixels
        self._path = cache and cache / f"{_key(encoder, pixels)}.json"
        self._kept: dict[str, dict[str, Any]] = read_json(self._path)
        self._files: dict[str, bytes] = {}
        self._last: tuple[str, np.ndarray] | None = None  # what was decoded last
        self._changed = False

    def file(self, setting: Setting) -> bytes:
        """Raises RateError where there is none at this setting, and what ``encode`` raises."""
        name = str(setting)
        if name not in self._kept:
            start = time.perf_counter()
            try:
                data = self.encoder.encode(self.pixels, setting)
            except RateError as error:
                self._kept[name], self._changed = {"why": str(error)}, True
                raise
            seconds = round(time.perf_counter() - start, 4)
            self._files[name], self._changed = data, True
            self._kept[name] = {"bytes": len(data), "encode_s": seconds, "metrics": {}}
            if isinstance(self.encoder, OwnCodec):
                self._kept[name]["ideal_bytes"] = self.encoder.ideal_bytes
            self._kept[name]["data"] = base64.b64encode(data).decode()
        kept = self._kept[name]
        if "why" in kept:
            raise RateError(kept["why"])
        if name not in self._files:
            self._files[name] = base64.b64decode(kept["data"])
        return self._files[name]

    def decoded(self, setting: Setting) -> np.ndarray:
        """(h, w, 3) uint8"""
        name, data = str(setting), self.file(setting)
        if self._last is None or self._last[0] != name:
            start = time.perf_counter()
            self._last = name, self.encoder.decode(data)
            if "decode_s" not in self._kept[name]:
                self._kept[name]["decode_s"] = round(time.perf_counter() - start, 4)
                self._changed = True
        return self._last[1]

    def measured(self, setting: Setting, which: Collection[str]) -> dict[str, float | None]:
        """The metrics of these ids, null where JSON has no number for it."""
        self.file(setting)
        known = self._kept[str(setting)]["metrics"]
        missing = [name for name in which if name not in known]
        if missing:
            found = metrics.measure(self.pixels, self.decoded(setting), missing)
            known |= {name: rounded(value) for name, value in found.items()}
            self._changed = True
        return {name: known[name] for name in which}

    def times(self, setting: Setting) -> dict[str, Any]:
        """'encode_s' and 'decode_s', and of ours 'ideal_bytes'."""
        self.file(setting)
        kept = self._kept[str(setting)]
        if "decode_s" not in kept:
            self.decoded(setting)
        return {k: kept[k] for k in ("encode_s", "decode_s", "ideal_bytes") if k in kept}

    def save(self) -> None:
        """To the cache, where there is one and something is new."""
        if self._path and self._changed:
            write_json(self._path, self._kept)
            self._changed = False


def rounded(value: float | None) -> float | None:
    """For JSON, which has no infinity: null for the PSNR of two equal pictures."""
    return None if value is None or not np.isfinite(value) else round(value, 5)


def _key(encoder: Encoder, pixels: np.ndarray) -> str:
    about = json.dumps([_VERSION, encoder.settings, pixels.shape])
    return hashlib.sha256(about.encode() + pixels.tobytes()).hexdigest()


def read_json(path: Path | None) -> dict[str, Any]:
    """Of the cache; empty where it is not there or cut short by another program."""
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        known = {}
    return known if isinstance(known, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """To the cache."""
    with atomic_write(path, force=True) as file:
        file.write(json.dumps(value).encode())
