"""Encode a bucket or folder of pictures with Ray Data, on a machine or on a cluster.

The output of a key is always the same, and it is written whole, so a batch that is done again does
no harm: Ray gives the batches of a process or machine that died to others. After its outputs a
batch writes a record of them, below ``_vqcodec/``; a run that is repeated leaves out what is
recorded there, if neither the input, the output nor the options changed.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data

from vqcodec import image, zoo
from vqcodec.engines import storage
from vqcodec.engines.storage import Storage
from vqcodec.errors import InputError, OutputError, explain
from vqcodec.files import PICTURES

RECORDS = "_vqcodec/"
FAILED = RECORDS + "failed.json"
BATCH = 64  # pictures of a task, and of a record


@dataclass(frozen=True)
class Encoding:
    """What is to be done with each picture. Can be pickled."""

    source: Storage
    target: Storage
    rate: str | None  # None: the codec's own
    codec_id: str | None
    strip: bool | str
    max_pixels: int
    device: str

    @property
    def options(self) -> str:
        """What the outputs depend on, beside the inputs."""
        card = zoo.find(self.codec_id)
        effort = f"effort{card.effort}" if card.effort > 1 else ""
        choices = card.sha256[:16], card.tune, effort, self.rate or card.default_rate
        return " ".join(filter(None, [*choices, str(self.strip)]))

    def batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Encodes pictures, of which the batch has 'key' and 'version': a 'row' of JSON for each.

        What has been done of the batch before is done again.
        """
        import torch

        torch.set_num_threads(1)
        options = self.options
        rows = []
        for key, version in zip(batch["key"].tolist(), batch["version"].tolist(), strict=True):
            known = {"key": key, "version": version, "options": options, "time": time.time()}
            rows.append({**known, **self._one(key)})
        lines = [json.dumps(row) for row in rows]
        name = hashlib.sha256("\n".join(batch["key"].tolist()).encode()).hexdigest()[:24]
        self.target.write(f"{RECORDS}{name}.jsonl", "\n".join(lines).encode())
        return {"row": lines}

    def _one(self, key: str) -> dict[str, Any]:
        begun = time.perf_counter()
        name = self.source.path(key)
        try:
            picture = image.read(self.source.read(key), name, self.max_pixels)
            from vqcodec.compress import compress

            codec = zoo.load(zoo.find(self.codec_id), self.device)  # which keeps it
            made = compress(codec, picture, self.rate, strip=self.strip)
            self.target.write(output_of(key), made.data)
        except Exception as error:  # the others are none the worse
            sentence, code = explain(error, name)
            return {"error": sentence, "exit_code": code}
        return {
            "bytes": len(made.data),
            "rate": made.rate,
            "width": made.width,
            "height": made.height,
            "seconds": time.perf_counter() - begun,
        }


def output_of(key: str) -> str:
    """The key of a picture's file."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}.vqc"


def encode(
    task: Encoding, *, address: str | None = None, batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Encodes what is not up to date. A row for each picture, as they come.

    address: of a running cluster, 'auto' for that of this machine; None starts one. A row has 'key'
    and 'error' with 'exit_code', or 'up_to_date', or the numbers of what was made.

    Raises InputError where there is no picture, OutputError where two would become one file.
    """
    inputs = _pictures(task.source)
    done = _recorded(task)
    todo = []
    for key, info in inputs.items():
        version = storage.version(info)
        if done.get(key) == version:
            yield {"key": key, "up_to_date": True}
        else:
            todo.append({"key": key, "version": version})
    failed = []
    if todo:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        blocks = ray.data.from_items(todo, override_num_blocks=-(-len(todo) // batch))
        made = blocks.map_batches(
            task.batch,
            batch_size=None,  # a block
            batch_format="numpy",
            num_cpus=1,
            num_gpus=1 if task.device == "cuda" else None,
        )
        for row in made.iter_rows():
            result = json.loads(row["row"])
            failed += [result] if "error" in result else []
            yield result
    if failed or FAILED in task.target.list():
        task.target.write(FAILED, json.dumps(failed, indent=1).encode())
    for key in task.target.list():
        if key.rpartition("/")[2].startswith(storage.TEMPORARY):  # of processes that died
            task.target.remove(key)


def _pictures(source: Storage) -> dict[str, dict[str, Any]]:
    inputs = {
        key: info
        for key, info in source.list().items()
        if key.lower().endswith(PICTURES) and not key.startswith(RECORDS)
    }
    if not inputs:
        raise InputError(f"{source.url}: no picture is there")
    makers: dict[str, str] = {}
    for key in inputs:
        other = makers.setdefault(output_of(key), key)
        if other != key:
            raise OutputError(f"{output_of(key)}: {other} and {key} both become this")
    return inputs


def _recorded(task: Encoding) -> dict[str, str]:
    """The version of each input whose output is there as it was recorded, with these options."""
    there = task.target.list()
    options = task.options
    newest: dict[str, dict[str, Any]] = {}
    for row in _rows(task.target, there):
        key = row["key"]
        if key not in newest or newest[key]["time"] < row["time"]:
            newest[key] = row
    return {
        key: row["version"]
        for key, row in newest.items()
        if row["options"] == options
        and row.get("bytes") == there.get(output_of(key), {}).get("size", -1)
    }


def _rows(target: Storage, there: Iterable[str]) -> Iterator[dict[str, Any]]:
    for key in there:
        if key.startswith(RECORDS) and key.endswith(".jsonl"):
            yield from map(json.loads, target.read(key).decode().splitlines())
