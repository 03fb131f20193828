"""The recipes at the papers' scale: that they train, and how many weights they have.

    python benchmarks/paper_scale.py [RECIPE ...]      two steps of each, and a table in Markdown

They are for GPUs. Two steps of two squares of noise are taken here, of each stage.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vqcodec.training import systems
from vqcodec.training.batches import Crops
from vqcodec.training.loop import Run
from vqcodec.training.recipe import Recipe, read_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "papers"
SQUARES = 2  # of a step
BEGINNING = 8  # that a stage begins with; of two that are equal embeddings have no spread
# Weights in the paper, as far as it says, or as counted in the networks of its text or code.
PAPER = {
    "dqae-cifar": "22 M stated; 35.6 M by its code",
    "hqa-mnist": "0.57 M by its table 10",
}


class Tried(NamedTuple):
    weights: int
    loss: float
    seconds: float


def paths() -> list[Path]:
    return sorted(RECIPES.glob("*.toml"))


def weights(recipe: Recipe) -> int:
    """How many the model has, without making them."""
    with torch.device("meta"):
        model = recipe.task(Crops([])).model
    return sum(p.numel() for p in model.parameters())


def attempt(recipe: Recipe, steps: int = 2) -> Tried:
    """Steps of each stage on noise; all else is as in the recipe."""
    start = time.monotonic()
    rng = np.random.default_rng(0)
    side = recipe.shape.all_values()["side"]
    pictures = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(4)]
    stages = len(recipe.config.all_values()["stage_steps"]) or len(recipe.task(Crops([])).stages())
    config = replace(
        recipe.config, batch=SQUARES, steps=steps, stage_steps=(steps,) * stages, decay_steps=1,
        amp="off", workers=0, crop=side,
    )  # fmt: skip
    beginning, systems.BEGINNING = systems.BEGINNING, BEGINNING
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(config, replace(recipe, config=config).task, Crops(pictures), Path(folder))
            while run.step < run.steps:
                loss = float(run.advance()["loss"])
    finally:
        systems.BEGINNING = beginning
    if not np.isfinite(loss):
        raise ValueError(f"the loss of {recipe.card.id} is {loss}")
    return Tried(weights(recipe), loss, time.monotonic() - start)


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    print("| recipe | weights | in the paper | loss after two steps | seconds |\n|-|-|-|-|-|")
    for path in paths():
        if not wanted or path.stem in wanted:
            tried = attempt(read_recipe(path))
            said = PAPER.get(path.stem, "not stated")
            numbers = f"{tried.weights / 1e6:.2f} M | {said} | {tried.loss:.3g}"
            print(f"| `{path.stem}` | {numbers} | {tried.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
