"""Pictures in a device's memory: the same crops as from the host's, without waiting."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_training import photo

from vqcodec.errors import ImageError
from vqcodec.training import resident
from vqcodec.training.batches import Batches, Crops
from vqcodec.training.resident import ResidentBatches

CPU = torch.device("cpu")
SIZES = [(90, 80), (40, 200), (33, 31), (64, 64)]  # some are smaller than a crop


class WithHoles:
    """Pictures of which one cannot be used."""

    def __init__(self, pictures: list[np.ndarray], hole: int) -> None:
        self.pictures, self.hole = pictures, hole

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> np.ndarray:
        if index == self.hole:
            raise ImageError("torn")
        return self.pictures[index]


@pytest.mark.parametrize("hole", [None, 2])
@pytest.mark.parametrize("part", [(0, 1), (1, 2)])
def test_the_crops_are_those_of_the_host(hole: int | None, part: tuple[int, int]) -> None:
    pictures = [photo(h, w, seed) for seed, (h, w) in enumerate(SIZES)]
    known = pictures if hole is None else WithHoles(pictures, hole)

    def shape(step: int) -> tuple[int, int]:
        return (6, 64) if step < 5 else (4, 96)

    host = Batches(Crops(known, seed=3), shape, 0, *part)
    here = ResidentBatches(Crops(known, seed=3), shape, CPU, *part)
    for step in (0, 1, 4, 5, 9):
        expected, found = host.batch(step), here.batch(step)
        assert found.dtype == torch.uint8 and found.shape == expected.shape
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [64, 33])
def test_resized_crops_are_those_of_the_host_to_within_a_step(side: int) -> None:
    pictures = [photo(h, w, seed) for seed, (h, w) in enumerate(SIZES)]
    host = Batches(Crops(pictures, seed=3, resized=0.7), lambda step: (9, side))
    here = ResidentBatches(Crops(pictures, seed=3, resized=0.7), lambda step: (9, side), CPU)
    for step in range(5):
        expected, found = host.batch(step), here.batch(step)
        assert found.shape == expected.shape and found.dtype == torch.uint8
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert (found.int() - expected.int()).abs().max() <= 1


def test_on_the_cpu_pictures_stay_where_they_are() -> None:
    assert not resident.fits([photo(9, 9, 0)], CPU)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("resized", [0.0, 0.7])
def test_on_cuda_no_batch_waits(resized: float) -> None:
    cuda = torch.device("cuda")
    pictures = [photo(h, w, seed) for seed, (h, w) in enumerate(SIZES)]
    assert resident.fits(pictures, cuda)
    shape: Callable[[int], tuple[int, int]] = lambda step: (8, 64)  # noqa: E731
    here = ResidentBatches(Crops(pictures, seed=3, resized=resized), shape, cuda)
    host = Batches(Crops(pictures, seed=3, resized=resized), shape)
    here.batch(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = here.batch(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (found.cpu().int() - host.batch(1).cpu().int()).abs().max() <= (1 if resized else 0)
