"""From trained weights to the files of a codec."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vqcodec.arithmetic import WEIGHT_SCALE
from vqcodec.settings import toml_lines


def pack_weights(
    model: nn.Module, exact: tuple[str, ...], skipped: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Tensors to ship: float16, or int16 multiples of 2**-12 where a name begins with ``exact``.

    ``skipped`` are names that do not ship. Integers stay as they are. Raises ValueError for an
    exact weight that is too large.
    """
    packed: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name in skipped:
            continue
        if name.startswith(exact) and exact:
            integers = torch.floor(value.double() * WEIGHT_SCALE + 0.5)
            if integers.abs().max() >= 2**15:
                raise ValueError(f"{name} is too large for 16 bits")
            packed[name] = integers.to(torch.int16).contiguous()
        else:
            packed[name] = (value.half() if value.is_floating_point() else value).contiguous()
    return packed


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> str:
    """Write ``weights.safetensors``; returns its SHA-256, hexadecimal."""
    data = safetensors.torch.save(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def write_card(
    folder: Path,
    fields: dict[str, Any],
    tables: dict[str, dict[str, Any]],
    points: Sequence[dict[str, Any]],
) -> None:
    """Write ``card.toml``: the codec's fields, named tables, its measured points."""
    lines = toml_lines(fields)
    for title, table in tables.items():
        if table:
            lines += ["", f"[{title}]", *toml_lines(table)]
    for point in points:
        lines += ["", "[[table]]", *toml_lines(point)]
    (folder / "card.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
