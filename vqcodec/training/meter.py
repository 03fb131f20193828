"""How a training is doing: means of losses over the last steps, speed, time left."""

import time
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from vqcodec import distributed
from vqcodec.metrics import psnr

READ_EVERY = 10  # steps: to read a loss more often would make a GPU wait
LOG_EVERY = 100


@dataclass(frozen=True)
class State:
    """The state of a training run, for the display. Means over the last steps."""

    step: int
    steps: int
    stage: int
    stages: int
    values: dict[str, float]  # 'loss', and the parts of it
    psnr_db: float
    lr: float
    images_per_second: float
    wait_share: float  # of the time, for pictures
    seconds_left: float


class Meter:
    """Means over the last steps. Losses are read from the device every READ_EVERY steps."""

    def __init__(self) -> None:
        self.unread: list[Tensor] = []
        self.names: list[str] = []
        self.rows: deque[dict[str, float]] = deque(maxlen=LOG_EVERY // READ_EVERY)
        self.steps = self.crops = 0
        self.busy = self.waited = 0.0  # seconds in steps, and of these for pictures
        self.marks: deque[tuple[int, int, float, float]] = deque([(0, 0, 0.0, 0.0)], maxlen=6)

    def clear(self) -> None:
        """Forget the losses but the last: another stage has begun."""
        del self.unread[:-1]
        self.rows.clear()

    def add(self, out: dict[str, Tensor], crops: int, started: float, waited: float) -> None:
        """Count a step of so many crops."""
        self.unread.append(torch.stack(list(out.values())))
        self.names = list(out)
        self.busy += time.monotonic() - started
        self.waited += waited
        self.crops += crops
        self.steps += 1

    def read(self) -> None:
        """Wait for the device, and for the losses of the other ranks."""
        started = time.monotonic()
        means = distributed.mean(torch.stack(self.unread).mean(0)).tolist()
        self.unread.clear()
        self.rows.append(dict(zip(self.names, means, strict=True)))
        self.busy += time.monotonic() - started
        self.marks.append((self.steps, self.crops, self.busy, self.waited))

    def means(self, rows: int) -> dict[str, float]:
        """Over the last readings."""
        chosen = list(self.rows)[-rows:]
        return {name: sum(row[name] for row in chosen) / len(chosen) for name in chosen[-1]}

    def state(self, step: int, steps: int, stage: int, stages: int, lr: float) -> State:
        """Where the run is, said by the caller, and how it is doing. Stages are counted from 1."""
        values = self.means(5)
        first, last = self.marks[0], self.marks[-1]
        done, crops = last[0] - first[0], last[1] - first[1]
        busy, waited = last[2] - first[2], last[3] - first[3]
        return State(
            step=step,
            steps=steps,
            stage=stage,
            stages=stages,
            values=values,
            psnr_db=psnr.db(max(values["mse"], 1e-9)),
            lr=lr,
            images_per_second=crops / busy,
            wait_share=waited / busy,
            seconds_left=(steps - step) * busy / done,
        )
