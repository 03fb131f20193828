"""Rates: bits, sizes, PSNR and quality are what was asked for, or a sentence says why not."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from shipped import crop, decoded, made, photo, shipped

import vqcodec
from vqcodec import image
from vqcodec.codec import Codec
from vqcodec.compress import Compressed, compress, encode_at, with_quality
from vqcodec.errors import RateError
from vqcodec.metrics import measure, psnr_db


@pytest.mark.parametrize("rate", ["4.9bit", "10.1bit", "99bit", "9bit-8x8"])
def test_bits_outside_of_the_codec_are_refused_with_what_it_offers(rate: str) -> None:
    with pytest.raises(RateError, match="5bit to 10bit"):
        vqcodec.encode(crop(), rate, device="cpu")


def test_more_bits_are_more_bytes_and_more_psnr() -> None:
    picture = image.from_array(photo())
    points = []
    for half in range(10, 21):
        data = compress(shipped(), picture, f"{half / 2}bit").data
        points.append((len(data), psnr_db(decoded(data), photo())))
    for (few, low), (many, high) in pairwise(points):
        assert few < many and low < high


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("unit", ["bpp", "kB", "B"])
def test_size_targets_are_kept_and_used(share: float, unit: str) -> None:
    # a share of the range of sizes, so that any codec can reach it
    least, most = len(made("5bit").data), len(made("10bit").data)
    n_bytes = round(least * (most / least) ** (0.5 + share / 2))
    number = {"bpp": n_bytes * 8 / crop()[..., 0].size, "kB": n_bytes / 1000, "B": n_bytes}[unit]
    result = compress(shipped(), image.from_array(crop()), f"{number:.6f}{unit}")
    assert 0.97 * n_bytes <= len(result.data) <= n_bytes


def gap() -> image.Picture:
    """Its files grow by 8 % where the fifth slice begins to be coded, at 7.5bit."""
    return image.from_array(np.ascontiguousarray(photo()[100:228, 100:292]))


def test_a_size_target_is_used_where_no_rate_point_has_it() -> None:
    below, above = (len(encode_at(shipped(), gap(), index)[0]) for index in (1919, 1920))
    n_bytes = (below + above) // 2
    assert below < 0.97 * n_bytes
    result = compress(shipped(), gap(), f"{n_bytes}B")
    assert 0.98 * n_bytes <= len(result.data) <= n_bytes and result.rate == "7.5bit"
    assert decoded(result.data).shape == gap().pixels.shape


def test_no_more_is_spent_on_a_psnr_target_where_no_rate_point_has_it() -> None:
    one, other = (encode_at(shipped(), gap(), index)[0] for index in (1919, 1920))
    low, high = (psnr_db(decoded(data), gap().pixels) for data in (one, other))
    result = compress(shipped(), gap(), f"{(low + high) / 2:.4f}dB")
    assert (low + high) / 2 <= psnr_db(decoded(result.data), gap().pixels) < high
    assert len(result.data) < len(other)


@pytest.mark.parametrize("target", [20, 55, 80])
def test_quality_targets_are_reached_and_told(target: int) -> None:
    pixels = photo()[..., :3]  # of a much smaller picture each code would change it more
    result = compress(shipped(), image.from_array(pixels), f"{target}q")
    quality = measure(pixels, decoded(result.data), ["ssimulacra2"])["ssimulacra2"]
    assert quality == pytest.approx(result.quality) and target <= quality <= target + 0.5


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 40)])
def test_small_pictures_have_a_quality_too(shape: tuple[int, ...]) -> None:
    pixels = crop()[: shape[0], : shape[1]]
    picture = image.from_array(np.ascontiguousarray(pixels if len(shape) == 3 else pixels[..., 1]))
    low, high = (compress(shipped(), picture, rate) for rate in ("20q", "60q"))
    assert low.quality is not None and low.quality >= 20
    assert high.quality is not None and high.quality >= 60 and len(low.data) <= len(high.data)


def test_a_sample_of_a_large_picture_spares_tries_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a curve in the place of files: of real ones machines make somewhat different codes."""
    from vqcodec import compress as module

    large = image.from_array(np.tile(photo()[..., :3], (2, 2, 1)))
    low, high = shipped().span
    tried: list[int] = []

    def at(codec: Codec, picture: image.Picture, *args: Any, **options: Any) -> Compressed:
        index = next(arg for arg in args if isinstance(arg, int))
        tried.append(picture.width)
        share = (index - low) / (high - low)
        quality = 95 * share**0.5 + (picture.width == 512)
        return Compressed(b"", "", picture.width, picture.height, [], [], quality=quality)

    monkeypatch.setattr(module, "_at", at)
    monkeypatch.setattr(module, "SAMPLE_SIDE", 128)
    tries = []
    for most in (960 * 2 * large.height, 1000):
        monkeypatch.setattr(module, "LARGE", most)
        tried.clear()
        made = module.compress(shipped(), large, "70q")
        assert made.quality is not None and 70 <= made.quality <= 70.2
        assert set(tried) == ({960} if most > 1000 else {960, 512})
        tries.append(tried.count(960))
    assert tries[1] < tries[0]


def test_a_large_picture_has_the_quality_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vqcodec.compress.LARGE", 1000)
    monkeypatch.setattr("vqcodec.compress.SAMPLE_SIDE", 64)
    made = compress(shipped(), image.from_array(photo()[..., :3]), "70q")
    assert made.quality is not None and 70 <= made.quality <= 70.2


@pytest.mark.parametrize("kind", ["colour", "grey", "alpha"])
def test_the_quality_of_a_file_is_what_its_target_measured(kind: str) -> None:
    pixels = crop() if kind == "colour" else crop()[..., 1]
    picture = image.from_array(pixels)
    if kind == "alpha":
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
        alpha[:, : pixels.shape[1] // 3] = 0
        picture = replace(image.from_array(crop()), alpha=alpha)
    made = compress(shipped(), picture, "60q")
    assert made.quality is not None
    again = with_quality(shipped(), picture, replace(made, quality=None))
    assert again.quality == pytest.approx(made.quality, abs=1e-3)
    assert replace(again, quality=made.quality) == made


def test_a_quality_out_of_reach_is_refused_unless_it_is_the_codec_s_own() -> None:
    best = compress(shipped(), gap(), "10bit")
    with pytest.raises(
        RateError, match=r"95q cannot be reached .* the highest of photo-2, 10bit, is \d\d"
    ):
        compress(shipped(), gap(), "95q")
    own = Codec(replace(shipped().card, default_rate="95q"), shipped().system)
    result = compress(own, gap())
    assert result.data == best.data and "95q cannot be reached" in result.notes[0]


def test_a_size_above_the_best_quality_gives_it_with_a_note() -> None:
    result = compress(shipped(), image.from_array(crop()), "1MB")
    assert result.data == made("10bit").data and "10bit" in result.notes[0]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_db_targets_are_reached_within_a_fifth_of_a_db(share: float) -> None:
    low, high = (psnr_db(decoded(made(rate).data), crop()) for rate in ("5bit", "10bit"))
    target = math.floor((low + share * (high - low)) * 100) / 100
    result = compress(shipped(), image.from_array(crop()), f"{target}dB")
    quality = psnr_db(decoded(result.data), crop())
    assert target <= quality <= target + 0.2
    assert result.psnr_db == pytest.approx(quality, abs=0.01)


def test_db_targets_of_grey_pictures_count_grey_pixels() -> None:
    grey = np.ascontiguousarray(crop()[..., 1])
    picture = image.from_array(grey)
    best = compress(shipped(), picture, "8bit")
    target = math.floor(psnr_db(decoded(best.data), grey) * 100) / 100
    result = compress(shipped(), picture, f"{target}dB")
    assert target <= psnr_db(decoded(result.data), grey) <= target + 0.2


def test_targets_that_cannot_be_reached_say_what_can() -> None:
    picture = image.from_array(crop())
    with pytest.raises(RateError, match=str(len(made("5bit").data))):
        compress(shipped(), picture, "40B")
    best = psnr_db(decoded(made("10bit").data), crop())
    with pytest.raises(RateError, match=rf"90 dB .*{best:.2f} dB"):
        compress(shipped(), picture, "90dB")


def test_the_lowest_rate_serves_where_it_already_has_the_psnr() -> None:
    assert compress(shipped(), image.from_array(crop()), "3dB").data == made("5bit").data
