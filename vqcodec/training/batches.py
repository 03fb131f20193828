"""Random crops of training pictures, made ahead of the training by worker processes.

A batch is a function of the seed and the step alone. So nothing of the data is in a checkpoint,
any worker can make any batch, and the ranks of a parallel training share what one process has.
"""

import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from mmap import mmap
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vqcodec.errors import ImageError, InputError, VqcodecError
from vqcodec.training import resize
from vqcodec.training.data import Pictures, Skip, at_least, at_most, spread, usable

ATTEMPTS = 100  # pictures drawn for one crop before the data is given up
MOST_WORKERS = 8
PREFETCHED = 2  # batches, by each worker
MASK = 2**32 - 1
Shape = Callable[[int], tuple[int, int]]  # step -> (crops of all ranks, their side in pixels)
Skips = dict[int, str]  # index of a picture -> why it is unusable


class Drawn(NamedTuple):
    """Where a crop is, in a picture that is padded where it is smaller."""

    picture: int  # which
    pixels: np.ndarray  # (h, w, 3) uint8, padded
    top: int
    left: int
    side: int  # of what is cut there, and resized where a crop has another
    flip: bool


class Crops:
    """Random square crops, flipped left to right half of the time. Small pictures are padded.

    ``resized`` is the share of those of another scale, see ``resize``. Unusable pictures are
    replaced by others; ``report`` gets a line about each.
    """

    def __init__(
        self,
        pictures: Pictures,
        seed: int = 1,
        flip: bool = True,
        report: Skip = lambda why: None,
        resized: float = 0.0,
    ) -> None:
        self.pictures, self.seed, self.flip, self.report = pictures, seed, flip, report
        self.resized = resized
        self.skipped: Skips = {}

    def some(self, count: int, side: int, purpose: str) -> Tensor:
        """(count, 3, side, side) uint8, channels last; always the same for a purpose.

        Raises InputError where hardly any picture is usable.
        """
        return _tensor(self.take(purpose, range(count), side))

    def take(self, purpose: str, positions: range, side: int) -> np.ndarray:
        """Those at ``positions`` of all that ``purpose`` has: (n, side, side, 3) uint8."""
        crops = np.empty((len(positions), side, side, 3), np.uint8)
        for crop, position in zip(crops, positions, strict=True):
            _, pixels, top, left, cut, flip = self.draw(self.name(purpose, position), side)
            drawn = pixels[top : top + cut, left : left + cut]
            if cut != side:
                drawn = resize.resized(drawn, side)
            if flip:
                for channel in range(3):  # all at once numpy takes ten times as long
                    crop[..., channel] = drawn[:, ::-1, channel]
            else:
                crop[:] = drawn
        return crops

    def whole(self, count: int, side: int) -> list[np.ndarray]:
        """At most ``count`` usable pictures from all over; the middles of those above ``side``."""
        chosen = usable(self.pictures, spread(len(self.pictures), count), self.report)
        return [at_most(pixels, side) for pixels in chosen]

    def skip(self, index: int, why: str) -> None:
        """Do without a picture from now on."""
        if index not in self.skipped:
            self.skipped[index] = why
            self.report(why)

    def draw(self, name: str, side: int) -> "Drawn":
        """Where the crop of a name is. Raises InputError where hardly any picture is usable."""
        why = "there are no pictures"
        for attempt in range(ATTEMPTS if len(self.pictures) else 0):
            # A hash, since what a numpy.random.Generator draws may change with numpy's version.
            digest = blake2b(f"{name}/{attempt}".encode(), digest_size=32).digest()
            picture, top, left, flip = np.frombuffer(digest, "<u8").tolist()
            index = _below(len(self.pictures), picture)
            try:
                if index in self.skipped:
                    continue
                pixels = at_least(self.pictures[index], side)
            except (ImageError, InputError) as error:
                why = str(error)
                self.skip(index, why)
                continue
            # The bits of ``flip`` that flipping has no use for say the scale.
            cut = resize.side_before(side, self.resized, (flip & MASK) / (MASK + 1))
            cut = min(cut, *pixels.shape[:2])
            top = _below(pixels.shape[0] - cut + 1, top)
            left = _below(pixels.shape[1] - cut + 1, left)
            return Drawn(index, pixels, top, left, cut, self.flip and _below(2, flip) == 1)
        raise InputError(f"hardly any picture is usable: {why}")

    def name(self, purpose: str, position: int) -> str:
        """Of a crop, from which it is drawn."""
        return f"{self.seed}/{purpose}/{position}"


def part_of(shape: tuple[int, int], rank: int, world: int) -> tuple[range, int]:
    """Which crops of a batch (crops, their side) are a rank's, and their side."""
    count, side = shape
    first, end = (count * one // world for one in (rank, rank + 1))
    return range(first, end), side


def _below(n: int, random: int) -> int:
    """0..n-1 from 64 random bits."""
    return n * random >> 64


def _tensor(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


class Batches:
    """The batch of each step, of which rank ``rank`` of ``world`` has a part of its own.

    Pictures are decoded and cropped by ``workers`` processes (-1: one per core, at most 8) while
    the training computes; without any, when a batch is asked for. Processes are forked, so that
    they share the memory of decoded pictures: where that is not safe (elsewhere than on Linux)
    there are none. ``wait_seconds`` is how long the training has waited in all.
    """

    def __init__(
        self, crops: Crops, shape: Shape, workers: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.crops, self.shape, self.rank, self.world = crops, shape, rank, world
        self.workers = 0
        if sys.platform == "linux":
            cores = len(os.sched_getaffinity(0))
            self.workers = workers if workers >= 0 else min(cores, MOST_WORKERS)
        self.wait_seconds = 0.0
        self._next = -1  # the step that the workers' next batch is for
        self._slots = np.empty(0, np.uint8)
        self._filled: Iterator[Skips | VqcodecError] = iter(())

    def batch(self, step: int) -> Tensor:
        """(n, 3, side, side) uint8, channels last, in pinned memory where there is CUDA.

        Steps in their order are ready when they are asked for. Raises InputError where hardly any
        picture is usable, VqcodecError where a worker has been killed.
        """
        start = time.monotonic()
        x = _tensor(self._from_workers(step) if self.workers else self._made(step))
        x = x.pin_memory() if torch.cuda.is_available() else x.clone()
        self.wait_seconds += time.monotonic() - start
        return x

    def close(self) -> None:
        """End the workers."""
        self._next, self._filled = -1, iter(())  # DataLoader ends them with its iterator

    def _part(self, step: int) -> tuple[range, int]:
        return part_of(self.shape(step), self.rank, self.world)

    def _made(self, step: int) -> np.ndarray:
        return self.crops.take(f"step {step}", *self._part(step))

    def _from_workers(self, step: int) -> np.ndarray:
        """A batch (n, side, side, 3), which lies there until the next one is asked for."""
        if step != self._next or self.shape(step) != self.shape(step - 1):
            self._begin(step)
        self._next = -1  # in case of an interrupt
        try:
            skips = next(self._filled)
        except RuntimeError as error:  # of DataLoader, where a worker has been killed
            why = str(error).partition("\n")[0]
            raise VqcodecError(f"reading pictures failed: {why}") from error
        if isinstance(skips, VqcodecError):
            raise skips
        for index, why in skips.items():
            self.crops.skip(index, why)
        self._next = step + 1
        return self._slots[step % len(self._slots)]

    def _begin(self, step: int) -> None:
        """Let workers make the batches from a step on, as long as these have one shape."""
        self.close()
        part = positions, side = self._part(step)
        # One for each batch that workers may have in hand, and one for the training. DataLoader's
        # own way is /dev/shm, of which containers have little.
        shape = (PREFETCHED * self.workers + 1, len(positions), side, side, 3)
        self._slots = np.frombuffer(mmap(-1, math.prod(shape)), np.uint8).reshape(shape)
        loader = DataLoader(
            _Steps(self.crops, self._made, self._slots),
            batch_size=None,
            sampler=itertools.takewhile(lambda s: self._part(s) == part, itertools.count(step)),
            num_workers=self.workers,
            prefetch_factor=PREFETCHED,
            multiprocessing_context="fork",
            worker_init_fn=_hush,
            generator=torch.Generator(),  # or it would draw from the global one
        )
        self._filled = iter(loader)


class _Steps(Dataset[Skips | VqcodecError]):
    """What a worker does for a step: fill its slot and say which pictures it has found unusable.

    Errors are returned, since DataLoader would embellish them.
    """

    def __init__(self, crops: Crops, make: Callable[[int], np.ndarray], slots: np.ndarray) -> None:
        self.crops, self.make, self.slots = crops, make, slots

    def __getitem__(self, step: int) -> Skips | VqcodecError:
        known = len(self.crops.skipped)
        try:
            self.slots[step % len(self.slots)] = self.make(step)
        except VqcodecError as error:
            return error
        return dict(itertools.islice(self.crops.skipped.items(), known, None))


def _hush(worker: int) -> None:
    """What a worker finds is reported by the training's process."""
    cast(Any, get_worker_info()).dataset.crops.report = lambda why: None
