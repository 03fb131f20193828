"""Training pictures: which are held out, decoded, in memory as far as they fit."""

import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from vqcodec import image
from vqcodec.errors import ImageError, InputError
from vqcodec.training.parallel import mapped
from vqcodec.training.sources import Source, is_held_out

MAX_PIXELS = 2**27  # of a picture; decoding takes about 7 bytes for each
NAMED = 10  # unusable pictures that the user reads about

Skip = Callable[[str], None]  # gets a line about an unusable picture, which begins with its name
Track = Callable[[Sequence[Any], str], Iterable[Any]]  # what is worked through, and its name


class Pictures(Protocol):
    """Pictures (h, w, 3) uint8, as a list of arrays has them.

    One that is unusable raises ImageError or InputError, and always does.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class Decoded:
    """Pictures of a source at some scales, decoded when they are taken unless they are kept.

    scales: see ``scaled``; the pictures at the first come first. Those whose short side is under
    ``smallest`` pixels, or that have more than 2**27, raise ImageError.
    """

    def __init__(
        self,
        source: Source,
        indices: np.ndarray,
        scales: Sequence[int] = (0,),
        smallest: int = 1,
    ) -> None:
        self.source, self.indices, self.scales = source, indices, scales
        self.smallest = smallest
        self.kept: dict[int, list[np.ndarray]] = {}  # at all scales
        self._all_kept = False

    def __len__(self) -> int:
        return len(self.indices) * len(self.scales)

    @property
    def in_memory(self) -> bool:
        """Whether all are kept, but those that cannot be used."""
        return self._all_kept

    def __getitem__(self, index: int) -> np.ndarray:
        scale, number = divmod(index, len(self.indices))
        if number in self.kept:
            return self.kept[number][scale]
        return scaled(self._decode(number), self.scales[scale])

    def keep(self, n_bytes: int, track: Track, skip: Skip) -> None:
        """Decode the first pictures, as many as fit into so many bytes of memory."""
        numbers = range(len(self.indices) if n_bytes else 0)
        made = mapped(self._at_all_scales, numbers)
        for number, pictures in zip(track(numbers, "decoding"), made, strict=False):
            if isinstance(pictures, str):
                skip(pictures)
                continue
            n_bytes -= sum(pixels.nbytes for pixels in pictures)
            if n_bytes < 0:
                return
            self.kept[number] = pictures
        self._all_kept = len(numbers) == len(self.indices)

    def _at_all_scales(self, number: int) -> list[np.ndarray] | str:
        """Or what is wrong with the picture."""
        try:
            pixels = self._decode(number)
        except (ImageError, InputError) as error:
            return str(error)
        return [scaled(pixels, scale) for scale in self.scales]

    def _decode(self, number: int) -> np.ndarray:
        index = self.indices[number]
        name = self.source.name(index)
        pixels = image.rgb(image.read(self.source.content(index), name, MAX_PIXELS))
        h, w = pixels.shape[:2]
        if min(h, w) < self.smallest:
            raise ImageError(f"{name}: {w} x {h} pixels; {self.smallest} a side are needed")
        return pixels


def split(
    source: Source, by: str, track: Track, skip: Skip, enough: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(training, held out): indices of pictures. Files that cannot be opened are in neither.

    by: 'content' or 'name', see ``Source.held_out``
    enough: so many of each will do, and the rest need not be read
    """
    flags = source.held_out(by)
    if flags is not None:
        return np.flatnonzero(~flags), np.flatnonzero(flags)
    parts: tuple[list[int], list[int]] = ([], [])
    indices = range(len(source))
    looks = mapped(partial(_look, source), indices)
    for index, look in zip(track(indices, "reading"), looks, strict=False):
        if isinstance(look, str):
            skip(look)
            continue
        parts[look].append(index)
        if enough and all(len(part) >= n for part, n in zip(parts, enough, strict=True)):
            break
    return np.array(parts[0], int), np.array(parts[1], int)


def _look(source: Source, index: int) -> bool | str:
    """Whether a picture is held out by its content, or why that cannot be known."""
    try:
        return is_held_out(source.content(index))
    except InputError as error:
        return str(error)


def spread(number: int, count: int) -> list[int]:
    """At most ``count`` indices of ``number`` things, evenly spread."""
    count = min(number, count)
    return [i * number // count for i in range(count)]


def usable(pictures: Pictures, indices: Iterable[int], skip: Skip) -> list[np.ndarray]:
    """Those pictures that can be used."""
    found = []
    for index in indices:
        try:
            found.append(pictures[index])
        except (ImageError, InputError) as error:
            skip(str(error))
    return found


class Skipped:
    """Says which pictures are unusable, each once: the first ten to the user, all in a file."""

    def __init__(self, say: Skip, path: Path | None = None) -> None:
        self.say, self.path, self.seen = say, path, set[str]()

    def __call__(self, why: str) -> None:
        if why in self.seen:
            return
        if self.path:
            with self.path.open("a" if self.seen else "w", encoding="utf-8") as file:
                file.write(json.dumps({"skipped": why}) + "\n")
        self.seen.add(why)
        if len(self.seen) <= NAMED:
            self.say(f"{why}; skipped")
        elif len(self.seen) == NAMED + 1:
            self.say("more pictures are skipped" + (f", see {self.path}" if self.path else ""))


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


def load_labelled(path: Path, whole: bool = False) -> tuple[Labelled, Labelled]:
    """As ``load_arrays``, with labels where there are any: 'y_train' and 'y_test', or 'y'.

    They are integers (n,). ``whole``: all of 'x' is held out. Raises InputError.
    """
    return _load(path, ("x_train", "x_test", "x", "y_train", "y_test", "y"), whole)


def _load(path: Path, names: Sequence[str], whole: bool = False) -> tuple[Labelled, Labelled]:
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
    held_out = np.array([whole or is_held_out(row.tobytes()) for row in arrays["x"]], bool)
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


def at_most(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture that is larger than ``side``."""
    top, left = (max(0, length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle (side, side, 3) of a picture, edge-padded where it is smaller."""
    return at_most(at_least(pixels, side), side)
