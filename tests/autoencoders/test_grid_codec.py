"""Systems of the papers as codecs: mosaics, sections, files, rate points."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_codec import made, photo

from vqcodec import container, zoo
from vqcodec.autoencoders import grid_codec
from vqcodec.autoencoders.grid_codec import GridCodec, Mosaic
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.card import read_card
from vqcodec.codec import Codec
from vqcodec.compress import compress
from vqcodec.decompress import Choices, decompress
from vqcodec.drawing import sample
from vqcodec.errors import CodecError, FormatError, RateError, SizeError, UsageError
from vqcodec.image import Picture
from vqcodec.rangecoder import Draws
from vqcodec.rate import parse_rate, rate_name

TINY = HQAConfig(
    side=16, channels=3, codebook=16, dim=4, encoder=(4, 4, 4), decoder=(4, 4, 4), places=4096
)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return made(tmp_path_factory.mktemp("tiny"), "hqa", TINY)


# --- mosaics --------------------------------------------------------------------------------------


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16, 32]))
def test_a_mosaic_gives_the_picture_back(height: int, width: int, side: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    mosaic = Mosaic.of(height, width, side)
    squares = mosaic.cut(pixels)
    assert squares.shape == (mosaic.size, side, side, 3)
    assert mosaic.size == -(-height // side) * -(-width // side)
    assert np.array_equal(mosaic.join(squares, height, width), pixels)


def test_padding_repeats_the_edge_alike_on_both_sides() -> None:
    pixels = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28, 1)
    (square,) = Mosaic.of(28, 28, 32).cut(pixels)
    assert np.array_equal(square[2:30, 2:30], pixels)
    assert (square[:2, 2:30] == pixels[0]).all() and (square[30:, 2:30] == pixels[-1]).all()


# --- files ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(height=st.integers(1, 40), width=st.integers(1, 40), rate=st.integers(0, 2))
def test_files_of_any_size_decode_to_the_codes_of_the_encoder(
    codec: Codec, height: int, width: int, rate: int
) -> None:
    pixels = photo(height, width, 3)
    coded = codec.system.encode(pixels, rate)
    decoded = codec.system.decode(coded.sections, height, width, rate)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, coded.latent, strict=True))
    name = rate_name(codec.card, rate)
    data = compress(codec, Picture(pixels), name).data
    out = decompress(codec, data).pixels
    assert out.shape == pixels.shape
    bands = codec.system.bands(coded.latent, height, width, rate)
    assert np.array_equal(out, np.concatenate(list(bands)))


@pytest.mark.parametrize(
    "region", [(0, 0, 75, 50), (3, 20, 40, 9), (74, 49, 1, 1), (30, 0, 10, 50)]
)
@pytest.mark.parametrize("batch", [1, 256 * 5, 1 << 19])
def test_a_region_is_that_of_the_whole(
    codec: Codec, region: tuple[int, int, int, int], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, width, height = region
    data = compress(codec, Picture(photo(50, 75)), codec.card.points[-1]).data
    whole = decompress(codec, data).pixels[y : y + height, x : x + width]
    monkeypatch.setattr(grid_codec, "BATCH_PIXELS", batch)
    part = decompress(codec, data, region=region).pixels
    assert np.abs(part.astype(int) - whole).max() <= 1


def test_the_batch_does_not_change_the_codes(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = Mosaic.of(80, 80, 16).cut(photo(80, 80))
    together = codec.system.codes(squares, 2)  # type: ignore[attr-defined]
    monkeypatch.setattr("vqcodec.autoencoders.grid_codec.BATCH_PIXELS", 16 * 16 * 3)
    apart = codec.system.codes(squares, 2)  # type: ignore[attr-defined]
    assert all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))


def test_each_rate_point_needs_about_four_times_the_bits_of_the_one_below(codec: Codec) -> None:
    pixels = photo(160, 160)
    sizes = [
        sum(compress(codec, Picture(pixels), rate_name(codec.card, rate)).section_bytes)
        for rate in range(3)
    ]
    assert 2 < sizes[1] / sizes[0] < 6 and 2 < sizes[2] / sizes[1] < 6


def test_a_square_at_the_coarsest_rate_is_a_file_of_at_most_16_bytes(codec: Codec) -> None:
    digits = made_at_1x1(codec)
    for seed in range(20):
        assert len(compress(digits, Picture(photo(16, 16, seed)[:, :, 0]), "8bit-1x1").data) <= 16


_DIGITS: list[Codec] = []


def made_at_1x1(codec: Codec) -> Codec:
    if not _DIGITS:
        folder = codec.card.path.parent / "digits"
        folder.mkdir(exist_ok=True)
        shape = HQAConfig(
            side=16, channels=1, codebook=256, dim=4, encoder=(4,) * 4, decoder=(4,) * 4
        )
        _DIGITS.append(made(folder, "hqa", shape))
    return _DIGITS[0]


def test_a_grey_system_says_that_the_colours_are_lost(codec: Codec) -> None:
    digits = made_at_1x1(codec)
    (note,) = compress(digits, Picture(photo(16, 16)), "8bit-1x1").notes
    assert "colours are lost" in note
    assert not compress(digits, Picture(photo(16, 16)[:, :, 0]), "8bit-1x1").notes


# --- rate points ----------------------------------------------------------------------------------


def test_a_rate_names_bits_and_grid_or_bits_alone_for_the_finest(codec: Codec) -> None:
    assert codec.card.points == ["4bit-2x2", "4bit-4x4", "4bit-8x8"]
    for index, name in enumerate(codec.card.points):
        assert codec.rate_index(parse_rate(name)) == index
    assert codec.rate_index(parse_rate("4bit")) == 2
    for name in ("5bit", "4bit-3x3", "8bit-2x2"):
        with pytest.raises(RateError, match=r"offers 4bit-2x2, 4bit-4x4, 4bit-8x8, not"):
            codec.rate_index(parse_rate(name))


def test_sizes_and_qualities_find_their_rate_point(codec: Codec) -> None:
    picture = Picture(photo(64, 64))
    sizes = [len(compress(codec, picture, name).data) for name in codec.card.points]
    assert compress(codec, picture, f"{sizes[1]}B").rate == "4bit-4x4"
    assert compress(codec, picture, f"{sizes[2] - 1}B").rate == "4bit-4x4"
    assert compress(codec, picture, f"{sizes[0]}B").rate == "4bit-2x2"
    with pytest.raises(RateError, match="cannot be reached"):
        compress(codec, picture, f"{sizes[0] - 1}B")
    assert compress(codec, picture, "1dB").rate == "4bit-2x2"
    for rate, end, said in (
        ("99dB", 2, "99 dB cannot be reached on this picture: the highest quality of .*-8x8, has"),
        ("90q", 2, "90q cannot be reached on this picture: the highest of .*-8x8, does not even"),
        ("1B", 0, "at most 1 bytes cannot be reached"),
    ):
        tried: list[str] = []
        with pytest.raises(RateError, match=said):
            compress(codec, picture, rate, progress=lambda name, share, to=tried: to.append(name))
        assert set(tried) == {codec.card.points[end]}  # which tells at once


# --- what is refused ------------------------------------------------------------------------------


def test_a_rate_point_that_does_not_exist_is_refused(codec: Codec) -> None:
    parsed = container.read(compress(codec, Picture(photo(16, 16)), "4bit").data)
    header = container.Header(**{**parsed.header.__dict__, "rate": 3})
    with pytest.raises(FormatError, match="rate point 3"):
        decompress(codec, container.write(container.Container(header, parsed.sections)))


def test_few_bytes_do_not_take_memory_for_a_large_picture(codec: Codec) -> None:
    header = container.Header(9, codec.card.hash, 16000, 16000, 2)
    with pytest.raises(SizeError):
        decompress(codec, container.write(container.Container(header, (b"abc",))))


def test_weights_of_another_shape_are_refused(codec: Codec, tmp_path: Path) -> None:
    card = (codec.card.path / "card.toml").read_text()
    weights = (codec.card.path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(weights)
    for old, new in (
        ("dim = 4", "dim = 5"),
        ("dim = 4", "dimension = 4"),
        ("4bit-8x8", "4bit-9x9"),
        ('system = "hqa"', 'system = "unheard-of"'),
    ):
        assert old in card
        (tmp_path / "card.toml").write_text(card.replace(old, new))
        with pytest.raises(CodecError):
            zoo.load(read_card(tmp_path), "cpu")


def test_a_codec_without_a_prior_is_refused(codec: Codec) -> None:
    assert isinstance(codec.system, GridCodec)
    with pytest.raises(KeyError):
        GridCodec(codec.system.model, {}, torch.device("cpu")).encode(photo(16, 16), 0)


# --- choices of the decoder, samples --------------------------------------------------------------


def test_a_seed_draws_the_same_picture_again_and_an_average_of_many_is_another(
    codec: Codec,
) -> None:
    data = compress(codec, Picture(photo(40, 40)), "4bit-2x2").data
    plain = decompress(codec, data).pixels
    drawn = [decompress(codec, data, choices=Choices(seed=s)).pixels for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2]) and not np.array_equal(drawn[0], plain)
    both = decompress(codec, data, choices=Choices(seed=1, average=2)).pixels
    assert np.abs(both.astype(int) - drawn[0]).max() > 0
    assert np.array_equal(decompress(codec, data).pixels, plain)


def test_choices_that_a_codec_does_not_have_are_wrong_usage(codec: Codec) -> None:
    data = compress(codec, Picture(photo(16, 16)), "4bit").data
    with pytest.raises(UsageError, match="1 codes for each cell, not 2"):
        decompress(codec, data, choices=Choices(columns=2))
    photos = zoo.load(zoo.find(), "cpu")
    data = compress(photos, Picture(photo(16, 16)), "6bit").data
    with pytest.raises(UsageError, match="one way"):
        decompress(photos, data, choices=Choices(seed=1))


def test_samples_are_of_the_seed_and_of_the_size(codec: Codec) -> None:
    for one in (codec, zoo.load(zoo.find(), "cpu")):
        rate = one.card.points[-1] if one.card.points else "6bit"
        first, again, other = (sample(one, rate, 40, 23, seed).pixels for seed in (1, 1, 2))
        assert first.shape == (40, 23, 3)
        assert np.array_equal(first, again) and not np.array_equal(first, other)
    with pytest.raises(RateError):
        sample(codec, "30dB", 16, 16, 0)


def test_drawn_symbols_have_the_probabilities_of_their_table() -> None:
    table = np.array([1 << 23, 1 << 22, 1, (1 << 22) - 1])
    counts = np.bincount(Draws(0).decode(100_000, table), minlength=4) / 100_000
    assert np.abs(counts - table / (1 << 24)).max() < 0.01
