"""What the systems of the papers bring to training: squares of pictures, and export to a codec."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcodec import autoencoders
from vqcodec.autoencoders.grid_codec import GridCodec, prior_tensors, to_input
from vqcodec.autoencoders.system import Config, System
from vqcodec.fixedpoint import stored_weights
from vqcodec.metrics import psnr
from vqcodec.priors import embedding, grid_fit
from vqcodec.priors.grid import GridPrior, LevelPrior, uniform
from vqcodec.rangecoder import RangeEncoder
from vqcodec.training.batches import Crops
from vqcodec.training.config import SystemTraining
from vqcodec.training.export import pack_weights

BEGINNING = 1024  # squares that a system sees before a stage
PART = 256  # of the squares that a stage keeps, at once


class SystemTask:
    """A system in training: see ``task.Task``."""

    model: System

    def __init__(self, config: SystemTraining, name: str, shape: Config) -> None:
        self.config, self.shape = config, shape
        self.kind = autoencoders.classes(name)[0]
        self.model = self.kind(shape)
        self.stage = 0
        self.crops: Crops | None = None  # of which the stage in training keeps some; then None

    def sizes(self) -> dict[str, Any]:
        return self.shape.to_dict()

    def rates(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        return ", ".join(self.model.rates), self.model.rates, self.model.trained(self.stage)

    def held_out_side(self) -> int:
        return self.shape.side

    def new_model(self) -> nn.Module:
        return self.kind(self.shape)

    def stages(self) -> list[list[dict[str, Any]]]:
        return [[{"params": stage, "factor": 1.0}] for stage in self.model.stages()]

    def begin(self, stage: int, crops: Crops, generator: torch.Generator) -> None:
        self.stage = stage
        x = crops.some(BEGINNING, self.shape.side, f"stage {stage}").to(generator.device)
        self.model.begin(stage, to_input(x, self.model), generator)
        self.crops = crops

    def _keep(self, crops: Crops, device: torch.device) -> None:
        """Not in ``begin``, where a run that is resumed does not yet have its weights."""
        count, side = self.model.kept(self.stage), self.shape.side
        if count:
            parts = [range(first, min(first + PART, count)) for first in range(0, count, PART)]
            drawn = (crops.take(f"kept in stage {self.stage}", part, side) for part in parts)
            squares = (torch.from_numpy(part).permute(0, 3, 1, 2).to(device) for part in drawn)
            self.model.keep(to_input(x, self.model) for x in squares)

    def objective(
        self, x: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        if self.crops is not None:
            crops, self.crops = self.crops, None
            self._keep(crops, x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.amp == "bf16"):
            out = self.model.loss(to_input(x, self.model), progress, generator)
        return out | {"mse": 255**2 * out["mse"]}

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        self.model.after_step(progress, generator, optimizer)

    def evaluate(self, model: nn.Module, held_out: Tensor) -> dict[str, dict[str, float]]:
        """PSNR of the mean squared error of all, and how many codewords are in use."""
        assert isinstance(model, System)
        squares = held_out.permute(0, 2, 3, 1).to(torch.uint8).numpy()
        codec, result = GridCodec(model, {}, _device(model)), {}
        for rate in model.trained(self.stage):
            index = model.rates.index(rate)
            codes = codec.codes(squares, index)
            error = codec.squares(codes, index).astype(np.float64) - grey(squares, model)
            decibels = psnr.db(max(float(np.square(error).mean()), 1e-9))
            used = sum(len(np.unique(column)) for c in codes for column in c.swapaxes(0, 1))
            result[rate] = {"psnr_db": round(decibels, 4), "used": used}
        return result

    def look(
        self, model: nn.Module, held_out: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pictures at all rates that have been trained, and the codes of their levels."""
        assert isinstance(model, System)
        squares = held_out.permute(0, 2, 3, 1).to(torch.uint8).numpy()
        codec = GridCodec(model, {}, _device(model))
        pictures, found = {}, {}
        for rate in model.trained(self.stage):
            index = model.rates.index(rate)
            codes = codec.codes(squares, index)
            pixels = torch.from_numpy(codec.squares(codes, index))
            pictures[rate] = pixels.permute(0, 3, 1, 2).float()
            for level, grid in zip(model.levels(rate), codes, strict=True):
                found[level.name] = torch.from_numpy(grid)
        return pictures, found

    def fitting_steps(self, fitting: int) -> int:
        return len(self.model.rates)

    def export(
        self,
        model: nn.Module,
        crops: Crops,
        fitting: int,
        advance: Callable[[], None],
    ) -> dict[str, Tensor]:
        assert isinstance(model, System)
        packed = pack_weights(model, model.exact)
        shipped = self.kind(self.shape)
        shipped.load_state_dict({name: stored_weights(value) for name, value in packed.items()})
        squares = crops.take("tables", range(fitting), self.shape.side)
        priors = fit_priors(shipped, squares, advance, max_bytes=self.config.table_bytes)
        tables = {k: torch.from_numpy(v.copy()) for k, v in prior_tensors(priors).items()}
        return packed | tables


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def grey(squares: np.ndarray, model: System) -> np.ndarray:
    """Squares (n, side, side, 3) as a system sees them."""
    if model.config.channels == 3:
        return squares
    return squares.mean(-1, keepdims=True).round().astype(np.uint8)


def fit_priors(
    model: System,
    squares: np.ndarray,
    advance: Callable[[], None] = lambda: None,
    *,
    max_bytes: int = SystemTraining.table_bytes,
) -> dict[str, LevelPrior]:
    """The prior of each level with the fewest bytes, from squares (n, side, side, 3) uint8.

    A system's own prior competes with those of the grid on an eighth of the squares that neither
    has seen. ``max_bytes`` bounds the tables of the grid's, for each level.
    """
    fit = partial(grid_fit.fit, max_bytes=max_bytes)
    codec = GridCodec(model, {}, torch.device("cpu"))
    priors: dict[str, LevelPrior] = {}
    for index in reversed(range(len(model.rates))):  # the most columns first
        levels = model.levels(model.rates[index])
        names = [level.name for level in levels]
        if not set(names) <= set(priors):
            codes = dict(zip(names, codec.codes(squares, index), strict=True))
            sizes = {level.name: level.sizes for level in levels}
            new = [name for name in names if name not in priors]
            network = model.network()
            if len(levels) == 1 and levels[0].grid == (1, 1) and len(levels[0].sizes) == 1:
                # A file of one square is what such a rate point is for: with 256 codewords, all
                # as likely, it has one byte; with any other prior often two.
                priors[names[0]] = GridPrior([uniform(levels[0].sizes[0])])
            elif network is None:
                priors |= {name: fit(name, codes, sizes) for name in new}
            else:
                seen = {name: grid[: -(len(squares) // 8)] for name, grid in codes.items()}
                fresh = {name: grid[-(len(squares) // 8) :] for name, grid in codes.items()}
                own = embedding.fit(network, seen)
                for name in new:
                    both: tuple[LevelPrior, ...] = (own[name], fit(name, seen, sizes))
                    priors[name] = min(both, key=partial(_n_bytes, level=name, codes=fresh))
        advance()
    return priors


def _n_bytes(prior: LevelPrior, level: str, codes: Mapping[str, np.ndarray]) -> int:
    coder = RangeEncoder()
    prior.encode(coder, codes[level], codes)
    return len(coder.finish())
