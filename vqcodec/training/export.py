"""From trained weights to a codec: round the networks, fit the integer tables, write files."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from vqcodec.autoencoders.ladder import HYPER_SIZE, Ladder
from vqcodec.autoencoders.ladder_codec import (
    HYPER_BANDS,
    RATE_HIGH,
    RATE_LOW,
    RDO,
    Group,
    LadderCodec,
    RatePoint,
    unit_tables,
)
from vqcodec.fixedpoint import WEIGHT_BITS, stored_weights
from vqcodec.priors import classes
from vqcodec.priors.histogram import Histogram, integer_rows

EXACT = ("hyper_synthesis.", "anchor_nets.", "other_nets.")  # evaluated in fixed point
_SKIPPED = ("std", "hyper_scale", "hyper_mean")  # training only, or replaced by integers


def pack_weights(model: Ladder) -> dict[str, Tensor]:
    """Tensors to ship: int16 multiples of 2**-12 for the exact networks, float16 for the others."""
    packed: dict[str, Tensor] = {"units": unit_tables(model.std)}
    for name, value in model.state_dict().items():
        if name in _SKIPPED:
            continue
        if name.startswith(EXACT):
            integers = torch.floor(value.double() * 2**WEIGHT_BITS + 0.5)
            if integers.abs().max() >= 2**15:
                raise ValueError(f"{name} is too large for 16 bits")
            packed[name] = integers.to(torch.int16).contiguous()
        else:
            packed[name] = value.half().contiguous()
    return packed


def fit_tables(
    model: Ladder,
    images: Sequence[np.ndarray],
    device: torch.device,
    rdo: float = RDO,
    passes: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Tables (6, hyper, 64) and (64, 1024) from what the encoder makes of training images.

    Every image is encoded at one random rate point in each band. The choice of codes depends on
    the tables, so the counts are taken ``passes`` times, ``advance`` being called per image.
    """
    hyper = model.config.hyper
    hyper_tables = integer_rows(np.ones((HYPER_BANDS, hyper, HYPER_SIZE)))
    class_tables = integer_rows(classes.logistic_weights())
    for turn in range(passes):
        rng = np.random.default_rng(turn)
        hyper_counts = np.zeros((HYPER_BANDS, hyper, HYPER_SIZE))
        class_counts = np.zeros((classes.CLASSES, classes.LARGEST))
        codec = LadderCodec(model, unit_tables(model.std), hyper_tables, class_tables, device, rdo)
        for pixels in images:
            for band in range(HYPER_BANDS):
                middle = RATE_LOW + 256 * band
                low, high = max(RATE_LOW, middle - 128), min(RATE_HIGH, middle + 127)
                rate = RatePoint(int(rng.integers(low, high + 1)))

                def count(group: Group, values: np.ndarray) -> None:
                    centred = values + classes.LARGEST // 2 - rate.size // 2  # noqa: B023
                    index = group.classes.flatten().cpu().numpy().astype(np.int64)
                    flat = index * classes.LARGEST + centred
                    class_counts.reshape(-1)[:] += np.bincount(flat, minlength=class_counts.size)  # noqa: B023

                z, y, (h, w) = codec.latents(pixels, rate)
                codec.encode_latent(y, z, h, w, rate, count)
                symbols = (z + HYPER_SIZE // 2).flatten(1).long().cpu().numpy()
                for row, column in zip(hyper_counts[rate.band], symbols, strict=True):
                    row += np.bincount(column, minlength=HYPER_SIZE)
            advance()
        # Neighbouring bands are alike, and each has few cells: share a part of the counts.
        shared = hyper_counts.sum(0, keepdims=True) / HYPER_BANDS
        hyper_tables = Histogram.fit(hyper_counts + 0.1 * shared, 0.2).tables
        class_tables = classes.fit(class_counts)
    return hyper_tables, class_tables


def rounded(model: Ladder) -> Ladder:
    """A copy with the weights as they ship, so that tables are fitted to what will run."""
    copy = Ladder(model.config).eval()
    state = dict(model.state_dict())
    for name, value in pack_weights(model).items():
        if name != "units":
            state[name] = stored_weights(value)
    copy.load_state_dict(state)
    return copy


def write_weights(
    folder: Path, model: Ladder, hyper_tables: np.ndarray, class_tables: np.ndarray
) -> str:
    """Write ``weights.safetensors``; returns its SHA-256, hexadecimal."""
    packed = pack_weights(model)
    packed["hyper_tables"] = torch.from_numpy(hyper_tables.astype(np.int32))
    packed["class_tables"] = torch.from_numpy(class_tables.astype(np.int32))
    data = safetensors.torch.save(packed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def write_card(
    folder: Path,
    fields: dict[str, Any],
    training: dict[str, Any],
    table: Sequence[dict[str, Any]],
    shape: dict[str, Any],
) -> None:
    """Write ``card.toml``: the codec's fields, how it was trained, its measured points."""
    # JSON's strings, numbers, booleans and flat lists are TOML too.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    for title, section in (("training", training), ("shape", shape)):
        if section:
            lines += ["", f"[{title}]"]
            lines += [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in section.items()]
    for row in table:
        lines += ["", "[[table]]", *(f"{k} = {json.dumps(v)}" for k, v in row.items())]
    (folder / "card.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
