"""Arrays of pictures."""

import subprocess
import sys

import numpy as np
import pytest

from vqcodec import image


def test_importing_image_imports_no_torch() -> None:
    code = "import vqcodec.image, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_a_contact_sheet_holds_every_picture_once(count: int) -> None:
    pictures = [np.full((3, 5, 3), index, np.uint8) for index in range(count)]
    sheet = image.contact_sheet(pictures)
    counts = np.bincount(sheet[:, :, 0].ravel(), minlength=256)
    assert (counts[:count] == 15).all() and counts[count:255].sum() == 0
