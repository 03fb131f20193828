"""From a codec and some pictures to a better codec for such pictures, in the minutes that one has.

The recipe is the one that the codec was trained with, but begins with its weights and has a rate of
learning that falls from the first steps on. How many steps there are is measured: a few are taken
and timed, and so is what comes after the training.
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec import distributed, zoo
from vqcodec.card import Card
from vqcodec.codec import Codec
from vqcodec.errors import UsageError
from vqcodec.training import release
from vqcodec.training.batches import Crops
from vqcodec.training.config import LadderTraining, SystemTraining
from vqcodec.training.data import spread
from vqcodec.training.loop import Run
from vqcodec.training.recipe import Recipe, Tables

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MINUTES = 60.0  # where none are named
LR = 3e-4  # at most: what was trained for long is moved with care
WARM, TIMED = 4, 20  # steps that are not timed, and those that are, at most
TIMED_SHARE = 0.04  # of the time, at most
AFTER_SHARE = 0.2  # of the time, for tables and measured files
LEAST, MOST = 8, 40  # pictures that tables are fitted to, and as many that are measured
FEWEST = 10  # steps
MARGIN = 0.92  # of what is left: the speed of the first steps is not that of the whole hour


def tables_of(card: Card, start: str) -> Tables:
    """A recipe that begins with a codec's weights, of which ``fitted`` makes one with a schedule.

    start: the codec's id or folder, as the user names it.
    """
    tables = _trained_with(card)
    system = LadderTraining if card.system == "ladder" else SystemTraining
    known = {field.name for field in fields(system)} - {"stage_steps"}
    training = {k: v for k, v in tables.get("training", {}).items() if k in known}
    tables["training"] = training | {
        "start": str(Path(start).resolve()) if Path(start).is_dir() else start,
        "lr": min(LR, training.get("lr", LR)),
        "optimizer": "adamw",  # the others are of packages that few have
        "resized": 0.0,  # a collection is its own measure
        "late_steps": 0,
        "evaluate_files_steps": 0,
        "compile": False,
        "held_out": MOST,
    }
    tables["shape"] = dict(card.shape)
    tables["card"] = {
        "system": card.system, "title": f"{card.id}, trained further",
        "default_rate": card.default_rate,
    }  # fmt: skip
    tables.pop("data", None)
    return tables


def _trained_with(card: Card) -> Tables:
    """The recipe in the codec's card, or for older ones the shipped recipe of that name."""
    values = tomllib.loads((card.path / "card.toml").read_text(encoding="utf-8"))
    if "recipe" in values:
        return dict(values["recipe"])
    path = zoo.recipes().get(card.id)
    return tomllib.loads(path.read_text(encoding="utf-8")) if path else {}


@dataclass(frozen=True)
class Schedule:
    """What fits into the time."""

    recipe: Recipe
    held_out: list[np.ndarray]  # the pictures to measure
    seconds_after: float  # that tables and measuring will take


def check_time(
    recipe: Recipe,
    start: Codec,
    picture: np.ndarray,
    number: int,
    seconds: float,
    device: str,
    begun: float,
) -> None:
    """Finds out in a few seconds, from one picture, that ``seconds`` since ``begun`` are too few.

    number: of pictures that will be held out, at least. Raises UsageError as ``fitted`` does.
    """
    crops = Crops([picture], recipe.config.seed, recipe.config.flip)
    step_seconds, each = _costs(recipe, start, crops, [picture], 0.0, device)
    left = seconds - _slowest(time.monotonic() - begun)
    _steps(seconds, left, step_seconds, each * min(LEAST, number))


def fitted(
    recipe: Recipe,
    start: Codec,
    crops: Crops,
    held_out: Sequence[np.ndarray],
    seconds: float,
    device: str,
    begun: float,
) -> Schedule:
    """The recipe with as many steps as fit into ``seconds`` since ``begun``, of ``time.monotonic``.

    Raises UsageError where hardly any fit, and for a codec that is trained in stages.
    """
    step_seconds, each = _costs(recipe, start, crops, held_out, TIMED_SHARE * seconds, device)
    if device == "cpu":
        recipe = _in_float32(recipe)
    count = min(MOST, max(LEAST, int(AFTER_SHARE * seconds / each)))
    after = each * min(count, len(held_out))
    left = seconds - _slowest(time.monotonic() - begun)
    steps = _steps(seconds, left, step_seconds, after)
    warmup = min(100, steps // 10)
    config = replace(
        recipe.config,
        steps=steps,
        warmup_steps=warmup,
        decay_steps=steps - warmup,
        ema=1 - min(0.1, 10 / steps),  # over the last tenth
        evaluate_steps=-(-steps // 2),
        held_out=count,
    )
    if isinstance(config, LadderTraining):
        config = replace(config, fitting=count)
    some = [held_out[index] for index in spread(len(held_out), count)]
    return Schedule(replace(recipe, config=config), some, after)


def _in_float32(recipe: Recipe) -> Recipe:
    """Few CPUs compute in bfloat16: on the others it is slow."""
    return replace(recipe, config=replace(recipe.config, amp="off"))


def _costs(
    recipe: Recipe,
    start: Codec,
    crops: Crops,
    held_out: Sequence[np.ndarray],
    most: float,
    device: str,
) -> tuple[float, float]:
    """Seconds of a step, found in about ``most`` seconds, and of all that is done with a picture
    after the training. Raises UsageError for a codec that is trained in stages."""
    if device == "cpu":
        recipe = _in_float32(recipe)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe.config, recipe.task, crops, Path(folder), device)
        if len(run.stages) > 1:
            raise UsageError(
                f"{start.card.id} is trained in {len(run.stages)} stages; "
                "--from takes a codec that is trained in one"
            )
        step_seconds = _step_seconds(run, most)
        run.batches.close()
    rates = run.task.rates()[2]
    asked = time.monotonic()
    release.measure(start, held_out[:1], rates[len(rates) // 2], lambda: None)
    one = time.monotonic() - asked
    # Each picture is measured with both codecs; one that tables are fitted to is encoded as often.
    n_points = len(rates) * max(1, len(start.card.tunes))
    larger = sum(pixels.size for pixels in held_out) / len(held_out) / held_out[0].size
    return step_seconds, _slowest(3 * n_points * larger * one)


def _steps(seconds: float, left: float, step_seconds: float, after: float) -> int:
    """How many fit into what is ``left`` of the seconds. Raises UsageError where hardly any do."""
    steps = int(MARGIN * (left - after) / step_seconds)
    if steps < FEWEST:
        needed = seconds - left + after + FEWEST * step_seconds / MARGIN
        raise UsageError(
            f"{seconds / 60:.2g} minutes are too few: a step takes {step_seconds:.2g} s here, "
            f"and what comes after the training {after:.0f} s; {math.ceil(needed / 60)} would do"
        )
    return steps


def _step_seconds(run: Run, most: float) -> float:
    """The seconds of a step, as a median over some that take ``most`` seconds together; for 0
    that of the second."""
    seconds: list[float] = []
    warm = WARM if most else 1

    def timed(count: int) -> None:
        for _ in range(count):
            begun = time.monotonic()
            run.advance()
            if run.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.monotonic() - begun)

    timed(warm)
    count = int(_slowest(min(TIMED, max(warm, most / min(seconds)))))
    timed(count)
    return _slowest(statistics.median(seconds[warm:]))


def _slowest(value: float) -> float:
    """The largest value of all processes."""
    return float(distributed.largest(torch.tensor(value))) if distributed.size() > 1 else value


@dataclass(frozen=True)
class Compared:
    """A new codec beside the one that it began with: points on the same held-out pictures."""

    codec: Path  # the new one's folder
    start: str
    pictures: int
    before: list[dict[str, Any]]  # at each tune, if there are some, and rate: bpp, PSNR in dB...
    after: list[dict[str, Any]]


def points_like(
    table: Sequence[dict[str, Any]],
    codec: Codec,
    held_out: Sequence[np.ndarray],
    track: release.Track,
) -> list[dict[str, Any]]:
    """The points of a table that ``release.build`` has measured, of another codec."""
    with track(f"measuring {codec.card.id}", len(held_out) * len(table)) as advance:
        return [
            {name: row[name] for name in ("tune", "rate") if name in row}
            | release.measure(codec.tuned(row.get("tune")), held_out, row["rate"], advance)
            for row in table
        ]
