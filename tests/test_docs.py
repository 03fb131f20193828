"""Documents that are made from measured numbers say what the numbers say."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from vqcodec import zoo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "docs/results.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> dict:
    return json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))


def test_the_results_are_those_of_the_committed_numbers(made: ModuleType) -> None:
    expected = made.results(read("bench.json"), read("checks.json"))
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == expected


def test_the_readme_shows_the_committed_numbers(made: ModuleType) -> None:
    report = read("bench.json")
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    assert made.readme_table(report, labels) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_numbers_are_of_the_shipped_weights() -> None:
    settings = {c["id"]: c["settings"] for c in read("bench.json")["codecs"]}
    assert f"weights {zoo.find().sha256[:8]}" in settings[zoo.DEFAULT]
