"""Latents corrected by the error of what they decode to cost less, and make ordinary files."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_ladder import photo, picture

from vqcodec import zoo
from vqcodec.autoencoders.ladder import codec as ladder_codec
from vqcodec.autoencoders.ladder import decoder
from vqcodec.autoencoders.ladder.codec import Coded, LadderCodec
from vqcodec.autoencoders.ladder.correction import BIT
from vqcodec.autoencoders.ladder.draft import Setting, chosen, draft
from vqcodec.autoencoders.ladder.model import LAMBDA, anchors, choose_codes
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.metrics import measure


def uncorrected(codec: LadderCodec, pixels: np.ndarray, rate: RatePoint) -> Coded:
    return codec.encode_latents(*codec.latents(pixels[None], rate), rate)[0]


def decoded(codec: LadderCodec, coded: Coded, pixels: np.ndarray, rate: RatePoint) -> np.ndarray:
    return np.concatenate([*codec.bands(coded.latent, *pixels.shape[:2], rate)])


@pytest.mark.parametrize("codec_id", ["photo-1", "photo-2", "photo-3:psnr"])
@pytest.mark.parametrize("bits", [6, 7, 8])
def test_it_lowers_squared_error_and_bits_together(codec_id: str, bits: int) -> None:
    codec = zoo.load(zoo.find(codec_id), "cpu").system
    assert isinstance(codec, LadderCodec)
    rate, pixels = RatePoint(256 * bits), photo()
    costs = []
    for coded in (uncorrected(codec, pixels, rate), codec.encode(pixels, rate)):
        error = decoded(codec, coded, pixels, rate) - pixels.astype(float)
        n_pixels = pixels.shape[0] * pixels.shape[1]
        distortion = n_pixels * LAMBDA / rate.step**2 * np.square(error).mean()
        costs.append(distortion + sum(coded.ideal_bits))
    assert costs[1] < 0.997 * costs[0]


@pytest.mark.parametrize("bits", [6, 7, 8])
def test_for_the_eye_luma_is_nearer_at_as_many_bits(bits: int) -> None:
    codec = zoo.load(zoo.find("photo-3:visual"), "cpu").system
    assert isinstance(codec, LadderCodec)
    rate, pixels = RatePoint(4096 + 256 * bits), photo()
    found = [uncorrected(codec, pixels, rate), codec.encode(pixels, rate)]
    before, after = (
        measure(pixels, decoded(codec, one, pixels, rate), ["psnr_y", "ms_ssim_y"]) for one in found
    )
    assert all(after[name] > before[name] for name in before)
    n_bits = [sum(one.ideal_bits) for one in found]
    assert abs(n_bits[1] / n_bits[0] - 1) < 0.03


@pytest.mark.parametrize("tune", [0, 4096])
def test_what_is_corrected_is_what_is_decoded(tune: int, tuned: LadderCodec) -> None:
    for size in [(100, 75), (1, 1), (17, 200)]:
        rate, pixels = RatePoint(tune + 1900), picture(*size)
        coded = tuned.encode(pixels, rate)
        assert torch.equal(tuned.decode(coded.sections, *size, rate), coded.latent)


def test_pixels_are_read_only(tuned: LadderCodec) -> None:
    pixels = picture(40, 50)
    pixels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that it could write to, but must not
        tuned.encode(pixels, RatePoint(2000))


def test_large_pictures_are_corrected_in_tiles(
    tuned: LadderCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halos as wide as the picture make all tiles the whole."""
    rate, pixels = RatePoint(2000), picture(150, 90)
    y, z = tuned.latents(pixels[None], rate)
    whole = tuned._corrected(pixels, y, z, rate, 0.08)
    monkeypatch.setattr(decoder, "TILE", 3)
    monkeypatch.setattr(ladder_codec, "HALO", 20)
    shares: list[float] = []
    assert torch.equal(tuned._corrected(pixels, y, z, rate, 0.08, shares.append), whole)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 8
    monkeypatch.setattr(ladder_codec, "HALO", 0)
    assert not torch.equal(tuned._corrected(pixels, y, z, rate, 0.08), whole)


def test_a_draft_has_the_codes_of_the_file(tuned: LadderCodec) -> None:
    """But for those that rounding decides otherwise, in fixed point."""
    rate, pixels = RatePoint(2000), picture(96, 80)
    y, z = tuned.latents(pixels[None], rate)
    features = tuned._features(z, (6, 5), rate)
    steps = tuned._steps(rate)[None, :, None, None]
    made = draft(
        tuned.model, y.permute(0, 3, 1, 2), features, Setting(tuned._condition(rate), steps),
        anchors(6, 5, torch.device("cpu")), torch.full_like(steps, 0.08),
    )  # fmt: skip
    (coded,) = tuned.encode_latents(y.clone(), z, rate)
    difference = (made.decoded[0].permute(1, 2, 0) - coded.latent.view(6, 5, -1)).abs()
    assert (difference < 0.02).float().mean() > 0.98


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 8.0))
def test_chosen_is_choose_codes(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    residual = torch.randn(1, 5, 3, 4, generator=generator) * spread
    scale = torch.randn(1, 5, 3, 4, generator=generator) * 2
    rdo = torch.rand(1, 5, 1, 1, generator=generator) / 5
    assert torch.equal(chosen(residual, scale, rdo), choose_codes(residual, scale, rdo))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_corrects_alike() -> None:
    rate, pixels = RatePoint(1792), photo()
    sizes = []
    for device in ("cpu", "cuda"):
        codec = zoo.load(zoo.find("photo-3:psnr"), device).system
        assert isinstance(codec, LadderCodec)
        sizes.append(sum(codec.encode(pixels, rate).ideal_bits))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_weight_of_a_bit_is_that_of_a_search_where_there_is_one(tuned: LadderCodec) -> None:
    """More weight, fewer bits, with and without a search."""
    rate, pixels = RatePoint(2000), picture(100, 75)
    for codec in (tuned, tuned.searching(3)):
        bits = [sum(codec.encode(pixels, rate, rdo=rdo).ideal_bits) for rdo in (0.04, 0.16)]
        assert bits[1] < bits[0]
    assert BIT > 1
