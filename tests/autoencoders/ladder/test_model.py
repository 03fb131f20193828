"""The ladder in training: its transform and its loss."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_ladder import TINY, TUNED, picture, random_ladder
from torch import Tensor

from vqcodec.autoencoders.ladder import model as ladder
from vqcodec.autoencoders.ladder import transform
from vqcodec.autoencoders.ladder.codes import choose
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.model import Ladder
from vqcodec.priors import classes
from vqcodec.priors.histogram import integer_rows


def test_the_basis_is_orthonormal_and_starts_with_the_mean() -> None:
    basis = transform.dct_basis(176, 40).flatten(1).double()
    assert basis.shape == (256, 768)
    assert (basis @ basis.t() - torch.eye(256)).abs().max() < 1e-6
    assert torch.allclose(basis[0], torch.full((768,), 768**-0.5).double())
    full = transform.dct_basis(256, 256).flatten(1).double()
    assert (full.t() @ full - torch.eye(768)).abs().max() < 1e-6


@given(st.floats(-60, 60), st.floats(-4.5, 7.5))
def test_logistic_bits_are_the_cell_probability_with_a_faint_tail(x: float, scale: float) -> None:
    rate = 2.0**-scale

    def beyond(edge: float) -> float:
        return 1 / (1 + math.exp(min(edge * rate, 700)))

    cell = beyond(abs(x) - 0.5) - beyond(abs(x) + 0.5)
    expected = -math.log2(cell + math.exp(-9) / (1 + x * x))
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 2e-3)):
        values = torch.tensor(x, dtype=dtype), torch.tensor(scale, dtype=dtype)
        assert ladder.logistic_bits(*values).item() == pytest.approx(expected, abs=tolerance)


def test_logistic_bits_have_finite_gradients_at_extremes() -> None:
    x = torch.tensor([0.0, 0.5, -3.0, 1e3, -1e6, 1e9]).repeat_interleave(3).requires_grad_()
    scale = torch.tensor([-4.5, 0.0, 7.5]).repeat(6).requires_grad_()
    bits = ladder.logistic_bits(x, scale)
    bits.sum().backward()
    assert x.grad is not None and scale.grad is not None
    assert bits.isfinite().all() and x.grad.isfinite().all() and scale.grad.isfinite().all()
    assert bits.max() < 100
    assert x.grad.abs().max() < 100 and scale.grad.abs().max() < 100


def test_a_clamp_lets_only_gradients_pass_that_lead_back() -> None:
    for sign, expected in ((1.0, [0.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, 0.0])):
        x = torch.tensor([-9.0, 0.0, 9.0], requires_grad=True)  # a step is against the gradient
        y = ladder.clamp_scale(x)
        assert y.tolist() == [-4.5, 0.0, 7.5]
        y.backward(torch.full((3,), sign))
        assert x.grad is not None
        assert x.grad.tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_the_choice_of_codes_minimizes_its_cost(seed: int, rdo: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    residual = torch.randn(500, generator=generator) * 3
    scale = torch.rand(500, generator=generator) * 12 - 4.5
    codes = ladder.choose_codes(residual, scale, rdo)
    near = residual.round()

    def cost(code: Tensor) -> Tensor:
        return (residual - code).square() + rdo * ladder.logistic_bits(code, scale)

    assert torch.equal(cost(codes), torch.minimum(cost(near), cost(near - near.sign())))
    assert torch.equal(ladder.choose_codes(residual, scale, 0.0), near)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 158, 1024]))
def test_the_encoder_chooses_by_its_tables(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    residual = torch.randn(300, 2, generator=generator) * 12
    chosen = torch.randint(0, 64, (300, 2), generator=generator).to(torch.uint8)
    made = classes.ClassTables(integer_rows(classes.logistic_weights()), size)
    bits = torch.from_numpy(np.minimum(made.bits, 1e6)).float()
    codes = choose(residual, chosen, bits, made.zero, 0.08)
    assert (codes[chosen == 0] == 0).all()
    near = residual.round().clamp(-made.zero, size - 1 - made.zero)

    def cost(code: Tensor) -> Tensor:
        price = bits[chosen.long(), code.long() + made.zero]
        return (residual - code).square() + 0.08 * price

    best = torch.minimum(cost(near), cost(near - near.sign()))
    other = chosen != 0
    assert torch.allclose(cost(codes)[other], best[other], atol=1e-4)


def test_a_rate_point_sets_step_and_variable() -> None:
    bits = torch.tensor([8.0, 9.0, 7.5, 5.0])
    assert ladder.step(bits)[:2].tolist() == [40.0, 20.0]  # 10240 / 2**N
    assert ladder.rate_variable(bits).tolist() == [0.25, 0.75, 0.0, -1.25]
    assert ladder.weight_at(8.0) == pytest.approx(30 / 1600)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("config", [TINY, TUNED])
def test_the_untrained_codec_has_a_finite_loss_that_reaches_every_weight(
    config: LadderConfig, amp: bool
) -> None:
    torch.manual_seed(0)
    model = Ladder(config)
    x = torch.from_numpy(picture(128, 128)).permute(2, 0, 1)[None].float().repeat(2, 1, 1, 1)
    model.set_std(x)
    with torch.no_grad():  # with hyper codes of zero, the layer that reads them would get nothing
        model.hyper_analysis.leave.weight.mul_(30)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # these start at zero, which stops the gradient of what is before
        for block in (*model.analysis.fine[2:], *model.analysis.more):
            block.second.weight.normal_(std=0.01)
    tune = torch.ones(2) if config.tuned else None
    out = model.loss(x, torch.tensor([6.3, 9.1]), generator, rdo=0.08, amp=amp, tune=tune)
    assert out["loss"].isfinite()
    out["loss"].backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name
    assert out["bpp"].shape == out["mse"].shape == (2,)
    assert out["bpp"][1] > out["bpp"][0] and out["mse"][1] < out["mse"][0]
    total = out["hyper_bpp"] + out["slices_bpp"].sum(1)
    assert torch.allclose(out["bpp"], total)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slices": (8, 24, 64, 160, 100)}, "272 channels"),
        ({"hidden": (8, 8)}, "differ in length"),
        ({"coded_from": (0, 0, 8, 0, 7.5)}, "does not fall"),
        ({"coded_from": (6, 6, 6, 6, 7.5)}, "starts at 0"),
    ],
)
def test_sizes_must_not_contradict_each_other(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ladder(replace(TINY, **changes))


def test_a_slice_that_is_not_coded_costs_nothing_and_is_zero() -> None:
    torch.manual_seed(0)
    model = random_ladder()
    x = torch.from_numpy(picture(64, 64)).permute(2, 0, 1)[None].float().repeat(2, 1, 1, 1)
    generator = torch.Generator().manual_seed(1)
    out = model.loss(x, torch.tensor([7.25, 7.75]), generator)
    assert (out["slices_bpp"][:, 4] == 0).tolist() == [True, False]
    t, y = torch.zeros(1, 3), torch.randn(1, TINY.channels, 4, 4, generator=generator)
    y[:, TINY.base :] = 0
    whole = model.synthesis(y, t, model.std)
    assert torch.allclose(model.synthesis(y[:, : TINY.base], t, model.std), whole, atol=1e-3)


def test_a_config_survives_its_dictionary() -> None:
    assert LadderConfig.from_dict(TINY.to_dict()) == TINY
    assert LadderConfig().to_dict() == {}
    with pytest.raises(TypeError):
        LadderConfig.from_dict({"width": 3})
