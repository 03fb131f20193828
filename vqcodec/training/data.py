"""Training images: a folder of pictures in memory, split by name."""

import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

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


def is_held_out(content: bytes) -> bool:
    """Whether the SHA-256 starts with 0, as of about 1 in 16."""
    return sha256(content).hexdigest()[0] == "0"


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(training, held out): held out are the names whose SHA-256 starts with 0, about 1 in 16."""
    held_out = [p for p in paths if is_held_out(p.name.encode())]
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


class Labelled(NamedTuple):
    """Pictures (h, w, 3) uint8 with their classes (n,), where these are known."""

    pictures: list[np.ndarray]
    labels: np.ndarray | None


def load_arrays(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures of an .npz file, (training, held out), each (h, w, 3) uint8.

    Arrays (n, h, w) or (n, h, w, 3) of uint8: 'x_train' and 'x_test', or 'x', of which those are
    held out whose bytes have a SHA-256 that starts with 0. Raises InputError.
    """
    training, held_out = _load(path, ("x_train", "x_test", "x"))
    return training.pictures, held_out.pictures


def load_labelled(path: Path) -> tuple[Labelled, Labelled]:
    """As ``load_arrays``, with labels where there are any: 'y_train' and 'y_test', or 'y'.

    They are integers (n,). Raises InputError.
    """
    return _load(path, ("x_train", "x_test", "x", "y_train", "y_test", "y"))


def _load(path: Path, names: Sequence[str]) -> tuple[Labelled, Labelled]:
    """(training, held out) from the arrays ``names``."""
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in names if name in file}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as an .npz file of arrays: {error}") from error
    for name, array in arrays.items():
        if name.startswith("y"):
            continue
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[3:] not in ((), (3,)):
            raise InputError(f"{path}: {name} is not an array (n, h, w[, 3]) of uint8")

    def part(name: str, rows: np.ndarray | slice = slice(None)) -> Labelled:
        array, labels = arrays[f"x{name}"], arrays.get(f"y{name}")
        if labels is not None:
            if labels.shape != array.shape[:1] or labels.dtype.kind not in "iu":
                raise InputError(f"{path}: y{name} is not one integer for each picture of x{name}")
            labels = labels[rows]
        array = (array if array.ndim == 4 else array[..., None])[rows]
        pictures = list(np.broadcast_to(array, (*array.shape[:3], 3)))
        return Labelled(pictures, labels)

    if "x_train" in arrays and "x_test" in arrays:
        return part("_train"), part("_test")
    if "x" not in arrays:
        raise InputError(f"{path}: has neither x_train and x_test nor x")
    held_out = np.array([is_held_out(picture.tobytes()) for picture in arrays["x"]], bool)
    return part("", ~held_out), part("", held_out)


def scaled(pixels: np.ndarray, short_side: int) -> np.ndarray:
    """A picture (h, w, 3) uint8 with its short side made so many pixels; 0 leaves it as it is.

    It is never made larger.
    """
    h, w = pixels.shape[:2]
    factor = short_side / min(h, w)
    if not 0 < factor < 1:
        return pixels
    return image.resize(pixels, max(1, round(h * factor)), max(1, round(w * factor)))


def at_least(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture padded with its edge, alike on both sides, where it is smaller than ``side``."""
    pad = [(n // 2, n - n // 2) for n in (max(0, side - length) for length in pixels.shape[:2])]
    return np.pad(pixels, [*pad, (0, 0)], mode="edge") if any(map(any, pad)) else pixels


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle (side, side, 3) of a picture, edge-padded where it is smaller."""
    pixels = at_least(pixels, side)
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
