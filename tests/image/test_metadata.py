"""Orientation, EXIF and ICC profiles are read."""

import io
import struct
import warnings

import numpy as np
import pytest
from image_files import (
    ALPHA,
    GREY,
    ORIENTATION,
    PIXELS,
    RGB_ICC,
    back,
    exif_with,
    icc_for,
    parsed,
    png,
    stored,
)
from PIL import Image, ImageOps

from vqcodec import image


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
