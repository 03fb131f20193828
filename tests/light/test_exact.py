"""The exact layers of numpy give the integers of those of torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec import fixedpoint
from vqcodec.light import exact
from vqcodec.priors.network import Film, FixedFilm, apply_film

SEEDS = st.integers(0, 2**32 - 1)
LIMIT = 2**20


def activations(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float32, of all magnitudes."""
    largest = 2 ** rng.integers(1, 21, shape)
    return np.rint(rng.uniform(-1, 1, shape) * largest).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
def test_layers_are_those_of_fixedpoint(seed: int, h: int, w: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    grid, cells = activations(rng, h, w, channels), rng.permutation(h * w)[: 1 + h * w // 2]
    kernel = rng.normal(0, 2, (7, channels, 3, 3)).astype(np.float32)
    bias = rng.normal(0, 100, 7).astype(np.float32)
    theirs = fixedpoint.FixedConv3x3(torch.from_numpy(kernel), torch.from_numpy(bias))
    ours = exact.Linear(kernel.transpose(0, 2, 3, 1).reshape(7, -1), bias)
    seen = torch.from_numpy(grid)
    expected = theirs(seen, torch.from_numpy(cells)).numpy()
    found = np.concatenate([ours(rows) for rows in exact.patches(grid, cells)])
    assert np.array_equal(found, expected) and np.abs(found).max() <= LIMIT
    assert np.array_equal(exact.everywhere(ours, grid), theirs.everywhere(seen).numpy())

    weight = rng.normal(0, 2, (8, channels)).astype(np.float32)
    linear = fixedpoint.FixedLinear(torch.from_numpy(weight), torch.zeros(8))
    made = exact.each_cell(exact.Linear(weight, np.zeros(8, np.float32)).activated, grid)
    assert np.array_equal(made, fixedpoint.each_cell(linear.activated, seen).numpy())
    shuffled = fixedpoint.pixel_shuffle(torch.from_numpy(made))
    assert np.array_equal(exact.pixel_shuffle(made), shuffled.numpy())

    film = Film(channels, 6)
    torch.nn.init.normal_(film.linear.weight, generator=torch.Generator().manual_seed(seed))
    condition = tuple((rng.integers(-(2**30), 2**30, 6) / 2**27).tolist())
    rows = grid.reshape(-1, channels).astype(np.float64)
    scaled = apply_film(torch.from_numpy(rows), FixedFilm(film, torch.device("cpu")).at(condition))
    ours_scaled = exact.Film(film.linear.weight.detach().numpy()).at(condition)(rows.copy())
    assert np.array_equal(ours_scaled, scaled.numpy())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**21), 2**21), min_size=1, max_size=50))
def test_magnitudes_and_roundings_are_those_of_fixedpoint(units: list[int]) -> None:
    y = np.array(units, np.float32) / 1024
    expected = fixedpoint.log2_magnitude_units(torch.from_numpy(y)).numpy()
    assert np.array_equal(exact.log2_magnitude_units(y), expected)
    x = np.array(units) * 1.37
    assert np.array_equal(
        exact.round_activations(x.copy()),
        fixedpoint.round_activations(torch.from_numpy(x.copy())).numpy(),
    )


def test_patches_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = activations(np.random.default_rng(0), 5, 4, 3)
    whole = np.concatenate(list(exact.patches(grid, np.arange(20))))
    monkeypatch.setattr(exact, "CHUNK_CELLS", 7)
    parts = list(exact.patches(grid, np.arange(20)))
    assert [len(part) for part in parts] == [7, 7, 6]
    assert np.array_equal(np.concatenate(parts), whole)


def test_weights_that_could_round_are_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        exact.Linear(np.full((1, 9), 3e5, np.float32), np.zeros(1, np.float32))
