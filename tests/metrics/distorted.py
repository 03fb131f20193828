"""Pictures distorted without an encoder, whose next version would give other pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO = np.asarray(
    Image.open(Path(__file__).parents[1] / "data" / "photo.png").convert("RGB")
)  # (320, 480, 3)


def posterized(step: int, pixels: np.ndarray = PHOTO) -> np.ndarray:
    return np.minimum(pixels.astype(int) // step * step + step // 2, 255).astype(np.uint8)


def noisy(pixels: np.ndarray = PHOTO) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, pixels.shape)
    return np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8)


def soft(pixels: np.ndarray = PHOTO) -> np.ndarray:
    """Means of 3 x 3 pixels."""
    h, w = pixels.shape[:2]
    wide = np.pad(pixels.astype(int), ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (sum(wide[i : i + h, j : j + w] for i in range(3) for j in range(3)) // 9).astype(
        "uint8"
    )


def colourless(pixels: np.ndarray = PHOTO) -> np.ndarray:
    """Colours at a quarter of the resolution, luma as it was, as 4:2:0 at its worst."""
    luma = pixels.astype(int).sum(2, keepdims=True) // 3
    colour = np.repeat(np.repeat((pixels - luma)[::4, ::4], 4, 0), 4, 1)
    return np.clip(luma + colour[: len(pixels), : pixels.shape[1]], 0, 255).astype(np.uint8)


DISTORTIONS: dict[str, Callable[[], np.ndarray]] = {
    "posterized 8": lambda: posterized(8),
    "posterized 16": lambda: posterized(16),
    "posterized 32": lambda: posterized(32),
    "posterized 64": lambda: posterized(64),
    "noisy": noisy,
    "soft": soft,
    "colourless": colourless,
    "shifted": lambda: np.roll(PHOTO, 1, 1),
    "darker": lambda: (PHOTO.astype(int) * 9 // 10).astype(np.uint8),
}
PARTS = {
    "whole": np.s_[:],
    "227x173": np.s_[5:178, 3:230],
    "161x299": np.s_[11:310, 200:361],
    "115x113": np.s_[5:118, 3:118],
    "128x128": np.s_[100:228, 100:228],
}
