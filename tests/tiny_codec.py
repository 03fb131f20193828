"""Untrained codecs of the systems of the papers, made in a second."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec import zoo
from vqcodec.autoencoders import classes
from vqcodec.autoencoders.system import Config
from vqcodec.card import read_card
from vqcodec.codec import Codec
from vqcodec.training import export, systems
from vqcodec.training.batches import Crops

STACK: dict[str, Any] = {
    "side": 16, "channels": 3, "codebook": 8, "dim": 4, "encoder": (4, 4), "decoder": (4, 4),
    "places": 256,
}  # fmt: skip
# Small ones of every system, which takes any quantizer besides.
SHAPES: dict[str, dict[str, Any]] = {
    "dqae": {"side": 16, "width": 8, "blocks": 0, "dim": 4, "columns": 2, "sizes": (8, 4)},
    "ham": STACK,
    "hqa": STACK,
    "pqvae": {"side": 32, "hidden": 4, "dim": 4, "rank": (2, 2), "size": 8, "steps": 3},
    "rrvq": {
        "side": 16, "grids": (1, 2, 2, 4), "sizes": (4, 4, 6, 8), "embedding": 4, "width": 8,
        "fine": 4,
    },
    "vqvae": {"side": 16, "width": 8, "blocks": 0, "dim": 4, "size": 8, "levels": 2},
}  # fmt: skip


def config(system: str, **changes: Any) -> Config:
    """The small sizes of a system, with what is to be different."""
    return classes(system)[1].from_dict(SHAPES[system] | changes)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def made(folder: Path, system: str, shape: Config, fitting: int = 200) -> Codec:
    """An untrained codec, from its files, with priors fitted to so many squares."""
    torch.manual_seed(0)
    task = systems.SystemTask(systems.SystemTraining(), system, shape)
    x = torch.rand(64, shape.channels, shape.side, shape.side)
    for stage in range(len(task.model.stages())):
        task.model.begin(stage, x, torch.Generator().manual_seed(stage))
    crops = Crops([photo(64, 64, seed) for seed in range(9)])
    tensors = task.export(task.model, crops, fitting, lambda: None)
    rates, points, _ = task.rates()
    card = {"id": "tiny", "number": 9, "system": system, "title": "", "licence": "", "rates": rates}
    card |= {"points": points, "sha256": export.write_weights(folder, tensors)}
    export.write_card(folder, card, {"shape": task.sizes()}, [])
    return zoo.load(read_card(folder), "cpu")
