"""Pictures to files and back with the shipped codec, through the API, Pillow and the program."""

import json
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shipped import crop, decoded, made, photo, shipped

import vqcodec
from vqcodec import container, image, zoo
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.codec import Codec
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.errors import CodecError, ImageError, InputError, RateError, UsageError
from vqcodec.metrics import psnr_db

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
    monkeypatch.setattr(ladder_decoder, "TILE", 4)
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
