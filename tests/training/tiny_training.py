"""Trainings of a few steps, for tests."""

import hashlib
import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.metrics.shares import LossSettings
from vqcodec.training.batches import Crops
from vqcodec.training.config import LadderTraining
from vqcodec.training.ladder import LadderTask
from vqcodec.training.loop import Run

TINY = LadderConfig(fine=8, coarse=16, hyper=4, features=8, hidden=(8, 8, 8, 8))
SHORT = LadderTraining(
    steps=6, decay_steps=2, late_steps=2, batch=2, crop=64, late_batch=2, late_crop=64, workers=0
)


def photo(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(3, 30, (3, 2))]
    noise = rng.normal(0, 5, (height, width, 3))
    return (128 + 70 * np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)


def ladder_run(
    folder: Path, shape: LadderConfig = TINY, loss: LossSettings = LossSettings(), **changes: Any
) -> Run:
    """A tiny ladder in training, at its first step."""
    config = replace(SHORT, **changes)
    config.check()
    crops = Crops([photo(90, 80, i) for i in range(4)], config.seed)
    return Run(config, lambda crops: LadderTask(config, shape, crops, loss), crops, folder)


def write_photos(folder: Path, training: int, held_out: int, side: int = 70) -> None:
    """PNG pictures of at least so many pixels a side, of which the content decides the split."""
    folder.mkdir()
    wanted = {False: training, True: held_out}
    for seed in itertools.takewhile(lambda _: any(wanted.values()), itertools.count()):
        file = io.BytesIO()
        Image.fromarray(photo(side + seed % 20, side + 26 - seed % 20, seed)).save(file, "PNG")
        held = hashlib.sha256(file.getvalue()).hexdigest().startswith("0")
        if wanted[held]:
            wanted[held] -= 1
            (folder / f"photo-{seed}.png").write_bytes(file.getvalue())
