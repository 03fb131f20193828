"""What a training run leaves behind to read: ``log.jsonl`` and, if wanted, TensorBoard's files."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import UsageError
from vqcodec.files import atomic_write

LOG = "log.jsonl"
_SETTINGS = {"config", "model"}  # written once: to TensorBoard as text


class Journal:
    """Lines of JSON with 'step' and 'seconds', one for an event.

    Numbers in them are curves, but for those of settings.

    ``after`` is the step from which the run goes on: what a killed run wrote later is dropped.
    With ``tensorboard``, curves, histograms and pictures are written to its subfolder too.
    Raises UsageError where tensorboard is not installed.
    """

    def __init__(self, folder: Path, after: int = 0, tensorboard: bool = False) -> None:
        self.board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UsageError(
                    "--tensorboard needs tensorboard: pip install tensorboard"
                ) from None
            self.board = SummaryWriter(folder / "tensorboard", purge_step=after + 1)
        path = folder / LOG
        if path.exists():
            known = [line for line in _lines(path) if json.loads(line)["step"] <= after]
            with atomic_write(path, force=True) as file:
                file.write("".join(known).encode())
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, step: int, seconds: float, **values: Mapping[str, Any] | float) -> None:
        """An event. Mappings may be nested."""
        line = {"step": step, "seconds": round(seconds), **values}
        self._file.write(json.dumps(line) + "\n")
        if self.board:
            for name in _SETTINGS & values.keys():
                self.board.add_text(name, _as_table(values[name]), step)
            curves = {name: value for name, value in values.items() if name not in _SETTINGS}
            for name, value in _flat(curves):
                self.board.add_scalar(name, value, step)

    def show(self, step: int, pictures: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> None:
        """Pictures (n, 3, h, w) 0..255 and codes of any shape, by name; of TensorBoard only."""
        if not self.board:
            return
        for name, x in pictures.items():
            pixels = x.clamp(0, 255).to(torch.uint8).cpu().numpy()
            self.board.add_image(name, np.concatenate(pixels, 2), step)
        for name, value in codes.items():
            self.board.add_histogram(name, value.cpu(), step)

    def close(self) -> None:
        self._file.close()
        if self.board:
            self.board.close()


def _lines(path: Path) -> Iterator[str]:
    """Whole lines of a log: a killed run may have left a part of one, or zeros."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError):
            json.loads(line)["step"]
            if line.endswith("\n"):
                yield line


def _as_table(values: Any) -> str:
    """In Markdown."""
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in values.items())])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)
