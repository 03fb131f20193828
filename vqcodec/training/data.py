"""Training images: a folder of pictures in memory, split by name, cropped at random."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec import image
from vqcodec.errors import InputError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}


def find(folder: Path) -> list[Path]:
    """Pictures in a folder and below, by name. Raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no pictures in it")
    return paths


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(training, held out): held out are the names whose SHA-256 starts with 0, about 1 in 16."""
    held_out = [p for p in paths if sha256(p.name.encode()).hexdigest()[0] == "0"]
    chosen = set(held_out)
    return [p for p in paths if p not in chosen], held_out


def load(paths: Sequence[Path], advance: Callable[[], None] = lambda: None) -> list[np.ndarray]:
    """Decode pictures to (h, w, 3) uint8 arrays; ``advance`` is called after each."""

    def one(path: Path) -> np.ndarray:
        pixels = image.read_rgb(path)
        advance()
        return pixels

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, paths))


class Crops:
    """Random square crops, flipped left to right half of the time."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images = images

    def batch(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """(count, 3, size, size) float32 0..255, channels last. Small images are edge-padded."""

        def below(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        crops = np.empty((count, size, size, 3), np.uint8)
        for i in range(count):
            pixels = self.images[below(len(self.images))]
            h, w = pixels.shape[:2]
            if h < size or w < size:
                pad = ((0, max(size - h, 0)), (0, max(size - w, 0)), (0, 0))
                pixels = np.pad(pixels, pad, mode="edge")
                h, w = pixels.shape[:2]
            top, left = below(h - size + 1), below(w - size + 1)
            crop = pixels[top : top + size, left : left + size]
            crops[i] = crop[:, ::-1] if below(2) else crop
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float()
