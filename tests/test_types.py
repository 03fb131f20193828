"""Public functions say what they take and give: no Any."""

import ast
from pathlib import Path

import pytest

import vqcodec

ROOT = Path(vqcodec.__file__).parent
FOLDERS = ("autoencoders", "container", "image", "metrics", "quantizers")
PUBLIC = sorted(
    path
    for name in ("*.py", *(f"{folder}/**/*.py" for folder in FOLDERS))
    for path in ROOT.glob(name)
)


def signatures(path: Path) -> dict[str, list[ast.expr]]:
    """The types of parameters and results of public functions and methods."""
    found = {}
    stack: list[tuple[str, ast.AST]] = [("", ast.parse(path.read_text(encoding="utf-8")))]
    while stack:
        where, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "")
            if name.startswith("_") and name != "__init__":
                continue
            if isinstance(child, ast.ClassDef):
                stack.append((f"{where}{name}.", child))
            elif isinstance(child, ast.FunctionDef):
                args = child.args
                every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
                types = [one.annotation for one in every if one is not None]
                found[where + name] = [one for one in (*types, child.returns) if one is not None]
    return found


def is_any(annotation: ast.expr) -> bool:
    """Whether it is Any, alone or in a union; a mapping of names to values may hold anything."""
    text = ast.unparse(annotation).strip("'\"")
    return "Any" in [part.strip() for part in text.split("|")]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_public_function_takes_or_gives_any(path: Path) -> None:
    assert not {name for name, types in signatures(path).items() if any(map(is_any, types))}


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()
