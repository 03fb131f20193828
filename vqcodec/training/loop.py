"""The training loop, top to bottom: model, optimizer, schedule, evaluate, checkpoint."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from vqcodec import zoo
from vqcodec.autoencoders.ladder import Ladder, LadderConfig
from vqcodec.training.data import Crops


@dataclass(frozen=True)
class TrainConfig:
    """What a recipe sets. Steps are optimizer steps."""

    start: str = ""  # a codec, by id or folder, whose weights to start from; "" for none
    steps: int = 18000
    warmup_steps: int = 200
    decay_steps: int = 7000  # the last steps, on a cosine from lr to lr * lr_end
    lr: float = 1e-3
    lr_end: float = 0.02
    linear_lr: float = 0.02  # factor for the linear transforms
    batch: int = 8
    crop: int = 128  # pixels, a multiple of 64
    late_batch: int = 4
    late_crop: int = 192
    late_steps: int = 5000  # the last steps use the late crops
    rdo: float = 0.08  # squared steps that a bit is worth in the choice of codes
    clip: float = 0.5  # of the gradient's norm
    skip: float = 4.0  # skip a step whose gradient norm is over this many running medians
    ema: float = 0.999
    bits_low: float = 4.9
    bits_high: float = 10.1
    bits_often_low: float = 5.5
    bits_often_high: float = 9.0
    often: float = 0.75  # of the samples lie in the narrower interval
    seed: int = 1
    bf16: bool = False  # residual networks in bfloat16: faster where the processor has it
    checkpoint_seconds: float = 180.0
    evaluate_steps: int = 1000


@dataclass(frozen=True)
class Progress:
    """The state of a training run, for the display. Means over the last steps."""

    step: int
    steps: int
    loss: float
    bpp: float
    psnr_db: float
    perplexity: float
    images_per_second: float


def learning_rate(config: TrainConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / config.warmup_steps)
    into = max(0.0, (step - (config.steps - config.decay_steps)) / max(1, config.decay_steps))
    cosine = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, into)))
    return config.lr * warm * cosine


def sample_bits(config: TrainConfig, count: int, generator: torch.Generator) -> Tensor:
    """Rate points (count,), float32."""
    u = torch.rand(count, generator=generator)
    wide = config.bits_low + u * (config.bits_high - config.bits_low)
    narrow = config.bits_often_low + u * (config.bits_often_high - config.bits_often_low)
    often = torch.rand(count, generator=generator) < config.often
    return torch.where(often, narrow, wide)


@torch.no_grad()
def evaluate(model: Ladder, crops: Tensor, rdo: float) -> dict[str, dict[str, float]]:
    """Held-out crops (n, 3, H, W) at whole bits: mean bpp and PSNR, estimated without files."""
    generator = torch.Generator().manual_seed(0)
    result = {}
    for bits in (6.0, 7.0, 8.0, 9.0):
        parts = [
            model.loss(part, torch.full((len(part),), bits), generator, rdo)
            for part in crops.split(8)
        ]
        mse, bpp, cost = (torch.cat([p[key] for p in parts]) for key in ("mse", "bpp", "rd"))
        psnr = (10 * torch.log10(255**2 / mse)).mean()
        values = {"psnr_db": psnr, "bpp": bpp.mean(), "rd": cost.mean()}
        result[f"{bits:g}bit"] = {key: round(value.item(), 4) for key, value in values.items()}
    return result


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
        self, config: TrainConfig, shape: LadderConfig, crops: Crops, folder: Path
    ) -> None:
        self.config, self.crops, self.folder = config, crops, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)  # of the initial weights, which nn.Module draws
        self.model = Ladder(shape)
        self.model.set_std(crops.batch(256, config.crop, self.generator))
        if config.start:
            trained = zoo.load(zoo.find(config.start), "cpu").system.model
            transplant(trained.state_dict(), self.model)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = {k: v.clone() for k, v in self.model.state_dict().items()}
        linear = [self.model.analysis.linear, self.model.synthesis.linear]
        rest = [p for p in self.model.parameters() if not any(p is q for q in linear)]
        self.optimizer = torch.optim.Adam(
            [{"params": rest, "factor": 1.0}, {"params": linear, "factor": config.linear_lr}],
            betas=(0.9, 0.99),
        )
        self.step, self.seconds, self.norms = 0, 0.0, [math.inf]

    def resume(self) -> bool:
        """Continue from the folder's checkpoint, if there is one."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.ema, self.norms = state["ema"], state["norms"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "ema": self.ema,
            "norms": self.norms,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.folder / "last.tmp")
        os.replace(self.folder / "last.tmp", self.folder / "last.pt")

    def averaged(self) -> Ladder:
        """The model with the moving average of the weights, which is what ships."""
        model = Ladder(self.model.config).eval()
        model.load_state_dict(self.ema)
        return model

    def advance(self) -> dict[str, Tensor]:
        """One optimizer step. Returns the parts of the loss, 'norm' and 'skipped' with them."""
        config, step = self.config, self.step
        lr = learning_rate(config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        late = step >= config.steps - config.late_steps
        count, size = (config.late_batch, config.late_crop) if late else (config.batch, config.crop)
        x = self.crops.batch(count, size, self.generator)
        bits = sample_bits(config, count, self.generator)
        out = self.model.loss(x, bits, self.generator, config.rdo, config.bf16)
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
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            own = self.model.state_dict()
            torch._foreach_lerp_(list(self.ema.values()), [own[k] for k in self.ema], 1 - decay)
        self.step += 1
        return out | {"norm": torch.tensor(norm), "skipped": torch.tensor(float(skipped))}


def train(run: Run, held_out: Tensor, display: Callable[[Progress], None]) -> Ladder:
    """Run to the last step, with a log in ``log.jsonl``; returns the averaged model.

    An interrupt saves a checkpoint first.
    """
    config = run.config
    log = (run.folder / "log.jsonl").open("a", buffering=1, encoding="utf-8")

    def write(**values: object) -> None:
        log.write(json.dumps({"step": run.step, "seconds": round(run.seconds), **values}) + "\n")

    write(config=asdict(config), model=run.model.config.to_dict())
    window: list[list[float]] = []
    saved = clock = time.monotonic()
    keys = ("loss", "rd", "bpp", "mse", "perplexity", "norm", "skipped")
    try:
        while run.step < config.steps:
            out = run.advance()
            now = time.monotonic()
            run.seconds, elapsed, clock = run.seconds + now - clock, now - clock, now
            window.append([out[key].mean().item() for key in keys] + [elapsed])
            if run.step % 10 == 0:
                mean = [sum(c) / len(c) for c in zip(*window[-50:], strict=True)]
                size = (
                    config.batch
                    if run.step < config.steps - config.late_steps
                    else config.late_batch
                )
                psnr = 10 * math.log10(255**2 / mean[3])
                display(
                    Progress(
                        run.step, config.steps, mean[0], mean[2], psnr, mean[4], size / mean[-1]
                    )
                )
            if run.step % 100 == 0:
                means = [round(sum(c) / len(c), 4) for c in zip(*window, strict=True)]
                write(lr=learning_rate(config, run.step), **dict(zip(keys, means, strict=False)))
                window = []
            if run.step % config.evaluate_steps == 0 or run.step == config.steps:
                write(held_out=evaluate(run.averaged(), held_out, config.rdo))
            if now - saved > config.checkpoint_seconds or run.step == config.steps:
                run.save()
                saved = now
    except KeyboardInterrupt:
        run.save()
        raise
    finally:
        log.close()
    return run.averaged()
