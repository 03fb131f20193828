"""The exact walk that encoder and decoder of the ladder share, from pixels to files and back."""

import numpy as np
import pytest
import torch
from tiny_ladder import TINY, make_codec, picture, random_ladder

from vqcodec import fixedpoint
from vqcodec.autoencoders.ladder import codec as ladder_codec
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.autoencoders.ladder import prior as ladder_prior
from vqcodec.autoencoders.ladder.codec import Coded, LadderCodec
from vqcodec.autoencoders.ladder.rate import VISUAL, RatePoint
from vqcodec.priors import tables
from vqcodec.training.ladder import rounded

SIZES = [(1, 1), (17, 5), (64, 64), (100, 75)]  # height, width
INDICES = [1280, 1869, 2048, 2560]  # 5bit, about 7.3bit, 8bit, 10bit
CASES = [("codec", index) for index in INDICES]
CASES += [("tuned", index) for index in (1280, 2048, VISUAL + 1869, VISUAL + 2560)]


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
    latents = [codec.latents(pixels[None], rate) for pixels in pictures]
    y, z = (torch.cat(part) for part in zip(*latents, strict=True))
    each = [codec.encode_latents(*one, rate)[0] for one in latents]
    watched: list[int] = []
    together = codec.encode_latents(y, z, rate, lambda level, *_: watched.append(level))
    levels = range(1, codec.levels(rate))
    assert [watched.count(level) for level in levels] == [6, 6, 6, 3, 3]  # a checkerboard, or none
    for one, alone in zip(together, each, strict=True):
        assert one.sections == alone.sections
        assert one.ideal_bits == pytest.approx(alone.ideal_bits, rel=1e-12)
        assert torch.equal(one.latent, alone.latent)
    assert [one.sections for one in codec.encode_many(pictures, rate)] == [
        codec.encode(pixels, rate).sections for pixels in pictures
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
    monkeypatch.setattr(ladder_decoder, "TILE", tile)
    with torch.inference_mode():
        assert torch.allclose(codec.analyse(pixels[None], rate), whole, atol=5e-4)
    decoded = np.concatenate(list(codec.bands(latent, 251, 230, rate)))
    difference = np.abs(decoded.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_tile_is_cut_from_its_halo() -> None:
    for n in (5, 300):
        for i, o, c in ladder_decoder.spans(n, ladder_decoder.HALO):
            assert o.start <= i.start and i.stop <= o.stop
            assert (i.start, i.stop) == (o.start + c.start, o.start + c.stop)
