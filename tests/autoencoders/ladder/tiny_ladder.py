"""A ladder of a few channels with random weights, its codec, and pictures to try it on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.config import HYPER_SIZE, LadderConfig
from vqcodec.autoencoders.ladder.model import Ladder, unit_tables
from vqcodec.autoencoders.ladder.rate import BANDS
from vqcodec.priors import classes
from vqcodec.priors.histogram import integer_rows

CPU = torch.device("cpu")
PHOTO = Path(__file__).parents[2] / "data" / "photo.png"
TINY = LadderConfig(
    more_luma=8,
    more_chroma=4,
    slices=(8, 24, 64, 160, 16),
    checkerboard=(True, True, True, False, False),
    coded_from=(0, 0, 0, 0, 7.5),
    fine=8,
    coarse=16,
    hyper=4,
    features=8,
    hidden=(8, 8, 8, 8, 8),
    narrow=8,
)
TUNED = replace(TINY, analysis_fine=3, analysis_coarse=2, tuned=True, weighted=True)


def random_ladder(seed: int = 0, spread: float = 0.06, config: LadderConfig = TINY) -> Ladder:
    """No weight is trivial, and channels have standard deviations of 2 to 200."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Ladder(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.003 if name.endswith(".linear") else spread
            scale = 0.3 if name.startswith("step_weights") else scale
            p.add_(torch.randn(p.shape, generator=generator) * scale)
        model.std.copy_(200 * torch.arange(1, TINY.channels + 1) ** -0.8 + 1)
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth waves, an edge and noise, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(2, 30, (3, 2))]
    pixels = 128 + 60 * np.stack(waves, -1) + 40 * (x + y > height)[..., None]
    return (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)


def photo() -> np.ndarray:
    """192 x 176 of a photograph."""
    return np.asarray(Image.open(PHOTO).convert("RGB"))[:176, :192]


def make_codec(model: Ladder) -> LadderCodec:
    """With the tables that fitting starts from."""
    bands = BANDS * (1 + model.config.tuned)
    hyper_tables = integer_rows(np.ones((bands, TINY.hyper, HYPER_SIZE)))
    class_tables = integer_rows(classes.logistic_weights())
    units = unit_tables(model.std)
    return LadderCodec(model, units, hyper_tables, class_tables, CPU)
