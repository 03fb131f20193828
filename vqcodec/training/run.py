"""``vqcodec train`` and ``vqcodec export``: recipe and pictures to a run, a run to a codec."""

import math
import shlex
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcodec import distributed, zoo
from vqcodec.errors import ImageError, InputError, UsageError
from vqcodec.files import atomic_write, make_folder
from vqcodec.training import data as pictures_of
from vqcodec.training import finetune, release, sources
from vqcodec.training.batches import Crops
from vqcodec.training.config import SystemTraining, TrainConfig
from vqcodec.training.data import Decoded, Pictures, Skip, Skipped, Track
from vqcodec.training.display import Display, to_use
from vqcodec.training.finetune import MINUTES, Compared
from vqcodec.training.identity import with_own_identity
from vqcodec.training.journal import Journal
from vqcodec.training.loop import Measured, Run, train
from vqcodec.training.recipe import DataSettings, Recipe, read_recipe, recipe_of
from vqcodec.training.refusals import check_export, check_training
from vqcodec.training.task import Task

RECIPE = "recipe.toml"
SKIPPED = "skipped.jsonl"  # the pictures that cannot be used
LARGEST_HELD_OUT = 1024  # pixels a side of pictures that are measured


@dataclass(frozen=True)
class Wanted:
    """What the command line says beside the recipe."""

    data: Path | None = None  # in place of the recipe's
    smoke: bool = False
    resume: bool = True
    minutes: float | None = None  # where ``start`` is named those that all of it may take
    start: str | None = None  # a codec to begin with, whose recipe is then the recipe
    name: str | None = None  # of the new codec
    threads: int | None = None
    device: str = "auto"
    tensorboard: bool = False
    quiet: bool = False


def read_pictures(
    data: Path, wanted: DataSettings, config: TrainConfig, track: Track, skip: Skip
) -> tuple[Pictures, list[np.ndarray]]:
    """(training, held out) pictures (h, w, 3) uint8, at the sizes that the system trains on.

    ``skip`` is told of pictures that cannot be used. Raises InputError.
    """
    training: Pictures
    if data.suffix == ".npz":
        originals, held_out = pictures_of.load_arrays(data)
        originals, held_out = originals[: wanted.limit or None], held_out[: config.held_out]
        training = [pictures_of.scaled(x, scale) for scale in config.scales for x in originals]
    else:
        source = sources.find(data)
        enough = (wanted.limit, config.held_out) if wanted.limit else None
        chosen, rest = pictures_of.split(source, wanted.split, track, skip, enough)
        smallest = wanted.smallest or config.smallest()
        training = Decoded(source, chosen[: wanted.limit or None], config.scales, smallest)
        training.keep(wanted.memory_mb * 10**6, track, skip)
        others = Decoded(source, rest, config.scales[:1], smallest)
        held_out = pictures_of.usable(others, pictures_of.spread(len(rest), config.held_out), skip)
    if not len(training) or not held_out:
        raise InputError(f"{data}: too few pictures to hold some out")
    if isinstance(config, SystemTraining):
        return training, config.squares(held_out)
    return training, [pictures_of.at_most(x, LARGEST_HELD_OUT) for x in held_out]


def train_command(
    path: Path | None, changes: Sequence[str], out: Path, wanted: Wanted
) -> Compared | None:
    """Train, and write a codec to ``out``; one with a start is compared with that.

    ``out`` gets card.toml and weights.safetensors at the end, and the recipe with all its values,
    the checkpoint and the log from the beginning. A run that has them goes on.

    path, changes: see ``read_recipe``; without a path, ``out`` may have a recipe already
    """
    begun = time.monotonic()
    minutes = MINUTES if wanted.start and wanted.minutes is None else wanted.minutes
    until = math.inf if minutes is None else begun + 60 * minutes
    own = out / RECIPE
    start = zoo.find(wanted.start) if wanted.start else None
    if path is None and own.exists():
        recipe = read_recipe(own, changes)
    else:
        if start and wanted.start:
            recipe = recipe_of(finetune.tables_of(start, wanted.start), start.id, changes)
        else:
            recipe = read_recipe(zoo.find_recipe(path) if path else None, changes)
        recipe = with_own_identity(recipe, changes, wanted.name, out)
    if wanted.smoke:
        recipe = recipe_of(recipe.smoke().resolved(), "--smoke", changes)  # which go before it
    data = _data(recipe, wanted.data)
    recipe = replace(recipe, data=replace(recipe.data, path=str(data.absolute())))
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    check_training(wanted.data, wanted.start, wanted.name, out, wanted.resume)
    is_new = not out.exists()
    make_folder(out)  # before the work
    device = distributed.start(zoo.device_of(wanted.device))
    first = distributed.rank() == 0
    try:
        with Display(wanted.quiet or not first) as display:
            skipped = Skipped(display.note, out / SKIPPED if first else None)
            if start:
                begins_with = zoo.load(start, "cpu")
                if not own.exists() and (found := _one_picture(data, recipe)):
                    finetune.check_time(recipe, begins_with, *found, until - begun, device, begun)
            crops, held = _read(data, recipe, display, skipped)
            if start and not own.exists():
                display.note(f"timing some steps, to see how many fit into {minutes:g} minutes")
                plan = finetune.fitted(
                    recipe, begins_with, crops, held, until - begun, device, begun
                )
                recipe, held = plan.recipe, plan.held_out
                display.note(f"{recipe.config.steps} steps")
                until -= plan.seconds_after
            run = Run(recipe.config, recipe.task, crops, out, device)
            if wanted.resume and run.resume():
                display.note(f"resumed at step {run.step}")
            journal = None
            if first:
                journal = Journal(out, run.step, wanted.tensorboard)
                with atomic_write(own, force=True) as file:
                    file.write(recipe.text().encode())

            def with_files(model: nn.Module) -> Measured:
                fitting, some = _few(recipe.config.fitting), held[: _few(len(held))]
                with tempfile.TemporaryDirectory() as folder:
                    points = release.build(
                        recipe, run.task, model, crops, some, run.task.rates()[2], fitting,
                        {}, Path(folder), display.task,
                    )  # fmt: skip
                return {
                    " ".join(filter(None, (point.pop("rate"), point.pop("tune", None)))): point
                    for point in points
                }

            finished = train(
                run, _squares(held, run.task), journal, display.update, display.note, with_files,
                until,
            )  # fmt: skip
            display.finish()
            if journal:
                journal.close()
            if not first:
                return None
            if not finished and not start:
                display.note(
                    f"the time is up: `vqcodec train --out {out}` goes on, "
                    f"`vqcodec export {out} -o DIR` makes a codec of what there is"
                )
                return None
            words = ["vqcodec", "train", data.resolve().name, "--out", out.resolve().name]
            words += ["--recipe", str(path)] if path else []
            words += [word for change in changes for word in ("--set", change)]
            words += ["--smoke"] if wanted.smoke else []
            words += ["--from", wanted.start] if wanted.start else []
            table = _publish(recipe, run, held, skipped, words, out, True, wanted.smoke, display)
            if not start:
                display.note(to_use(out))
                return None
            before = finetune.points_like(table, begins_with, held, display.task)
            return Compared(out, start.id, len(held), before, table)
    finally:
        distributed.stop()
        if is_new:
            with suppress(OSError):  # there is something in it
                out.rmdir()


def export_command(
    folder: Path,
    out: Path,
    data: Path | None,
    force: bool,
    threads: int | None,
    quiet: bool,
    name: str | None = None,
) -> list[dict[str, Any]]:
    """Make a codec in ``out`` of a run's last checkpoint; returns the points of its card.

    Raises CodecError, and leaves ``out`` as it was, where files do not decode as they should.
    """
    check_export(folder, data, name, out, force)
    recipe = read_recipe(folder / RECIPE)
    if name:
        recipe = with_own_identity(recipe, (), name, out)
    recipe = replace(recipe, data=replace(recipe.data, memory_mb=0))  # few pictures are looked at
    data = _data(recipe, data)
    if threads:
        torch.set_num_threads(threads)
    with Display(quiet) as display:
        skipped = Skipped(display.note)
        crops, held = _read(data, recipe, display, skipped)
        run = Run(recipe.config, recipe.task, crops, folder)
        run.resume()
        words = ["vqcodec", "export", folder.resolve().name, "--out", out.resolve().name]
        return _publish(recipe, run, held, skipped, words, out, force, False, display)


def _publish(
    recipe: Recipe,
    run: Run,
    held: list[np.ndarray],
    skipped: Skipped,
    words: Sequence[str],
    out: Path,
    force: bool,
    few: bool,
    display: Display,
) -> list[dict[str, Any]]:
    """``few``: of an attempt of seconds, where measuring takes its time."""
    how = {
        "pictures": len(run.crops.pictures),
        "held_out": len(held),
        "split": recipe.data.split,
        "skipped": len(skipped.seen),
        "steps": run.step,
        "of_steps": run.steps,
        "seconds": round(run.seconds),
        "command": shlex.join(words),
    }
    rates = run.task.rates()[2]
    if few:
        held, rates = held[:2], rates[1:4:2] or rates
    with release.published(out, force) as made:
        table = release.build(
            recipe, run.task, run.averaged(), run.crops, held, rates, recipe.config.fitting,
            how, made, display.task,
        )  # fmt: skip
    for row in table:
        tune = f"  {row['tune']:<6}" if "tune" in row else ""
        bpp, psnr_db = f"{row['bpp']:.3f} bpp", f"{row['psnr_db']:.2f} dB"
        display.note(f"held out{tune}  {row['rate']:>6}  {bpp}  {psnr_db}")
    return table


def _few(count: int) -> int:
    """Of pictures that are coded for tables, or measured, while the training waits."""
    return max(8, count // 8)


def _data(recipe: Recipe, named: Path | None) -> Path:
    if named is not None:
        return named
    if not recipe.data.path:
        raise UsageError("no pictures are named: neither DATA nor path in the recipe's [data]")
    return Path(recipe.data.path)


def _read(
    data: Path, recipe: Recipe, display: Display, skipped: Skipped
) -> tuple[Crops, list[np.ndarray]]:
    """What to train on, and pictures that are held out."""
    pictures, held_out = read_pictures(data, recipe.data, recipe.config, display.track, skipped)
    config = recipe.config
    return Crops(pictures, config.seed, config.flip, skipped, config.resized), held_out


def _one_picture(data: Path, recipe: Recipe) -> tuple[np.ndarray, int] | None:
    """A picture, and about how many are held out at least; None where that takes long."""
    if data.suffix == ".npz":
        return None
    source = sources.find(data)
    smallest = recipe.data.smallest or recipe.config.smallest()
    pictures = Decoded(source, np.arange(len(source))[:5], recipe.config.scales[:1], smallest)
    for index in range(len(pictures)):
        try:
            picture = pictures_of.at_most(pictures[index], LARGEST_HELD_OUT)
        except (ImageError, InputError):
            continue
        return picture, max(1, len(source) // 32)  # of 16 about one is
    return None


def _squares(pictures: Sequence[np.ndarray], task: Task) -> Tensor:
    """The middles of held-out pictures, (n, 3, side, side) 0..255."""
    crops = np.stack([pictures_of.centre(x, task.held_out_side()) for x in pictures])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float()
