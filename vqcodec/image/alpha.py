"""Alpha as a grey PNG, which is how a .vqc file holds it."""

from io import BytesIO

import numpy as np
from PIL import Image

from vqcodec.errors import FormatError
from vqcodec.image.opening import line, open_image
from vqcodec.image.samples import raw


def encode_alpha(alpha: np.ndarray) -> bytes:
    """(h, w) uint8 as a grey PNG."""
    buffer = BytesIO()
    Image.fromarray(alpha).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def decode_alpha(data: bytes, width: int, height: int) -> np.ndarray:
    """Alpha (height, width) uint8 from ``encode_alpha``'s bytes, which need not be trusted.

    Raises FormatError unless they are a still 8-bit grey PNG of exactly that size.
    """
    try:
        im = open_image(BytesIO(data), only="PNG")
        if (im.mode, im.size, raw(im)[0]) != ("L", (width, height), "L"):
            raise FormatError(f"alpha is not {width} x {height} grey")
        if getattr(im, "n_frames", 1) != 1:
            raise FormatError("alpha is animated")
        return np.array(im)
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"broken alpha: {line(error)}") from error
