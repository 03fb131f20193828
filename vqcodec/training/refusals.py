"""What training and export refuse at once: all that can be known without torch."""

import re
from pathlib import Path

from vqcodec import zoo
from vqcodec.errors import InputError, OutputError, UsageError
from vqcodec.files import check_folder
from vqcodec.training import sources

CARD, WEIGHTS = "card.toml", "weights.safetensors"  # of a codec


def recipe_file(recipe: Path) -> Path:
    """A recipe's file, or that of a shipped one. Raises a VqcodecError where there is none."""
    path = zoo.find_recipe(recipe)
    if not path.is_file():
        raise InputError(f"{recipe}: no such file")
    return path


def check_training(
    data: Path | None,
    start: str | None,
    name: str | None,
    out: Path,
    resume: bool,
) -> None:
    """Raises a VqcodecError. See the options of ``train``."""
    if start is not None:
        zoo.find(start)
    if name is not None:
        check_name(name)
    if not resume and (out / zoo.CHECKPOINT).exists():
        raise OutputError(f"{out / zoo.CHECKPOINT}: exists; --resume continues it")
    check_folder(out)
    if data is not None:
        sources.check(data)


def check_export(run: Path, data: Path | None, name: str | None, out: Path, force: bool) -> None:
    """Raises a VqcodecError. See the options of ``export``."""
    if not (run / zoo.CHECKPOINT).exists():
        raise InputError(f"{run}: there is no run with a checkpoint")
    if name is not None:
        check_name(name)
    check_no_codec(out, force)
    check_folder(out)
    if data is not None:
        sources.check(data)


def check_name(name: str) -> None:
    """Raises UsageError for a name that cannot be an id, or is that of a shipped codec."""
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise UsageError(
            f"--name {name!r}: a name has letters, digits, dots and dashes, 64 at most"
        )
    if name in {card.id for card in zoo.shipped()}:
        raise UsageError(f"--name {name}: that is a shipped codec's; choose another")


def check_no_codec(out: Path, force: bool) -> None:
    """Raises OutputError where there is a codec that is not to be replaced."""
    if not force and any((out / name).exists() for name in (CARD, WEIGHTS)):
        raise OutputError(f"{out}: there is a codec; --force replaces it")
