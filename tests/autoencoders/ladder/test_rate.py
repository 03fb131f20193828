"""Rate points of the ladder, and the steps that follow from them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.autoencoders.ladder import model as ladder
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.rate import BANDS, VISUAL, ChannelSteps, RatePoint, power_of_two
from vqcodec.errors import FormatError, RateError
from vqcodec.fixedpoint import round_weights


def test_rate_points_have_the_documented_codebooks() -> None:
    sizes = {round(7.3 * 256): 158, 1280: 32, 1920: 181, 2048: 256, 2560: 1024}
    assert {index: RatePoint(index).size for index in sizes} == sizes
    assert RatePoint(2048).step == 40
    assert RatePoint(2048).condition(3) == (0.25, 0.0625, 0.015625)
    assert RatePoint(2048).power == 1 << 40
    assert [RatePoint(i).band for i in (1280, 1407, 1408, 1920, 2431, 2432, 2560)] == [
        0, 0, 1, 3, 4, 5, 5,
    ]  # fmt: skip


def test_every_rate_point_has_an_exact_variable_and_a_larger_codebook_than_the_last() -> None:
    points = [RatePoint(index) for index in range(1280, 2561)]
    assert all((2**27 * value).is_integer() for p in points for value in p.condition(6))
    sizes = [point.size for point in points]
    assert sizes == sorted(sizes) and sizes[0] == 32 and sizes[-1] == 1024
    assert all(abs(point.size - 2**point.bits) <= 0.5 + 1e-9 for point in points)


def test_a_tuned_rate_point_is_the_same_but_for_its_conditions() -> None:
    plain, visual = RatePoint(1990), RatePoint(VISUAL + 1990)
    assert (plain.visual, visual.visual) == (False, True)
    assert (visual.bits, visual.power, visual.size) == (plain.bits, plain.power, plain.size)
    assert visual.band == plain.band + BANDS
    t, t2, t3, *rest = visual.condition(6)
    assert rest == [1.0, t, t2] and plain.condition(6) == (t, t2, t3, 0.0, 0.0, 0.0)
    bits, tune = torch.tensor([plain.bits] * 2), torch.tensor([0.0, 1.0])
    both = ladder.conditions(bits, tune)
    expected = torch.tensor([plain.condition(6), visual.condition(6)])
    torch.testing.assert_close(both, expected)


def test_a_codec_that_is_not_tuned_refuses_tuned_rates(
    codec: LadderCodec, tuned: LadderCodec
) -> None:
    assert (codec.tunes, tuned.tunes) == ((), ("visual", "psnr"))
    assert tuned.span() == tuned.span("visual") == (VISUAL + 1280, VISUAL + 2560)
    assert tuned.span("psnr") == codec.span() == (1280, 2560)
    with pytest.raises(RateError):
        codec.span("visual")
    with pytest.raises(FormatError):
        codec.point(VISUAL + 2048)
    for index in (1279, 2561, VISUAL + 1279, VISUAL + 2561):
        with pytest.raises(FormatError):
            tuned.point(index)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1280), st.booleans(), st.integers(0, 2**32 - 1))
def test_channels_steps_are_powers_of_two_of_their_exponents(
    above: int, visual: bool, seed: int
) -> None:
    rate = RatePoint(1280 + above + VISUAL * visual)
    generator = torch.Generator().manual_seed(seed)
    weights = round_weights(torch.randn(30, 7, generator=generator)).float()
    steps = ChannelSteps(weights.double().numpy(), np.ones((3, 30), np.int32))
    exponents = steps.exponents(rate)
    finest = max(-128, rate.number - 2560)
    assert all(k % 8 == 0 and finest <= k <= 1024 for k in exponents)
    # The range is covered at any step.
    size = steps.codewords(rate)
    assert size <= 1024 and (size + 0.5) * min(steps.steps(rate)) > 10239
    # What training has, but for the rounding to 1/32 octave and that of the weights
    condition = torch.tensor([rate.condition(6)])
    soft = torch.addmm(weights[:, 0], condition, weights[:, 1:].t())[0].clamp(-0.5, 4)
    soft = soft.clamp(min=rate.bits - 10)
    assert (soft - torch.tensor(exponents) / 256).abs().max() < 1 / 32 + 0.005
    expected = [rate.step * 2 ** (k / 256) for k in exponents]
    assert steps.steps(rate).tolist() == pytest.approx(expected, rel=1e-6)
    powers = steps.powers(rate)
    assert powers == [power_of_two(rate.number - k) for k in exponents]
    assert [10240 * 2**32 / p for p in powers] == pytest.approx(expected, rel=1e-6)


def test_steps_learn_from_the_error_and_from_the_bits() -> None:
    """Of a step s the gradient of an error (y - y_hat)^2 is twice the squared error over s."""
    generator = torch.Generator().manual_seed(0)
    y = 50 * torch.randn(4000, 1, 1, 1, generator=generator)
    step = torch.full((1, 1, 1, 1), 7.0, requires_grad=True)
    mean, scale = torch.zeros_like(y), torch.full_like(y, 2.0)
    y_hat, code = ladder.quantize(y, mean, scale, step, 0.0)
    torch.testing.assert_close(y_hat, 7 * (y / 7).round())
    assert torch.equal(code, (y / 7).round())
    error = (y_hat - y).square().mean()
    error.backward()
    assert step.grad is not None
    assert step.grad.item() == pytest.approx(2 * error.item() / 7, rel=1e-4)
