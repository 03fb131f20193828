"""Documents that are made from measured numbers say what the numbers say."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

import vqcodec
from vqcodec import errors, zoo
from vqcodec.cli.program import program

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks/results.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / name).read_text(encoding="utf-8"))


def test_the_results_are_those_of_the_committed_numbers(made: ModuleType) -> None:
    expected = made.results(read("bench.json"), read("checks.json"), read("validation.json"))
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == expected


def test_the_readme_shows_the_committed_numbers(made: ModuleType) -> None:
    report = read("bench.json")
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    assert made.readme_table(report, labels) in (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += [f"docs/{path.name}" for path in ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    parts = "benchmarks|docs|models|recipes|tests|vqcodec"
    paths = re.findall(rf"`((?:{parts})/[\w./-]*\w|(?:{parts})/)[`* ]", read_text(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_program_that_a_file_says_how_to_run_exists() -> None:
    files = [path for part in ("benchmarks", "tests") for path in (ROOT / part).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"\bpython ((?:benchmarks|tests)/[\w/]+\.py)", text))
    assert named and [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    files = {link.partition("#")[0] for link in links if "://" not in link} - {""}
    assert [file for file in files if not (ROOT / page).parent.joinpath(file).exists()] == []


def test_the_exit_codes_of_the_readme_are_those_of_the_program() -> None:
    codes = {error.exit_code for error in _subclasses(errors.VqcodecError)} | {0, 1, 130}
    assert codes == {0, 1, 2, 3, 4, 5, 6, 7, 8, 130}
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    listed = text.partition("Exit codes:")[2].partition(". ")[0]
    assert {int(n) for n in re.findall(r"(?<![\w`.])\d+(?= [a-z])", listed)} == codes
    assert program.epilog and all(f" {code} " in program.epilog for code in codes)


def _subclasses(kind: type[errors.VqcodecError]) -> list[type[errors.VqcodecError]]:
    return [kind, *(below for k in kind.__subclasses__() for below in _subclasses(k))]


def test_the_numbers_are_of_the_shipped_weights() -> None:
    own = [c for c in read("bench.json")["codecs"] if c["own"]]
    plain = [c["id"] for c in own if ":effort" not in c["id"]]
    assert plain == [f"{zoo.DEFAULT}:{tune}" for tune in zoo.find().tunes]
    assert all(f"weights {zoo.find().sha256[:8]}" in c["settings"] for c in own)


def test_the_changelog_and_the_package_tell_one_version() -> None:
    released = re.findall(r"^## (\d+\.\d+\.\d+)", read_text("CHANGELOG.md"), re.MULTILINE)
    assert vqcodec.__version__ == released[0]
    assert released == sorted(released, key=lambda text: [*map(int, text.split("."))], reverse=True)


def test_the_image_is_built_from_what_it_may_see() -> None:
    dockerfile = read_text("Dockerfile")
    copied = {
        path for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.M) for path in line.split()
    }
    allowed = set(re.findall(r"^!(.*)$", read_text(".dockerignore"), re.MULTILINE))
    assert copied == allowed and all((ROOT / path).exists() for path in copied)
    assert read_text("pyproject.toml").count(re.findall(r"torch>=[^']*", dockerfile)[0]) == 1


def test_the_health_check_of_the_image_passes() -> None:
    dockerfile = read_text("Dockerfile")
    place = re.search(r"^COPY (\S+) (\S+\.vqc)$", dockerfile, re.MULTILINE)
    check = re.search(r'^    CMD \["vqcodec", (.*)\]$', dockerfile, re.MULTILINE)
    assert place and check
    words = [word.strip(' "') for word in check[1].split(",")]
    words = [str(ROOT / place[1]) if word == place[2] else word for word in words]
    result = CliRunner().invoke(program, words)
    assert (result.exit_code, result.output) == (0, "")
