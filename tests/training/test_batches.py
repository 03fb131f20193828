"""Crops and batches: functions of the seed and the step, whoever makes them."""

import multiprocessing

import numpy as np
import pytest
import torch

from vqcodec.errors import ImageError, InputError, VqcodecError
from vqcodec.training.batches import Batches, Crops


def photo(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# --- crops ----------------------------------------------------------------------------------------


def test_crops_are_the_same_for_a_seed_and_a_purpose() -> None:
    pictures = [photo(90, 80, i) for i in range(5)]
    first, again = (Crops(pictures, 1).some(8, 64, "a") for _ in range(2))
    assert first.shape == (8, 3, 64, 64) and first.dtype == torch.uint8
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, again)
    assert not torch.equal(first, Crops(pictures, 2).some(8, 64, "a"))
    assert not torch.equal(first, Crops(pictures, 1).some(8, 64, "b"))
    assert torch.equal(first[:3], Crops(pictures, 1).some(3, 64, "a"))


def test_crops_are_parts_of_the_pictures_or_of_their_mirror_images() -> None:
    pixels = np.arange(10 * 12 * 3, dtype=np.uint16).reshape(10, 12, 3).astype(np.uint8)
    parts = [
        {
            view[top : top + 8, left : left + 8].tobytes()
            for top in range(3)
            for left in range(5)
        }
        for view in (pixels, pixels[:, ::-1])
    ]  # fmt: skip
    for flip, possible in ((True, parts[0] | parts[1]), (False, parts[0])):
        crops = Crops([pixels], flip=flip).take("all", range(400), 8)
        assert {crop.tobytes() for crop in crops} == possible


def test_pictures_are_drawn_alike_often() -> None:
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in range(10)]
    drawn = Crops(pictures).take("all", range(5000), 8)[:, 0, 0, 0]
    assert np.abs(np.bincount(drawn, minlength=10) - 500).max() < 100


def test_small_pictures_are_padded_with_their_edge() -> None:
    batch = Crops([photo(6, 70, 0)]).some(4, 64, "a")
    assert torch.equal(batch[:, :, :29], batch[:, :, 29:30].expand(-1, -1, 29, -1))
    assert torch.equal(batch[:, :, 35:], batch[:, :, 34:35].expand(-1, -1, 29, -1))


def test_a_share_of_the_crops_is_of_another_scale() -> None:
    pixels = photo(120, 130, 0)
    crops = Crops([pixels], resized=0.5)
    drawn = [crops.draw(crops.name("a", position), 64) for position in range(400)]
    sides = np.array([one.side for one in drawn])
    assert abs((sides == 64).mean() - 0.5) < 0.1
    assert sides.min() == round(64 / 2**0.8) and sides.max() == round(64 * 2**0.6)
    assert abs((sides < 64).mean() - 0.5 * 0.8 / 1.4) < 0.1
    plain = Crops([pixels]).take("a", range(400), 64)
    for one, crop, other in zip(drawn, crops.take("a", range(400), 64), plain, strict=True):
        part = pixels[one.top : one.top + one.side, one.left : one.left + one.side]
        assert part.shape == (one.side, one.side, 3)
        if one.side == 64:
            assert np.array_equal(crop, other)
        else:
            assert abs(crop.mean() - part.mean()) < 3  # noise keeps its mean, not its variance


def test_whole_pictures_are_from_all_over_and_not_too_large() -> None:
    pictures = [photo(20 + i, 20, i) for i in range(20)]
    chosen = Crops(pictures).whole(5, 26)
    assert [x.shape[:2] for x in chosen] == [(20, 20), (24, 20), (26, 20), (26, 20), (26, 20)]
    assert np.array_equal(chosen[4], pictures[16][5:31])
    named: list[str] = []
    assert len(Crops(Broken(0, 6), report=named.append).whole(10, 26)) == 2
    assert len(named) == 4


# --- batches --------------------------------------------------------------------------------------


def shape(step: int) -> tuple[int, int]:
    return (6, 16) if step < 4 else (5, 24)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_batch_depends_on_its_step_alone(workers: int, world: int) -> None:
    pictures = [photo(30 + i, 40 - i, i) for i in range(9)]
    expected = [Crops(pictures, 7).some(*shape(step), f"step {step}") for step in range(8)]
    state = torch.get_rng_state()
    for order in (range(8), (5, 6, 2, 3, 3, 4, 0)):
        ranks = [Batches(Crops(pictures, 7), shape, workers, rank, world) for rank in range(world)]
        for step in order:
            batch = torch.cat([batches.batch(step) for batches in ranks])
            assert torch.equal(batch, expected[step])
        for batches in ranks:
            batches.close()
    assert torch.equal(torch.get_rng_state(), state)


class Broken:
    """Pictures of which only each third can be decoded."""

    def __init__(self, first: int, end: int) -> None:
        self.numbers = range(first, end)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> np.ndarray:
        if self.numbers[index] % 3:
            raise ImageError(f"{index}: broken")
        return photo(20, 20, self.numbers[index])


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_pictures_are_replaced_and_reported_once(workers: int) -> None:
    named: list[str] = []
    crops = Crops(Broken(0, 30), report=named.append)
    batches = Batches(crops, lambda step: (8, 16), workers)
    drawn = torch.stack([batches.batch(step) for step in range(20)])
    batches.close()
    assert sorted(named) == sorted(f"{i}: broken" for i in range(30) if i % 3)
    again = Batches(Crops(Broken(0, 30)), lambda step: (8, 16))
    for step in reversed(range(20)):
        assert torch.equal(again.batch(step), drawn[step])


@pytest.mark.parametrize("workers", [0, 2])
def test_without_usable_pictures_the_user_reads_one_line(workers: int) -> None:
    for pictures, why in ((Broken(1, 3), ": broken"), (Broken(1, 1), "there are no pictures")):
        batches = Batches(Crops(pictures), lambda step: (8, 16), workers)
        with pytest.raises(InputError, match=f"^hardly any picture is usable: .*{why}$"):
            batches.batch(0)
        batches.close()


def test_workers_end_with_their_batches() -> None:
    batches = Batches(Crops([photo(20, 20, 0)]), lambda step: (8, 16), 2)
    batches.batch(0)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    batches.close()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.slow
def test_a_killed_worker_is_an_error_of_one_line() -> None:
    batches = Batches(Crops([photo(20, 20, 0)]), lambda step: (8, 16), 2)
    batches.batch(0)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    with pytest.raises(VqcodecError, match=r"^reading pictures failed: ") as caught:
        for step in range(1, 100):
            batches.batch(step)
    assert "\n" not in str(caught.value)
    batches.close()
