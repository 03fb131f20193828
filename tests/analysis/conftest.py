"""Codecs, pictures and what analysis sees of both."""

from pathlib import Path

import numpy as np
import pytest
from analysed import SHAPES
from tiny_codec import made, photo

from vqcodec.analysis.subject import Settings, Subject, subject
from vqcodec.codec import Codec


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes: dark and bright."""
    path = tmp_path_factory.mktemp("data") / "two.npz"
    pixels = np.stack([photo(32, 32, seed) // 2 + 127 * (seed % 2) for seed in range(120)])
    y = np.arange(120) % 2
    np.savez(path, x_train=pixels[:80], y_train=y[:80], x_test=pixels[80:], y_test=y[80:])
    return path


@pytest.fixture(scope="session")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Codec]:
    return {
        name: made(tmp_path_factory.mktemp(name), name, shape) for name, shape in SHAPES.items()
    }


@pytest.fixture(scope="session")
def seen(codecs: dict[str, Codec], data: Path) -> dict[str, Subject]:
    settings = Settings(number=40, learned=60, short_side=16)
    return {
        name: subject(codec.system, data, settings, lambda items, _: items)  # type: ignore[arg-type]
        for name, codec in codecs.items()
    }
