"""``vqcodec analyse``: estimates against closed forms, and the command from codec to files."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tiny_codec import made, photo

from vqcodec.analysis import bayes, features, information, sections
from vqcodec.analysis.subject import (
    LeftOut,
    Settings,
    Squares,
    Subject,
    draw,
    encode,
    parts,
    subject,
    tiles,
)
from vqcodec.autoencoders.dqae import DQAEConfig
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.autoencoders.pqvae import PQVAE, PQVAEConfig
from vqcodec.autoencoders.rrvq import RRVQ, RRVQConfig
from vqcodec.autoencoders.system import Config, Level
from vqcodec.cli.program import program
from vqcodec.codec import Codec
from vqcodec.priors.grid import GridPrior, uniform
from vqcodec.training import sources
from vqcodec.training.data import Labelled

HQA_1X1 = HQAConfig(side=16, codebook=16, dim=4, encoder=(4,) * 4, decoder=(4,) * 4, places=4096)
PROGRESSIVE = PQVAEConfig(side=32, channels=1, hidden=8, dim=8, rank=(4, 2), size=16, steps=8)
DEPTHWISE = DQAEConfig(
    side=16, width=8, blocks=0, dim=2, columns=3, sizes=(8, 4), quantizer="diveq", withhold=0.5
)
RESPONSIBLE = RRVQConfig(side=16, grids=(1, 2, 4), sizes=(4, 6, 8), embedding=6, width=12, fine=8)


def codes(count: int, size: int, seed: int, columns: int = 1) -> np.ndarray:
    """Independent codes, all as likely, (count, columns)."""
    return np.random.default_rng(seed).integers(0, size, (count, columns))


def interval(count: int, a: int, b: int) -> float:
    """Five standard deviations of the mutual information of independent columns, nats.

    2 n I, without a correction, is distributed as chi-square with (a - 1)(b - 1) degrees of
    freedom, whose mean the correction takes away.
    """
    return 5 * math.sqrt(2 * (a - 1) * (b - 1)) / (2 * count)


# --- information ----------------------------------------------------------------------------------


def test_the_entropy_of_counts_is_shannons_and_the_correction() -> None:
    assert information.entropy(np.array([4, 4, 0, 4, 4])) == pytest.approx(math.log(4) + 3 / 32)
    assert information.entropy(np.array([7, 0])) == 0
    assert information.entropy(np.zeros(3, int)) == 0
    counts = np.array([1, 2, 5])
    plain = -sum(p * math.log(p) for p in counts / 8)
    assert information.entropy(counts) == pytest.approx(plain + 2 / 16)


def test_the_correction_takes_away_the_bias_of_few_samples() -> None:
    found = [information.entropy_of(codes(400, 32, seed)[:, 0]) for seed in range(200)]
    bias = abs(np.mean(found) - math.log(32))
    rest = (32**2 - 1) / (12 * 400**2)  # the next term of the bias, (sum 1/p - 1) / 12n^2
    assert bias < rest + 5 * np.std(found) / math.sqrt(200)
    assert bias < (31 / 800) / 5  # a fifth of what it would be without


def test_equal_columns_share_their_entropy_and_a_parity_shares_nothing_with_one_part() -> None:
    a, b = codes(4000, 2, 0, 2).T
    assert information.mutual_information(a, a) == pytest.approx(information.entropy_of(a))
    assert information.conditional_entropy(a, a) == pytest.approx(0)
    assert abs(information.mutual_information(a, a ^ b)) < interval(4000, 2, 2)
    whole = information.mutual_information(2 * a + b, a)
    assert whole == pytest.approx(information.entropy_of(a))


def test_a_noisy_copy_shares_what_its_channel_lets_through() -> None:
    """A symmetric channel of K symbols: I = log K - H(e) - e log(K - 1)."""
    rng, size, wrong = np.random.default_rng(3), 8, 0.25
    a = rng.integers(0, size, 200_000)
    b = np.where(rng.random(len(a)) < wrong, (a + rng.integers(1, size, len(a))) % size, a)
    h = -wrong * math.log(wrong) - (1 - wrong) * math.log(1 - wrong)
    expected = math.log(size) - h - wrong * math.log(size - 1)
    # One sample says log p(b|a) / p(b), which has two values.
    spread = math.sqrt(wrong * (1 - wrong)) * math.log((1 - wrong) * (size - 1) / wrong)
    near = 5 * spread / math.sqrt(len(a))
    assert information.mutual_information(a, b) == pytest.approx(expected, abs=near)
    left = math.log(size) - expected
    assert information.conditional_entropy(b, a) == pytest.approx(left, abs=near)


@pytest.mark.parametrize("size", [2, 5, 16])
def test_independent_columns_share_nothing_within_the_spread_of_chance(size: int) -> None:
    columns = codes(20_000, size, size, 4)
    matrix = information.dependence(columns)
    assert np.array_equal(matrix, matrix.T)
    beside = ~np.eye(4, dtype=bool)
    assert np.abs(matrix[beside]).max() < interval(20_000, size, size)
    assert information.between(matrix) == pytest.approx(matrix[beside].mean())
    assert matrix.diagonal() == pytest.approx([information.entropy_of(c) for c in columns.T])


def test_shuffled_columns_show_the_bias_of_too_few_samples() -> None:
    """Of 256 x 256 pairs 1000 samples see few: independent columns seem to share much."""
    columns = codes(1000, 256, 1, 2)
    apparent = information.between(information.dependence(columns))
    shuffled = information.shuffled(columns, np.random.default_rng(0))
    assert apparent > 1
    assert information.between(information.dependence(shuffled)) == pytest.approx(apparent, 0.05)
    assert all(
        np.array_equal(*map(np.sort, pair)) for pair in zip(columns.T, shuffled.T, strict=True)
    )


def test_entropy_by_place_is_that_of_the_squares_at_that_place() -> None:
    grid = np.zeros((64, 2, 2, 3), int)
    grid[:, 0, 1, 2] = np.arange(64) % 4
    expected = np.zeros((2, 3))
    expected[1, 2] = (math.log(4) + 3 / 128) / 2  # one of two columns
    assert information.position_entropy(grid) == pytest.approx(expected)
    assert information.sequences(grid).shape == (64 * 6, 2)
    assert np.array_equal(information.sequences(grid)[5], grid[0, :, 1, 2])


# --- Bayes' rule ----------------------------------------------------------------------------------


def test_noisy_copies_of_the_class_are_right_as_often_as_a_majority_of_them() -> None:
    """Each code is the class, with probability 0.8: of 3, two right ones are enough."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60_000)
    seen = labels[:, None] ^ (rng.random((60_000, 3)) < 0.2)
    found = bayes.accuracies(
        seen[:30_000], labels[:30_000], seen[30_000:], labels[30_000:], np.full(3, 2)
    )
    # After two that differ both classes are as likely: right half of the time, 0.64 + 0.32 / 2.
    expected = [0.8, 0.8, 0.8**3 + 3 * 0.8**2 * 0.2]
    assert found == pytest.approx(expected, abs=5 * 0.4 / math.sqrt(30_000))


def test_a_class_that_only_pairs_tell_needs_the_step_between_them() -> None:
    rng = np.random.default_rng(1)
    seen = rng.integers(0, 2, (20_000, 2))
    labels = seen[:, 0] ^ seen[:, 1]
    half = (seen[:10_000], labels[:10_000], seen[10_000:], labels[10_000:], np.full(2, 2))
    assert bayes.accuracies(*half)[1] == pytest.approx(0.5, abs=5 * 0.5 / 100)
    assert bayes.accuracies(*half, np.array([-1, 0])).tolist()[1] == 1


def test_a_code_that_no_class_has_shown_leaves_the_others_to_decide() -> None:
    seen, labels = np.array([[0, 0], [1, 0], [0, 0], [1, 0]]), np.array([0, 1, 0, 1])
    found = bayes.accuracies(seen, labels, np.array([[0, 3], [1, 3]]), np.array([0, 1]), [2, 4])
    assert found.tolist() == [1, 1]


def test_parents_are_the_column_before_or_the_level_above_or_what_is_left_and_above() -> None:
    grids = [Level("a", (1, 2), (4, 4)), Level("b", (2, 2), (8,)), Level("c", (3, 2), (2,))]
    assert bayes.alphabets(grids).tolist() == [4] * 4 + [8] * 4 + [2] * 6
    assert bayes.parents(grids).tolist() == [
        *(-1, 0, 0, 1),  # a: left; the column before
        *(2, 3, 2, 3),  # b: the last column of a
        *(-1, 8, 8, 10, 10, 12),  # c does not fit b: left, or above
    ]
    cells = [np.arange(10)[:, None, None, None] + np.zeros((10, 2, 1, 2), int)]
    assert bayes.sequence([*cells, *cells]).shape == (10, 8)


# --- squares --------------------------------------------------------------------------------------


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


# --- sections -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes: dark and bright."""
    path = tmp_path_factory.mktemp("data") / "two.npz"
    pixels = np.stack([photo(32, 32, seed) // 2 + 127 * (seed % 2) for seed in range(120)])
    y = np.arange(120) % 2
    np.savez(path, x_train=pixels[:80], y_train=y[:80], x_test=pixels[80:], y_test=y[80:])
    return path


SHAPES: dict[str, Config] = {
    "dqae": DEPTHWISE,
    "hqa": HQA_1X1,
    "pqvae": PROGRESSIVE,
    "rrvq": RESPONSIBLE,
}


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Codec]:
    return {
        name: made(tmp_path_factory.mktemp(name), name, shape) for name, shape in SHAPES.items()
    }


@pytest.fixture(scope="module")
def seen(codecs: dict[str, Codec], data: Path) -> dict[str, Subject]:
    settings = Settings(number=40, learned=60, short_side=16)
    return {
        name: subject(codec.system, data, settings, lambda items, _: items)  # type: ignore[arg-type]
        for name, codec in codecs.items()
    }


def test_the_codes_are_those_of_files_at_each_rate_point(seen: dict[str, Subject]) -> None:
    for one in seen.values():
        for index in range(len(one.rates)):
            expected = one.codec.codes(one.squares.pixels, index)
            found = one.at(index)
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert list(seen["hqa"].levels) == ["layer4", "layer3", "layer2", "layer1"]
    assert seen["hqa"].whole == [0, 1, 2, 3] and seen["pqvae"].whole == [3]
    assert seen["dqae"].whole == [1] and list(seen["dqae"].levels) == ["2x2", "4x4"]


def test_the_squared_error_of_a_rate_point_is_that_of_its_pictures(
    seen: dict[str, Subject],
) -> None:
    for one in seen.values():
        rows, _ = sections.reconstructions(one)
        assert [row["name"] for row in rows[: len(one.rates)]] == list(one.rates)
        index = len(one.rates) - 1
        decoded = one.codec.squares([*one.at(index)], index).astype(float)
        original = one.squares.pixels.astype(float)
        if one.codec.grey_only:
            original = original.mean(-1, keepdims=True).round()
        mse = np.square((decoded - original) / 255).mean()
        assert rows[index]["mse"] == pytest.approx(mse)
        assert rows[index]["psnr_db"] == pytest.approx(-10 * math.log10(mse))


def test_several_levels_are_decoded_one_by_one(seen: dict[str, Subject]) -> None:
    rows, _ = sections.reconstructions(seen["rrvq"])
    names = [row["name"] for row in rows]
    assert names == ["3bit", "first 1 of 3 levels", "first 2 of 3 levels"] + [
        f"{level} alone" for level in ("z3", "z2", "z1")
    ]
    assert rows[1]["mse"] == rows[3]["mse"]  # the same codes
    rows, _ = sections.reconstructions(seen["dqae"])
    assert len(rows) == 5 and rows[0]["mse"] == rows[2]["mse"] == rows[3]["mse"]


def test_the_matrix_of_a_level_is_that_of_its_columns(seen: dict[str, Subject]) -> None:
    numbers, _ = sections.dependence(seen["dqae"])
    assert {name: row["samples"] for name, row in numbers.items()} == {"2x2": 160, "4x4": 640}
    for name, row in numbers.items():
        nats = np.array(row["nats"])
        first, last = seen["dqae"].codes[name][:, [0, 2]].swapaxes(0, 1).reshape(2, -1)
        assert nats.shape == (3, 3)
        assert nats[0, 2] == pytest.approx(information.mutual_information(first, last))
        entropies = sections.usage(seen["dqae"])[0][name]["columns"]
        assert nats.diagonal() == pytest.approx([c["entropy"]["nats"] for c in entropies])
        assert row["mean"]["bits"] == pytest.approx(row["mean"]["nats"] / math.log(2))


@torch.no_grad()
def test_a_code_left_out_of_an_additive_quantizer_is_what_it_had_added(
    seen: dict[str, Subject],
) -> None:
    model = seen["pqvae"].codec.model
    assert isinstance(model, PQVAE)
    some = torch.from_numpy(seen["pqvae"].at(3)[0][:4])
    last = model.decode_without(some, 7)
    torch.testing.assert_close(last, model.decode([some[:, :7]], "4bit-8"))
    nothing = model.decode_without(some[:, :1], 0)
    torch.testing.assert_close(nothing, model.decoder(torch.zeros(4, 8, 8, 8)))


@torch.no_grad()
def test_the_entropies_of_steps_are_those_of_the_softmax_of_distances(
    seen: dict[str, Subject],
) -> None:
    model = seen["pqvae"].codec.model
    assert isinstance(model, PQVAE)
    quantizer, z = model.quantizer, torch.randn(3, 8, 8, 8)
    found = quantizer.entropies(z)
    assert found.shape == (8, 3) and 0 <= found.min() <= found.max() <= math.log(16)
    e = quantizer.project(0, quantizer.partition(z)).T
    q = torch.softmax(-torch.cdist(e, quantizer.codebook).square(), 1)
    torch.testing.assert_close(found[0], -(q * q.log()).sum(1), atol=1e-4, rtol=1e-4)


def test_prefixes_and_rate_points_of_the_same_codes_have_the_same_error(
    seen: dict[str, Subject],
) -> None:
    numbers, figures = sections.progressive(seen["pqvae"])
    rows, _ = sections.reconstructions(seen["pqvae"])
    prefixes = numbers["mse_by_prefix"]
    assert [prefixes[n - 1] for n in (1, 2, 4, 8)] == pytest.approx([row["mse"] for row in rows])
    assert prefixes[6] - prefixes[7] == pytest.approx(numbers["mse_increase_without"][7], abs=1e-6)
    assert len(figures) == 3


def test_steps_with_two_columns_are_shown_by_column(tmp_path: Path, data: Path) -> None:
    shape = replace(PROGRESSIVE, steps=2, quantizer="sfdiveq")
    codec = made(tmp_path, "pqvae", shape, fitting=32)
    numbers, _ = sections.progressive(
        subject(codec.system, data, Settings(number=20, learned=20), lambda items, _: items)  # type: ignore[arg-type]
    )
    for name in ("mse_by_prefix", "mse_increase_without", "entropy_given_previous_nats"):
        assert len(numbers[name]) == 4, name
    assert numbers["posterior_entropy_nats"] == [0, 0, 0, 0]  # the posterior is all on one code


def test_the_bits_of_levels_are_those_of_the_priors_and_of_a_fixed_length(
    seen: dict[str, Subject],
) -> None:
    for name in ("hqa", "rrvq"):
        numbers, _ = sections.rates(seen[name])
        one = seen[name]
        for index in one.whole:
            point = numbers["rate_points"][one.rates[index]]
            ideal = one.codec.encode(one.squares.pixels[0], index).ideal_bits
            each = [sum(one.codec.encode(x, index).ideal_bits) for x in one.squares.pixels]
            assert len(ideal) == len(one.codec.model.levels(one.rates[index]))
            assert point["prior"] == pytest.approx(np.mean(each))
    assert numbers["levels"]["z2"]["fixed_length"] == pytest.approx(4 * math.log2(6))


def test_a_uniform_prior_costs_the_fixed_length(seen: dict[str, Subject]) -> None:
    one = seen["hqa"]
    kept = one.codec.priors["layer1"]
    one.codec.priors["layer1"] = GridPrior([uniform(16)])
    try:
        numbers, _ = sections.rates(one)
    finally:
        one.codec.priors["layer1"] = kept
    row = numbers["levels"]["layer1"]
    assert row["prior"] == pytest.approx(row["fixed_length"], rel=1e-5)


def test_a_histogram_of_uniform_codes_needs_a_little_more_than_a_fixed_length() -> None:
    """The cost of K - 1 frequencies from n codes is about (K - 1) / 2n nats a code."""
    made = codes(20_000, 8, 0).reshape(-1, 1, 1, 1)
    each = sections._histogram_bits(made, (8,)) / 20_000
    assert 3 < each < 3 + 3 * information.bits(7 / 20_000)


@torch.no_grad()
def test_the_divergence_of_a_level_is_that_of_its_posterior_from_its_prior(
    seen: dict[str, Subject],
) -> None:
    model, x = seen["rrvq"].codec.model, torch.rand(5, 3, 16, 16)
    assert isinstance(model, RRVQ)
    found = model.divergences(x)
    assert [tuple(v.shape) for v in found.values()] == [(5,)] * 3
    assert all((v >= -1e-5).all() for v in found.values())
    d = model.top_down.start[:, None, None].expand(5, -1, 1, 1)
    d, e_p = model.top_down.rungs[0](d)
    e_q = model._posterior(0)(model.bottom_up(x)[0], d)
    q, p = (model.codebook(0).log_responsibilities(e)[:, :, 0, 0] for e in (e_q, e_p))
    expected = (q.exp() * (q - p)).sum(1) / math.log(2)
    torch.testing.assert_close(found["z3"], expected)


def subject_of(codec: Codec, pixels: np.ndarray) -> Subject:
    grids = codec.system
    assert isinstance(grids, GridCodec)
    levels, whole = parts(grids)
    squares, settings = Squares(pixels, None), Settings()

    def track(items: Any, name: str) -> Any:
        return items

    made = encode(grids, pixels, whole, track)
    return Subject(grids, squares, None, settings, levels, whole, made, {}, track)


# --- likelihood and features ----------------------------------------------------------------------


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


# --- the command ----------------------------------------------------------------------------------


def analyse(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["analyse", *map(str, arguments)])


FIGURES = {
    "dqae": {"dependence-2x2", "dependence-4x4"},
    "hqa": {"decodes", "means-of-decodes", "codewords", "interpolation"},
    "pqvae": {"dependence-codes", "prefixes", "without-a-code", "conditional-entropy", "codewords"},
    "rrvq": {"codewords"},
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_command_writes_what_applies_and_says_what_does_not(
    codecs: dict[str, Codec], data: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "new" / "out"
    folder = codecs[name].card.path
    result = analyse(folder, data, "-o", out, "-n", 30, "--learn", 50, "--scale", 16, "--json")
    assert result.exit_code == 0, result.output
    written = (out / "analysis.json").read_text()
    assert written == result.stdout
    numbers = json.loads(written)
    assert numbers["squares"] == 30 and numbers["settings"]["seed"] == 0
    common = {"usage", "entropy-by-place", "rates", "reconstructions", "perception"}
    common |= {"classification"}
    pictures = {path.stem for path in out.glob("*.png")}
    assert pictures == common | FIGURES[name]
    assert {f"{stem}.png" for stem in pictures} == set(numbers["files"])
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    assert set(numbers) & set(sections.SECTIONS) == set(sections.SECTIONS) - set(
        numbers["left_out"]
    )
    assert all(numbers["left_out"].values())
    again = analyse(folder, data, "-o", out, "-n", 30, "--learn", 50, "--scale", 16, "--force")
    assert again.exit_code == 0 and "no " in again.stdout
    assert (out / "analysis.json").read_text() == written  # of the same seed


def test_all_pictures_of_a_folder_are_looked_at_or_those_held_out(
    codecs: dict[str, Codec], tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(30):
        Image.fromarray(photo(32, 48, seed)).save(pictures / f"{seed}.png")
    held_out = [p for p in pictures.iterdir() if sources.is_held_out(p.name.encode())]
    assert held_out
    for options, count in (((), 30), (("--held-out",), len(held_out))):
        out = tmp_path / f"out{count}"
        result = analyse(codecs["hqa"].card.path, pictures, "-o", out, "--json", *options)
        assert result.exit_code == 0, result.output
        numbers = json.loads(result.stdout)
        assert numbers["squares"] == 6 * count
        assert "no labels" in numbers["left_out"]["classification"]
        assert numbers["settings"]["split"] == "name"  # as of cards that do not say


def test_all_of_an_array_without_a_test_part_is_looked_at(
    codecs: dict[str, Codec], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.stack([photo(16, 16, seed) for seed in range(30)]))
    result = analyse(codecs["hqa"].card.path, tmp_path / "x.npz", "-o", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["squares"] == 30


def test_what_cannot_be_analysed_has_its_exit_code_and_one_line(
    codecs: dict[str, Codec], data: Path, tmp_path: Path
) -> None:
    folder, out = codecs["hqa"].card.path, tmp_path / "out"
    (tmp_path / "bad.npz").write_bytes(b"no arrays")
    (tmp_path / "few").mkdir()
    Image.fromarray(photo(16, 16)).save(tmp_path / "few" / "a.png")
    np.savez(tmp_path / "labels.npz", x=photo(16, 16)[None], y=np.zeros(2, int))
    for arguments, code, message in (
        (("nothing", data), 6, "no codec named 'nothing'"),
        ((folder, tmp_path / "none"), 3, "no such folder"),
        ((folder, tmp_path / "none.npz"), 3, "cannot be read"),
        ((folder, tmp_path / "bad.npz"), 3, "cannot be read"),
        ((folder, tmp_path / "few", "--held-out"), 3, "too few pictures"),
        ((folder, tmp_path / "labels.npz"), 3, "y is not one integer for each picture"),
        ((folder, data, "-n", -1), 2, "'-n'"),
    ):
        result = analyse(*arguments, "-o", out)
        assert result.exit_code == code, result.output
        assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert analyse(folder, data, "-o", data).exit_code == 8
    shutil.copy(data, tmp_path / "out" / "two.json")
    result = analyse(folder, data, "-o", out)
    assert result.exit_code == 8 and "holds two.json already" in result.stderr


def test_without_matplotlib_the_user_is_told_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = analyse("photo-2", data, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "pip install matplotlib" in result.stderr
