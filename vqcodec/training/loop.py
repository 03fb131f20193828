"""The training loop, top to bottom: model, optimizer, schedule, evaluate, checkpoint."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vqcodec import zoo
from vqcodec.errors import InputError
from vqcodec.settings import Settings
from vqcodec.training.batches import Batches, Crops


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
    weight_decay: float = 0.0
    batch: int = 8
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
    flip: bool = True  # left to right, half of the time
    held_out: int = 40  # pictures to measure on, at most
    workers: int = -1  # processes that make batches; -1: one per core, at most 8
    fitting: int = 40  # pictures, or squares, whose codes make the tables of the priors


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
        """held_out (n, 3, h, w) 0..255 -> by rate, what was measured."""

    def fitting_steps(self, pictures: int) -> int:
        """How often ``export`` calls ``advance`` for so many pictures."""

    def export(
        self, model: nn.Module, pictures: Sequence[np.ndarray], advance: Callable[[], None]
    ) -> dict[str, Tensor]:
        """The tensors of the codec's weights file, with tables fitted to training pictures."""


@dataclass(frozen=True)
class Progress:
    """The state of a training run, for the display. Means over the last steps."""

    step: int
    steps: int
    stage: int
    stages: int
    values: dict[str, float]  # 'loss', and the parts of it
    psnr_db: float
    images_per_second: float


def learning_rate(config: TrainConfig, step: int, steps: int | None = None) -> float:
    """At a step of a stage that has ``steps`` of them."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    before = (config.steps if steps is None else steps) - config.decay_steps
    into = max(0.0, (step - before) / max(1, config.decay_steps))
    cosine = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, into)))
    return config.lr * warm * cosine


@torch.no_grad()
def transplant(trained: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Copy the weights that ``model`` has too; returns the names of those it does not have alike.

    A tensor may have grown. New outputs start as in a new model, the weights of new inputs at zero,
    so that what was trained still works.
    """
    fresh = []
    for name, value in model.state_dict().items():
        old = trained.get(name)
        if old is None or any(a > b for a, b in zip(old.shape, value.shape, strict=True)):
            fresh.append(name)
            continue
        if value.ndim > 1:
            value[:, old.shape[1] :] = 0
        value[tuple(slice(n) for n in old.shape)] = old
    return fresh


class Run:
    """A model in training, with all that resuming it exactly takes."""

    def __init__(
        self,
        config: TrainConfig,
        make: Callable[[Crops], Task],
        crops: Crops,
        folder: Path,
    ) -> None:
        self.config, self.crops, self.folder = config, crops, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)  # of the initial weights, which nn.Module draws
        self.task = make(crops)
        self.model = self.task.model
        if config.start:
            trained = zoo.load(zoo.find(config.start), "cpu").system.model
            transplant(trained.state_dict(), self.model)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stages = self.task.stages()
        self.stage_steps = config.stage_steps or (config.steps,) * len(self.stages)
        if len(self.stage_steps) != len(self.stages):
            raise InputError(
                f"stage_steps names {len(self.stage_steps)} stages; there are {len(self.stages)}"
            )
        self.steps = sum(self.stage_steps)
        self.trainable = {id(p) for p in self.model.parameters() if p.requires_grad}
        self.step, self.seconds = 0, 0.0
        self.batches = Batches(crops, self.batch_shape, config.workers)
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Start afresh what belongs to a stage: its optimizer, its averages."""
        self.stage, self.norms = stage, [math.inf]
        self.ema = {k: v.clone() for k, v in self.model.state_dict().items()}
        chosen = {id(p) for group in self.stages[stage] for p in group["params"]}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen & self.trainable)
            parameter.grad = None  # a finished stage's would count in the norm
        self.optimizer = torch.optim.AdamW(
            self.stages[stage], betas=(0.9, 0.99), weight_decay=self.config.weight_decay
        )

    def _stage_at(self, step: int) -> tuple[int, int]:
        """The stage of a step, and which step of that stage it is."""
        for stage, steps in enumerate(self.stage_steps):
            if step < steps:
                return stage, step
            step -= steps
        raise ValueError("after the last step")

    def resume(self) -> bool:
        """Continue from the folder's checkpoint, if there is one."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        stage = state.get("stage", 0)
        self.task.begin(stage, self.crops, self.generator)  # which the model may have to know
        self._enter(stage)
        self.model.load_state_dict(state["model"])
        for name, buffer in self.model.named_buffers():  # also those that do not ship
            if name in state.get("buffers", {}):
                buffer.copy_(state["buffers"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.ema, self.norms = state["ema"], state["norms"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "buffers": dict(self.model.named_buffers()),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "ema": self.ema,
            "norms": self.norms,
            "stage": self.stage,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.folder / "last.tmp")
        os.replace(self.folder / "last.tmp", self.folder / "last.pt")

    def averaged(self) -> nn.Module:
        """The model with the moving average of the weights, which is what ships."""
        model = self.task.new_model().eval()
        model.load_state_dict(self.ema)
        return model

    def advance(self) -> dict[str, Tensor]:
        """One optimizer step. Returns the parts of the loss, 'norm' and 'skipped' with them."""
        config = self.config
        stage, step = self._stage_at(self.step)
        if step == 0:
            if stage:  # what a finished stage leaves to the next is its averages
                self.model.load_state_dict(self.ema)
            self.task.begin(stage, self.crops, self.generator)
            self._enter(stage)
        steps = self.stage_steps[stage]
        lr = learning_rate(config, step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        x = self.batches.batch(self.step).float()
        out = self.task.objective(x, step / steps, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        out["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip).item()
        # A rare batch has a gradient a thousand times the usual one; even clipped it only harms.
        usual = median(self.norms) if len(self.norms) >= 20 else math.inf
        skipped = not norm <= config.skip * usual
        if math.isfinite(norm):
            self.norms = [n for n in self.norms[-199:] if math.isfinite(n)] + [norm]
        if not skipped:
            self.optimizer.step()
            self.task.after_step((step + 1) / steps, self.generator, self.optimizer)
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            own = self.model.state_dict()
            _average(self.ema, own, decay)
        self.step += 1
        return out | {"norm": torch.tensor(norm), "skipped": torch.tensor(float(skipped))}

    def batch_shape(self, step: int) -> tuple[int, int]:
        """(crops, their side in pixels) of a step."""
        late = step >= self.steps - self.config.late_steps
        config = self.config
        return (config.late_batch, config.late_crop) if late else (config.batch, config.crop)


def _average(ema: dict[str, Tensor], own: dict[str, Tensor], decay: float) -> None:
    """Move the averages towards the model's tensors, in place; integers are copied."""
    floating = [k for k, v in ema.items() if v.is_floating_point()]
    torch._foreach_lerp_([ema[k] for k in floating], [own[k] for k in floating], 1 - decay)
    for name in ema.keys() - set(floating):
        ema[name].copy_(own[name])


def train(run: Run, held_out: Tensor, display: Callable[[Progress], None]) -> nn.Module:
    """Run to the last step, with a log in ``log.jsonl``; returns the averaged model.

    An interrupt saves a checkpoint first.
    """
    config = run.config
    log = (run.folder / "log.jsonl").open("a", buffering=1, encoding="utf-8")

    def write(**values: object) -> None:
        log.write(json.dumps({"step": run.step, "seconds": round(run.seconds), **values}) + "\n")

    write(config=asdict(config), model=run.task.sizes())
    window: list[dict[str, float]] = []
    saved = clock = time.monotonic()

    def means(rows: list[dict[str, float]]) -> dict[str, float]:
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[-1]}

    try:
        while run.step < run.steps:
            count, _ = run.batch_shape(run.step)
            before = run.stage
            out = run.advance()
            now = time.monotonic()
            run.seconds, elapsed, clock = run.seconds + now - clock, now - clock, now
            if run.stage != before:
                window = []
            window.append({k: v.mean().item() for k, v in out.items()} | {"elapsed": elapsed})
            if run.step % 10 == 0:
                mean = means(window[-50:])
                speed = count / mean.pop("elapsed")
                psnr = 10 * math.log10(255**2 / max(mean["mse"], 1e-9))
                stages = len(run.stages)
                display(Progress(run.step, run.steps, run.stage + 1, stages, mean, psnr, speed))
            if run.step % 100 == 0:
                rounded = {key: round(value, 4) for key, value in means(window).items()}
                write(stage=run.stage, lr=run.optimizer.param_groups[0]["lr"], **rounded)
                window = []
            if run.step % config.evaluate_steps == 0 or run.step == run.steps:
                write(held_out=run.task.evaluate(run.averaged(), held_out))
            if now - saved > config.checkpoint_seconds or run.step == run.steps:
                run.save()
                saved = now
    except KeyboardInterrupt:
        run.save()
        raise
    finally:
        log.close()
    return run.averaged()
