"""The squares that are looked at."""

import numpy as np

from vqcodec.analysis.subject import draw, tiles
from vqcodec.training.data import Labelled


def test_squares_are_whole_ones_from_the_middle() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 37, 3), np.uint8)
    cut = tiles(pixels, 16)
    assert cut.shape == (2, 16, 16, 3)
    assert np.array_equal(np.concatenate(list(cut), 1), pixels[2:18, 2:34])


def test_each_square_is_drawn_once_and_labels_belong_to_whole_pictures() -> None:
    small = [np.full((9, 9, 3), i, np.uint8) for i in range(30)]
    labels = np.arange(30) % 7
    drawn = draw(Labelled(small, labels), 16, 0, 20, np.random.default_rng(0))
    values = drawn.pixels[:, 0, 0, 0]
    assert len(set(values)) == 20 and drawn.labels is not None
    assert np.array_equal(drawn.labels, labels[values])
    large = [np.full((16, 32, 3), i, np.uint8) for i in range(5)]
    drawn = draw(Labelled(large, np.arange(5)), 16, 0, 99, np.random.default_rng(0))
    assert drawn.pixels.shape[0] == 10 and drawn.labels is None
    assert drawn.pixels[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
