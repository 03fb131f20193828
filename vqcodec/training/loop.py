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
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from vqcodec import distributed, zoo
from vqcodec.errors import InputError, OutputError, VqcodecError, reason
from vqcodec.training import optimizers, resident
from vqcodec.training.batches import Batches, Crops
from vqcodec.training.config import TrainConfig
from vqcodec.training.interrupts import Interrupts
from vqcodec.training.journal import Journal
from vqcodec.training.ladder import weights_to_start_with
from vqcodec.training.meter import LOG_EVERY, READ_EVERY, Meter, State
from vqcodec.training.resident import ResidentBatches
from vqcodec.training.task import Task

CHECKPOINT = zoo.CHECKPOINT
NORMS = 200  # of past gradients, whose median is the usual one
TIME_IS_UP = 1  # beside the numbers of signals that end a training


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
            start = zoo.load(zoo.find(config.start), "cpu")
            transplant(weights_to_start_with(start), self.model)
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
        self.batches: Batches | ResidentBatches
        if resident.fits(crops.pictures, self.device):
            self.batches = ResidentBatches(crops, self.batch_shape, self.device, rank, world)
        else:
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
        except VqcodecError:
            raise
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
    # Posteriors of hundreds of codewords are full of denormal numbers, which take so much time that
    # a step of HQA gets nearly twice as long.
    torch.set_flush_denormal(True)
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
                    lr = run.optimizer.param_groups[0]["lr"]
                    state = meter.state(run.step, run.steps, run.stage + 1, len(run.stages), lr)
                    show(state)
                    if journal and (run.step % LOG_EVERY == 0 or run.step < LOG_EVERY):
                        means = {k: round(v, 4) for k, v in meter.means(len(meter.rows)).items()}
                        speed = round(state.images_per_second, 1)
                        wait = round(state.wait_share, 3)
                        stages = {"stage": run.stage} if len(run.stages) > 1 else {}
                        journal.write(
                            run.step, run.seconds, lr=lr, images_per_second=speed,
                            wait_share=wait, **means, **stages,
                        )  # fmt: skip
                now = time.monotonic()
                run.seconds, clock = run.seconds + now - clock, now
                stop = _agreed(interrupts.number or (TIME_IS_UP if now > until else 0))
                last = run.step == run.steps
                files = _due(run.step, config.evaluate_files_steps) and not last
                files |= run.step in ends
                due = files or last or _due(run.step, config.evaluate_steps)
                if journal and due and not stop:
                    evaluate(files)
                # After that: a run that is killed meanwhile evaluates again.
                if last or stop or now - saved > config.checkpoint_seconds:
                    run.save()
                    saved = now
    finally:
        torch.set_flush_denormal(False)
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
