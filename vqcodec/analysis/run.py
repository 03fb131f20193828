"""``vqcodec analyse``: all parts of an analysis that apply, and their files."""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vqcodec.analysis import ladder, sections
from vqcodec.analysis.page import Part, page
from vqcodec.analysis.subject import LeftOut, Made, Settings, subject
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.codec import Codec
from vqcodec.rate import tune_name
from vqcodec.training.data import Track

ENTROPIES = (
    "Entropies have the correction of Miller and Madow; mutual information is of sums of those. "
    "'shuffled' is what is left of it where nothing is shared: its bias."
)


@dataclass(frozen=True)
class Report:
    """Numbers, PNG files by name, and a page that shows them."""

    numbers: dict[str, Any]
    figures: dict[str, bytes]
    page: str

    def json(self) -> str:
        """Numbers to six digits; null where JSON has none, as for the PSNR of equal pictures."""
        return json.dumps(_plain(self.numbers), ensure_ascii=False, allow_nan=False)


def analyse(
    codec: Codec, data: Path, settings: Settings, track: Track = lambda items, name: items
) -> Report:
    """Look at a codec on pictures in ``data``.

    ``track`` is given what is worked through and a name for it. Raises what reading ``data`` does.
    """
    model = codec.system.model
    numbers: dict[str, Any] = {
        "codec": codec.card.id,
        "system": codec.card.system,
        "shape": asdict(model.config),  # type: ignore[call-overload]
        "weights_sha256": codec.card.sha256,
        "data": data.name,
        "settings": asdict(settings),
    }
    parts: dict[str, tuple[Callable[..., Made], Any]]
    if isinstance(codec.system, GridCodec):
        squares = subject(codec.system, data, settings, track)
        numbers |= {"squares": len(squares.squares.pixels), "entropies": ENTROPIES}
        parts = {name: (section, squares) for name, section in sections.SECTIONS.items()}
    else:
        seen = ladder.look(codec, data, settings, track)
        tune = tune_name(codec.card, codec.span[0])
        numbers |= {"tune": tune, "pictures": seen.pictures, "pixels": seen.pixels}
        parts = {name: (section, seen) for name, section in ladder.SECTIONS.items()}
    figures: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    shown: list[Part] = []
    for name, (section, seen_of) in parts.items():
        try:
            numbers[name], made = section(seen_of)
        except LeftOut as why:
            left_out[name] = str(why)
            continue
        figures |= made
        shown.append(Part(name, inspect.getdoc(section) or "", made))
    numbers |= {"left_out": left_out, "files": sorted(figures)}
    return Report(numbers, figures, page(codec.card, data.name, shown, left_out))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
