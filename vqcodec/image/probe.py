"""What a picture's file tells without being decoded."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from vqcodec.container import MAX_PIXELS
from vqcodec.image.opening import opened

# ITU-T T.81, table K.1
_LUMINANCE_STEPS = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


@dataclass(frozen=True)
class Header:
    """What is known of a picture's file without decoding it."""

    format: str  # Pillow's name: JPEG, PNG, WEBP, ...
    height: int  # as stored, before the orientation is applied
    width: int
    quality: int | None  # of JPEG, see ``_jpeg_quality``


def header(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Header:
    """Raises ImageError as ``read`` does, as far as the header tells."""
    with BytesIO(content) as stream, opened(stream, name, max_pixels) as found:
        im = found.im
        tables = getattr(im, "quantization", {})
        quality = _jpeg_quality(sum(tables[0])) if im.format == "JPEG" and 0 in tables else None
        return Header(im.format or "", im.height, im.width, quality)


def _jpeg_quality(total: int) -> int:
    """1..100: the quality at which the table of ITU-T T.81, K.1 has the most similar sum.

    total: of the 64 quantization steps for luminance. Quality scales the table as the library of
    the Independent JPEG Group does, and all programs that use it.
    """
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    steps = ((_LUMINANCE_STEPS[:, None] * scale + 50) // 100).clip(1, 255)
    return int(qualities[np.abs(steps.sum(0) - total).argmin()])
