import io
import os
import stat
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import vqcodec
from vqcodec import container, image, pillow
from vqcodec.container import Box, Container, Header
from vqcodec.errors import FormatError, ImageError, InputError, OutputError, RateError
from vqcodec.files import atomic_write
from vqcodec.image import Picture

ORIENTATION = 0x0112
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = PIXELS[..., 1].copy()
GREY = PIXELS[..., 0].copy()
RGB_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_for(space: bytes) -> bytes:
    return RGB_ICC[:16] + space + RGB_ICC[20:]


def png(samples: np.ndarray, colour: int, depth: int, **chunks: bytes) -> bytes:
    """A PNG by hand: (h, w, channels) samples of 8 or 16 bits, or (h, n) bytes packed already."""
    rows = samples.astype(">u2" if depth == 16 else np.uint8)
    width = rows.shape[1] if depth >= 8 else rows.shape[1] * 8 // depth
    head = struct.pack(">IIBBBBB", width, rows.shape[0], depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = {"IHDR": head, **chunks, "IDAT": data, "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + kind.encode()
        + body
        + struct.pack(">I", zlib.crc32(kind.encode() + body))
        for kind, body in parts.items()
    )


def tiff(samples: np.ndarray, depth: int, photometric: int, deflate: bool = False) -> bytes:
    """A little-endian TIFF of one strip by hand: (h, w, channels) samples."""
    h, w, channels = samples.shape
    strip = samples.astype("<u2" if depth == 16 else "<u4").tobytes()
    strip = zlib.compress(strip) if deflate else strip
    entries = {
        256: (4, w),
        257: (4, h),
        258: (3, depth),
        259: (3, 8 if deflate else 1),
        262: (3, photometric),
        273: (4, 8),
        277: (3, channels),
        278: (4, h),
        279: (4, len(strip)),
    }
    at = 8 + len(strip)
    table = struct.pack("<H", len(entries))
    for tag, (kind, value) in entries.items():
        count = channels if tag == 258 else 1
        if count > 2:  # does not fit: stored behind the directory
            value = at + 2 + 12 * len(entries) + 4
        table += struct.pack("<HHII", tag, kind, count, value)
    table += bytes(4) + struct.pack(f"<{channels}H", *[depth] * channels)
    return b"II*\0" + struct.pack("<I", at) + strip + table


def stored(im: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    im.save(buffer, format=format, **options)
    return buffer.getvalue()


def back(im: Image.Image, format: str, **options: object) -> Picture:
    return image.read(stored(im, format, **options), "x")


def exif_with(orientation: int | None, make: str = "Camera") -> bytes:
    exif = Image.Exif()
    exif[0x010F] = make
    if orientation is not None:
        exif[ORIENTATION] = orientation
    exif[0x8769] = {0x829A: (1, 100)}
    return exif.tobytes()


def parsed(exif: bytes | None) -> Image.Exif:
    assert exif is not None
    assert exif[:4] in (b"II*\0", b"MM\0*")
    tags = Image.Exif()
    tags.load(exif)
    return tags


# ---------------------------------------------------------------------------------- modes


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


def test_cmyk_is_converted_with_a_note_and_its_profile_dropped() -> None:
    im = Image.fromarray(PIXELS).convert("CMYK")
    for format in ("TIFF", "JPEG"):
        picture = back(im, format, icc_profile=icc_for(b"CMYK"))
        assert picture.icc is None and picture.pixels.shape == PIXELS.shape
        assert any("CMYK" in note for note in picture.notes)
        assert any("profile dropped" in note for note in picture.notes)


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


# ------------------------------------------------------------------------------- 16 bits

DEEP = np.array([[0, 1, 128, 129, 385, 386, 32767, 65406, 65407, 65535]], np.uint16)
DEEP_AS_8 = [0, 0, 0, 1, 1, 2, 127, 254, 255, 255]  # nearest multiple of 257


@pytest.mark.parametrize(
    "data",
    [
        png(DEEP[..., None], 0, 16),
        tiff(DEEP[..., None], 16, 1),
        tiff(DEEP[..., None], 16, 1, deflate=True),
        tiff(65535 - DEEP[..., None], 16, 0),  # white is zero
        b"P5 10 1 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P2 10 1 65535\n" + " ".join(map(str, DEEP[0])).encode(),
    ],
    ids=["png", "tiff", "deflated tiff", "inverted tiff", "pgm", "plain pgm"],
)
def test_16_bit_grey_is_scaled_with_rounding(data: bytes) -> None:
    picture = image.read(data, "x")
    assert picture.pixels.tolist() == [DEEP_AS_8]
    assert picture.deep and picture.notes == ("16 bits per sample coded as 8",)


def test_16_bit_modes_of_either_byte_order() -> None:
    for mode, dtype in [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")]:
        picture = image.from_pillow(Image.frombytes(mode, (10, 1), DEEP.astype(dtype).tobytes()))
        assert picture.pixels.tolist() == [DEEP_AS_8] and picture.deep


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff", "deflated tiff"])
def test_16_bit_rgb_is_told_though_pillow_delivers_8(kind: str, channels: int) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (3, 4, channels), dtype=np.uint16)
    if kind == "png":
        data = png(samples, {3: 2, 4: 6}[channels], 16)
    else:
        data = tiff(samples, 16, 2, deflate=kind == "deflated tiff")
    picture = image.read(data, "x")
    assert picture.deep and picture.notes == ("16 bits per sample coded as 8",)
    assert np.abs(picture.pixels - samples[..., :3] / 257).max() <= 1
    assert (picture.alpha is not None) == (channels == 4)


def test_16_bit_rgb_ppm_is_told() -> None:
    picture = image.read(b"P6 1 1 65535\n\xff\xff\x80\x80\0\0", "x")
    assert picture.deep and picture.pixels.tolist() == [[[255, 128, 0]]]
    assert not image.read(b"P6 1 1 100\n\x64\x32\0", "x").deep


def test_16_bit_grey_with_alpha_stays_grey() -> None:
    picture = image.read(png(np.array([[[65535, 0], [0, 65535]]]), 4, 16), "x")
    assert picture.deep and picture.pixels.tolist() == [[255, 0]]
    assert picture.alpha is not None and picture.alpha.tolist() == [[0, 255]]


def test_5_6_5_bits_are_not_16_per_sample() -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + head + b"\xff\x7f\0\0"
    assert not image.read(data, "x").deep


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_per_sample_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=r"x: samples are .* 8 or 16 bits"):
        back(Image.new(mode, (2, 2)), "TIFF")
    with pytest.raises(ImageError):
        image.from_pillow(Image.new(mode, (2, 2)))


# ------------------------------------------------------------------- orientation, EXIF, ICC


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_orientation_is_applied_as_by_pillow_and_removed(format: str, orientation: int) -> None:
    im = Image.fromarray(PIXELS).convert("RGB" if format == "JPEG" else "RGBA")
    if format != "JPEG":
        im.putalpha(Image.fromarray(ALPHA))
    data = stored(im, format, exif=exif_with(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = image.read(data, "x")
    assert np.array_equal(np.array(image.to_pillow(picture)), np.array(upright))
    assert picture.pixels.flags.c_contiguous
    tags = parsed(picture.exif)
    assert ORIENTATION not in tags
    assert tags[0x010F] == "Camera" and tags.get_ifd(0x8769)[0x829A] == (1, 100)


def test_orientation_in_xmp_is_applied() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    text = b"XML:com.adobe.xmp" + bytes(5) + xmp
    assert image.read(png(PIXELS, 2, 8, iTXt=text), "x").width == 5


def test_exif_without_orientation_is_kept_to_the_byte() -> None:
    exif = exif_with(None)
    for format in ("PNG", "JPEG", "WEBP"):
        assert back(Image.fromarray(PIXELS), format, exif=exif).exif == exif[6:]


def test_no_other_byte_of_exif_moves_but_a_sideways_thumbnail_is_unlinked() -> None:
    entries = [(0x010F, 2, 4, b"Abc\0"), (ORIENTATION, 3, 1, b"\6\0\0\0"), (0x927C, 4, 1, b"note")]
    table = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    exif = b"II*\0" + struct.pack("<IH", 8, 3) + table + struct.pack("<I", 50) + b"the rest"
    kept = image.read(png(PIXELS, 2, 8, eXIf=exif), "x").exif
    rest = struct.pack("<IH", 8, 2) + table[:12] + table[24:] + bytes(4) + bytes(12) + b"the rest"
    assert kept == b"II*\0" + rest
    straight = exif.replace(b"\6\0\0\0", b"\1\0\0\0")
    kept = image.read(png(PIXELS, 2, 8, eXIf=straight), "x").exif
    assert kept is not None and kept[34:38] == struct.pack("<I", 50)


def test_broken_exif_is_dropped_with_a_note() -> None:
    for junk in (b"junk", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x09\x01"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = image.read(png(PIXELS, 2, 8, eXIf=junk), "x")
        assert picture.exif is None and picture.notes == ("broken EXIF dropped",)
        assert np.array_equal(picture.pixels, PIXELS)


def test_tiff_keeps_tags_that_describe_and_none_of_its_layout() -> None:
    tags = parsed(back(Image.fromarray(PIXELS), "TIFF", exif=exif_with(3)).exif)
    assert set(tags) == {0x010F, 0x8769}
    assert back(Image.fromarray(PIXELS), "TIFF").exif is None


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_icc_profile_is_kept(format: str) -> None:
    assert back(Image.fromarray(PIXELS), format, icc_profile=RGB_ICC).icc == RGB_ICC


def test_icc_profile_of_another_colour_space_is_dropped_with_a_note() -> None:
    grey, rgb = Image.fromarray(GREY), Image.fromarray(PIXELS)
    assert back(grey, "PNG", icc_profile=icc_for(b"GRAY")).icc == icc_for(b"GRAY")
    for im, icc in [(grey, RGB_ICC), (rgb, icc_for(b"GRAY")), (rgb, b"junk")]:
        picture = back(im, "PNG", icc_profile=icc)
        assert picture.icc is None
        assert len(picture.notes) == 1 and "ICC profile dropped" in picture.notes[0]


# --------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused_by_name(format: str) -> None:
    frames = [Image.fromarray(PIXELS // d).quantize(8) for d in (1, 2, 3)]
    data = stored(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError) as caught:
        image.read(data, "cat.gif")
    expected = f"cat.gif: animated {format} with 3 frames; only still images can be coded"
    assert str(caught.value) == expected


def test_multi_page_tiff_is_refused() -> None:
    page = Image.fromarray(GREY)
    data = stored(page, "TIFF", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match=r"^x: multi-page TIFF with 2 pages; only still"):
        image.read(data, "x")


def test_first_frame_of_a_camera_mpo_is_taken() -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (8, 8), "blue")
    data = stored(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    picture = image.read(data, "x")
    assert picture.pixels.shape == (16, 16, 3) and picture.pixels[8, 8, 0] > 250


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a\.png: no such file$"):
        image.read(tmp_path / "a.png", "a.png")
    with pytest.raises(InputError, match=r"^folder: is a folder$"):
        image.read(tmp_path, "folder")
    with pytest.raises(InputError, match=r"^x: "):
        image.read(tmp_path / ("long" * 100), "x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_without_read_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch(0)
    with pytest.raises(InputError, match=r"^x: permission denied$"):
        image.read(path, "x")


@pytest.mark.parametrize("data", [b"", b"x", b"not an image at all" * 9, b"\x89PNG\r\n\x1a\n"])
def test_junk_is_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x: not an image that can be read$"):
        image.read(data, "x")


def test_eps_is_never_handed_to_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("started"))
    data = stored(Image.fromarray(PIXELS), "EPS")
    with pytest.raises(ImageError, match=r"not an image"):
        image.read(data, "x")


def test_a_vqc_file_is_told_apart() -> None:
    with pytest.raises(ImageError, match=r"^x: is a \.vqc file already$"):
        image.read(b"VQC1...", "x")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"])
def test_truncated_images_are_refused_on_one_line(format: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = stored(Image.fromarray(pixels), format)
    with pytest.raises(ImageError) as caught:
        image.read(data[: len(data) // 2], "x")
    assert str(caught.value).startswith("x: ") and "\n" not in str(caught.value)


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF")
FILES = [stored(Image.fromarray(PIXELS), format, exif=exif_with(6)) for format in FORMATS]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_damaged_files_raise_nothing_but_image_errors(file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = image.read(bytes(damaged), "x")
        except ImageError:
            return
    assert picture.pixels.dtype == np.uint8 and picture.pixels.size


def test_absurd_sizes_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    huge = png(GREY[..., None], 0, 8).replace(
        struct.pack(">II", 7, 5), struct.pack(">II", 20001, 20000)
    )
    huge = huge[:29] + struct.pack(">I", zlib.crc32(huge[12:29])) + huge[33:]
    with pytest.raises(ImageError, match=r"^x: 20001 x 20000 pixels"):
        image.read(huge, "x")


@pytest.mark.parametrize("limit", [20, 5])  # Pillow would warn; raise
def test_pillows_own_limit_neither_warns_nor_raises(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(image.read(png(PIXELS, 2, 8), "x").pixels, PIXELS)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError):
        image.from_pillow(Image.new("RGB", (0, 3)))


# ------------------------------------------------------------------------------- sources


class Pipe(io.RawIOBase):
    """A stream that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return self.buffer.read()


def test_paths_bytes_streams_and_pipes_read_the_same(tmp_path: Path) -> None:
    data = png(PIXELS, 2, 8)
    path = tmp_path / "no suffix"
    path.write_bytes(data)
    with path.open("rb") as stream:
        for source in (path, data, io.BytesIO(data), stream, Pipe(data)):
            assert np.array_equal(image.read(source, "x").pixels, PIXELS)  # type: ignore[arg-type]
        assert not stream.closed, "whoever opened it closes it"


def test_read_rgb_is_always_three_channels_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path, exif=exif_with(6))
    pixels = image.read_rgb(path)
    assert pixels.shape == (7, 5, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels[..., 2], np.rot90(GREY, -1))


# --------------------------------------------------------------------------------- write

LOSSLESS = ["PNG", "WEBP", "TIFF", "BMP", "PPM", "PGM", "PNM"]


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
@pytest.mark.parametrize("pixels", [PIXELS, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize("format", LOSSLESS)
def test_what_is_written_reads_back(
    format: str, pixels: np.ndarray, alpha: np.ndarray | None
) -> None:
    icc = icc_for(b"GRAY") if pixels.ndim == 2 else RGB_ICC
    picture = Picture(pixels, alpha, icc, exif_with(None)[6:])
    buffer = io.BytesIO()
    if alpha is not None and format not in ("PNG", "WEBP", "TIFF"):
        with pytest.raises(OutputError, match=f"^{format} cannot store alpha"):
            image.write(picture, buffer, format)
        return
    if pixels.ndim == 3 and format == "PGM":
        with pytest.raises(OutputError, match=r"^PGM cannot store colour"):
            image.write(picture, buffer, format)
        return
    image.write(picture, buffer, format)
    again = image.read(buffer.getvalue(), "x")
    grey = pixels.ndim == 2 and format not in ("WEBP", "PPM")
    expected = pixels if grey or pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)
    assert np.array_equal(again.pixels, expected)
    assert alpha is again.alpha is None or np.array_equal(again.alpha, alpha)  # type: ignore[arg-type]
    assert again.notes == ()
    if format in ("PNG", "TIFF", "WEBP"):
        assert again.icc == (icc if grey or pixels.ndim == 3 else None)
        assert parsed(again.exif)[0x010F] == "Camera"


def test_jpeg_is_4_4_4_of_high_quality_with_icc_and_exif() -> None:
    buffer = io.BytesIO()
    image.write(Picture(PIXELS, None, RGB_ICC, exif_with(None)[6:]), buffer, "jpeg")
    im = Image.open(buffer)
    assert im.format == "JPEG"
    assert [layer[1:3] for layer in im.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    again = image.read(buffer.getvalue(), "x")
    assert again.icc == RGB_ICC and again.exif == exif_with(None)[6:]
    with pytest.raises(OutputError, match=r"^JPEG cannot store alpha"):
        image.write(Picture(PIXELS, ALPHA), buffer, "JPEG")


def test_what_a_format_cannot_hold_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot be stored as JPEG: EXIF data is too long"):
        image.write(Picture(GREY, exif=exif_with(None, "x" * 70000)[6:]), io.BytesIO(), "JPEG")
    with pytest.raises(OutputError, match=r"^cannot be stored as WEBP"):
        image.write(Picture(np.zeros((1, 16384), np.uint8)), tmp_path / "a.webp", "WEBP")
    with pytest.raises(OutputError, match=r"^GIF: unknown format; can write PNG, JPEG"):
        image.write(Picture(GREY), io.BytesIO(), "GIF")
    assert not list(tmp_path.iterdir())


def test_exif_from_a_stranger_cannot_change_a_tiffs_layout() -> None:
    exif = Image.Exif()
    exif.update({256: 9999, 259: 7, 273: 1, 0x010F: "Camera"})
    buffer = io.BytesIO()
    image.write(Picture(PIXELS, exif=exif.tobytes()[6:]), buffer, "TIFF")
    assert np.array_equal(image.read(buffer.getvalue(), "x").pixels, PIXELS)


def test_format_follows_the_suffix_of_any_case() -> None:
    assert image.format_of(Path("a.b.JPG")) == "JPEG"
    assert image.format_of(Path("x.tif")) == image.format_of(Path("x.tiff")) == "TIFF"
    for name in ("a.gif", "a", ".png"):
        with pytest.raises(OutputError, match=r"can write \.png, \.jpg"):
            image.format_of(Path(name))


def test_write_replaces_a_file_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image.write(Picture(GREY), path, "PNG")
    with pytest.raises(OutputError, match=r"exists; --force overwrites"):
        image.write(Picture(PIXELS), path, "PNG")
    assert image.read(path, "x").grey
    image.write(Picture(PIXELS), path, "PNG", force=True)
    assert not image.read(path, "x").grey
    assert list(tmp_path.iterdir()) == [path]


# --------------------------------------------------------------------------- atomic_write


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Where asked for, a file system without hard links."""

    def link(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param:
        monkeypatch.setattr(os, "link", link)


both_ways = pytest.mark.parametrize("without_links", [False, True], indirect=True)


@both_ways
@pytest.mark.parametrize("force", [False, True])
def test_a_file_appears_whole_at_the_end(tmp_path: Path, force: bool, without_links: None) -> None:
    path = tmp_path / "a"
    with atomic_write(path, force=force) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_after_an_error(
    tmp_path: Path, error: type[BaseException], force: bool
) -> None:
    path = tmp_path / "a"
    if force:
        path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path, force=force) as file:
        file.write(b"half")
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if force else [])


@both_ways
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, without_links: None) -> None:
    path = tmp_path / "a"
    with (
        pytest.raises(OutputError, match=r"a: exists; --force overwrites"),
        atomic_write(path, force=False) as file,
    ):
        file.write(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_stops_the_block_before_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists"), atomic_write(path, force=False):
        pytest.fail("entered")
    with atomic_write(path, force=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_impossible_places_are_output_errors(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a/b: no such folder: "),
        atomic_write(tmp_path / "a" / "b", force=False),
    ):
        pytest.fail("entered")
    with pytest.raises(OutputError, match=r"is a folder"), atomic_write(tmp_path, force=True):
        pytest.fail("entered")
    with (
        pytest.raises(OutputError, match=r"cannot be written: file name too long"),
        atomic_write(tmp_path / ("a" * 999), force=True),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a", force=False):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_symbolic_link_is_followed_with_force_and_kept_without(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)  # to nothing yet
    with pytest.raises(OutputError, match=r"exists"), atomic_write(link, force=False):
        pytest.fail("entered")
    with atomic_write(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="devices of Linux")
def test_devices_are_written_to_and_never_replaced() -> None:
    with atomic_write(Path("/dev/null"), force=False) as file:
        file.write(b"gone")
    assert not Path("/dev/null").is_file()
    with (
        pytest.raises(OutputError, match=r"/dev/full: cannot be written: no space left on device"),
        atomic_write(Path("/dev/full"), force=False) as file,
    ):
        file.write(b"too much")


# ----------------------------------------------------------------------------------- alpha


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 9), st.sampled_from([1, 51, 255]))
def test_alpha_is_lossless(height: int, width: int, seed: int, step: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 255 // step + 1, (height, width))
    alpha = (levels * step).astype(np.uint8)
    again = image.decode_alpha(image.encode_alpha(alpha), width, height)
    assert again.dtype == np.uint8 and np.array_equal(again, alpha)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        image.encode_alpha(ALPHA)[:60],
        image.encode_alpha(ALPHA.T.copy()),
        stored(Image.fromarray(PIXELS), "PNG"),
        stored(Image.fromarray(ALPHA), "BMP"),
        stored(Image.fromarray(ALPHA), "GIF"),
        stored(
            Image.fromarray(ALPHA), "PNG", save_all=True, append_images=[Image.new("L", (7, 5))]
        ),
        png(ALPHA[..., None], 0, 16),
        png(ALPHA[..., None], 3, 8),
        png(np.zeros((5, 4)), 0, 4),
    ],
)
def test_hostile_alpha_is_a_format_error_before_it_is_decoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if data != image.encode_alpha(ALPHA)[:60]:
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(FormatError, match=r"alpha"):
        image.decode_alpha(data, 7, 5)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_alpha_raises_nothing_but_format_errors(data: st.DataObject) -> None:
    damaged = bytearray(image.encode_alpha(ALPHA))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FormatError):
        assert image.decode_alpha(bytes(damaged), 7, 5).shape == (5, 7)


# ----------------------------------------------------------------------------- with Pillow


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
@pytest.mark.parametrize("pixels", [PIXELS, GREY], ids=["rgb", "grey"])
def test_pillow_and_back(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    icc = icc_for(b"GRAY") if pixels.ndim == 2 else RGB_ICC
    im = image.to_pillow(Picture(pixels, alpha, icc, exif_with(None)[6:]))
    assert im.mode == ("L" if pixels.ndim == 2 else "RGB") + ("A" if alpha is not None else "")
    again = image.from_pillow(im)
    assert np.array_equal(again.pixels, pixels)
    assert alpha is again.alpha is None or np.array_equal(again.alpha, alpha)  # type: ignore[arg-type]
    assert (again.icc, again.exif) == (icc, exif_with(None)[6:])


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The plugin with a codec that stores nothing but the size; says how it was called."""
    calls: dict[str, object] = {}

    def encode(picture: Picture, rate: str, codec: str | None, device: str) -> bytes:
        calls.update(picture=picture, rate=rate, codec=codec, device=device)
        if rate == "0dB":
            raise RateError("no such rate")
        boxes = [("ICC ", picture.icc), ("EXIF", picture.exif)]
        if picture.alpha is not None:
            boxes.append(("ALPH", image.encode_alpha(picture.alpha)))
        header = Header(1, b"hash", picture.width, picture.height, 8, picture.grey)
        return container.write(
            Container(header, (b"section",), tuple(Box(k, v) for k, v in boxes if v))
        )

    def decode(data: bytes) -> Picture:
        calls["decoded"] = True
        if "decode" in calls:
            raise FormatError("bad codes")
        header, boxes = container.read(data).header, container.read(data).boxes
        pixels = np.full((header.height, header.width, 3), 77, np.uint8)
        alpha = pixels[..., 0] if any(box.type == "ALPH" for box in boxes) else None
        return Picture(pixels[..., 0] if header.grey else pixels, alpha)

    monkeypatch.setattr(vqcodec, "encode_picture", encode, raising=False)
    monkeypatch.setattr(vqcodec, "decode_picture", decode, raising=False)
    pillow.register()
    pillow.register()  # twice does no harm
    return calls


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillow_saves_and_opens_vqc(tmp_path: Path, plugin: dict[str, object], mode: str) -> None:
    path = tmp_path / "a.vqc"
    Image.new(mode, (7, 5)).save(path)
    assert [plugin[k] for k in ("rate", "codec", "device")] == ["8bit", None, "cpu"]
    with Image.open(path) as im:
        assert (im.format, im.mode, im.size) == ("VQC", mode, (7, 5))
        assert im.get_format_mimetype() == "image/x-vqc"
        assert "decoded" not in plugin, "opening is lazy"
        assert im.getpixel((0, 0)) == (77 if mode == "L" else (77,) * len(mode))
        assert im.rotate(90, expand=True).size == (5, 7)


def test_pillow_hands_on_options_icc_and_exif(plugin: dict[str, object]) -> None:
    im = Image.fromarray(PIXELS)
    im.info.update(icc_profile=RGB_ICC, exif=exif_with(6))
    data = stored(im, "VQC", rate="34dB", codec="photo-2", device="cuda")
    assert [plugin[k] for k in ("rate", "codec", "device")] == ["34dB", "photo-2", "cuda"]
    again = Image.open(io.BytesIO(data))
    assert again.size == (5, 7), "upright"
    assert again.info["icc_profile"] == RGB_ICC
    assert again.getexif()[0x010F] == "Camera" and ORIENTATION not in again.getexif()
    data = stored(im, "VQC", icc_profile=None, exif=exif_with(None, "Other"))
    again = Image.open(io.BytesIO(data))
    assert "icc_profile" not in again.info and again.getexif()[0x010F] == "Other"


def test_pillow_meets_broken_vqc_files_as_it_expects(plugin: dict[str, object]) -> None:
    data = stored(Image.fromarray(PIXELS), "VQC")
    with pytest.raises(OSError, match=r"ends early"):
        Image.open(io.BytesIO(data[:-8]))
    with pytest.raises(OSError, match=r"unknown version"):
        Image.open(io.BytesIO(b"VQC9" + data[4:]))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"junk" * 9))
    plugin["decode"] = "fails"
    with pytest.raises(OSError, match=r"bad codes"):
        Image.open(io.BytesIO(data)).load()


def test_pillow_removes_the_file_of_a_failed_save(
    tmp_path: Path, plugin: dict[str, object]
) -> None:
    with pytest.raises(RateError):
        Image.fromarray(PIXELS).save(tmp_path / "a.vqc", rate="0dB")
    assert not list(tmp_path.iterdir())


def test_importing_image_imports_no_torch() -> None:
    code = "import vqcodec.image, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_a_contact_sheet_holds_every_picture_once(count: int) -> None:
    pictures = [np.full((3, 5, 3), index, np.uint8) for index in range(count)]
    sheet = image.contact_sheet(pictures)
    counts = np.bincount(sheet[:, :, 0].ravel(), minlength=256)
    assert (counts[:count] == 15).all() and counts[count:255].sum() == 0
