"""What a system brings to the training loop."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vqcodec.training.batches import Crops


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
