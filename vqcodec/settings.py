"""Settings from outside, as recipes and cards have them: dataclasses with defaults throughout.

Unknown names and values unlike the default are errors that say what was meant.
"""

import json
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

S = TypeVar("S", bound="Settings")

_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Settings:
    """A set of named values; a subclass lists them, with their defaults."""

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as ``all_values``."""
        default = type(self)().all_values()
        return {k: v for k, v in self.all_values().items() if v != default[k]}

    def all_values(self) -> dict[str, Any]:
        """All of them, with lists for tuples, as TOML and JSON have them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """The defaults with ``values``, checked.

        Raises TypeError for an unknown name or a value unlike its default, and what ``check`` does.
        """
        defaults = {f.name: f.default for f in fields(cls)}
        plain = {}
        for name, value in values.items():
            if name not in defaults:
                near = get_close_matches(name, defaults, 1)
                hint = f"; {near[0]!r} was meant, perhaps" if near else ""
                raise TypeError(f"there is no setting {name!r}{hint}")
            plain[name] = _like(defaults[name], value, name)
        made = cls(**plain)
        made.check()
        return made

    def check(self) -> None:
        """Raises ValueError where the values contradict each other."""


def _like(default: Any, value: Any, name: str) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} is not a list")
        kinds = {type(item) for item in default}
        kind = kinds.pop() if len(kinds) == 1 else None
        return tuple(value if kind is None else (_one(kind, item, name) for item in value))
    return _one(type(default), value, name)


def _one(kind: type, value: Any, name: str) -> Any:
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise TypeError(f"{name} is not {_KINDS[kind]}")
    return value


def toml_lines(table: dict[str, Any]) -> list[str]:
    """KEY = VALUE: JSON's strings, numbers, booleans and flat lists are TOML too."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
