"""The training loop, top to bottom: model, optimizer, schedule, step, evaluate, checkpoint.

All that is random in a step is drawn from its number: batches (see ``batches``), and noise, which
is another on each rank. So a checkpoint needs no state of generators, and a run that goes on from
one is the run that was never stopped.
"""

import io
import itertools
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vqcodec import distributed, zoo
from vqcodec.errors import InputError, OutputError, reason
from vqcodec.settings import Settings
from vqcodec.training import optimizers
from vqcodec.training.batches import Batches, Crops
from vqcodec.training.interrupts import Interrupts
from vqcodec.training.journal import Journal

CHECKPOINT = "last.pt"
READ_EVERY = 10  # steps: to read a loss more often would make a GPU wait
LOG_EVERY = 100
NORMS = 200  # of past gradients, whose median is the usual one
AMP = ("off", "bf16")
TIME_IS_UP = 1  # beside the numbers of signals that end a training


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
        device: str = "cpu",
    ) -> None:
        """Raises InputError where the settings do not fit the system or the processes."""
        self.config, self.crops, self.folder = config, crops, folder
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)  # of the initial weights, which nn.Module draws
        self.task = make(crops)
        self.model = self.task.model
        if config.start:
            trained = zoo.load(zoo.find(config.start), "cpu").system.model
            transplant(trained.state_dict(), self.model)
        self.model.to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            compile_parts(self.model)
        self.stages = self.task.stages()
        self.stage_steps = config.stage_steps or (config.steps,) * len(self.stages)
        if len(self.stage_steps) != len(self.stages):
            raise InputError(
                f"stage_steps names {len(self.stage_steps)} stages; there are {len(self.stages)}"
            )
        self.steps = sum(self.stage_steps)
        self.trainable = {id(p) for p in self.model.parameters() if p.requires_grad}
        self.step, self.seconds = 0, 0.0
        parts = distributed.size() * config.accumulate
        for count, _ in (self.batch_shape(0), self.batch_shape(self.steps - 1)):
            if count % parts:
                raise InputError(f"a batch of {count} cannot be cut into {parts} parts")
        rank, world = distributed.rank(), distributed.size()
        self.batches = Batches(crops, self.batch_shape, config.workers, rank, world)
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Start afresh what belongs to a stage: its optimizer, its averages."""
        self.stage = stage
        self.norms = torch.full((NORMS,), math.inf, device=self.device)
        self.ema = {k: v.clone() for k, v in self.model.state_dict().items()}
        chosen = {id(p) for group in self.stages[stage] for p in group["params"]}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen & self.trainable)
            parameter.grad = None  # a finished stage's would count in the norm
        self.optimizer = optimizers.make(
            self.config.optimizer, self.model, self.stages[stage], self.config.weight_decay
        )

    def _begin(self, stage: int) -> None:
        """Let the task see pictures before a stage, alike on all ranks."""
        self.task.begin(stage, self.crops, self._seeded(f"stage {stage}"))
        for value in self.model.state_dict().values():
            distributed.shared(value)
        self._enter(stage)

    def _stage_at(self, step: int) -> tuple[int, int]:
        """The stage of a step, and which step of that stage it is."""
        for stage, steps in enumerate(self.stage_steps):
            if step < steps:
                return stage, step
            step -= steps
        raise ValueError("after the last step")

    def _seeded(self, purpose: str) -> torch.Generator:
        """The generator, as it always is for a purpose."""
        digest = blake2b(f"{self.config.seed}/{purpose}".encode(), digest_size=8).digest()
        return self.generator.manual_seed(int.from_bytes(digest, "little"))

    def advance(self) -> dict[str, Tensor]:
        """One optimizer step. Returns means of the parts of the loss, 'norm' and 'skipped', ().

        They are on the device, and nothing here waits for it.
        """
        config = self.config
        stage, step = self._stage_at(self.step)
        if step == 0:
            if stage:  # what a finished stage leaves to the next is its averages
                self.model.load_state_dict(self.ema)
            self._begin(stage)
        steps = self.stage_steps[stage]
        lr = learning_rate(config, step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        generator = self._seeded(f"step {self.step} of rank {distributed.rank()}")
        x = self.batches.batch(self.step).to(self.device, non_blocking=True).float()
        self.optimizer.zero_grad(set_to_none=True)
        found = []
        for part in x.chunk(config.accumulate):
            out = self.task.objective(part, step / steps, generator)
            (out["loss"] / config.accumulate).backward()
            found.append({name: value.detach().float().mean() for name, value in out.items()})
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        distributed.average(gradients)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        skipped = self._unusual(norm)
        self._update(skipped, (step + 1) / steps, generator)
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            _average(self.ema, self.model.state_dict(), decay)
        self.step += 1
        means = {name: torch.stack([out[name] for out in found]).mean() for name in found[0]}
        return means | {"norm": norm, "skipped": skipped.float()}

    def _unusual(self, norm: Tensor) -> Tensor:
        """Whether to skip a step with this norm of the gradient, () bool.

        A rare batch has a gradient a thousand times the usual one; even clipped it only harms.
        """
        known, count = self.norms.sort().values, self.norms.isfinite().sum()
        middle = known.gather(0, (count[None] - 1).clamp_min(0) // 2)[0]
        usual = torch.where(count < 20, math.inf, middle)
        self.norms = torch.cat((self.norms[1:], norm.nan_to_num(math.inf, math.inf)[None]))
        return ~(norm <= self.config.skip * usual) | ~norm.isfinite()

    def _update(self, skipped: Tensor, progress: float, generator: torch.Generator) -> None:
        """The optimizer's step and what the task does after it, unless it is skipped."""
        if self.device.type == "cpu":
            if not skipped:
                self.optimizer.step()
                self.task.after_step(progress, generator, self.optimizer)
            return
        # To ask whether would be to wait for the device. So the step is taken in any case, without
        # a gradient where it is to be skipped, and taken back there.
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        with torch.no_grad():
            before = [p.clone() for p in parameters]
            for p in parameters:
                assert p.grad is not None
                p.grad.masked_fill_(skipped, 0)
            self.optimizer.step()
            for p, old in zip(parameters, before, strict=True):
                p.copy_(torch.where(skipped, old, p))
        self.task.after_step(progress, generator, self.optimizer)

    def batch_shape(self, step: int) -> tuple[int, int]:
        """(crops, their side in pixels) of a step."""
        late = step >= self.steps - self.config.late_steps
        config = self.config
        return (config.late_batch, config.late_crop) if late else (config.batch, config.crop)

    def averaged(self) -> nn.Module:
        """The model with the moving average of the weights, which is what ships."""
        model = self.task.new_model().eval()
        model.load_state_dict(self.ema)
        return model.to(self.device)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all. Rank 0 alone does. Raises OutputError."""
        if distributed.rank():
            return
        state = {
            "model": self.model.state_dict(),
            "buffers": dict(self.model.named_buffers()),  # also those that do not ship
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
            "norms": self.norms,
            "stage": self.stage,
            "step": self.step,
            "seconds": self.seconds,
        }
        path, temporary = self.folder / CHECKPOINT, self.folder / "last.tmp"
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {reason(error)}") from error

    def resume(self) -> bool:
        """Continue from the checkpoint that rank 0 finds in its folder, if there is one.

        Raises InputError where it is damaged or not of these settings.
        """
        path = self.folder / CHECKPOINT
        data = path.read_bytes() if distributed.rank() == 0 and path.exists() else b""
        data = distributed.shared_bytes(data)
        if not data:
            return False
        try:
            state = torch.load(io.BytesIO(data), self.device, weights_only=True)
            self._begin(state["stage"])  # which the model may have to know
            self.model.load_state_dict(state["model"])
            for name, buffer in self.model.named_buffers():
                buffer.copy_(state["buffers"][name])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # of pickle, zip files, sizes...
            why = str(error).partition("\n")[0]
            raise InputError(f"{path}: not a checkpoint of this recipe: {why}") from error
        self.ema, self.norms = state["ema"], state["norms"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def _average(ema: dict[str, Tensor], own: dict[str, Tensor], decay: float) -> None:
    """Move the averages towards the model's tensors, in place; integers are copied."""
    floating = [k for k, v in ema.items() if v.is_floating_point()]
    torch._foreach_lerp_([ema[k] for k in floating], [own[k] for k in floating], 1 - decay)
    for name in ema.keys() - set(floating):
        ema[name].copy_(own[name])


def compile_parts(module: nn.Module) -> None:
    """Compile the largest parts of a module that have a forward pass without random numbers."""
    for part in module.children():
        code = getattr(type(part).forward, "__code__", None)
        if type(part).forward is nn.Module.forward or isinstance(part, nn.ModuleList):
            compile_parts(part)
        elif code is None or "generator" not in code.co_varnames:
            part.compile()


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

    def state(self, run: Run) -> State:
        values = self.means(5)
        first, last = self.marks[0], self.marks[-1]
        steps, crops = last[0] - first[0], last[1] - first[1]
        busy, waited = last[2] - first[2], last[3] - first[3]
        return State(
            step=run.step,
            steps=run.steps,
            stage=run.stage + 1,
            stages=len(run.stages),
            values=values,
            psnr_db=10 * math.log10(255**2 / max(values["mse"], 1e-9)),
            lr=run.optimizer.param_groups[0]["lr"],
            images_per_second=crops / busy,
            wait_share=waited / busy,
            seconds_left=(run.steps - run.step) * busy / steps,
        )


Measured = dict[str, dict[str, float]]  # by rate


def train(
    run: Run,
    held_out: Tensor,
    journal: Journal | None,
    show: Callable[[State], None] = lambda state: None,
    note: Callable[[str], None] = lambda text: None,
    with_files: Callable[[nn.Module], Measured] | None = None,
    until: float = math.inf,
) -> bool:
    """Run to the last step: True, or until ``time.monotonic()`` says ``until``: False.

    held_out (n, 3, h, w) 0..255: to evaluate on
    journal: of rank 0; the others have None
    show, note: get the state now and then, and lines about what was measured
    with_files: measures the codec of a model

    A checkpoint is written now and then, at the end, and before SIGINT is obeyed by a
    KeyboardInterrupt and SIGTERM by a SystemExit.
    """
    config, meter = run.config, Meter()
    saved = clock = time.monotonic()
    ends = set(itertools.accumulate(run.stage_steps[:-1]))  # of stages, but the last
    stop = 0

    def evaluate(files: bool) -> None:
        assert journal
        model = run.averaged()
        found = run.task.evaluate(model, held_out)
        journal.write(run.step, run.seconds, held_out=found)
        note(f"held out at step {run.step}: {_told(found)}")
        if journal.board:
            pictures, codes = run.task.look(model, held_out[:8])
            journal.show(run.step, {"original": held_out[:8]} | pictures, codes)
        if files and with_files:
            found = with_files(model)
            journal.write(run.step, run.seconds, files=found)
            note(f"files at step {run.step}: {_told(found)}")

    if journal:
        journal.write(run.step, run.seconds, config=config.all_values(), model=run.task.sizes())
    try:
        with Interrupts() as interrupts:
            while run.step < run.steps and not stop:
                stage, (crops, _) = run.stage, run.batch_shape(run.step)
                started, waited = time.monotonic(), run.batches.wait_seconds
                meter.add(run.advance(), crops, started, run.batches.wait_seconds - waited)
                if run.stage != stage:
                    meter.clear()
                if run.step % READ_EVERY == 0:
                    meter.read()
                    state = meter.state(run)
                    show(state)
                    if journal and run.step % LOG_EVERY == 0:
                        means = {k: round(v, 4) for k, v in meter.means(len(meter.rows)).items()}
                        speed = round(state.images_per_second, 1)
                        wait = round(state.wait_share, 3)
                        journal.write(
                            run.step, run.seconds, stage=run.stage, lr=state.lr,
                            images_per_second=speed, wait_share=wait, **means,
                        )  # fmt: skip
                now = time.monotonic()
                run.seconds, clock = run.seconds + now - clock, now
                stop = _agreed(interrupts.number or (TIME_IS_UP if now > until else 0))
                last = run.step == run.steps
                if last or stop or now - saved > config.checkpoint_seconds:
                    run.save()
                    saved = now
                files = _due(run.step, config.evaluate_files_steps) and not last
                files |= run.step in ends
                if (
                    journal
                    and not stop
                    and (files or last or _due(run.step, config.evaluate_steps))
                ):
                    evaluate(files)
    finally:
        run.batches.close()
    if stop:
        note(f"stopped at step {run.step} of {run.steps}: {run.folder / CHECKPOINT}")
    if stop == signal.SIGINT:
        raise KeyboardInterrupt
    if stop == signal.SIGTERM:
        raise SystemExit(128 + stop)
    return not stop


def _agreed(stop: int) -> int:
    """Why to stop after this step, if any rank has a reason."""
    return int(distributed.largest(torch.tensor(stop))) if distributed.size() > 1 else stop


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _told(measured: Measured) -> str:
    units = {"bpp": "{:.3f} bpp", "psnr_db": "{:.2f} dB", "used": "{:.0f} codewords"}
    points = []
    for rate, values in measured.items():
        told = (form.format(values[name]) for name, form in units.items() if name in values)
        points.append(" ".join([rate, *told]))
    return ", ".join(points)
