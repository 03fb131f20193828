"""Pictures to files and back with the shipped codec, through the API, Pillow and the program."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vqcodec
from vqcodec import container, image, zoo
from vqcodec.autoencoders.ladder import codec as ladder_codec
from vqcodec.codec import Codec
from vqcodec.compress import Compressed, compress, encode_at
from vqcodec.decompress import decompress, decompress_rows, ideal_bits
from vqcodec.errors import (
    CodecError,
    ImageError,
    InputError,
    RateError,
    UsageError,
)
from vqcodec.metrics import measure, psnr_db

PHOTO = Path(__file__).parent / "data" / "photo.png"


@cache
def shipped() -> Codec:
    return vqcodec.load_codec("photo-2", "cpu")


@cache
def photo() -> np.ndarray:
    with Image.open(PHOTO) as im:
        return np.array(im)


@cache
def crop() -> np.ndarray:
    """(128, 192, 3)"""
    return np.ascontiguousarray(photo()[80:208, 100:292])


@cache
def made(rate: str) -> Compressed:
    """The crop's file."""
    return compress(shipped(), image.from_array(crop()), rate)


def decoded(data: bytes, levels: int | None = None) -> np.ndarray:
    return vqcodec.decode_picture(data, levels, "cpu").pixels


# ---------------------------------------------------------------------------------- round trips


def test_every_kind_of_source_makes_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    im = Image.fromarray(crop())
    im.save(path)
    expected = made("7bit").data
    for source in (crop(), im, path, str(path), path.read_bytes()):
        assert vqcodec.encode(source, "7bit", codec="photo-2", device="cpu") == expected
    with Image.open(path) as opened:
        assert vqcodec.encode(opened, "7bit", codec="photo-2", device="cpu") == expected


def test_decode_gives_a_pillow_image_close_to_the_source() -> None:
    im = vqcodec.decode(made("9bit").data, device="cpu")
    assert isinstance(im, Image.Image) and (im.mode, im.size) == ("RGB", (192, 128))
    assert psnr_db(np.array(im), crop()) > 25


def test_encoding_and_decoding_are_deterministic() -> None:
    again = compress(shipped(), image.from_array(crop()), "9bit").data
    assert again == made("9bit").data
    assert np.array_equal(decoded(again), decoded(again))


def test_pillow_opens_and_saves_vqc(tmp_path: Path) -> None:
    path = tmp_path / "a.vqc"
    Image.fromarray(crop()).save(path, rate="8bit", codec="photo-2")
    assert path.read_bytes() == made("8bit").data
    with Image.open(path) as im:
        assert (im.format, im.mode, im.size) == ("VQC", "RGB", (192, 128))
        assert np.array_equal(np.array(im), decoded(path.read_bytes()))
    buffer = BytesIO()
    Image.fromarray(crop()).save(buffer, "VQC", rate="5bit", codec="photo-2")
    assert buffer.getvalue() == made("5bit").data


def test_grey_stays_grey() -> None:
    grey = np.ascontiguousarray(crop()[:40, :50, 1])
    im = vqcodec.decode(vqcodec.encode(grey, "9bit", device="cpu"), device="cpu")
    assert (im.mode, im.size) == ("L", (50, 40))
    assert psnr_db(np.array(im), grey) > 20


def test_alpha_comes_back_exactly() -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (33, 47), np.uint8)
    im = Image.fromarray(np.dstack((crop()[:33, :47], alpha)), "RGBA")
    back = vqcodec.decode(vqcodec.encode(im, "5bit", device="cpu"), device="cpu")
    assert back.mode == "RGBA" and np.array_equal(np.array(back)[..., 3], alpha)


def test_metadata_is_carried_along_and_strip_drops_it_but_not_alpha() -> None:
    icc = bytes(16) + b"RGB " + bytes(16) + b"acsp" + bytes(88)
    exif = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    picture = replace(
        image.from_array(crop()[:20, :20].copy()),
        alpha=np.full((20, 20), 7, np.uint8),
        icc=icc,
        exif=exif,
        deep=True,
        xmp=b"<x/>",
        resolution=(300.0, 72.009),
    )
    back = decompress(shipped(), compress(shipped(), picture, "5bit").data)
    assert (back.icc, back.exif, back.deep) == (icc, exif, True)
    assert (back.xmp, back.resolution) == (b"<x/>", (300.0, 72.009))
    back = decompress(shipped(), compress(shipped(), picture, "5bit", strip=True).data)
    assert (back.icc, back.exif, back.deep) == (icc, None, False), "colours stay"
    assert (back.xmp, back.resolution) == (None, None)
    assert back.alpha is not None and (back.alpha == 7).all()


def test_pixels_that_alpha_hides_cost_little_and_count_for_no_target() -> None:
    pixels, alpha = crop()[:64, :64].copy(), np.full((64, 64), 255, np.uint8)
    alpha[:, 32:] = 0
    noisy = pixels.copy()
    noisy[:, 32:] = np.random.default_rng(0).integers(0, 256, (64, 32, 3))
    seen = compress(shipped(), replace(image.from_array(noisy), alpha=alpha), "30dB")
    half = compress(shipped(), image.from_array(pixels[:, :32].copy()), "30dB")
    assert len(seen.data) < 1.3 * len(half.data) + 300
    back = decompress(shipped(), seen.data)
    assert seen.psnr_db is not None
    assert abs(seen.psnr_db - psnr_db(pixels[:, :32], back.pixels[:, :32])) < 0.01


def test_a_size_that_cannot_be_reached_names_what_is_not_the_picture() -> None:
    picture = replace(image.from_array(crop()[:20, :20].copy()), exif=b"II*\0" + bytes(9000))
    with pytest.raises(RateError, match=r"of which are EXIF 9004; --strip drops"):
        compress(shipped(), picture, "2kB")


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 16), (16, 16), (1, 17), (17, 1), (15, 33), (64, 65), (3, 130)]
)
@pytest.mark.parametrize("rate", ["5bit", "10bit"])
def test_odd_sizes_come_back_in_size(size: tuple[int, int], rate: str) -> None:
    height, width = size
    pixels = np.ascontiguousarray(photo()[100 : 100 + height, 200 : 200 + width])
    back = decoded(vqcodec.encode(pixels, rate, device="cpu"))
    assert back.shape == (height, width, 3)
    if rate == "10bit":
        assert psnr_db(back, pixels) > 20


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        vqcodec.encode(np.zeros((2, 2, 5), np.uint8), device="cpu")
    with pytest.raises(ImageError):
        vqcodec.encode(b"a text", device="cpu")
    with pytest.raises(InputError):
        vqcodec.encode(tmp_path / "missing.png", device="cpu")


# ---------------------------------------------------------------------------------------- rates


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
    result = compress(shipped(), image.from_array(crop()), f"{target}q")
    quality = measure(crop(), decoded(result.data), ["ssimulacra2"])["ssimulacra2"]
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


def test_a_quality_out_of_reach_is_refused_unless_it_is_the_codec_s_own() -> None:
    best = compress(shipped(), gap(), "10bit")
    with pytest.raises(RateError, match=r"95q cannot be reached .* the highest of photo-2 is \d\d"):
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


# ------------------------------------------------------------------------------ levels and bytes


def test_each_level_of_a_preview_adds_quality() -> None:
    data = made("9bit").data
    previews = [decoded(data, levels) for levels in range(1, 7)]
    assert {preview.shape for preview in previews} == {crop().shape}
    qualities = [psnr_db(preview, crop()) for preview in previews]
    assert qualities == sorted(set(qualities))
    assert np.array_equal(previews[-1], decoded(data))


def test_a_prefix_of_the_file_is_a_preview() -> None:
    data = made("9bit").data
    lengths = [len(section) for section in container.read(data).sections]
    prefix = data[: len(data) - lengths[5] - 6]  # its length and checksum may stay behind
    assert np.array_equal(decoded(prefix, 4), decoded(data, 4))


def test_levels_that_a_file_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="6 levels, not 7"):
        decoded(made("9bit").data, 7)


@pytest.mark.parametrize("rate", ["5bit", "6.5bit", "8bit", "10bit"])
def test_payloads_are_hardly_larger_than_their_ideal_bits(rate: str) -> None:
    result = made(rate)
    ideal = sum(result.ideal_bits) / 8
    assert ideal - 2 < sum(result.section_bytes) < ideal * 1.0005 + 5
    assert ideal_bits(shipped(), result.data) == pytest.approx(result.ideal_bits)


@pytest.mark.parametrize("rate", ["7bit", "8.5bit", "10bit"])
def test_files_are_hardly_larger_than_their_ideal_bits(rate: str) -> None:
    result = compress(shipped(), image.from_array(photo()), rate)
    assert len(result.data) <= sum(result.ideal_bits) / 8 * 1.005 + 40


def test_the_overhead_is_that_of_the_container() -> None:
    assert container.overhead(container.read(made("9bit").data)) <= 16 + 6 * 6
    dot = vqcodec.encode(np.zeros((1, 1, 3), np.uint8), "5bit", device="cpu")
    assert container.overhead(container.read(dot)) <= 14 + 5 * 3


# ---------------------------------------------------------------------------------- other weights


def test_files_of_other_codecs_are_refused() -> None:
    content = container.read(made("5bit").data)
    for header in (
        replace(content.header, codec=9999),
        replace(content.header, weights_hash=b"1234"),
    ):
        foreign = container.write(replace(content, header=header))
        with pytest.raises(CodecError):
            decoded(foreign)
        with pytest.raises(CodecError):
            decompress(shipped(), foreign)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CodecError):
        Codec.from_weights(shipped().card, b"not safetensors", "cpu")
    card = (shipped().card.path / "card.toml").read_text(encoding="utf-8")
    (tmp_path / "card.toml").write_text(card, encoding="utf-8")
    with pytest.raises(CodecError, match=r"(?i)no such file"):
        vqcodec.load_codec(str(tmp_path), "cpu")
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(CodecError, match="damaged"):
        vqcodec.load_codec(str(tmp_path), "cpu")


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(CodecError, match="photo-2"):
        vqcodec.load_codec("photo-999")


# -------------------------------------------------------------------------- parts of a picture


@pytest.mark.parametrize(
    "region", [(0, 0, 192, 128), (0, 0, 1, 1), (191, 127, 1, 1), (60, 33, 70, 66), (64, 64, 64, 64)]
)
@pytest.mark.parametrize("tile", [4, 128])
def test_a_region_is_exactly_that_of_the_whole(
    region: tuple[int, int, int, int], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_codec, "TILE", tile)
    x, y, width, height = region
    alpha = np.arange(192, dtype=np.uint8)[None].repeat(128, 0)
    data = compress(shipped(), image.Picture(crop(), alpha), "7bit").data
    whole = decompress(shipped(), data)
    part = decompress(shipped(), data, region=region)
    by_name = np.array(vqcodec.decode(data, device="cpu", region=region))
    assert np.array_equal(by_name[:, :, :3], part.pixels)
    assert np.array_equal(part.pixels, whole.pixels[y : y + height, x : x + width])
    assert part.alpha is not None
    assert np.array_equal(part.alpha, alpha[y : y + height, x : x + width])


def test_the_pixels_of_a_region_are_all_that_is_synthesized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ladder_codec, "TILE", 4)
    monkeypatch.setattr(ladder_codec, "HALO", 1)
    cells: list[int] = []
    plain = ladder_codec.FoldedSynthesis.__call__

    def count(self: ladder_codec.FoldedSynthesis, y: torch.Tensor) -> torch.Tensor:
        cells.append(y.shape[0] * y.shape[1])
        return plain(self, y)

    monkeypatch.setattr(ladder_codec.FoldedSynthesis, "__call__", count)
    decompress(shipped(), made("7bit").data, region=(70, 70, 10, 10))
    assert cells == [5 * 6]  # one tile of 4 x 4 cells, at the lower edge, with its halo


@pytest.mark.parametrize("region", [(0, 0, 193, 1), (-1, 0, 5, 5), (5, 5, 0, 5), (0, 120, 1, 9)])
def test_a_region_must_lie_within_the_picture(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="not within the picture of 192x128"):
        decompress(shipped(), made("7bit").data, region=region)


def test_rows_come_in_bands_that_make_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_codec, "TILE", 3)
    rows = decompress_rows(shipped(), made("7bit").data)
    bands = list(rows.bands)
    assert [len(band) for band in bands] == [48, 48, 32]
    assert np.array_equal(np.concatenate(bands), decompress(shipped(), made("7bit").data).pixels)


def test_progress_rises_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_codec, "TILE", 4)
    monkeypatch.setattr(ladder_codec, "BAND", 24)
    encoded: list[tuple[str, float]] = []
    decoded: list[float] = []
    data = compress(
        shipped(),
        image.from_array(crop()),
        "7bit",
        progress=lambda rate, share: encoded.append((rate, share)),
    ).data
    decompress(shipped(), data, progress=decoded.append)
    assert {rate for rate, _ in encoded} == {"7bit"}
    for shares in ([share for _, share in encoded], decoded):
        assert len(shares) > 10
        assert shares == sorted(shares) and shares[-1] == 1.0


# ----------------------------------------------------------------------------------- exactness


def test_tiles_change_no_code_and_no_pixel_by_more_than_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system, content = shipped().system, container.read(made("9bit").data)
    point = system.point(content.header.rate)

    def results() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        latent = system.decode(list(content.sections), 128, 192, point)
        pixels = np.concatenate(list(system.bands(latent, 128, 192, point))).astype(int)
        return latent.numpy(), pixels, system.latents(crop()[None], point)[0].numpy()

    codes, pixels, analysed = results()
    monkeypatch.setattr(ladder_codec, "TILE", 4)
    tiled_codes, tiled_pixels, tiled_analysed = results()
    assert np.array_equal(codes, tiled_codes)
    assert np.abs(pixels - tiled_pixels).max() <= 1
    assert np.abs(analysed - tiled_analysed).max() < 1e-2  # steps


def test_the_encoder_knows_what_the_decoder_will_see() -> None:
    point = shipped().system.point(1920)
    coded = shipped().system.encode(crop(), point)
    latent = shipped().system.decode(coded.sections, 128, 192, point)
    assert np.array_equal(coded.latent.numpy(), latent.numpy())


# ---------------------------------------------------------------------------------- the program


def test_import_vqcodec_does_not_import_torch() -> None:
    script = "import sys, vqcodec; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_program_from_photo_to_file_to_picture(tmp_path: Path) -> None:
    Image.fromarray(crop()).save(tmp_path / "a.png")

    def program(*args: str) -> str:
        command = [sys.executable, "-m", "vqcodec", *args]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    one = ("--threads", "1", "--device", "cpu")
    program("encode", "a.png", "--rate", "9bit", *one)
    data = (tmp_path / "a.vqc").read_bytes()
    record = json.loads(program("info", "a.vqc", "--json"))
    assert (record["codec"], record["rate"], record["bytes"]) == (zoo.DEFAULT, "9bit", len(data))
    assert sum(record["sections"]) + record["overhead"] == len(data)
    program("decode", "a.vqc", "-o", "b.png", *one)
    program("decode", "a.vqc", "-o", "c.png", "--levels", "2", *one)
    for name, levels in (("b.png", None), ("c.png", 2)):
        with Image.open(tmp_path / name) as im:
            difference = np.array(im).astype(int) - decoded(data, levels)
        assert np.abs(difference).max() <= 1
    assert zoo.DEFAULT in program("models")
