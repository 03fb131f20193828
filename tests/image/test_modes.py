"""Every mode of pixels is read as grey or RGB, with alpha apart."""

import io
import struct

import numpy as np
import pytest
from image_files import ALPHA, GREY, PIXELS, RGB_ICC, back, cmyk_profile, icc_for, png
from PIL import Image, ImageCms

from vqcodec import image


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_rgb_of_lossless_formats_is_exact(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    picture = back(Image.fromarray(PIXELS), format, **options)
    assert np.array_equal(picture.pixels, PIXELS)
    assert (picture.width, picture.height, picture.grey) == (7, 5, False)
    assert (picture.alpha, picture.icc, picture.exif) == (None, None, None)
    assert not picture.deep and picture.notes == ()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "PPM", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_stays_grey(mode: str, format: str) -> None:
    im = Image.fromarray(GREY).convert(mode)
    picture = back(im, format)
    assert picture.grey
    if format != "JPEG":
        assert np.array_equal(picture.pixels, np.array(im.convert("L")))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept_apart(mode: str, format: str) -> None:
    im = Image.fromarray(PIXELS).convert(mode)
    im.putalpha(Image.fromarray(ALPHA))
    picture = back(im, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    assert picture.alpha is not None and np.array_equal(picture.alpha, ALPHA)
    assert picture.grey == (mode == "LA" and format != "WEBP")
    first = picture.pixels if picture.grey else picture.pixels[..., 0]
    assert np.array_equal(first, np.array(im)[..., 0])


def test_alpha_of_255_everywhere_is_dropped() -> None:
    assert back(Image.fromarray(PIXELS).convert("RGBA"), "PNG").alpha is None
    assert back(Image.fromarray(GREY).convert("LA"), "PNG").alpha is None


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha_is_undone(mode: str) -> None:
    straight = Image.new({"La": "LA", "RGBa": "RGBA"}[mode], (3, 2), 0)
    straight.paste(200 if mode == "La" else (200, 100, 50), (0, 0, 3, 2))
    straight.putalpha(51)
    picture = image.from_pillow(straight.convert(mode))
    assert picture.alpha is not None and (picture.alpha == 51).all()
    assert picture.grey == (mode == "La")
    assert (picture.pixels == (200 if mode == "La" else [200, 100, 50])).all()


def test_palette_becomes_rgb_unless_all_its_colours_are_grey() -> None:
    colours = Image.fromarray(PIXELS).quantize(16)
    assert np.array_equal(back(colours, "PNG").pixels, np.array(colours.convert("RGB")))
    greys = Image.fromarray(np.stack([GREY] * 3, axis=2)).quantize(16)
    assert np.array_equal(back(greys, "GIF").pixels, np.array(greys.convert("L")))
    assert not back(greys, "PNG", icc_profile=RGB_ICC).grey, "the profile is for RGB"


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_with_one_transparent_index(format: str) -> None:
    im = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    im.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture = back(im, format, transparency=1)
    assert picture.alpha is not None and picture.alpha.tolist() == [[255, 0, 255]]
    assert picture.pixels[0, ::2].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_palette_with_an_alpha_per_entry() -> None:
    im = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    im.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture = back(im, "PNG", transparency=bytes([0, 128, 7]))
    assert picture.alpha is not None and picture.alpha.tolist() == [[0, 128, 7]]


def test_transparent_colour_of_a_png_becomes_alpha() -> None:
    rgb = image.read(png(PIXELS, 2, 8, tRNS=struct.pack(">3H", *PIXELS[1, 2])), "x")
    assert rgb.alpha is not None and np.argwhere(rgb.alpha == 0).tolist() == [[1, 2]]
    grey = image.read(png(GREY[..., None], 0, 8, tRNS=struct.pack(">H", GREY[3, 3])), "x")
    assert grey.grey and grey.alpha is not None
    assert np.array_equal(grey.alpha == 0, GREY[3, 3] == GREY)
    deep = np.arange(6, dtype=np.uint16).reshape(2, 3, 1)  # all but one bit the same
    picture = image.read(png(deep, 0, 16, tRNS=struct.pack(">H", 4)), "x")
    assert picture.alpha is not None and np.argwhere(picture.alpha == 0).tolist() == [[1, 1]]
    deep_rgb = np.array([[[0, 0, 0], [256, 512, 768]]], np.uint16)
    picture = image.read(png(deep_rgb, 2, 16, tRNS=struct.pack(">3H", 256, 512, 768)), "x")
    assert picture.alpha is not None and picture.alpha.tolist() == [[255, 0]]


@pytest.mark.parametrize(("depth", "packed"), [(1, 0b01010101), (2, 0b00011011), (4, 0x12)])
def test_transparent_grey_of_few_bits_is_found(depth: int, packed: int) -> None:
    picture = image.read(png(np.array([[packed]]), 0, depth, tRNS=struct.pack(">H", 1)), "x")
    samples = [packed >> shift & (2**depth - 1) for shift in range(8 - depth, -1, -depth)]
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [0 if s == 1 else 255 for s in samples]
    assert picture.pixels[0].tolist() == [s * 255 // (2**depth - 1) for s in samples]


def test_rgbx_ycbcr_and_hsv_become_rgb() -> None:
    rgb = Image.fromarray(PIXELS)
    assert np.array_equal(image.from_pillow(rgb.convert("RGBX")).pixels, PIXELS)
    for mode in ("YCbCr", "HSV"):
        im = rgb.convert(mode)
        assert np.array_equal(image.from_pillow(im).pixels, np.array(im.convert("RGB")))


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk_is_converted_by_its_profile(format: str) -> None:
    """One whose inks are not those of the plain formula: cyan is a dark green in it."""
    im = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = back(im, format, icc_profile=cmyk_profile())
    assert picture.icc is None and picture.notes == ("CMYK converted to sRGB by its profile",)
    wanted = ImageCms.profileToProfile(
        im,
        ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    assert wanted is not None
    assert np.abs(picture.pixels.astype(int) - np.array(wanted)).max() <= 1
    assert np.abs(picture.pixels.astype(int) - np.array(im.convert("RGB"))).max() > 90


def test_cmyk_without_a_profile_that_can_be_used_is_converted_plainly() -> None:
    im = Image.fromarray(PIXELS).convert("CMYK")
    for icc in (None, icc_for(b"CMYK"), RGB_ICC):
        picture = back(im, "TIFF", icc_profile=icc)
        (note,) = picture.notes
        assert picture.icc is None and note.startswith("CMYK converted to RGB")
        assert ("without its profile" in note) == (icc is not None), "nothing is lost silently"
        assert np.array_equal(picture.pixels, np.array(im.convert("RGB")))


def test_lab_is_converted_with_a_note() -> None:
    picture = back(Image.frombytes("LAB", (1, 1), bytes([255, 0, 0])), "TIFF")
    assert picture.pixels.shape == (1, 1, 3) and picture.pixels.min() > 250
    assert picture.notes == ("LAB converted to RGB",)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_any_size_from_one_pixel(mode: str, size: tuple[int, int]) -> None:
    picture = image.from_pillow(Image.new(mode, size))
    assert (picture.width, picture.height) == size


@pytest.mark.parametrize("data", [b"P1 2 1 1 0", b"P2 2 1 255 0 255", b"P3 1 1 255 0 9 255"])
def test_plain_pnm(data: bytes) -> None:
    expected = [[[0, 9, 255]]] if data[1:2] == b"3" else [[0, 255]]
    picture = image.read(data, "x")
    assert picture.pixels.tolist() == expected and not picture.deep
