"""Pictures beside one original: bytes, metrics, and where each is worst."""

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vqcodec import metrics
from vqcodec.errors import ImageError
from vqcodec.progress import Advance

TILE = 96  # pixels, both sides: what is shown enlarged
_STEP = 16  # pixels between the squares that are looked at
_EXACT_PIXELS = 1_000_000  # larger pictures are shown as WebP of quality 95


@dataclass(frozen=True)
class Shown:
    """A picture: its name, the bytes of its file, and its pixels (h, w, 3) uint8."""

    name: str
    n_bytes: int
    pixels: np.ndarray


def compare(
    pictures: Sequence[Shown], which: Collection[str], advance: Advance | None = None
) -> dict[str, Any]:
    """Each picture after the first against it, for JSON: bytes, bpp and the metrics of these ids.

    ``advance`` is told of each metric of each picture. A metric is None where the picture is too
    small for it, PSNR also where the two are equal ('equal'). Raises ImageError where sizes differ.
    """
    original = pictures[0]
    height, width = original.pixels.shape[:2]
    for picture in pictures:
        if picture.pixels.shape != original.pixels.shape:
            size = f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}"
            raise ImageError(
                f"{picture.name}: {size} pixels, but {original.name} has {width}x{height}"
            )
    rows = []
    for picture in pictures:
        values: dict[str, float | None] = {}
        for metric in metrics.METRICS if picture is not original else ():
            if metric.id in which:
                values |= metrics.measure(original.pixels, picture.pixels, [metric.id])
                if advance:
                    advance()
        rows.append(
            {
                "name": picture.name,
                "bytes": picture.n_bytes,
                "bpp": round(8 * picture.n_bytes / (width * height), 6),
                "equal": bool(np.array_equal(picture.pixels, original.pixels)),
                "metrics": {
                    name: None if value is None or not np.isfinite(value) else round(value, 5)
                    for name, value in values.items()
                },
            }
        )
    return {"width": width, "height": height, "original": rows[0], "pictures": rows[1:]}


def for_page(
    pictures: Sequence[Shown], found: dict[str, Any], which: Collection[str]
) -> dict[str, Any]:
    """What compare.html shows: all pictures, and the worst tile of each that is compared."""
    rows = [found["original"], *found["pictures"]]
    described = [
        {"id": m.id, "label": m.label, "unit": m.unit, "source": m.source}
        for m in metrics.METRICS
        if m.id in which
    ]
    maps = [similarity(pictures[0].pixels, picture.pixels) for picture in pictures[1:]]
    return {
        "width": found["width"],
        "height": found["height"],
        "metrics": described,
        "pictures": [
            row | {"src": _uri(picture.pixels)} for row, picture in zip(rows, pictures, strict=True)
        ],
        "tiles": [_tiles(pictures, maps, of) for of in range(len(maps))],
    }


def similarity(original: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """SSIM of luma in squares of TILE pixels (of the whole side where it is shorter), _STEP apart.

    original, decoded: (h, w, 3) uint8. (rows, columns) float32.
    """
    import torch
    import torch.nn.functional as F

    from vqcodec.metrics import ssim

    x, x_hat = (torch.tensor(p).permute(2, 0, 1)[None] for p in (original, decoded))
    h, w = (min(TILE, side) for side in x.shape[2:])
    if min(h, w) < ssim.WINDOW:  # too small for its window: one square
        return np.ones((1, 1), np.float32)
    with torch.no_grad():
        local = ssim.luma_map(x_hat, x)
    window = h - ssim.WINDOW + 1, w - ssim.WINDOW + 1  # of the map
    return F.avg_pool2d(local, window, _STEP)[0, 0].numpy()


def _tiles(pictures: Sequence[Shown], maps: Sequence[np.ndarray], of: int) -> dict[str, Any]:
    """The square where picture ``of`` of those compared is worst, of all pictures."""
    row, column = np.unravel_index(int(maps[of].argmin()), maps[of].shape)
    top, left = int(row) * _STEP, int(column) * _STEP
    shown = [
        {
            "src": _uri(picture.pixels[top : top + TILE, left : left + TILE]),
            "ssim": round(float(maps[index - 1][row, column]), 5) if index else None,
        }
        for index, picture in enumerate(pictures)
    ]
    return {"left": left, "top": top, "side": TILE, "shown": shown}


def _uri(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    exact = pixels.shape[0] * pixels.shape[1] <= _EXACT_PIXELS
    image.save(stream, "WEBP", lossless=exact, quality=0 if exact else 95, method=0 if exact else 2)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
