"""Training pictures in the memory of a GPU, where crops are cut without the host's pixels.

The host draws only where the crops are: the same crops as ``batches.Batches`` makes, to within a
step where they are resized.
"""

import time

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import ImageError, InputError
from vqcodec.training.batches import Crops, Drawn, Shape, part_of
from vqcodec.training.data import Pictures
from vqcodec.training.resize import resized_on_device

SHARE = 0.4  # of the device's free memory that pictures may take


def fits(pictures: Pictures, device: torch.device) -> bool:
    """Whether decoded pictures can lie in a device's memory. Only on CUDA is that of use."""
    if device.type != "cuda" or not getattr(pictures, "in_memory", isinstance(pictures, list)):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(pixels.nbytes for _, pixels in _usable(pictures)) < SHARE * free


def _usable(pictures: Pictures) -> "list[tuple[int, np.ndarray]]":
    found = []
    for index in range(len(pictures)):
        try:
            found.append((index, pictures[index]))
        except (ImageError, InputError):  # a crop that is drawn there is drawn anew
            continue
    return found


class ResidentBatches:
    """The batch of each step, of which rank ``rank`` of ``world`` has a part: see ``Batches``."""

    def __init__(
        self, crops: Crops, shape: Shape, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        self.crops, self.shape, self.device = crops, shape, device
        self.rank, self.world = rank, world
        self.wait_seconds = 0.0
        known = _usable(crops.pictures)
        sizes = [pixels.shape[0] * pixels.shape[1] for _, pixels in known]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        self.pixels = torch.empty(int(starts[-1]), 3, dtype=torch.uint8, device=device)
        self.places: dict[int, tuple[int, int, int]] = {}  # start, height, width
        for start, (index, picture) in zip(starts[:-1].tolist(), known, strict=True):
            height, width = picture.shape[:2]
            flat = torch.from_numpy(np.ascontiguousarray(picture)).view(-1, 3)
            self.pixels[start : start + len(flat)] = flat.to(device)
            self.places[index] = start, height, width

    def batch(self, step: int) -> Tensor:
        """(n, 3, side, side) uint8 on the device, channels last. Nothing waits for the device."""
        begun = time.monotonic()
        positions, side = part_of(self.shape(step), self.rank, self.world)
        names = (self.crops.name(f"step {step}", position) for position in positions)
        drawn = [self.crops.draw(name, side) for name in names]
        rows = torch.tensor([self._place(one) for one in drawn])
        if self.device.type == "cuda":
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        start, height, width, top, left, cut, flip = rows.t()[:, :, None]
        cuts = [one.side for one in drawn]
        along = torch.arange(max(cuts), device=self.device)
        zero = torch.zeros_like(height)
        # Beyond the edge of a picture is its edge, as ``data.at_least`` pads.
        y = torch.minimum(torch.maximum(top + along, zero), height - 1)
        x = torch.where(flip == 1, cut - 1 - along, along)
        x = torch.minimum(torch.maximum(left + x, zero), width - 1)
        index = (start + y * width)[:, :, None] + x[:, None, :]
        crops = self.pixels.index_select(0, index.flatten()).view(len(rows), *index.shape[1:], 3)
        if any(one != side for one in cuts):
            crops = resized_on_device(crops, cuts, side)
        self.wait_seconds += time.monotonic() - begun
        return crops.permute(0, 3, 1, 2)

    def _place(self, drawn: Drawn) -> tuple[int, ...]:
        start, height, width = self.places[drawn.picture]
        above, before = ((n - m) // 2 for n, m in zip(drawn.pixels.shape, (height, width)))  # noqa: B905
        top, left = drawn.top - above, drawn.left - before
        return start, height, width, top, left, drawn.side, int(drawn.flip)

    def close(self) -> None:
        """Nothing is left running."""
