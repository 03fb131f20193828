"""``vqcodec analyse``: all parts of an analysis that apply, and their files."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vqcodec.analysis.sections import SECTIONS
from vqcodec.analysis.subject import LeftOut, Settings, subject
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.codec import Codec
from vqcodec.errors import OutputError, UsageError
from vqcodec.files import atomic_write, make_folder
from vqcodec.training.data import Track

JSON = "analysis.json"
ENTROPIES = (
    "Entropies have the correction of Miller and Madow; mutual information is of sums of those. "
    "'shuffled' is what is left of it where nothing is shared: its bias."
)


@dataclass(frozen=True)
class Report:
    """Numbers, and PNG files by name."""

    numbers: dict[str, Any]
    figures: dict[str, bytes]

    def json(self) -> str:
        """Numbers to six digits; null where JSON has none, as for the PSNR of equal pictures."""
        return json.dumps(_plain(self.numbers), ensure_ascii=False, allow_nan=False)


def analyse(
    codec: Codec, data: Path, settings: Settings, track: Track = lambda items, name: items
) -> Report:
    """Look at a codec on the pictures held out in ``data``.

    ``track`` is given what is worked through and a name for it. Raises UsageError for a codec that
    is none of the systems of the papers, and what reading ``data`` does.
    """
    grids = codec.system
    if not isinstance(grids, GridCodec):
        raise UsageError(
            f"{codec.card.id} is of the system {codec.card.system}; "
            "what the papers show is of their systems"
        )
    seen = subject(grids, data, settings, track)
    numbers: dict[str, Any] = {
        "codec": codec.card.id,
        "system": codec.card.system,
        "shape": asdict(grids.model.config),
        "weights_sha256": codec.card.sha256,
        "data": data.name,
        "squares": len(seen.squares.pixels),
        "settings": asdict(settings),
        "entropies": ENTROPIES,
    }
    figures: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    for name, section in SECTIONS.items():
        try:
            numbers[name], made = section(seen)
            figures |= made
        except LeftOut as why:
            left_out[name] = str(why)
    numbers |= {"left_out": left_out, "files": sorted(figures)}
    return Report(numbers, figures)


def check_folder(folder: Path, force: bool) -> None:
    """Makes it, before the work. Raises OutputError, also where it holds an analysis already."""
    make_folder(folder)
    there = sorted(path.name for path in folder.iterdir() if path.suffix in (".png", ".json"))
    if there and not force:
        raise OutputError(f"{folder}: holds {there[0]} already; --force overwrites")


def write(report: Report, folder: Path, force: bool) -> None:
    """Raises OutputError."""
    for name, content in {**report.figures, JSON: (report.json() + "\n").encode()}.items():
        with atomic_write(folder / name, force=force) as file:
            file.write(content)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
