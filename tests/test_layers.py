"""The package is built in layers: the list in CONTRIBUTING.md is true."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "vqcodec"


def layers() -> list[list[str]]:
    """The names in each line of the list, from top to bottom."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Layers\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    (\w+(?:, \w+)*)(?: .*)?$", section, re.MULTILINE)
    return [line.split(", ") for line in lines]


def modules() -> dict[str, Path]:
    """The files of the package by their dotted names."""
    found = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports(name: str) -> set[str]:
    """All that a file imports anywhere in it, also inside functions: files of ours, and others."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            parent = str(node.module)
            inside = (f"{parent}.{alias.name}" for alias in node.names)
            found |= {one if one in MODULES else parent for one in inside}
    return found - {name}


def ours(name: str) -> set[str]:
    return imports(name) & MODULES.keys()


def part(name: str) -> str:
    """The file or folder below the package, or the package itself."""
    return name.split(".")[1] if "." in name else name


def test_each_part_has_its_place_in_the_list() -> None:
    named = [name for layer in layers() for name in layer]
    assert sorted(named) == sorted({part(name) for name in MODULES})


def test_no_file_imports_from_a_higher_layer() -> None:
    place = {one: index for index, layer in enumerate(layers()) for one in layer}
    higher = {
        name: {one for one in ours(name) if place[part(one)] < place[part(name)]}
        for name in MODULES
    }
    assert not {name: found for name, found in higher.items() if found}


def test_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: ours(name) for name in MODULES}).prepare()  # raises CycleError


def test_a_card_needs_nothing_of_ours_but_errors() -> None:
    assert ours("vqcodec.card") == {"vqcodec.errors"}


def test_files_decode_without_torch() -> None:
    needed, waiting = set(), {"vqcodec.light.ladder"}
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= ours(name) - needed
    assert "vqcodec.light.prior" in needed and "vqcodec.priors.tables" in needed
    assert not {name for name in needed if "torch" in {one.split(".")[0] for one in imports(name)}}


def test_what_is_imported_in_few_places_is_imported_nowhere_else() -> None:
    packages = {name: {one.split(".")[0] for one in imports(name)} for name in MODULES}
    using = {name for name, imported in packages.items() if "constriction" in imported}
    assert using == {"vqcodec.rangecoder"}
    light = ("container", "card", "rate", "target", "files", "archive", "errors")
    for name in MODULES:
        if part(name) in light:
            assert not packages[name] & {"torch", "constriction", "PIL", "numpy"}, name
