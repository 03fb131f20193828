"""In a program with settings of its own for torch: what is made is the same, and they stay."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import vqcodec
from vqcodec import metrics, zoo
from vqcodec.metrics import blur
from vqcodec.metrics.quality import quality_of

PHOTO = Path(__file__).parent / "data" / "photo.png"
IDS = [card.id for card in zoo.cards()]


@cache
def pixels() -> np.ndarray:
    return np.array(vqcodec.decode(vqcodec.encode(PHOTO, "8bit", device="cpu"), device="cpu"))[
        100:148, 100:164
    ].copy()


def files(codec: str, target: str | None = None) -> tuple[bytes, np.ndarray]:
    """A file at the target or the codec's own rate, and its pixels, by a codec that is loaded."""
    zoo._load.cache_clear()
    data = vqcodec.encode(pixels(), target, codec=codec, device="cpu")
    return data, np.array(vqcodec.decode(data, device="cpu"))


EXPECTED = cache(files)


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": double,
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": deterministic,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("codec", "target"), [("photo-2", "50q"), ("hqa-thumbs", None), ("rrvq-thumbs", None)]
)
def test_the_program_s_settings_change_nothing(
    codec: str, target: str | None, setting: str
) -> None:
    data, decoded = EXPECTED(codec, target)
    with SETTINGS[setting]():
        within = files(codec, target)
    assert within[0] == data and np.array_equal(within[1], decoded)
    assert np.array_equal(np.array(vqcodec.decode(data, device="cpu")), decoded)


@pytest.mark.parametrize("codec", IDS)
def test_the_program_s_settings_are_left(codec: str, two_threads: None) -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.benchmark,
            torch.get_rng_state().tolist(),
        )

    torch.manual_seed(7)
    before = state()
    files(codec)
    assert state() == before


def test_no_setting_leaks_out_between_the_bands_of_a_picture() -> None:
    from vqcodec.decompress import decompress_rows

    model = vqcodec.load_codec("photo-2", "cpu")
    data = vqcodec.encode(pixels(), "6bit", codec="photo-2", device="cpu")
    with torch.autocast("cpu"):
        for _ in decompress_rows(model, data).bands:
            assert torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()


def test_a_codec_that_was_loaded_within_inference_mode_works_outside() -> None:
    zoo._load.cache_clear()
    with torch.inference_mode():
        model = vqcodec.load_codec("photo-2", "cpu")
    assert not any(weight.is_inference() for weight in model.system.model.parameters())


FORK = """
import multiprocessing, sys
import torch
import vqcodec

torch.set_num_threads(2)
data = vqcodec.encode(sys.argv[1], "6bit", device="cpu")
size = vqcodec.decode(data, device="cpu").size

def decoded(index):
    return vqcodec.decode(data, device="cpu").size

with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map_async(decoded, range(2)).get(timeout=60) == [size, size]
assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked"
)
def test_a_fork_of_a_process_that_has_decoded_decodes() -> None:
    subprocess.run([sys.executable, "-c", FORK, str(PHOTO)], check=True, timeout=120)


@pytest.mark.parametrize("setting", SETTINGS)
def test_metrics_are_the_same(setting: str) -> None:
    original = np.tile(pixels(), (3, 3, 1))
    decoded = original // 2
    expected = metrics.measure(original, decoded), quality_of(original, decoded)
    blur._band.cache_clear()  # as at their first use
    with SETTINGS[setting]():
        assert (metrics.measure(original, decoded), quality_of(original, decoded)) == expected
