"""``vqcodec train``: a recipe and a folder of pictures to a codec."""

import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vqcodec import codec, image, zoo
from vqcodec.autoencoders.ladder import LadderConfig
from vqcodec.errors import InputError, OutputError, UsageError, reason
from vqcodec.files import make_folder
from vqcodec.training import export
from vqcodec.training.data import Crops, find, load, split
from vqcodec.training.loop import Progress, Run, TrainConfig, train

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SMOKE_SHAPE = LadderConfig(fine=16, coarse=32, hyper=8, features=16, hidden=(16, 16, 16, 16))
CARD = {"id": "untitled", "number": 0, "title": "", "licence": ""}
TABLE_RATES = ("5bit", "6bit", "7bit", "8bit", "9bit", "10bit")


def smoke_config(config: TrainConfig) -> TrainConfig:
    """A run of seconds that goes through all that a long one does."""
    return replace(
        config,
        steps=60,
        decay_steps=30,
        late_steps=10,
        batch=4,
        crop=64,
        late_batch=2,
        late_crop=128,
        evaluate_steps=60,
        bf16=False,
    )


def read_recipe(path: Path | None) -> tuple[dict[str, Any], TrainConfig, LadderConfig]:
    """(card fields, training configuration, network sizes). Raises InputError."""
    if path is None:
        return dict(CARD), TrainConfig(), LadderConfig()
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a recipe: {error}") from error
    try:
        card, values, sizes = (_table(recipe, name) for name in ("card", "training", "shape"))
        _check_kinds(values, TrainConfig)
        _check_kinds(sizes, LadderConfig)
        shape = LadderConfig.from_dict(sizes)
        shape.check()
        return CARD | card, TrainConfig(**values), shape
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def _table(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    table = recipe.get(name, {})
    if not isinstance(table, dict):
        raise TypeError(f"{name} is not a table")
    return table


def _check_kinds(values: dict[str, Any], config: type) -> None:
    """Raises TypeError for a value unlike its default; unknown names are left to the class."""
    kinds = {f.name: type(f.default) for f in fields(config)}
    for name, value in values.items():
        kind = kinds.get(name, object)
        accepted = {float: (float, int), tuple: (list,)}.get(kind, (kind,))
        if not isinstance(value, accepted):
            raise TypeError(f"{name} is not a {accepted[0].__name__}")


def train_command(
    data: Path,
    recipe: Path | None,
    out: Path,
    smoke: bool,
    resume: bool,
    threads: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Train on the pictures below ``data`` and write a model to ``out``.

    ``out`` gets card.toml and weights.safetensors, and the checkpoint and log while training.
    """
    if device == "cuda":
        raise UsageError("training runs on the CPU only in this version")
    card, config, shape = read_recipe(recipe)
    if smoke:
        config, shape = smoke_config(config), SMOKE_SHAPE
    if threads:
        torch.set_num_threads(threads)
    checkpoint = out / "last.pt"
    if checkpoint.exists() and not resume:
        raise OutputError(f"{checkpoint}: exists; --resume continues it")
    make_folder(out)  # before the work
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )  # fmt: skip
    with Bar(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        paths = find(data)
        training, held_out = split(paths)
        if smoke:
            training, held_out = training[:36], held_out[:4]
        if not training or not held_out:
            raise InputError(f"{data}: {len(paths)} pictures are too few to hold some out")
        task = bar.add_task("reading", total=len(training) + len(held_out[:40]), state="")
        pictures = load(training, lambda: bar.advance(task))
        held = load(held_out[:40], lambda: bar.advance(task))
        bar.remove_task(task)

        run = Run(config, shape, Crops(pictures), out)
        if resume and run.resume():
            console.print(f"resumed at step {run.step}")
        task = bar.add_task("training", total=config.steps, completed=run.step, state="")

        def display(now: Progress) -> None:
            state = (
                f"loss {now.loss:.3f}  {now.bpp:.3f} bpp  {now.psnr_db:.2f} dB  "
                f"perplexity {now.perplexity:.1f}  {now.images_per_second:.1f} images/s"
            )
            bar.update(task, completed=now.step, state=state)

        crops = [_centre(pixels, 256 if not smoke else 64) for pixels in held]
        model = train(run, torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float(), display)

        model = export.rounded(model)
        some = pictures[:: max(1, len(pictures) // (2 if smoke else 40))]
        passes = 1 if smoke else 2
        fitting = bar.add_task("tables", total=passes * len(some), state="")
        tables = export.fit_tables(
            model, some, torch.device("cpu"), passes=passes, advance=lambda: bar.advance(fitting)
        )
        sha256 = export.write_weights(out, model, *tables)
        described = {"system": "ladder", "rates": "5bit to 10bit"}
        how: dict[str, Any] = {"start": config.start} if config.start else {}
        words = ["vqcodec", "train", data.resolve().name, "--out", out.resolve().name]
        words += ["--recipe", str(recipe)] if recipe else []
        words += ["--smoke"] if smoke else []
        how |= {
            "pictures": len(training),
            "held_out": len(held_out),
            "steps": run.step,
            "seconds": round(run.seconds),
            "command": shlex.join(words),
        }
        export.write_card(out, card | described | {"sha256": sha256}, how, [], shape.to_dict())

        trained = zoo.load(zoo.read_card(out), "cpu")
        some = held[:2] if smoke else held
        rates = TABLE_RATES[1:4:2] if smoke else TABLE_RATES
        measuring = bar.add_task("measuring", total=len(some) * len(rates), state="")
        table = []
        for rate in rates:
            points = []
            for pixels in some:
                points.append(measure(trained, pixels, rate))
                bar.advance(measuring)
            bpp, psnr = np.mean(points, 0)
            table.append(
                {"rate": rate, "bpp": round(float(bpp), 4), "psnr_db": round(float(psnr), 3)}
            )
        export.write_card(out, card | described | {"sha256": sha256}, how, table, shape.to_dict())
    for row in table:
        console.print(f"held out  {row['rate']:>6}  {row['bpp']:.3f} bpp  {row['psnr_db']:.2f} dB")


def measure(trained: codec.Codec, pixels: np.ndarray, rate: str) -> tuple[float, float]:
    """(bpp, PSNR in dB) of a finished file, decoded from its bytes."""
    made = codec.compress(trained, image.Picture(pixels), rate)
    decoded = codec.decompress(trained, made.data).pixels
    return 8 * len(made.data) / (pixels.shape[0] * pixels.shape[1]), codec.psnr_db(pixels, decoded)


def _centre(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle (size, size, 3) of a picture, edge-padded where it is smaller."""
    h, w = pixels.shape[:2]
    pad = ((0, max(0, size - h)), (0, max(0, size - w)), (0, 0))
    pixels = np.pad(pixels, pad, mode="edge")
    top, left = max(0, h - size) // 2, max(0, w - size) // 2
    return pixels[top : top + size, left : left + size]
