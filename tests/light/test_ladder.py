"""What numpy decodes is what torch decodes: the same codes, and pixels to within one step."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tiny_ladder import TINY, TUNED, make_codec, picture, random_ladder

from vqcodec import zoo
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.rate import VISUAL
from vqcodec.errors import CodecError, FormatError
from vqcodec.light import ladder, prior
from vqcodec.light.ladder import LightLadder
from vqcodec.training.ladder import rounded, tensors

CONFIGS = {"plain": TINY, "tuned": TUNED}
Both = tuple[LadderCodec, LightLadder]
Tensors = dict[str, np.ndarray]


def stored(codec: LadderCodec) -> Tensors:
    """The tensors of its weights file."""
    found = tensors(codec.model, codec.hyper_tables, codec.class_tables)
    return {name: value.numpy() for name, value in found.items()}


@pytest.fixture(scope="module", params=CONFIGS)
def both(request: pytest.FixtureRequest) -> Both:
    config: LadderConfig = CONFIGS[request.param]
    codec = make_codec(rounded(random_ladder(config=config)))
    return codec, LightLadder(config, stored(codec))


def assert_alike(both: Both, height: int, width: int, index: int, levels: int = 99) -> None:
    theirs, ours = both
    rate = theirs.point(index)
    assert ours.point(index) == rate and ours.levels(rate) == theirs.levels(rate)
    assert ours.least_bytes(height, width, rate) == theirs.least_bytes(height, width, rate)
    sections = theirs.encode(picture(height, width), rate).sections[:levels]
    bits: tuple[list[float], list[float]] = [], []
    expected = theirs.decode(sections, height, width, rate, bits[0])
    latent = ours.decode(sections, height, width, rate, bits[1])
    assert np.array_equal(latent, expected.numpy()) and bits[0] == bits[1]
    pixels = np.concatenate(list(ours.bands(latent, height, width, rate)))
    shown = np.concatenate(list(theirs.bands(expected, height, width, rate)))
    assert pixels.shape == (height, width, 3)
    assert np.abs(pixels.astype(int) - shown).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (17, 300), (100, 75)])
@pytest.mark.parametrize("index", [1280, 2001, 2560])
def test_any_picture_and_rate_decode_alike(both: Both, size: tuple[int, int], index: int) -> None:
    assert_alike(both, *size, index + VISUAL * both[0].config.tuned)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_previews_decode_alike(both: Both, levels: int) -> None:
    assert_alike(both, 100, 75, 2000, levels)


def test_bands_and_tiles_do_not_show(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "BAND", 12)
    monkeypatch.setattr(ladder_decoder, "TILE", 3)
    assert_alike(both, 150, 90, 2000)


def test_a_region_has_the_pixels_of_the_whole(both: Both) -> None:
    codec, ours = both
    rate = ours.point(1900)
    latent = ours.decode(codec.encode(picture(90, 120), rate).sections, 90, 120, rate)
    whole = np.concatenate(list(ours.bands(latent, 90, 120, rate)))
    part = np.concatenate(list(ours.bands(latent, 90, 120, rate, (30, 20, 50, 40))))
    assert np.array_equal(part, whole[20:60, 30:80])


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "light"])
def test_another_thread_may_decode_another_rate(
    both: Both, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system: Any = both[which]
    files = {n: both[0].encode(picture(20, 30), system.point(n)) for n in (1900, 2000, 2500)}

    def decoded(number: int) -> np.ndarray:
        rate = system.point(number)
        latent = system.decode(files[number].sections, 20, 30, rate)
        return np.concatenate(list(system.bands(latent, 20, 30, rate)))

    expected = decoded(1900)
    decoded(2000)
    kept: list[Any] = [None]

    def keep(self: Any, folded: Any) -> None:
        """As if the other thread came just after what is folded is kept."""
        kept.append(folded)
        if len(kept) == 2:
            decoded(2500)

    monkeypatch.setattr(type(system), "_folded", property(lambda self: kept[-1], keep), False)
    assert np.array_equal(decoded(1900), expected) and len(kept) == 3


def test_the_rates_of_another_codec_are_refused(both: Both) -> None:
    for index in (1279, 2561, 2 * VISUAL + 2000, VISUAL * (not both[0].config.tuned) + 900):
        with pytest.raises(FormatError):
            both[1].point(index)


def assert_refused(tensors: Tensors, config: LadderConfig = TINY) -> str:
    shape = config.to_dict()
    card = replace(zoo.find("photo-2"), shape=shape)
    with pytest.raises(CodecError) as caught:
        ladder.load(card, safetensors.numpy.save(tensors))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_that_do_not_fit_are_a_codec_error() -> None:
    codec = make_codec(rounded(random_ladder()))
    good = stored(codec)
    card = replace(zoo.find("photo-2"), shape=TINY.to_dict())
    assert ladder.load(card, safetensors.numpy.save(good)).card is card
    broken = good["synthesis.enter.bias"].copy()
    broken[3] = np.nan
    huge = np.full_like(good["anchor_nets.0.conv.weight"], 2**15 - 1)
    for name, value, why in (
        ("synthesis.enter.bias", broken, "not a number"),
        ("synthesis.enter.bias", broken[:-1], "not those of this version"),
        ("anchor_nets.0.conv.weight", huge[:, :, :2], "not those of this version"),
        ("units", good["units"].astype(np.int64), "32-bit"),
        ("units", 0 * good["units"], "not above zero"),
        ("hyper_tables", good["hyper_tables"] + 1, "sum to"),
        ("class_tables", good["class_tables"][:, :9], "not those of the network"),
    ):
        assert why in assert_refused({**good, name: value}), name
    assert "anchor_nets.0" in assert_refused(
        {name: value for name, value in good.items() if not name.startswith("anchor_nets.0")}
    )
    assert_refused(good, TUNED)
    with pytest.raises(CodecError, match="cannot be used"):
        ladder.load(card, b"no safetensors")
