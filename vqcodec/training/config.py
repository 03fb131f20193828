"""What a recipe sets for training. Does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqcodec.settings import Settings
from vqcodec.training.data import centre, scaled

AMP = ("off", "bf16")
OPTIMIZERS = ("adamw", "soap", "muon")  # see ``optimizers``


@dataclass(frozen=True)
class TrainConfig(Settings):
    """What a recipe sets for any system. Steps are optimizer steps."""

    start: str = ""  # a codec, by id or folder, whose weights to start from; "" for none
    steps: int = 18000  # of each stage; most systems have one
    stage_steps: tuple[int, ...] = ()  # where the stages differ
    warmup_steps: int = 200  # of each stage
    decay_steps: int = 7000  # the last steps of a stage, on a cosine from lr to lr * lr_end
    lr: float = 1e-3
    lr_end: float = 0.02
    optimizer: str = "adamw"  # or soap, muon
    weight_decay: float = 0.0
    scales: tuple[int, ...] = (0,)  # short sides, in pixels, to which pictures are made; 0: none
    batch: int = 8  # crops of a step, of all processes
    accumulate: int = 1  # parts in which a batch goes through the network, to save memory
    amp: str = "off"  # bf16: networks in bfloat16 where that is safe
    compile: bool = False  # networks by torch.compile: worth its minutes in long runs
    crop: int = 128  # pixels
    late_batch: int = 4
    late_crop: int = 192
    late_steps: int = 5000  # the last steps use the late crops
    clip: float = 0.5  # of the gradient's norm
    skip: float = 4.0  # skip a step whose gradient norm is over this many running medians
    ema: float = 0.999
    seed: int = 1
    checkpoint_seconds: float = 180.0
    evaluate_steps: int = 1000
    evaluate_files_steps: int = 0  # the same with real files; 0: at the end of stages alone
    flip: bool = True  # left to right, half of the time
    resized: float = 0.0  # share of the crops that are resized, by 0.66 to 1.74
    held_out: int = 40  # pictures to measure on, at most
    workers: int = -1  # processes that make batches; -1: one per core, at most 8
    fitting: int = 40  # pictures, or squares, whose codes make the tables of the priors

    def check(self) -> None:
        """Raises ValueError for values that nothing can be done with."""
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("amp", self.amp, AMP),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is none of {', '.join(known)}")
        for name in ("batch", "crop", "accumulate", "evaluate_steps", "late_batch", "late_crop"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")
        if not 0 <= self.resized <= 1:
            raise ValueError("resized is not from 0 to 1")

    def smallest(self) -> int:
        """The short side that pictures need, in pixels."""
        return max(self.crop, self.late_crop if self.late_steps else 0)


@dataclass(frozen=True)
class LadderTraining(TrainConfig):
    """What a recipe sets for a ladder."""

    linear_lr: float = 0.02  # factor for the linear transforms
    rdo: float = 0.08  # squared steps that a bit is worth in the choice of codes
    bits_low: float = 4.9
    bits_high: float = 10.1
    bits_often_low: float = 5.5
    bits_often_high: float = 9.0
    often: float = 0.75  # of the samples lie in the narrower interval
    step_lr: float = 2.0  # factor for the channels' step weights
    evaluate_files_steps: int = 5000

    def check(self) -> None:
        """See ``TrainConfig``. amp = "bf16" is for the residual networks: the prior is too fine."""
        super().check()
        if self.crop % 64 or self.late_crop % 64:
            raise ValueError("crops are multiples of 64 pixels")


@dataclass(frozen=True)
class SystemTraining(TrainConfig):
    """What a recipe sets for a system of the papers. Crops have the side of its squares."""

    steps: int = 2000
    warmup_steps: int = 100
    decay_steps: int = 1000
    lr_end: float = 0.05
    batch: int = 64
    late_steps: int = 0
    clip: float = 1.0
    evaluate_steps: int = 500
    held_out: int = 256
    fitting: int = 8192
    table_bytes: int = 1 << 19  # of the tables and maps of a level's prior, at most

    def smallest(self) -> int:
        return 1  # smaller pictures are padded

    def squares(self, originals: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The middles of pictures at the first scale, to measure on."""
        return [centre(scaled(x, self.scales[0]), self.crop) for x in originals]
