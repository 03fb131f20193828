"""The ladder: its transform, its loss, and the exact walk that encoder and decoder share."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.autoencoders.ladder import codec as ladder_codec
from vqcodec.autoencoders.ladder import config as ladder_config
from vqcodec.autoencoders.ladder import model as ladder
from vqcodec.autoencoders.ladder import prior as ladder_prior
from vqcodec.autoencoders.ladder import transform
from vqcodec.autoencoders.ladder.codec import Coded, LadderCodec
from vqcodec.autoencoders.ladder.codes import choose
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.model import HYPER_SIZE, Ladder
from vqcodec.autoencoders.ladder.rate import (
    BANDS,
    VISUAL,
    ChannelSteps,
    RatePoint,
    power_of_two,
    unit_tables,
)
from vqcodec.errors import FormatError, RateError
from vqcodec.priors import classes, tables
from vqcodec.priors.histogram import integer_rows
from vqcodec.training.ladder import rounded

CPU = torch.device("cpu")
TINY = LadderConfig(
    more_luma=8,
    more_chroma=4,
    slices=(8, 24, 64, 160, 16),
    checkerboard=(True, True, True, False, False),
    coded_from=(0, 0, 0, 0, 7.5),
    fine=8,
    coarse=16,
    hyper=4,
    features=8,
    hidden=(8, 8, 8, 8, 8),
    narrow=8,
)
TUNED = replace(TINY, analysis_fine=3, analysis_coarse=2, tuned=True, weighted=True)
SIZES = [(1, 1), (17, 5), (64, 64), (100, 75)]  # height, width
INDICES = [1280, 1869, 2048, 2560]  # 5bit, about 7.3bit, 8bit, 10bit
CASES = [("codec", index) for index in INDICES]
CASES += [("tuned", index) for index in (1280, 2048, VISUAL + 1869, VISUAL + 2560)]


def random_ladder(seed: int = 0, spread: float = 0.06, config: LadderConfig = TINY) -> Ladder:
    """No weight is trivial, and channels have standard deviations of 2 to 200."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Ladder(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.003 if name.endswith(".linear") else spread
            scale = 0.3 if name.startswith("step_weights") else scale
            p.add_(torch.randn(p.shape, generator=generator) * scale)
        model.std.copy_(200 * torch.arange(1, TINY.channels + 1) ** -0.8 + 1)
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth waves, an edge and noise, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(2, 30, (3, 2))]
    pixels = 128 + 60 * np.stack(waves, -1) + 40 * (x + y > height)[..., None]
    return (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)


def make_codec(model: Ladder) -> LadderCodec:
    """With the tables that fitting starts from."""
    bands = BANDS * (1 + model.config.tuned)
    hyper_tables = integer_rows(np.ones((bands, TINY.hyper, HYPER_SIZE)))
    class_tables = integer_rows(classes.logistic_weights())
    units = unit_tables(model.std)
    return LadderCodec(model, units, hyper_tables, class_tables, CPU)


@pytest.fixture(scope="module")
def codec() -> LadderCodec:
    return make_codec(rounded(random_ladder()))


@pytest.fixture(scope="module")
def tuned() -> LadderCodec:
    return make_codec(rounded(random_ladder(config=TUNED)))


@pytest.fixture(scope="module")
def coded(codec: LadderCodec) -> Coded:
    """A picture of 100 x 75 at 2000."""
    return codec.encode(picture(100, 75), RatePoint(2000))


# --- the transform and the loss -------------------------------------------------------------------


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
    assert ladder_config.step(bits)[:2].tolist() == [40.0, 20.0]  # 10240 / 2**N
    assert ladder_config.rate_variable(bits).tolist() == [0.25, 0.75, 0.0, -1.25]
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


# --- rate points ----------------------------------------------------------------------------------


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
    both = ladder_config.conditions(bits, tune)
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
    weights = torch.randn(30, 7, generator=generator)
    steps = ChannelSteps(weights, 30)
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


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("kind", "index"), CASES)
def test_the_decoder_sees_what_the_encoder_saw(
    kind: str, height: int, width: int, index: int, request: pytest.FixtureRequest
) -> None:
    codec, rate = request.getfixturevalue(kind), RatePoint(index)
    coded = codec.encode(picture(height, width, seed=index), rate)
    bits: list[float] = []
    latent = codec.decode(coded.sections, height, width, rate, bits)
    sections, channels = (5, 256) if rate.number < 1920 else (6, 272)
    assert latent.shape == (-(-height // 16) * -(-width // 16), channels)
    assert len(coded.sections) == codec.levels(rate) == sections
    assert torch.equal(latent, coded.latent)
    assert bits == pytest.approx(coded.ideal_bits, rel=1e-12)
    assert torch.equal((latent * 2**10).round(), latent * 2**10)
    for section, ideal in zip(coded.sections, bits, strict=True):
        assert 8 * len(section) < ideal + 9 + ideal / 1000
    pixels = np.concatenate(list(codec.bands(latent, height, width, rate)))
    assert pixels.shape == (height, width, 3) and pixels.dtype == np.uint8


def test_this_codec_uses_many_classes_and_the_one_that_is_not_coded(codec: LadderCodec) -> None:
    seen: set[int] = set()
    rate = RatePoint(2048)
    y, z = codec.latents(picture(64, 64)[None], rate)
    codec.encode_latents(y, z, rate, lambda level, codes, classes: seen.update(classes.tolist()))
    assert len(seen) > 8  # otherwise the other tests here would show little


@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_do_not_change_the_decoded_codes(
    codec: LadderCodec, coded: Coded, n_threads: int, threads: None
) -> None:
    torch.set_num_threads(n_threads)
    assert torch.equal(codec.decode(coded.sections, 100, 75, RatePoint(2000)), coded.latent)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_chunks_do_not_change_the_decoded_codes(
    codec: LadderCodec, coded: Coded, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixedpoint, "CHUNK_CELLS", chunk)
    monkeypatch.setattr(tables, "CHUNK", chunk)
    monkeypatch.setattr(ladder_codec, "BAND", max(2, chunk))
    monkeypatch.setattr(ladder_prior, "BAND", max(2, chunk))
    assert torch.equal(codec.decode(coded.sections, 100, 75, RatePoint(2000)), coded.latent)


def test_one_latent_gives_one_file_for_any_chunks_tiles_and_threads(
    codec: LadderCodec, monkeypatch: pytest.MonkeyPatch, threads: None
) -> None:
    rate = RatePoint(2400)
    y, z = codec.latents(picture(100, 75)[None], rate)
    (expected,) = codec.encode_latents(y.clone(), z, rate)
    monkeypatch.setattr(fixedpoint, "CHUNK_CELLS", 3)
    monkeypatch.setattr(tables, "CHUNK", 5)
    monkeypatch.setattr(ladder_codec, "BAND", 12)
    monkeypatch.setattr(ladder_prior, "BAND", 12)
    torch.set_num_threads(2)
    (again,) = codec.encode_latents(y, z, rate)
    assert again.sections == expected.sections
    assert torch.equal(again.latent, expected.latent)


@pytest.mark.parametrize("band", [ladder_prior.BAND, 12])
def test_images_that_are_coded_together_have_the_sections_of_each(
    codec: LadderCodec, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_codec, "BAND", band)
    monkeypatch.setattr(ladder_prior, "BAND", band)
    rate = RatePoint(2400)
    pictures = [np.roll(picture(100, 75), 20 * index, 0) for index in range(3)]
    each = [codec.encode(pixels, rate) for pixels in pictures]
    y, z = (torch.cat(part) for part in zip(*(codec.latents(p[None], rate) for p in pictures)))  # noqa: B905
    watched: list[int] = []
    together = codec.encode_latents(y, z, rate, lambda level, *_: watched.append(level))
    levels = range(1, codec.levels(rate))
    assert [watched.count(level) for level in levels] == [6, 6, 6, 3, 3]  # a checkerboard, or none
    for one, alone in zip(together, each, strict=True):
        assert one.sections == alone.sections
        assert one.ideal_bits == pytest.approx(alone.ideal_bits, rel=1e-12)
        assert torch.equal(one.latent, alone.latent)
    assert [one.sections for one in codec.encode_many(pictures, rate)] == [
        one.sections for one in each
    ]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_the_weights_does_not_change_the_decoded_codes(
    coded: Coded, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = rounded(random_ladder()).to(memory_format=layout)
    # The codec asks for channels-last by itself: withhold that.
    monkeypatch.setattr(model, "to", lambda *args, **kwargs: model)
    other = make_codec(model)
    assert torch.equal(other.decode(coded.sections, 100, 75, RatePoint(2000)), coded.latent)


def test_rounded_weights_are_rounded_once_and_for_all(codec: LadderCodec) -> None:
    again = rounded(codec.model).state_dict()
    for name, value in codec.model.state_dict().items():
        assert torch.equal(again[name], value), name


def test_any_prefix_of_sections_decodes(codec: LadderCodec, coded: Coded) -> None:
    rate = RatePoint(2000)
    ends = [0, *np.cumsum(TINY.slices)]
    error = []
    for count in range(1, 7):
        bits: list[float] = []
        latent = codec.decode(coded.sections[:count], 100, 75, rate, bits)
        known = ends[count - 1]
        assert torch.equal(latent[:, :known], coded.latent[:, :known])
        assert latent.isfinite().all()
        assert bits == pytest.approx(coded.ideal_bits[:count], rel=1e-12)
        error.append((latent - coded.latent).square().sum().item())
    assert error[-1] == 0 < error[0]


@pytest.mark.parametrize(("kind", "tile"), [("codec", 1), ("codec", 3), ("codec", 5), ("tuned", 2)])
def test_tiles_do_not_show(
    kind: str, tile: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, rate, pixels = request.getfixturevalue(kind), RatePoint(2048), picture(251, 230)
    with torch.inference_mode():
        whole = codec.analyse(pixels[None], rate)
    latent = whole.flatten(0, 1)
    (expected,) = codec.bands(latent, 251, 230, rate)
    monkeypatch.setattr(ladder_codec, "TILE", tile)
    with torch.inference_mode():
        assert torch.allclose(codec.analyse(pixels[None], rate), whole, atol=5e-4)
    decoded = np.concatenate(list(codec.bands(latent, 251, 230, rate)))
    difference = np.abs(decoded.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_tile_is_cut_from_its_halo() -> None:
    for n in (5, 300):
        for i, o, c in ladder_codec._spans(n, ladder_codec.HALO):
            assert o.start <= i.start and i.stop <= o.stop
            assert (i.start, i.stop) == (o.start + c.start, o.start + c.stop)
