"""The training loop, top to bottom: data, model, optimizer, schedule, evaluate, checkpoint."""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn

from vqcodec.autoencoders.ladder import Ladder, LadderConfig
from vqcodec.training.data import Crops


@dataclass(frozen=True)
class TrainConfig:
    """What a recipe sets. Steps are optimizer steps."""

    steps: int = 30000
    warmup_steps: int = 200
    decay_steps: int = 10000  # the last steps, on a cosine from lr to lr * lr_end
    lr: float = 1e-3
    lr_end: float = 0.02
    linear_lr: float = 0.1  # factor for the linear transforms
    batch: int = 8
    crop: int = 128
    late_batch: int = 4
    late_crop: int = 192
    late_steps: int = 10000  # the last steps use the late crops
    rdo: float = 0.08
    rdo_steps: int = 6000  # the last steps choose codes as the encoder does
    clip: float = 0.5
    skip: float = 4.0  # skip a step whose gradient norm is over this many running medians
    ema: float = 0.999
    bits_low: float = 4.9
    bits_high: float = 10.1
    bits_often_low: float = 5.5
    bits_often_high: float = 9.0
    often: float = 0.75  # of the samples lie in the narrower interval
    seed: int = 1
    bf16: bool = False  # residual networks in bfloat16
    checkpoint_seconds: float = 180.0
    evaluate_steps: int = 1000


def learning_rate(config: TrainConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / config.warmup_steps)
    into = max(0.0, (step - (config.steps - config.decay_steps)) / config.decay_steps)
    cosine = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, into)))
    return config.lr * warm * cosine


def sample_bits(config: TrainConfig, count: int, generator: torch.Generator) -> torch.Tensor:
    """Rate points (count,), float32."""
    u = torch.rand(count, generator=generator)
    wide = config.bits_low + u * (config.bits_high - config.bits_low)
    narrow = config.bits_often_low + u * (config.bits_often_high - config.bits_often_low)
    often = torch.rand(count, generator=generator) < config.often
    return torch.where(often, narrow, wide)


def atomic_save(state: dict, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


@torch.no_grad()
def evaluate(model: nn.Module, crops: torch.Tensor) -> dict[str, list[float]]:
    """Mean bpp and PSNR (of the mean curve) at whole bits, estimated without files."""
    generator = torch.Generator().manual_seed(0)
    result: dict[str, list[float]] = {}
    for bits in (6.0, 7.0, 8.0, 9.0):
        parts = [
            model.loss(part, torch.full((len(part),), bits), generator, rdo=0.08)
            for part in crops.split(8)
        ]
        mse = torch.cat([p["mse"] for p in parts])
        psnr = (10 * torch.log10(255**2 / mse)).mean().item()
        values = [torch.cat([p[k] for p in parts]).mean().item() for k in ("rd", "bpp", "hyper_bpp")]
        result[f"{bits:g}bit"] = [round(v, 4) for v in (psnr, *values)]
    return result


def train(
    config: TrainConfig, crops: Crops, held_out: torch.Tensor, folder: Path, threads: int = 2
) -> Ladder:
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    model = Ladder(LadderConfig())
    model.set_std(crops.batch(256, 128, generator))
    model = model.to(memory_format=torch.channels_last)
    ema = {k: v.clone() for k, v in model.state_dict().items()}
    linear = [model.analysis.linear, model.synthesis.linear]
    rest = [p for p in model.parameters() if not any(p is q for q in linear)]
    optimizer = torch.optim.Adam(
        [{"params": rest, "factor": 1.0}, {"params": linear, "factor": config.linear_lr}],
        betas=(0.9, 0.99),
    )
    step, norms, seconds = 0, [], 0.0
    last = folder / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema, step, norms, seconds = state["ema"], state["step"], state["norms"], state["seconds"]
        generator.set_state(state["generator"])

    shadow = Ladder(LadderConfig()).eval()
    log = (folder / "log.jsonl").open("a", buffering=1)
    log.write(json.dumps({"step": step, "config": asdict(config)}) + "\n")
    begun = time.monotonic() - seconds
    saved, window, skipped = time.monotonic(), [], 0

    def checkpoint() -> None:
        atomic_save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema,
                "step": step,
                "norms": norms,
                "seconds": time.monotonic() - begun,
                "generator": generator.get_state(),
            },
            last,
        )

    while step < config.steps:
        lr = learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        late = step >= config.steps - config.late_steps
        count, size = (
            (config.late_batch, config.late_crop) if late else (config.batch, config.crop)
        )
        x = crops.batch(count, size, generator)
        bits = sample_bits(config, count, generator)
        rdo = config.rdo if step >= config.steps - config.rdo_steps else 0.0
        out = model.loss(x, bits, generator, rdo=rdo, amp=config.bf16)
        optimizer.zero_grad(set_to_none=True)
        out["loss"].backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip).item()
        usual = median(norms[-200:]) if len(norms) >= 20 else math.inf
        if math.isfinite(norm):
            norms = norms[-200:] + [norm]
        if math.isfinite(norm) and norm <= config.skip * usual:
            optimizer.step()
        else:
            skipped += 1
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            own = model.state_dict()
            torch._foreach_lerp_(list(ema.values()), [own[k] for k in ema], 1 - decay)
        step += 1
        window.append((out["loss"].item(), out["rd"].mean().item(), out["bpp"].mean().item(), out["mse"].mean().item(), norm))
        if step % 100 == 0:
            mean = [sum(c) / len(c) for c in zip(*window, strict=True)]
            line = dict(zip(("loss", "rd", "bpp", "mse", "norm"), (round(v, 4) for v in mean)))
            log.write(json.dumps({"step": step, "seconds": round(time.monotonic() - begun), "lr": round(lr, 7), "skipped": skipped, **line}) + "\n")
            window, skipped = [], 0
        if step % config.evaluate_steps == 0 or step == config.steps:
            shadow.load_state_dict(ema)
            log.write(json.dumps({"step": step, "held_out": evaluate(shadow, held_out)}) + "\n")
        if time.monotonic() - saved > config.checkpoint_seconds or step == config.steps:
            checkpoint()
            saved = time.monotonic()
    model.load_state_dict(ema)
    return model
