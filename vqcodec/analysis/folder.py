"""The folder of ``vqcodec analyse``. Imports no torch: what cannot be made is refused at once."""

from collections.abc import Mapping
from pathlib import Path

from vqcodec import files
from vqcodec.errors import OutputError

JSON, INDEX = "analysis.json", "index.html"


def check(folder: Path, force: bool) -> None:
    """Raises OutputError where it cannot be written to, or holds an analysis already."""
    files.check_folder(folder)
    there = sorted(path.name for path in folder.glob("*") if path.suffix in (".png", ".json"))
    if there and not force:
        raise OutputError(f"{folder}: holds {there[0]} already; --force overwrites")


def write(folder: Path, contents: Mapping[str, bytes], force: bool) -> None:
    """Files by their names. Raises OutputError."""
    files.make_folder(folder)
    for name, content in contents.items():
        with files.atomic_write(folder / name, force=force) as file:
            file.write(content)
