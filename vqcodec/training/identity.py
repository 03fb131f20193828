"""What a new codec calls itself: a recipe's card describes the codec that we made with it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from vqcodec import zoo
from vqcodec.card import MAX_CODEC
from vqcodec.training.recipe import CardSettings, Recipe, read_recipe
from vqcodec.training.refusals import check_name

PRIVATE = 8192  # numbers from here on belong to whoever trains; those below are the project's


def with_own_identity(
    recipe: Recipe, changes: Sequence[str], name: str | None, out: Path
) -> Recipe:
    """The recipe with a card of the codec that is to be trained, in the folder ``out``.

    Where the recipe is one of the project's, id, number and credits are not those of its card but
    ``name``, or else the folder's, a number of the private range, and what ``changes`` say. Who
    sets card.id keeps the recipe's card. Raises UsageError for a name that cannot be an id, or is
    that of a shipped codec.
    """
    if name is not None:
        check_name(name)
    card = recipe.card
    chosen = {change.partition("=")[0].strip().removeprefix("card.") for change in changes}
    if "id" not in chosen and card.id in _ours():
        kept = {key: getattr(card, key) for key in chosen & {"number", "title", "licence", "data"}}
        card = CardSettings(
            system=card.system,
            title=f"Trained with the recipe {card.id}",
            default_rate=card.default_rate,
        )
        card = replace(card, **kept)
    if card.id == CardSettings.id or name is not None:
        card = replace(card, id=name or _from_folder(out))
    if card.number == CardSettings.number and "number" not in chosen:
        card = replace(card, number=private_number(card.id))
    return replace(recipe, card=card)


def private_number(id: str) -> int:
    """The number of a codec that has none yet, PRIVATE..MAX_CODEC, always the same for an id.

    Two codecs may share it: files name the hash of their codec's weights too.
    """
    digest = int.from_bytes(sha256(id.encode()).digest()[:8], "big")
    return PRIVATE + digest % (MAX_CODEC + 1 - PRIVATE)


def _ours() -> set[str]:
    """The ids of the project's codecs and recipes."""
    recipes = {read_recipe(path).card.id for path in zoo.recipes().values()}
    return recipes | {card.id for card in zoo.shipped()}


def _from_folder(out: Path) -> str:
    """The folder's name as one for a codec."""
    plain = re.sub(r"[^\w.-]+", "-", out.resolve().name).lstrip(".-")[:64] or "untitled"
    return f"my-{plain}"[:64] if plain in {card.id for card in zoo.shipped()} else plain
