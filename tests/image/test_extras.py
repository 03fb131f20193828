"""What a file has beside its pixels: XMP and resolution are kept, and the rest is named."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import (
    GREY,
    PIXELS,
    RGB_ICC,
    back,
    box,
    exif_with,
    jpeg_with,
    parsed,
    png,
    stored,
    tiff,
)
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from vqcodec import image
from vqcodec.boxes import boxes_of, read_boxes
from vqcodec.image import metadata, xmp
from vqcodec.image.picture import Picture, Rows

PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">'
    b'<a tiff:Orientation="6" tiff:ImageWidth="7"/></x:xmpmeta>'
)
UPRIGHT = PACKET.replace(b'tion="6"', b'tion="1"').replace(b'dth="7"', b'dth="5"')
IM = Image.fromarray(PIXELS)
JPEG = stored(IM, "JPEG")
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
JP2_EXIF = struct.pack(">I", 32) + b"uuidJpgTiffExif->JP2" + b"MM\0*\0\0\0\x08"
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"


def psd(*resources: tuple[int, bytes]) -> bytes:
    """A flat Photoshop file of PIXELS."""
    said = b"".join(
        b"8BIM" + struct.pack(">HHI", kind, 0, len(body)) + body + bytes(len(body) % 2)
        for kind, body in resources
    )
    return (
        b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 5, 7, 8, 3) + bytes(4)
        + struct.pack(">I", len(said)) + said + bytes(6) + np.moveaxis(PIXELS, 2, 0).tobytes()
    )  # fmt: skip


def with_xmp(format: str, packet: bytes) -> bytes:
    if format == "PNG":
        return png(PIXELS, 2, 8, iTXt=b"XML:com.adobe.xmp" + bytes(5) + packet)
    if format == "TIFF":
        tags = ImageFileDirectory_v2()
        tags.tagtype[700] = 1
        tags[700] = packet
        return stored(IM, "TIFF", tiffinfo=tags)
    return stored(IM, format, xmp=packet)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_xmp_is_read_and_says_what_is_true_of_the_upright_pixels(format: str) -> None:
    picture = image.read(with_xmp(format, PACKET), "x")
    if format == "TIFF":  # of which Pillow takes the orientation out when it turns the picture
        assert picture.xmp == UPRIGHT.replace(b'tiff:Orientation="1"', b"")
    else:
        assert picture.xmp == UPRIGHT
    assert (picture.width, picture.lost) == (5, ())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_xmp_and_resolution_come_back_from_what_is_written(format: str) -> None:
    buffer = io.BytesIO()
    picture = Picture(PIXELS, xmp=UPRIGHT, resolution=(300.0, 150.0))
    assert image.write(picture, buffer, format) == ()
    again = image.read(buffer.getvalue(), "x")
    assert again.xmp == xmp.of_this_size(UPRIGHT, 7, 5)
    found = again.resolution or metadata.resolution_of_exif(again.exif or b"")
    assert found is not None and np.allclose(found, (300, 150), atol=0.02)


def test_formats_that_hold_no_metadata_say_what_they_leave_out() -> None:
    picture = Picture(PIXELS, exif=exif_with(None)[6:], xmp=UPRIGHT, resolution=(300.0, 300.0))
    (note,) = image.write(picture, io.BytesIO(), "PPM")
    assert note == "EXIF, XMP and resolution left out: PPM cannot hold that"
    (note,) = image.write(picture, io.BytesIO(), "BMP")
    assert note == "EXIF and XMP left out: BMP cannot hold that"


@pytest.mark.parametrize(
    ("data", "resolution"),
    [
        (stored(IM, "JPEG", dpi=(300, 150)), (300.0, 150.0)),
        (JPEG.replace(b"JFIF\0\1\1\0\0\1\0\1", b"JFIF\0\1\1\2\0\x76\0\x76"), (299.72, 299.72)),
        (png(PIXELS, 2, 8, pHYs=struct.pack(">IIB", 11811, 5905, 1)), (299.999, 149.987)),
        (stored(IM, "TIFF", dpi=(300.5, 72)), (300.5, 72.0)),
        (stored(IM, "TIFF", resolution_unit=3, x_resolution=100, y_resolution=50), (254.0, 127.0)),
        (stored(IM, "BMP", dpi=(96, 96)), (96.012, 96.012)),
        (JPEG, None),
        (tiff(PIXELS.astype(np.uint16) * 257, 16, 2), None),
        (psd((1005, struct.pack(">IHHIHH", 300 << 16, 1, 1, 150 << 16, 1, 1))), (300.0, 150.0)),
        (png(PIXELS, 2, 8, pHYs=struct.pack(">IIB", 0, 5905, 1)), None),
    ],
)
def test_resolution_is_read(data: bytes, resolution: tuple[float, float] | None) -> None:
    assert image.read(data, "x").resolution == resolution


def test_resolution_turns_with_the_picture() -> None:
    picture = back(IM, "JPEG", dpi=(300, 150), exif=exif_with(6))
    assert picture.resolution == (150.0, 300.0)


def test_boxes_hold_all_that_belongs_to_a_picture() -> None:
    whole = Picture(
        PIXELS, PIXELS[..., 0].copy(), b"icc", b"exif", True, xmp=b"xmp", resolution=(299.72, 0.5)
    )
    boxes = boxes_of(whole)
    assert {box.type: len(box.payload) for box in boxes}["RES "] == 8
    found = read_boxes(boxes, 7, 5)
    assert (found.icc, found.exif, found.xmp, found.deep) == (b"icc", b"exif", b"xmp", True)
    assert found.resolution == (299.72, 0.5)
    assert boxes_of(Picture(PIXELS)) == ()


def test_an_orientation_in_a_box_of_a_stranger_turns_nothing() -> None:
    boxes = boxes_of(Picture(PIXELS, exif=exif_with(6)[6:], xmp=PACKET))
    found = read_boxes(boxes, 7, 5)
    assert 0x0112 not in parsed(found.exif) and parsed(found.exif)[0x010F] == "Camera"
    assert xmp.orientation(found.xmp or b"") == 1


def test_a_resolution_that_the_exif_states_has_no_box() -> None:
    exif = Image.Exif()
    exif.update({282: 300.0, 283: 300.0, 296: 2})
    picture = back(IM, "JPEG", dpi=(300, 300), exif=exif)
    assert [box.type for box in boxes_of(picture)] == ["EXIF"]
    buffer = io.BytesIO()
    image.write(Picture(PIXELS, exif=picture.exif), buffer, "PNG")
    assert round(Image.open(buffer).info["dpi"][0]) == 300


def test_a_region_has_no_thumbnail_of_the_whole() -> None:
    thumbnail = stored(IM, "JPEG")
    start = struct.pack("<HHHII", 1, 0x0112, 3, 1, 1) + struct.pack("<I", 8 + 18)
    second = struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    exif = b"II*\0\x08\0\0\0" + start + second
    exif += bytes(56 - len(exif)) + thumbnail
    packet = b"<a><xmp:Thumbnails><b/></xmp:Thumbnails>tiff:ImageWidth='7'</a>"
    boxes = boxes_of(Picture(PIXELS, exif=exif, xmp=packet))
    assert thumbnail in (read_boxes(boxes, 7, 5).exif or b"")
    part = read_boxes(boxes, 7, 5, (1, 1, 3, 2))
    assert part.exif is not None and thumbnail[:2] not in part.exif
    assert part.xmp == b"<a>tiff:ImageWidth='3'</a>"


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        (stored(IM, "JPEG", comment=b"hello"), ("comment",)),
        (
            jpeg_with(JPEG, (0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\2xx")),
            ("IPTC",),
        ),
        (jpeg_with(JPEG, (0xE1, b"http://ns.adobe.com/xmp/extension/\0x")), ("extended XMP",)),
        (jpeg_with(JPEG, (0xEB, b"JP\0\0jumb c2pa")), ("content credentials",)),
        (jpeg_with(JPEG, (0xE5, b"Maker\0...")), ("APP5 data (Maker)",)),
        (jpeg_with(JPEG, after=bytes(4) + b"ftypmp42" + bytes(99)), ("motion video",)),
        (jpeg_with(JPEG, after=b"something else"), ("14 bytes behind the picture",)),
        (jpeg_with(JPEG, after=bytes(64)), ()),
        (
            jpeg_with(
                JPEG, (0xE1, XMP_HEAD + b'<a hdrgm:Version="1.0"/>'), after=stored(IM, "JPEG")
            ),
            ("gain map",),
        ),
        (
            jpeg_with(
                jpeg_with(JPEG, (0xE2, ISO_GAIN_MAP + bytes(4))),
                after=jpeg_with(JPEG, (0xE2, ISO_GAIN_MAP + bytes(60))),
            ),
            ("gain map",),
        ),
        (psd((1028, b"xx"), (1058, b"MM"), (2000, b"x")), ("IPTC", "EXIF", "paths")),
        (stored(IM, "JPEG2000") + JP2_EXIF, ("comment", "EXIF")),
        (
            png(PIXELS, 2, 8, tEXt=b"Copyright\0me", zTXt=b"Note\0\0" + zlib.compress(b"x")),
            ("text (Copyright, Note)",),
        ),
        (png(PIXELS, 2, 8, tIME=bytes(7)), ("time of the last change",)),
        (png(PIXELS, 2, 8, caBX=b"x"), ("content credentials",)),
        (png(PIXELS, 2, 8, pHYs=struct.pack(">IIB", 2, 1, 0)), ("ratio of the pixels' sides",)),
        (stored(IM.convert("P"), "GIF", comment=b"hello"), ("comment",)),
        (stored(IM, "TIFF", tiffinfo={33723: b"iptc", 65000: "x"}), ("tag 65000", "IPTC")),
    ],
)
def test_what_is_not_kept_is_named(data: bytes, lost: tuple[str, ...]) -> None:
    assert image.read(data, "x").lost == lost


def test_xmp_of_a_photoshop_file_is_kept_and_turns_nothing() -> None:
    picture = image.read(psd((1060, PACKET)), "x")
    assert np.array_equal(picture.pixels, PIXELS) and picture.xmp is not None
    assert xmp.orientation(picture.xmp) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"<a xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation = '6'/>",
        b'<a xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"/>',
        b'<a><tiff:Orientation x="1">6</tiff:Orientation></a>',
        b'<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>\0\0',
        '<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'.encode("utf-16"),
    ],
)
def test_an_orientation_in_xmp_is_heeded_however_it_is_written(said: bytes) -> None:
    picture = image.read(stored(Image.fromarray(PIXELS), "WEBP", lossless=True, xmp=said), "x")
    assert np.array_equal(picture.pixels, np.rot90(PIXELS, -1))
    assert picture.xmp and picture.xmp.endswith(b">") and b"6" not in picture.xmp
    buffer = io.BytesIO()
    assert image.write(picture, buffer, "PNG") == ()
    assert image.read(buffer.getvalue(), "x").xmp == picture.xmp


def test_of_a_picture_that_was_turned_xmp_has_no_thumbnail() -> None:
    packet = b"<a><xmp:Thumbnails>...</xmp:Thumbnails></a>"
    for orientation, kept in ((1, packet), (6, b"<a></a>")):
        data = stored(
            Image.fromarray(PIXELS), "JPEG", exif=exif_with(orientation), xmp=packet
        )  # fmt: skip
        assert image.read(data, "x").xmp == kept


def test_a_resolution_that_is_rounded_is_told() -> None:
    for format, resolution, told in (
        ("JPEG", (300.0, 150.5), True),
        ("JPEG", (72.009, 299.999), False),
        ("PNG", (0.6, 0.6), True),
        ("PNG", (300.0, 150.5), False),
        ("TIFF", (300.0, 150.5), False),
    ):
        notes = image.write(Picture(PIXELS, resolution=resolution), io.BytesIO(), format)
        assert any("rounded" in note for note in notes) == told


def test_xmp_says_nothing_of_parts_that_are_not_kept() -> None:
    packet = (
        b'<a xmlns:hdrgm="h" xmlns:Container="c" hdrgm:Version="1.0" b="c">'
        b"<Container:Directory><li/></Container:Directory><d/></a>"
    )
    kept = image.read(with_xmp("JPEG", packet), "x").xmp
    assert kept == b'<a xmlns:hdrgm="h" xmlns:Container="c" b="c"><d/></a>'


def test_rows_and_pictures_are_put_before_a_colour() -> None:
    alpha = np.full((5, 7), 255, np.uint8)
    alpha[:, 3:] = 0
    alpha[0] = 128
    picture = Picture(PIXELS, alpha)
    made = image.blended(picture, (10, 20, 30))
    assert made.alpha is None and (made.pixels[1:, 3:] == (10, 20, 30)).all()
    assert np.array_equal(made.pixels[1:, :3], PIXELS[1:, :3])
    wanted = (PIXELS[0] * 128.0 + np.array((10, 20, 30)) * 127) / 255
    assert np.abs(made.pixels[0] - wanted).max() <= 0.5
    rows = Rows(5, 7, False, iter([PIXELS[:2], PIXELS[2:]]), alpha)
    assert np.array_equal(
        np.concatenate([*image.blended_rows(rows, (10, 20, 30)).bands]), made.pixels
    )
    grey = image.blended(Picture(GREY, alpha), (9, 9, 9))
    assert grey.grey and (grey.pixels[1:, 3:] == 9).all()
    assert not image.blended(Picture(GREY, alpha), (9, 9, 8)).grey


def test_what_alpha_hides_becomes_smooth_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (65, 50, 3), dtype=np.uint8)
    alpha = np.full((65, 50), 200, np.uint8)
    alpha[10:40, 10:30] = 0
    made = image.smoothed(pixels, alpha)
    assert np.array_equal(made[alpha > 0], pixels[alpha > 0])
    hidden = made[11:39, 11:29].astype(int)
    assert np.abs(np.diff(hidden, axis=0)).mean() < 10 < np.abs(np.diff(pixels.astype(int))).mean()
    assert (image.smoothed(pixels, np.zeros_like(alpha)) == 0).all()
    flat = np.full((9, 9), 77, np.uint8)
    assert (image.smoothed(flat, np.eye(9, dtype=np.uint8)) == 77).all()


def test_exif_states_the_size_of_these_pixels() -> None:
    exif = Image.Exif()
    exif[0x8769] = {0xA002: 7, 0xA003: 5, 0x829A: (1, 100)}
    exif[274] = 6
    tags = parsed(back(IM, "JPEG", exif=exif).exif)
    assert tags.get_ifd(0x8769) == {0xA002: 5, 0xA003: 7, 0x829A: (1, 100)}


def test_what_jpeg_2000_and_bmp_say_is_kept() -> None:
    """Pillow passes over their profiles, and the resolution at which JPEG 2000 is to be shown."""
    data = stored(Image.fromarray(PIXELS), "JPEG2000")
    at = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    head = data[at + 8 : at + size]
    assert head[-15:-7] == struct.pack(">I", 15) + b"colr"
    shown = struct.pack(">4H2b", 11811, 1, 2362, 10, 0, 1)  # per metre, down before across
    resolution = box(b"res ", box(b"resd", shown))
    with_profile = box(b"jp2h", head[:-15] + box(b"colr", b"\2\0\0" + RGB_ICC) + resolution)
    picture = image.read(data[:at] + with_profile + data[at + size :], "x")
    assert picture.icc == RGB_ICC and picture.resolution == pytest.approx((60, 300), abs=0.01)
    plain = image.read(data, "x")
    assert plain.icc is None and plain.notes == ()
    at = data.index(b"colr") + 7  # of ROMM RGB, which decoders take for RGB
    odd = image.read(data[:at] + struct.pack(">I", 21) + data[at + 4 :], "x")
    assert np.array_equal(odd.pixels, PIXELS) and "space 21 taken for sRGB" in odd.notes[0]

    samples = stored(Image.fromarray(PIXELS), "BMP")[54:]
    v5 = struct.pack("<IiiHHIIiiII", 124, 7, 5, 1, 24, 0, len(samples), 2835, 2835, 0, 0)
    v5 += bytes(16) + b"DEBM" + bytes(48)
    v5 += struct.pack("<4I", 4, 124 + len(samples), len(RGB_ICC), 0)
    begin = b"BM" + struct.pack("<IHHI", 138 + len(samples) + len(RGB_ICC), 0, 0, 138)
    picture = image.read(begin + v5 + samples + RGB_ICC, "x")
    assert picture.icc == RGB_ICC and np.array_equal(picture.pixels, PIXELS)
