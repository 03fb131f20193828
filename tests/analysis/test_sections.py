"""What ``vqcodec analyse`` says of codes, levels and rates, against the codecs themselves."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from analysed import PROGRESSIVE, codes
from tiny_codec import made

from vqcodec.analysis import information, sections
from vqcodec.analysis.subject import Settings, Subject, subject
from vqcodec.autoencoders.pqvae import PQVAE
from vqcodec.autoencoders.rrvq import RRVQ
from vqcodec.priors.grid import GridPrior, uniform


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
