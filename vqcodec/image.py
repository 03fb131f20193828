"""Files to arrays and back."""

from pathlib import Path

import numpy as np
from PIL import Image


def read_rgb(path: Path) -> np.ndarray:
    """Pixels of a picture as (h, w, 3) uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
