"""``vqcodec train``: a recipe and a folder of pictures to a codec."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vqcodec import autoencoders, codec, image, zoo
from vqcodec.autoencoders.ladder import LadderConfig
from vqcodec.autoencoders.system import Config
from vqcodec.errors import InputError, OutputError, UsageError, reason
from vqcodec.files import make_folder
from vqcodec.settings import Settings
from vqcodec.training import data as pictures_of
from vqcodec.training import export
from vqcodec.training.batches import Crops
from vqcodec.training.ladder import LadderTask, LadderTraining
from vqcodec.training.loop import Progress, Run, Task, TrainConfig, train
from vqcodec.training.systems import SystemTask, SystemTraining

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SMOKE_SHAPE = LadderConfig(fine=16, coarse=32, hyper=8, features=16, hidden=(16, 16, 16, 16))
TABLES = ("card", "training", "shape")
CARD = {"id": "untitled", "number": 0, "system": "ladder", "title": "", "licence": ""}


def smoke_config(config: TrainConfig) -> TrainConfig:
    """A run of seconds that goes through all that a long one does."""
    short = replace(
        config, steps=60, stage_steps=(), warmup_steps=10, decay_steps=30, evaluate_steps=60
    )
    if isinstance(short, LadderTraining):
        return replace(
            short, batch=4, crop=64, late_steps=10, late_batch=2, late_crop=128, bf16=False,
            fitting=2,
        )  # fmt: skip
    return replace(short, batch=8, fitting=256)


@dataclass(frozen=True)
class Recipe:
    """All that training a codec takes, but the pictures."""

    card: dict[str, Any]
    config: TrainConfig
    shape: Settings

    def task(self, crops: Crops) -> Task:
        if isinstance(self.shape, LadderConfig):
            assert isinstance(self.config, LadderTraining)
            return LadderTask(self.config, self.shape, crops)
        assert isinstance(self.config, SystemTraining) and isinstance(self.shape, Config)
        return SystemTask(self.config, self.card["system"], self.shape)

    def smoke(self) -> "Recipe":
        """The same for an attempt of seconds."""
        shape = SMOKE_SHAPE if isinstance(self.shape, LadderConfig) else self.shape
        return replace(self, config=smoke_config(self.config), shape=shape)


def read_recipe(path: Path | None, changes: Sequence[str] = ()) -> Recipe:
    """A recipe's file, or the defaults, with changes such as 'training.lr=1e-4'.

    Raises InputError, of one line.
    """
    tables: dict[str, Any] = {}
    try:
        if path is not None:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_tables(tables)
        recipe = _recipe(tables)  # so that what is wrong with it is said of the file
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a recipe: {error}") from error
    for change in changes:
        try:
            _apply(change, tables)
            recipe = _recipe(tables)
        except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
            raise InputError(f"{change}: {error}") from error
    return recipe


def _apply(change: str, tables: dict[str, Any]) -> None:
    """Set 'table.key=value', the value as TOML has it or a bare word."""
    key, equals, text = change.partition("=")
    table, dot, name = key.strip().partition(".")
    if not equals or not dot or table not in TABLES:
        raise ValueError(f"a setting is written TABLE.KEY=VALUE; tables: {', '.join(TABLES)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    tables.setdefault(table, {})[name] = value


def _check_tables(tables: dict[str, Any]) -> None:
    for name, table in tables.items():
        if name not in TABLES:
            raise TypeError(f"there is no table {name!r}, but {', '.join(TABLES)}")
        if not isinstance(table, dict):
            raise TypeError(f"{name} is not a table")


def _recipe(tables: dict[str, Any]) -> Recipe:
    card = CARD | tables.get("card", {})
    training, shape = tables.get("training", {}), tables.get("shape", {})
    if card["system"] == "ladder":
        return Recipe(card, LadderTraining.from_dict(training), LadderConfig.from_dict(shape))
    if card["system"] not in autoencoders.SYSTEMS:
        known = ", ".join(["ladder", *autoencoders.SYSTEMS])
        raise ValueError(f"there is no system {card['system']!r}, but {known}")
    sizes = autoencoders.classes(card["system"])[1].from_dict(shape)
    return Recipe(card, replace(SystemTraining.from_dict(training), crop=sizes.side), sizes)


def read_pictures(
    data: Path, config: TrainConfig, smoke: bool, bar: Bar
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, held out) pictures (h, w, 3) uint8, at the sizes that the system trains on."""
    task = bar.add_task("reading", total=None, state="")
    if data.suffix == ".npz":
        training, held_out = pictures_of.load_arrays(data)
        held_out = held_out[: config.held_out]
    else:
        paths = pictures_of.find(data)
        first, rest = pictures_of.split(paths)
        if smoke:
            first, rest = first[:36], rest[:4]
        rest = rest[: config.held_out]
        bar.update(task, total=len(first) + len(rest))
        training = pictures_of.load(first, lambda: bar.advance(task))
        held_out = pictures_of.load(rest, lambda: bar.advance(task))
    if not training or not held_out:
        raise InputError(f"{data}: too few pictures to hold some out")
    if isinstance(config, SystemTraining):
        training, held_out = config.pictures(training), config.squares(held_out)
    bar.remove_task(task)
    return training, held_out


def train_command(
    data: Path,
    path: Path | None,
    changes: Sequence[str],
    out: Path,
    smoke: bool,
    resume: bool,
    threads: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Train on the pictures in ``data`` and write a model to ``out``.

    ``out`` gets card.toml and weights.safetensors, and the checkpoint and log while training.
    path, changes: see ``read_recipe``.
    """
    if device == "cuda":
        raise UsageError("training runs on the CPU only in this version")
    recipe = read_recipe(path, changes)
    if smoke:
        recipe = recipe.smoke()
    config = recipe.config
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
        pictures, held = read_pictures(data, config, smoke, bar)
        run = Run(config, recipe.task, Crops(pictures, config.seed, config.flip), out)
        if resume and run.resume():
            console.print(f"resumed at step {run.step}")
        shown = bar.add_task("training", total=run.steps, completed=run.step, state="")
        crops = np.stack([pictures_of.centre(x, run.task.held_out_side()) for x in held])
        model = train(
            run,
            torch.from_numpy(crops).permute(0, 3, 1, 2).float(),
            lambda now: bar.update(shown, completed=now.step, state=_state(now)),
        )

        total = run.task.fitting_steps(len(pictures))
        fitting = bar.add_task("tables", total=total, state="")
        tensors = run.task.export(model, pictures, lambda: bar.advance(fitting))
        rates, points, measured = run.task.rates()
        fields = recipe.card | {
            "rates": rates,
            **({"points": points} if points else {}),
            "sha256": export.write_weights(out, tensors),
        }
        how: dict[str, Any] = {"start": config.start} if config.start else {}
        words = ["vqcodec", "train", data.resolve().name, "--out", out.resolve().name]
        words += ["--recipe", str(path)] if path else []
        words += [word for change in changes for word in ("--set", change)]
        words += ["--smoke"] if smoke else []
        how |= {
            "pictures": len(pictures),
            "held_out": len(held),
            "steps": run.step,
            "seconds": round(run.seconds),
            "command": shlex.join(words),
        }
        export.write_card(out, fields, how, [], run.task.sizes())

        if smoke:
            held, measured = held[:2], measured[1:4:2] or measured
        trained = zoo.load(zoo.read_card(out), "cpu")
        task = bar.add_task("measuring", total=len(held) * len(measured), state="")
        table = [
            {"rate": rate} | measure(trained, held, rate, lambda: bar.advance(task))
            for rate in measured
        ]
        export.write_card(out, fields, how, table, run.task.sizes())
    for row in table:
        console.print(f"held out  {row['rate']:>6}  {row['bpp']:.3f} bpp  {row['psnr_db']:.2f} dB")


def _state(now: Progress) -> str:
    """One line for the display."""
    stage = f"stage {now.stage} of {now.stages}  " if now.stages > 1 else ""
    bits = f"{now.values['bpp']:.3f} bpp  " if "bpp" in now.values else ""
    return (
        f"{stage}loss {now.values['loss']:.3f}  {bits}{now.psnr_db:.2f} dB  "
        f"perplexity {now.values['perplexity']:.1f}  {now.images_per_second:.1f} images/s"
    )


def measure(
    trained: codec.Codec, pictures: list[np.ndarray], rate: str, advance: Callable[[], None]
) -> dict[str, float]:
    """Means over finished files, decoded from their bytes: bpp and PSNR in dB."""
    points = []
    for pixels in pictures:
        made = codec.compress(trained, image.Picture(pixels), rate)
        decoded = codec.decompress(trained, made.data).pixels
        bpp = 8 * len(made.data) / (pixels.shape[0] * pixels.shape[1])
        points.append((bpp, codec.psnr_db(pixels, decoded)))
        advance()
    bpp, psnr = np.mean(points, 0).tolist()
    return {"bpp": round(bpp, 4), "psnr_db": round(psnr, 3)}
