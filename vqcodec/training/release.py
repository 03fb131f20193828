"""From a trained model to a codec that has been tried: tables, weights, card, measured files."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vqcodec import image, metrics
from vqcodec.card import read_card
from vqcodec.codec import Codec
from vqcodec.compress import encode_at
from vqcodec.decompress import decompress
from vqcodec.errors import CodecError, OutputError, reason
from vqcodec.files import make_folder
from vqcodec.metrics.psnr import psnr_db
from vqcodec.rate import parse_rate
from vqcodec.training import export
from vqcodec.training.batches import Crops
from vqcodec.training.recipe import Recipe
from vqcodec.training.refusals import CARD, WEIGHTS, check_no_codec
from vqcodec.training.task import Task

Track = Callable[[str, int], AbstractContextManager[Callable[[], None]]]  # name, total -> advance


def build(
    recipe: Recipe,
    task: Task,
    model: nn.Module,
    crops: Crops,
    held_out: Sequence[np.ndarray],
    rates: Sequence[str],
    fitting: int,
    how: dict[str, Any],
    folder: Path,
    track: Track,
) -> list[dict[str, Any]]:
    """Write a model's codec to an existing folder and measure it; returns the points of its card.

    crops, fitting: the training's, of which so many are coded for the tables
    held_out, rates: what is measured at these rate points, with files
    how: for the card, how it was trained

    Raises CodecError where a file does not decode to what its encoder saw.
    """
    with track("tables", task.fitting_steps(fitting)) as advance:
        tensors = task.export(model.cpu(), crops, fitting, advance)
    words, points, _ = task.rates()
    fields = {name: value for name, value in recipe.card.all_values().items() if value != ""}
    fields |= {"title": recipe.card.title, "licence": recipe.card.licence, "rates": words}
    if points:
        fields["points"] = list(points)
    fields["sha256"] = export.write_weights(folder, tensors)
    resolved = recipe.resolved()
    tables = {"training": how, "shape": task.sizes()} | {
        f"recipe.{name}": resolved[name] for name in ("shape", "loss", "training")
    }
    export.write_card(folder, fields, tables, [])
    weights = (folder / WEIGHTS).read_bytes()
    trained = Codec.from_weights(read_card(folder), weights, "cpu")
    measured: list[dict[str, Any]] = []
    tunes = trained.card.tunes or (None,)
    with track("measuring", len(held_out) * len(rates) * len(tunes)) as advance:
        for tune, rate in product(tunes, rates):
            names = {"rate": rate} if tune is None else {"tune": tune, "rate": rate}
            measured.append(names | measure(trained.tuned(tune), held_out, rate, advance))
    export.write_card(folder, fields, tables, measured)
    return measured


def measure(
    trained: Codec, pictures: Sequence[np.ndarray], rate: str, advance: Callable[[], None]
) -> dict[str, float]:
    """Means over finished files, decoded from their bytes: bpp, PSNR in dB, and for photographs,
    which the ladder is for, SSIMULACRA2.

    Raises CodecError where a file does not decode to what its encoder saw.
    """
    index = trained.rate_index(parse_rate(rate))
    points: list[tuple[float, float]] = []
    scores: list[float] = []
    for pixels in pictures:
        height, width = pixels.shape[:2]
        data, coded = encode_at(trained, image.Picture(pixels), index)
        decoded = decompress(trained, data).pixels
        point = trained.system.point(index)
        expected = np.concatenate(list(trained.system.bands(coded.latent, height, width, point)))
        if not np.array_equal(decoded, expected):
            name = f"{trained.card.id}: a file of {width} x {height} pixels at {rate}"
            raise CodecError(f"{name} does not decode to what was encoded")
        points.append((8 * len(data) / (height * width), psnr_db(pixels, decoded)))
        if trained.card.system == "ladder":
            score = metrics.measure(pixels, decoded, ["ssimulacra2"])["ssimulacra2"]
            scores += [] if score is None else [score]  # where it is not too small
        advance()
    bpp, psnr = np.mean(points, 0).tolist()
    found = {"bpp": round(bpp, 4), "psnr_db": round(psnr, 3)}
    return found | ({"ssimulacra2": round(float(np.mean(scores)), 2)} if scores else {})


@contextmanager
def published(out: Path, force: bool) -> Iterator[Path]:
    """A folder to write a codec to, which becomes ``out`` if the block ends without an error.

    An existing ``out`` keeps its other files. Without ``force`` no codec is replaced. Raises
    OutputError.
    """
    check_no_codec(out, force)
    where = out if out.is_dir() else out.parent
    make_folder(where)
    try:
        with tempfile.TemporaryDirectory(prefix=".vqcodec-", dir=where) as temporary:
            made = Path(temporary) / "codec"
            made.mkdir()  # with the permissions that the umask leaves
            yield made
            if not out.exists():
                os.rename(made, out)
                return
            # Without a card a folder is no codec: there never is one with another's weights.
            (out / CARD).unlink(missing_ok=True)
            for name in (WEIGHTS, CARD):
                os.replace(made / name, out / name)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {reason(error)}") from error
