"""Recipes: all that training a codec takes, in one TOML file, and changes to it by name.

Does not import torch, but for the sizes of a system of the papers.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec import autoencoders
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.card import MAX_CODEC
from vqcodec.errors import InputError, UsageError, reason
from vqcodec.metrics.shares import LossSettings
from vqcodec.settings import Settings, toml_lines
from vqcodec.training.config import LadderTraining, SystemTraining, TrainConfig
from vqcodec.training.sources import SPLITS

if TYPE_CHECKING:
    from vqcodec.training.batches import Crops
    from vqcodec.training.task import Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SMOKE_SHAPE = LadderConfig(fine=16, coarse=32, hyper=8, features=16, hidden=(16, 16, 16, 16))
Tables = dict[str, Any]  # of a recipe, as TOML has them
TABLES = ("card", "data", "loss", "shape", "training")


@dataclass(frozen=True)
class CardSettings(Settings):
    """What the codec's card says of it."""

    id: str = "untitled"
    number: int = 0  # stands in every file that the codec writes
    system: str = "ladder"
    title: str = ""
    licence: str = ""
    data: str = ""  # where the pictures are from, and their licences
    default_rate: str = ""  # of files where none is named; "": the finest point, or 8bit

    def check(self) -> None:
        if not 0 <= self.number <= MAX_CODEC:
            raise ValueError(f"number is not from 0 to {MAX_CODEC}")


@dataclass(frozen=True)
class DataSettings(Settings):
    """Which pictures."""

    path: str = ""  # see ``sources.find``, or an .npz file; where the command line names nothing
    limit: int = 0  # pictures to train on, at most; 0: all
    split: str = "content"  # or "name": by whose hash pictures are held out
    smallest: int = 0  # pixels: pictures of a smaller short side are skipped; 0: as crops need it
    memory_mb: int = 4000  # for decoded pictures; others are decoded each time, by the workers

    def check(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split {self.split!r} is none of {', '.join(SPLITS)}")


def smoke_config(config: TrainConfig) -> TrainConfig:
    """A run of seconds that goes through all that a long one does."""
    short = replace(
        config, steps=60, stage_steps=(), warmup_steps=10, decay_steps=30, evaluate_steps=60,
        evaluate_files_steps=0, held_out=4,
    )  # fmt: skip
    if isinstance(short, LadderTraining):
        return replace(
            short, batch=4, crop=64, late_steps=10, late_batch=2, late_crop=128, amp="off",
            fitting=2,
        )  # fmt: skip
    return replace(short, batch=8, fitting=256)


@dataclass(frozen=True)
class Recipe:
    """All that training a codec takes."""

    card: CardSettings
    data: DataSettings
    config: TrainConfig
    shape: Settings
    loss: LossSettings = LossSettings()  # of a ladder

    def check(self) -> None:
        """Raises ValueError where tables contradict each other."""
        if isinstance(self.config, LadderTraining):
            if min(self.config.crop, self.config.late_crop) < self.loss.smallest_crop():
                least = self.loss.smallest_crop()
                raise ValueError(f"this loss needs crops of at least {least} pixels")
        elif self.loss != LossSettings():
            raise ValueError("[loss] is for the system ladder alone")

    def task(self, crops: "Crops") -> "Task":
        if isinstance(self.shape, LadderConfig):
            from vqcodec.training.ladder import LadderTask

            assert isinstance(self.config, LadderTraining)
            return LadderTask(self.config, self.shape, crops, self.loss)
        from vqcodec.autoencoders.system import Config
        from vqcodec.training.systems import SystemTask

        assert isinstance(self.config, SystemTraining) and isinstance(self.shape, Config)
        return SystemTask(self.config, self.card.system, self.shape)

    def smoke(self) -> "Recipe":
        """The same for an attempt of seconds."""
        shape = SMOKE_SHAPE if isinstance(self.shape, LadderConfig) else self.shape
        config = smoke_config(self.config)
        if isinstance(config, LadderTraining) and self.loss.smallest_crop() > config.crop:
            config = replace(config, crop=192, late_crop=192)
        data = replace(self.data, limit=36)
        return replace(self, data=data, config=config, shape=shape)

    def resolved(self) -> dict[str, dict[str, Any]]:
        """All tables with all values, as a file has them."""
        return {
            "card": self.card.all_values(),
            "data": self.data.all_values(),
            "loss": self.loss.all_values(),
            "shape": self.shape.all_values(),
            "training": self.config.all_values(),
        }

    def text(self) -> str:
        """As a file that ``read_recipe`` takes."""
        tables = self.resolved().items()
        return "\n".join("\n".join([f"[{n}]", *toml_lines(t), ""]) for n, t in tables)


def read_recipe(path: Path | None, changes: Sequence[str] = ()) -> Recipe:
    """A recipe's file, or the defaults, with changes such as 'training.lr=1e-4' or 'lr=1e-4'.

    Raises InputError of the file and UsageError of a change, of one line.
    """
    tables: Tables = {}
    try:
        if path is not None:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a recipe: {error}") from error
    return recipe_of(tables, str(path), changes)


def recipe_of(tables: Tables, name: str, changes: Sequence[str] = ()) -> Recipe:
    """As ``read_recipe``, of what a file holds, which is changed; ``name`` is for messages."""
    try:
        _check_tables(tables)
        recipe = _recipe(tables)  # so that what is wrong with it is said of the file
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not a recipe: {error}") from error
    blame: dict[str, str] = {}  # error -> the change that brought it; a later one may mend it
    wrong: Exception | None = None
    for change in changes:
        try:
            _apply(change, tables)
        except ValueError as error:
            raise UsageError(f"{change}: {error}") from error
        try:
            recipe, wrong = _recipe(tables), None
        except (TypeError, ValueError) as error:
            wrong = error
            blame.setdefault(str(error), change)
    if wrong:
        raise UsageError(f"{blame[str(wrong)]}: {wrong}") from wrong
    return recipe


def _apply(change: str, tables: dict[str, Any]) -> None:
    """Set '[table.]key=value', the value as TOML has it or a bare word."""
    key, equals, text = change.partition("=")
    if not equals:
        raise ValueError("a setting is written KEY=VALUE or TABLE.KEY=VALUE")
    table, dot, name = key.strip().partition(".")
    if not dot:
        table, name = _table_of(table, tables), table
    if table not in TABLES:
        raise ValueError(f"there is no table {table!r}, but {', '.join(TABLES)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    tables.setdefault(table, {})[name] = value


def _table_of(name: str, tables: dict[str, Any]) -> str:
    """The table of a setting that is named without it."""
    config, shape = _classes(tables.get("card", {}).get("system", CardSettings.system))
    kinds: dict[str, type[Settings]] = {
        "card": CardSettings, "data": DataSettings, "loss": LossSettings, "shape": shape,
        "training": config,
    }  # fmt: skip
    names = {table: [field.name for field in fields(kind)] for table, kind in kinds.items()}
    found = [table for table in TABLES if name in names[table]]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"write {' or '.join(f'{table}.{name}' for table in found)}")
    known = {key: f"{table}.{key}" for table in TABLES for key in names[table]}
    near = get_close_matches(name, known, 1)
    hint = f"; {known[near[0]]!r} was meant, perhaps" if near else ""
    raise ValueError(f"there is no setting {name!r}{hint}")


def _check_tables(tables: dict[str, Any]) -> None:
    for name, table in tables.items():
        if name not in TABLES:
            raise TypeError(f"there is no table {name!r}, but {', '.join(TABLES)}")
        if not isinstance(table, dict):
            raise TypeError(f"{name} is not a table")


def _classes(system: str) -> tuple[type[TrainConfig], type[Settings]]:
    """What has the settings of [training] and [shape]. Raises ValueError."""
    if system == "ladder":
        return LadderTraining, LadderConfig
    if system not in autoencoders.SYSTEMS:
        known = ", ".join(["ladder", *autoencoders.SYSTEMS])
        raise ValueError(f"there is no system {system!r}, but {known}")
    return SystemTraining, autoencoders.classes(system)[1]


def _recipe(tables: dict[str, Any]) -> Recipe:
    card = CardSettings.from_dict(tables.get("card", {}))
    kind, sizes = _classes(card.system)
    config = kind.from_dict(tables.get("training", {}))
    shape = sizes.from_dict(tables.get("shape", {}))
    if not isinstance(shape, LadderConfig):
        config = replace(config, crop=shape.all_values()["side"])  # that of its squares
    loss = LossSettings.from_dict(tables.get("loss", {}))
    recipe = Recipe(card, DataSettings.from_dict(tables.get("data", {})), config, shape, loss)
    recipe.check()
    return recipe
