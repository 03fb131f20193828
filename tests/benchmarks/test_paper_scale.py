"""The recipes at the papers' scale, which are for GPUs: they build, and begin to train."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vqcodec.training.recipe import read_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes/papers").glob("*.toml"))
SMALL = 25_000_000  # weights; benchmarks/paper_scale.py tries the larger ones too


@pytest.fixture
def paper_scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("paper_scale")


def test_every_paper_has_a_recipe_of_its_scale_with_a_number_of_its_own() -> None:
    recipes = [read_recipe(path) for path in (ROOT / "recipes").rglob("*.toml")]
    numbers = [recipe.card.number for recipe in recipes]
    assert len(set(numbers)) == len(numbers)
    systems = {read_recipe(path).card.system for path in RECIPES}
    assert systems == {"hqa", "dqae", "pqvae", "rrvq", "vqvae"}
    assert all(read_recipe(path).card.id == path.stem for path in RECIPES)


def test_they_have_the_weights_that_the_papers_state_or_list(paper_scale: Any) -> None:
    counts = {path.stem: paper_scale.weights(read_recipe(path)) for path in RECIPES}
    assert counts["hqa-mnist"] == pytest.approx(0.57e6, rel=0.01)
    assert 15e6 < counts["dqae-cifar"] < 36e6  # 22 million, or 35.6 in the authors' code


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_smaller_ones_take_two_steps(paper_scale: Any, path: Path) -> None:
    recipe = read_recipe(path)
    if paper_scale.weights(recipe) < SMALL:
        assert paper_scale.attempt(recipe).loss > 0
