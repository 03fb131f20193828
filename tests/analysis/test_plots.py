"""Plots can be read where a page shows them at 600 pixels."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from vqcodec.analysis import plots
from vqcodec.bench import style


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_no_figure_of_maps_is_wider_than_the_others(count: int) -> None:
    """Wider ones would be made smaller on a page, with all that is written in them."""
    values = np.linspace(-1, 1, 81).reshape(9, 9)
    maps = {f"map {i}": values for i in range(count)}
    pixels = {name: np.zeros((40, 60, 3), np.uint8) for name in maps}
    for made in (plots.heat_maps(maps, "bits"), plots.beside(pixels, maps)):
        with Image.open(io.BytesIO(made)) as picture:
            assert picture.width == round(style.WIDTH * style.DPI)
