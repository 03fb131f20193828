"""The search for better codes: it lowers the cost, and what it finds is an ordinary file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_ladder import photo, picture

import vqcodec
from vqcodec import image, zoo
from vqcodec.autoencoders.ladder import search
from vqcodec.autoencoders.ladder.codec import FOR_THE_EYE, LadderCodec
from vqcodec.autoencoders.ladder.model import LAMBDA
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.compress import compress
from vqcodec.errors import UsageError
from vqcodec.metrics.mixture import mixture
from vqcodec.metrics.quality import mirrored


def cost(name: str, pixels: np.ndarray, rate: float) -> tuple[float, float]:
    """(n lambda distortion + bits, bits) of a finished file, and of what it decodes to."""
    codec = zoo.load(zoo.find(name), "cpu")
    made = compress(codec, image.from_array(pixels), f"{rate}bit")
    decoded = np.asarray(vqcodec.decode(made.data).convert("RGB"))
    a, b = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() for p in (pixels, decoded))
    if codec.card.tune == "psnr":
        distortion = float((a - b).square().mean())
    else:
        distortion = float(mixture(FOR_THE_EYE)(b, a, torch.tensor([rate])))
    point = codec.system.point(codec.rate_index(vqcodec.rate.parse_rate(f"{rate}bit")))
    n_pixels = pixels.shape[0] * pixels.shape[1]
    bits = 8.0 * len(made.data)
    return n_pixels * LAMBDA / point.step**2 * distortion + bits, bits


@pytest.mark.parametrize(("tune", "saved"), [("psnr", 0.01), ("visual", 0.005)])
def test_more_effort_costs_less(tune: str, saved: float) -> None:
    costs = [cost(f"photo-3:{tune}:effort{n}", photo(), 7.0) for n in (1, 3, 7)]
    assert costs[0][0] > costs[1][0] > costs[2][0]
    assert costs[2][0] < (1 - saved) * costs[0][0]
    assert 0.9 < costs[2][1] / costs[0][1] < 1.1  # at about as many bits


@pytest.mark.parametrize("codec_id", ["photo-1", "photo-2"])
def test_the_older_codecs_search_too(codec_id: str) -> None:
    least, most = (cost(f"{codec_id}:effort{n}", photo(), 8.0)[0] for n in (1, 9))
    assert most < 0.995 * least


@pytest.mark.parametrize("tune", [0, 4096])
def test_what_is_found_is_what_is_decoded(tune: int, tuned: LadderCodec) -> None:
    rate, pixels = RatePoint(tune + 1900), picture(100, 75)
    coded = tuned.searching(4).encode(pixels, rate)
    latent = tuned.decode(coded.sections, 100, 75, rate)
    assert torch.equal(latent, coded.latent)
    again = tuned.searching(4).encode(pixels, rate)
    assert again.sections == coded.sections
    assert tuned.encode(pixels, rate).sections == tuned.searching(1).encode(pixels, rate).sections


def test_many_pictures_are_searched_as_each_alone(tuned: LadderCodec) -> None:
    codec, rate = tuned.searching(2), RatePoint(1800)
    pictures = [picture(40, 24, seed) for seed in (1, 2)]
    together = [one.sections for one in codec.encode_many(pictures, rate)]
    assert together == [codec.encode(one, rate).sections for one in pictures]


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (200, 3), (64, 65)])
def test_small_pictures(size: tuple[int, int], tuned: LadderCodec) -> None:
    for rate in (RatePoint(1700), RatePoint(4096 + 1700)):
        coded = tuned.searching(3).encode(picture(*size), rate)
        (band,) = tuned.bands(coded.latent, *size, rate)
        assert band.shape == (*size, 3)


def test_large_pictures_are_searched_in_parts(
    tuned: LadderCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halos as wide as the picture make all parts the whole."""
    rate, pixels = RatePoint(2000), picture(150, 90)
    whole = tuned.searching(5).encode(pixels, rate).sections
    monkeypatch.setattr(search, "MOST", 4)
    monkeypatch.setattr(search, "HALO", 20)
    shares: list[float] = []
    parts = tuned.searching(5).encode(pixels, rate, shares.append).sections
    assert parts == whole
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(set(shares)) > 6
    monkeypatch.setattr(search, "HALO", 0)
    assert tuned.searching(5).encode(pixels, rate).sections != whole


@given(st.integers(1, 500))
def test_parts_cover_a_side(n: int) -> None:
    tiles = [*search._tiles(n)]
    assert [i for t in tiles for i in range(n)[t.inner]] == [*range(n)]
    for tile in tiles:
        assert [*range(n)[tile.outer]][tile.crop] == [*range(n)[tile.inner]]
        assert len(range(n)[tile.inner]) <= search.MOST


def test_small_pictures_are_continued_by_their_mirror_image() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert mirrored(x, 2) is x
    expected = np.pad(x[0, 0].numpy(), ((0, 5), (0, 4)), "symmetric")
    assert np.array_equal(mirrored(x, 7)[0, 0].numpy(), expected)


def test_a_search_leaves_the_program_as_it_was(tuned: LadderCodec) -> None:
    rate, pixels = RatePoint(1800), picture(48, 32)
    expected = tuned.searching(2).encode(pixels, rate).sections
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert tuned.searching(2).encode(pixels, rate).sections == expected
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    tuned.searching(2).encode(pixels, rate)
    assert torch.equal(torch.rand(3), drawn)
    assert all(p.grad is None and not p.requires_grad for p in tuned.model.parameters())


def test_efforts_by_name_and_in_the_library(tmp_path: Path) -> None:
    assert zoo.find("photo-3").effort == 1
    card = zoo.find("photo-3:psnr:effort9")
    assert (card.tune, card.effort) == ("psnr", 9)
    assert zoo.find("photo-2:effort2").effort == 2
    pixels = photo()[:64, :64]
    made = vqcodec.encode(pixels, "7bit", effort=3)
    assert made == vqcodec.encode(pixels, "7bit", codec="photo-3:effort3")
    assert made != vqcodec.encode(pixels, "7bit")
    Image.fromarray(pixels).save(tmp_path / "x.vqc", rate="7bit", effort=3)
    assert (tmp_path / "x.vqc").read_bytes() == made


def test_what_no_effort_is() -> None:
    for effort in (0, 10, 2.5, "9"):
        with pytest.raises(UsageError, match="whole number from 1 to 9"):
            vqcodec.encode(photo(), "7bit", effort=effort)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="hqa-digits has one effort"):
        vqcodec.encode(photo(), codec="hqa-digits", effort=2)


@pytest.mark.parametrize("rate", ["34dB", "3kB", "60q"])
def test_targets_hold_with_effort(rate: str) -> None:
    made = compress(zoo.load(zoo.find("photo-3:effort2"), "cpu"), image.from_array(photo()), rate)
    if rate == "3kB":
        assert 0.98 * 3000 < len(made.data) <= 3000
    else:
        reached = made.psnr_db if rate == "34dB" else made.quality
        assert reached is not None and float(rate.rstrip("dBq")) <= reached


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_search_on_a_gpu_costs_less_too() -> None:
    codec = zoo.load(zoo.find("photo-3:psnr"), "cuda").tuned(effort=4)
    plain = zoo.load(zoo.find("photo-3:psnr"), "cuda")
    sizes, errors = [], []
    for one in (plain, codec):
        made = compress(one, image.from_array(photo()), "7bit")
        decoded = np.asarray(vqcodec.decode(made.data).convert("RGB")).astype(float)
        sizes.append(len(made.data))
        errors.append(float(np.square(decoded - photo()).mean()))
    assert errors[1] < errors[0] and sizes[1] < 1.05 * sizes[0]
