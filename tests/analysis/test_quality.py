"""Likelihood and features of what codes decode to, and what is drawn from them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analysed import DEPTHWISE
from tiny_codec import made, photo

from vqcodec.analysis import features, sections
from vqcodec.analysis.subject import LeftOut, Settings, Squares, Subject, encode, parts
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.autoencoders.rrvq import RRVQ
from vqcodec.codec import Codec


def subject_of(codec: Codec, pixels: np.ndarray) -> Subject:
    grids = codec.system
    assert isinstance(grids, GridCodec)
    levels, whole = parts(grids)
    squares, settings = Squares(pixels, None), Settings()

    def track(items: Any, name: str) -> Any:
        return items

    made = encode(grids, pixels, whole, track)
    return Subject(grids, squares, None, settings, levels, whole, made, {}, track)


@pytest.mark.parametrize("likelihood", ["ce", "mix"])
def test_the_likelihood_of_pixels_and_the_rate_of_codes_are_apart(
    tmp_path: Path, likelihood: str
) -> None:
    """Nats of a sub-pixel given the codes, as DQ's tables 3 and 4 have them."""
    codec = made(tmp_path, "dqae", replace(DEPTHWISE, likelihood=likelihood))
    model, pixels = codec.system.model, np.stack([photo(16, 16, seed) for seed in range(6)])
    seen = subject_of(codec, pixels)
    numbers, figures = sections.likelihood(seen)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = model.loss(x, 1.0, torch.Generator())["pixels"]
    assert not figures and numbers["per"] == "sub-pixel"
    assert numbers["pixels"]["nats"] == pytest.approx(float(expected), rel=1e-5)
    nats = 3 * (4 * math.log(8) + 16 * math.log(4)) / (3 * 16 * 16)
    assert numbers["codes_at_fixed_length"]["nats"] == pytest.approx(nats)


def test_the_bound_of_rrvq_is_told_in_bits_of_a_sub_pixel(seen: dict[str, Subject]) -> None:
    one = seen["rrvq"]
    numbers, _ = sections.likelihood(one)
    x = torch.from_numpy(one.squares.pixels).permute(0, 3, 1, 2) / 255
    model = one.codec.model
    assert isinstance(model, RRVQ)
    bound = model.bound(x, torch.Generator().manual_seed(one.settings.seed)).mean()
    assert numbers["elbo"]["bits"] == pytest.approx(float(bound), rel=1e-4)
    with torch.no_grad():
        file = model.loss(x, 1.0, torch.Generator())["loss"]
    assert numbers["file"]["bits"] == pytest.approx(float(file), rel=1e-4)


def test_squared_errors_are_no_likelihood(seen: dict[str, Subject]) -> None:
    for name in ("hqa", "dqae"):
        with pytest.raises(LeftOut, match="no distribution"):
            sections.likelihood(seen[name])


def test_the_frechet_distance_of_gaussians_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (200_000, 3)) * [1, 2, 3] + [1, 0, 0]
    b = rng.normal(0, 1, (200_000, 3)) * [2, 2, 1]
    assert features.frechet(a, b) == pytest.approx(1 + 1 + 0 + 4, rel=0.02)
    assert features.frechet(a, a) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="two pictures"):
        features.frechet(a[:1], b)


@pytest.mark.parametrize("name", features.NETWORKS)
def test_what_is_further_from_a_picture_is_further_in_features(name: str) -> None:
    rng = np.random.default_rng(0)
    squares = np.stack([photo(32, 32, seed) for seed in range(40)])
    noisy = [
        (squares + rng.normal(0, sigma, squares.shape)).clip(0, 255).astype(np.uint8)
        for sigma in (0, 10, 60)
    ]
    seen = [features.of(some, name) for some in noisy]
    distances = [features.distance(seen[0], other) for other in seen]
    assert distances[0] == 0 and distances[0] < distances[1] < distances[2]
    assert np.array_equal(features.of(squares[:3], name), features.of(squares[:3], name))


def test_few_squares_have_a_feature_distance_and_no_frechet_distance(
    seen: dict[str, Subject],
) -> None:
    numbers, figures = sections.perception(seen["hqa"])
    assert set(figures) == {"perception.png"} and "128 squares" in numbers["frechet_left_out"]
    for rate in seen["hqa"].rates:
        assert set(numbers["rate_points"][rate]) == {"feature_distance"}
        assert numbers["rate_points"][rate]["feature_distance"] > 0


def test_classes_that_codes_tell_are_found(seen: dict[str, Subject]) -> None:
    numbers, _ = sections.classification(seen["hqa"])
    assert numbers["classes"] == 2 and numbers["learned_from"] == 60
    finest = numbers["4bit-8x8"]
    assert len(finest["independent"]["by_codes"]) == 64
    assert finest["independent"]["best"] == 1 and finest["one_step"]["best"] == 1


def test_more_decodes_in_a_mean_have_a_lower_error(seen: dict[str, Subject]) -> None:
    """E|mean of n - x|^2 = |E - x|^2 + var / n, so that halving adds up."""
    numbers, _ = sections.stochastic(seen["hqa"])
    assert list(numbers) == ["4bit-1x1", "4bit-2x2", "4bit-4x4"]
    for row in numbers.values():
        mse = [row["mean_of"][str(n)]["mse"] for n in sections.AVERAGES]
        assert mse == sorted(mse, reverse=True)
        variance = (mse[0] - mse[4]) / (1 - 1 / 14)
        assert mse[1] == pytest.approx(mse[0] - variance / 2, rel=0.01)


def test_interpolation_begins_and_ends_with_the_codes_of_the_pictures(
    seen: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = seen["hqa"]
    asked = []
    squares = one.codec.squares

    def spy(codes: list[np.ndarray], index: int) -> np.ndarray:
        asked.append((index, codes[0]))
        return squares([*codes], index)

    monkeypatch.setattr(one.codec, "squares", spy)
    numbers, _ = sections.interpolation(one)
    assert [index for index, _ in asked] == [0, 1, 2, 3]
    for index, grid in asked:
        assert np.array_equal(grid[[0, -1]], one.at(index, 2)[0])
        changed = numbers[one.rates[index]]["codes_changed_by_step"]
        assert len(changed) == sections.STEPS - 1
        assert sum(changed) >= (grid[0] != grid[-1]).sum()


def test_all_codewords_of_a_single_code_are_decoded(seen: dict[str, Subject]) -> None:
    for name, count in (("hqa", 16), ("pqvae", 16), ("rrvq", 4)):
        numbers, _ = sections.codewords(seen[name])
        assert numbers["codewords"] == count and 1 < numbers["distinct_pictures"] <= count
