"""What a recipe sets for any system, and what a system brings to the training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vqcodec.settings import Settings
from vqcodec.training import optimizers
from vqcodec.training.batches import Crops

AMP = ("off", "bf16")


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
            ("optimizer", self.optimizer, optimizers.OPTIMIZERS),
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


class Task(Protocol):
    """A model and what its system has to say in training; ``config`` is the recipe's."""

    @property
    def model(self) -> nn.Module: ...

    def sizes(self) -> dict[str, Any]:
        """Of the model, for the log and the card."""

    def rates(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """For the card: in words, the names of all rate points if they have, those to measure."""

    def held_out_side(self) -> int:
        """Of the middles of held-out pictures that ``evaluate`` gets, in pixels."""

    def new_model(self) -> nn.Module:
        """Another model of the same sizes."""

    def stages(self) -> list[list[dict[str, Any]]]:
        """Of each stage the optimizer's groups: 'params', and 'factor' of the learning rate."""

    def begin(self, stage: int, crops: Crops, generator: torch.Generator) -> None:
        """Called before the first step of each stage."""

    def objective(
        self, x: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """x (B, 3, h, w) 0..255 -> 'loss', and parts of it for the log, of which 'mse' is one."""

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Called after each optimizer step."""

    def evaluate(self, model: nn.Module, held_out: Tensor) -> dict[str, dict[str, float]]:
        """held_out (n, 3, h, w) 0..255 -> by rate, what was measured, without files."""

    def look(
        self, model: nn.Module, held_out: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """held_out (n, 3, h, w) 0..255 -> reconstructions by rate, codes by level."""

    def fitting_steps(self, fitting: int) -> int:
        """How often ``export`` calls ``advance``."""

    def export(
        self,
        model: nn.Module,
        crops: Crops,
        fitting: int,
        advance: Callable[[], None],
    ) -> dict[str, Tensor]:
        """The tensors of the codec's weights file, with tables fitted to training pictures.

        fitting: how many pictures, or squares of them, are coded for that.
        """
