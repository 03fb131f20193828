"""Metadata never decides about pixels, and what ends early is taken where that is asked for."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import PIXELS, RGB_ICC, exif_with, jpeg_with, png, raw_tiff, stored
from PIL import Image, TiffImagePlugin

from vqcodec import image
from vqcodec.errors import ImageError
from vqcodec.image import isobmff, jpeg
from vqcodec.image.picture import Picture

IM = Image.fromarray(PIXELS)
LARGE = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
FORMATS = ["JPEG", "PNG", "TIFF", "WEBP"]


def damaged(data: bytes, kind: bytes) -> bytes:
    """A PNG with a chunk whose checksum is wrong."""
    at = data.index(kind)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    return data[:end] + bytes(b ^ 1 for b in data[end : end + 4]) + data[end + 4 :]


@pytest.mark.parametrize("kind", [b"tEXt", b"eXIf", b"iCCP", b"gAMA"])
def test_a_damaged_chunk_beside_the_picture_is_dropped(kind: bytes) -> None:
    chunks = {
        "tEXt": b"a\0b",
        "eXIf": exif_with(None)[6:],
        "iCCP": b"x\0\0" + zlib.compress(RGB_ICC),
        "gAMA": struct.pack(">I", 100000),
    }
    data = png(PIXELS, 2, 8, **{kind.decode(): chunks[kind.decode()]})
    picture = image.read(damaged(data, kind), "x")
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.notes == (f"damaged {kind.decode()} chunk dropped",)


@pytest.mark.parametrize(
    "kind", ["gAMA", "cHRM", "sRGB", "pHYs", "tRNS", "iCCP", "eXIf", "cICP", "acTL", "fcTL"]
)
def test_a_chunk_that_is_too_short_costs_no_picture(kind: str) -> None:
    picture = image.read(png(PIXELS, 2, 8, **{kind: b""}), "x")
    assert np.array_equal(picture.pixels, PIXELS) and picture.alpha is None
    assert kind == "cICP" or any("dropped" in note for note in picture.notes)


def shortened(data: bytes, kind: bytes, *within: bytes) -> bytes:
    """A file of boxes, one of which is four bytes shorter than it has to be."""
    made = bytearray(data)
    end = data.index(kind) - 4 + int.from_bytes(data[data.index(kind) - 4 :][:4], "big")
    del made[end - 4 : end]
    for name in (kind, *within):
        at = data.index(name) - 4
        made[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") - 4).to_bytes(4, "big")
    return bytes(made)


def test_a_box_that_is_too_short_costs_no_jpeg_2000() -> None:
    data = stored(IM, "JPEG2000")
    picture = image.read(shortened(data, b"colr", b"jp2h"), "x")
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.notes == ("1 broken field of metadata dropped",)
    at = data.index(b"jp2h") - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    inner = struct.pack(">I4s4H2B", 18, b"resc", 1, 1, 1, 1, 0, 0)
    head = data[at + 8 : end] + struct.pack(">I4s", 26, b"res ") + inner
    whole = data[:at] + struct.pack(">I4s", 8 + len(head), b"jp2h") + head + data[end:]
    assert image.read(whole, "x").notes == ()
    picture = image.read(shortened(whole, b"resc", b"res ", b"jp2h"), "x")
    assert np.array_equal(picture.pixels, PIXELS) and len(picture.notes) == 1


def test_a_damaged_header_is_refused() -> None:
    with pytest.raises(ImageError):
        image.read(damaged(png(PIXELS, 2, 8), b"IHDR"), "x")


@pytest.mark.parametrize(
    "chunk",
    [
        {"zTXt": b"big\0\0" + zlib.compress(bytes(3_000_000))},
        {"tEXt": b"big\0" + b"x" * 1_500_000},
        {"zTXt": b"big\0\0junk"},
        {"zTXt": b"big\0\1" + zlib.compress(b"packed in another way")},
    ],
)
def test_texts_over_a_limit_or_broken_are_dropped(chunk: dict[str, bytes]) -> None:
    picture = image.read(png(PIXELS, 2, 8, **chunk), "x")
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.notes == ("text big dropped: it is too long, or broken",)


def test_a_profile_and_xmp_that_are_long_are_read() -> None:
    """Pillow refuses more than a megabyte of each, which it wrote itself."""
    packet = b"<a>" + b"x" * 2_000_000 + b"</a>"
    icc = RGB_ICC + bytes(1_500_000)
    icc = struct.pack(">I", len(icc)) + icc[4:]
    buffer = io.BytesIO()
    image.write(Picture(PIXELS, icc=icc, xmp=packet), buffer, "PNG")
    again = image.read(buffer.getvalue(), "x")
    assert (again.icc, again.xmp, again.notes) == (icc, packet, ())


def test_an_avif_with_broken_exif_is_read() -> None:
    exif = exif_with(None)
    data = stored(IM, "AVIF", exif=exif, icc_profile=RGB_ICC)
    whole = image.read(data, "x")
    picture = image.read(data.replace(exif[6:], bytes(len(exif) - 6)), "x")
    assert np.array_equal(picture.pixels, whole.pixels) and picture.icc == RGB_ICC
    assert whole.exif and not picture.exif and picture.notes == ("broken metadata dropped",)


def field_of(data: bytes, tag: int) -> int:
    """Where the field of a tag stands in a little-endian TIFF of one directory."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return next(at for at in places if struct.unpack_from("<H", data, at)[0] == tag)


@pytest.mark.parametrize(
    ("tag", "change"),
    [
        (270, struct.pack("<HI", 2, 1 << 30)),  # ends behind the file
        (34675, struct.pack("<HI", 4, 4)),  # a profile of numbers
        (700, struct.pack("<HI", 3, 4)),
        (34665, struct.pack("<HII", 4, 1, 1 << 30)),
        (282, struct.pack("<HII", 5, 1, 1 << 30)),
    ],
)
def test_a_broken_field_of_a_tiff_costs_no_picture(tag: int, change: bytes) -> None:
    """Pillow leaves out all that stands behind it, or does not decode."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[34665] = "as long as it takes", {0x829A: (1, 100)}
    tags.tagtype[700], tags[700] = 1, b"<a/>"
    made = bytearray(stored(IM, "TIFF", tiffinfo=tags, icc_profile=RGB_ICC, dpi=(300, 300)))
    whole = image.read(bytes(made), "x")
    assert whole.notes == () and whole.icc == RGB_ICC and whole.xmp == b"<a/>"
    at = field_of(made, tag) + 2
    made[at : at + len(change)] = change
    picture = image.read(bytes(made), "x")
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.notes == ("1 broken field of metadata dropped",)
    kept = [picture.icc == whole.icc, picture.xmp == whole.xmp, picture.exif == whole.exif]
    assert kept.count(False) <= 1


def test_xmp_of_a_tiff_that_is_said_to_be_text_is_kept() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[700], tags[700] = 1, b"<a/>"
    made = bytearray(stored(IM, "TIFF", tiffinfo=tags))
    made[field_of(made, 700) + 2] = 2
    picture = image.read(bytes(made), "x")
    assert picture.xmp == b"<a/>" and picture.notes == ()


def test_of_a_long_exif_jpeg_holds_what_it_can() -> None:
    thumbnail = stored(Image.fromarray(LARGE).resize((200, 200)), "JPEG", quality=100)
    assert len(thumbnail) < 65000
    for format in FORMATS:
        buffer = io.BytesIO()
        notes = image.write(Picture(PIXELS, exif=exif_with(None, "x" * 70000)[6:]), buffer, format)
        again = image.read(buffer.getvalue(), "x")
        assert again.pixels.shape == PIXELS.shape
        if format == "JPEG":
            assert "left out: JPEG cannot hold that" in notes[0] and again.exif is None
        else:
            assert notes == () and again.exif is not None and len(again.exif) > 70000


def test_exif_whose_types_are_broken_costs_no_picture() -> None:
    """A resolution as text, a date as a number, a directory that points nowhere."""
    entries = [(271, 2, 4, b"Abc\0"), (282, 2, 4, b"x\0\0\0"), (306, 5, 1, b"\xff\xff\xff\x7f")]
    entries += [(34665, 4, 1, b"\xff\xff\0\0"), (34853, 2, 9, b"\xf0\xff\xff\xff")]
    table = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    exif = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    for source in ("PNG", "JPEG", "WEBP"):
        picture = image.read(stored(IM, source, exif=b"Exif\0\0" + exif), "x")
        for format in FORMATS:
            buffer = io.BytesIO()
            image.write(picture, buffer, format)
            assert image.read(buffer.getvalue(), "x").pixels.shape == PIXELS.shape


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(FORMATS))
def test_any_exif_and_xmp_cost_no_picture(junk: bytes, format: str) -> None:
    buffer = io.BytesIO()
    exif = b"II*\0\x08\0\0\0" + junk
    image.write(Picture(PIXELS, exif=exif, xmp=junk or None, icc=junk or None), buffer, format)
    picture = image.read(buffer.getvalue(), "x")
    assert picture.pixels.shape == PIXELS.shape


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_a_jpeg_without_its_end_mark_is_read_and_one_that_is_cut_needs_consent(
    options: dict[str, object],
) -> None:
    data = stored(Image.fromarray(LARGE), "JPEG", **options)
    whole = image.read(data, "x")
    bare = image.read(data[:-2], "x")
    assert np.array_equal(bare.pixels, whole.pixels)
    assert bare.notes == ("the file ends before its end mark; the picture is all there",)
    for share in (0.9, 0.6):
        cut = data[: int(len(data) * share)]
        with pytest.raises(ImageError, match=r"ends early, within the picture$") as caught:
            image.read(cut, "x")
        assert caught.value.option.startswith("--salvage")
        saved = image.read(cut, "x", salvage=True)
        assert saved.pixels.shape == LARGE.shape and "ends early" in saved.notes[0]
    if not options:
        assert np.array_equal(saved.pixels[:8], whole.pixels[:8])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_anywhere_within_its_pixels_is_salvaged(progressive: bool) -> None:
    data = stored(Image.fromarray(LARGE), "JPEG", progressive=progressive)
    begin = data.index(b"\xff\xda") + 14
    for end in (*range(begin, len(data), 37), *cuts_of_headers(data, begin)):
        picture = image.read(data[:end], "x", salvage=True)
        assert picture.pixels.shape == LARGE.shape and "the file ends" in picture.notes[0]


def cuts_of_headers(data: bytes, begin: int) -> list[int]:
    """Places within the segments between the scans of a JPEG."""
    later = [s for s in jpeg.walk(data).segments if s.at > begin]
    return [s.at + n for s in later for n in range(1, len(s.payload) + 4, 5)]


def test_a_jpeg_loses_its_metadata_to_the_last_byte_however_many_bytes_fill_up_before_it() -> None:
    data = stored(IM, "JPEG")
    shown = np.array(Image.open(io.BytesIO(data)))
    for fill in (b"", b"\xff", b"\xff" * 5):
        broken = data[:2] + fill + b"\xff\xe1\0\x0cExif\0\0\xff\xd9\xff\xd9" + data[2:]
        assert jpeg.without_metadata(broken) == data[:2] + fill + data[2:]
        assert np.array_equal(image.read(broken, "x").pixels, shown)


def test_a_progressive_jpeg_without_its_last_scans_is_not_whole() -> None:
    data = stored(Image.fromarray(LARGE), "JPEG", progressive=True)
    last = [s.at for s in jpeg.walk(data).segments if s.marker == 0xDA][-1]
    with pytest.raises(ImageError) as caught:
        image.read(data[:last], "x")
    assert caught.value.option.startswith("--salvage")


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_without_its_end_is_read_and_one_that_is_cut_needs_consent(interlaced: bool) -> None:
    data = stored(Image.fromarray(LARGE), "PNG") if not interlaced else adam7(LARGE)
    assert np.array_equal(image.read(data[:-12], "x").pixels, LARGE)
    cut = data[: len(data) // 2]
    with pytest.raises(ImageError) as caught:
        image.read(cut, "x")
    assert caught.value.option.startswith("--salvage")
    saved = image.read(cut, "x", salvage=True)
    assert saved.pixels.shape == LARGE.shape and "missing: black" in saved.notes[0]
    if interlaced:
        assert np.array_equal(saved.pixels[::8, ::8], LARGE[::8, ::8])
    else:
        assert np.array_equal(saved.pixels[:25], LARGE[:25]) and not saved.pixels[40:].any()


def adam7(pixels: np.ndarray) -> bytes:
    """An interlaced PNG."""
    steps = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4)]
    steps += [(0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    raw = b"".join(b"\0" + row.tobytes() for x, dx, y, dy in steps for row in pixels[y::dy, x::dx])
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    parts = {b"IHDR": head, b"IDAT": zlib.compress(raw), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )


def test_a_jpeg_with_broken_segments_is_read() -> None:
    for segment in (
        (0xE1, b"Exif\0\0II*\0\xff"),
        (0xE2, b"MPF\0junk"),
        (0xED, b"Photoshop 3.0\0x"),
    ):
        picture = image.read(jpeg_with(stored(IM, "JPEG"), segment), "x")
        assert picture.pixels.shape == PIXELS.shape


# Camera raw files, and formats that packages read


def directories(*tags: dict[int, int], far: int = 0) -> bytes:
    """A TIFF of 5 x 7 grey pixels with directories that follow each other, or by ``far`` bytes
    behind the first as its sub-directory."""
    shared = {256: 7, 257: 5, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 5, 279: 35}
    data = b"II*\0" + struct.pack("<I", 44) + bytes(range(36))
    for i, own in enumerate(tags):
        entries = sorted({**shared, **own, **({330: 0} if far and i == 0 else {})}.items())
        end = len(data) + 6 + 12 * len(entries)
        entries = [(tag, end + far if tag == 330 else value) for tag, value in entries]
        follows = 0 if far or i + 1 == len(tags) else end
        data += struct.pack("<H", len(entries))
        data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        data += struct.pack("<I", follows) + bytes(far if i == 0 else 0)
    return data


@pytest.mark.parametrize("far", [0, 8, 200_000])
def test_a_directory_of_a_sensor_anywhere_tells_a_camera_raw_file(far: int) -> None:
    data = directories({}, {258: 16, 262: 32803}, far=far)
    with pytest.raises(ImageError, match="camera raw file"):
        image.read(data, "x")
    with pytest.raises(ImageError, match="camera raw file"):
        image.read(directories({254: 1}, {}, far=200_000), "x")
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    assert np.array_equal(image.read(directories({}, {254: 1}, far=far), "x").pixels, grey)
    assert np.array_equal(image.read(directories({}, {255: 2}), "x").pixels, grey)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (raw_tiff(t50706=b"\1\4\0\0"), "DNG"),
        (raw_tiff(t254=1, t330=8, t271="NIKON"), "NIKON"),
        (raw_tiff(t254=1, t330=8), "TIFF"),
        (b"IIRO\x08\0\0\0" + bytes(99), "Olympus ORF"),
        (b"IIU\0" + bytes(99), "Panasonic RW2"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "Fujifilm RAF"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "Canon CR2"),
        (bytes(4) + b"ftypcrx " + bytes(99), "Canon CR3"),
    ],
)
def test_camera_raw_files_are_refused_by_name(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=rf"camera raw file \({kind}\)"):
        image.read(data, "x")


def test_a_reduced_page_makes_no_tiff_a_multi_page_one() -> None:
    small = IM.resize((3, 2))
    for first, second in ((IM, small), (small, IM)):
        data = stored(first, "TIFF", save_all=True, append_images=[second], tiffinfo={254: 0})
        pages = Image.open(io.BytesIO(data))
        patched = bytearray(data)
        for page, im in enumerate((first, second)):
            pages.seek(page)
            at = pages.tag_v2._offset  # type: ignore[attr-defined]
            entry = data.index(struct.pack("<HHI", 254, 4, 1), at)
            struct.pack_into("<I", patched, entry + 8, 1 if im is small else 0)
        assert np.array_equal(image.read(bytes(patched), "x").pixels, PIXELS)
    with pytest.raises(ImageError, match="multi-page TIFF with 2 pages"):
        image.read(stored(IM, "TIFF", save_all=True, append_images=[IM]), "x")


def test_heic_is_read_where_its_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    im = Image.fromarray(LARGE).resize((64, 48))
    heif.from_pillow(im).save(buffer, quality=-1, exif=exif_with(6), chroma=444)
    picture = image.read(buffer.getvalue(), "x")
    assert sorted(picture.pixels.shape) == [3, 48, 64] and picture.exif is not None
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="is HEIC, which the package pillow-heif reads"):
        image.read(buffer.getvalue(), "x")


def test_jpeg_xl_is_read_where_its_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_jxl")
    data = stored(Image.fromarray(LARGE), "JXL", lossless=True)
    assert isobmff.jxl_size(data) == (48, 64)
    picture = image.read(data, "x")
    assert np.array_equal(picture.pixels, LARGE) and picture.icc is None and picture.lost == ()
    grey = image.read(stored(Image.fromarray(LARGE[..., 0]), "JXL", lossless=True), "x")
    assert np.array_equal(grey.pixels, LARGE[..., 0]) and grey.icc is None
    boxed = struct.pack(">I", 12) + b"JXL \r\n\x87\n" + struct.pack(">I", 20) + b"ftypjxl "
    boxed += bytes(4) + b"jxl " + struct.pack(">I", len(data) + 8) + b"jxlc" + data
    if data[:2] != b"\xff\x0a":
        boxed = data
    gain_map = struct.pack(">I", 16) + b"jhgm" + bytes(8)
    assert image.read(boxed + gain_map, "x").lost == ("gain map",)
    with pytest.raises(ImageError, match="48 x 64 pixels; 1 to 100"):
        image.read(data, "x", max_pixels=100)
    monkeypatch.setitem(__import__("sys").modules, "pillow_jxl.JpegXLImagePlugin", None)
    with pytest.raises(ImageError, match=r"is JPEG XL, .* pillow-jxl-plugin"):
        image.read(data, "x")


# Numbers that are no bytes


def test_floats_are_scaled_by_what_the_file_says() -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    unit = image.read(stored(Image.fromarray(values), "TIFF"), "x")
    assert np.array_equal(unit.pixels, np.rint(255 * values)) and "from 0 to 1" in unit.notes[0]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[340] = tags.tagtype[341] = 11
    tags[340], tags[341] = -100.0, 300.0
    stated = image.read(stored(Image.fromarray(values * 400 - 100), "TIFF", tiffinfo=tags), "x")
    assert np.abs(stated.pixels.astype(int) - unit.pixels).max() <= 1
    with pytest.raises(ImageError, match="from 0 to 400, whose black and white are unknown"):
        image.read(stored(Image.fromarray(values * 400), "TIFF"), "x")


def test_16_bits_are_scaled_by_what_the_file_says() -> None:
    values = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    dark = image.read(stored(Image.fromarray(values), "TIFF"), "x")
    assert dark.pixels.max() == 16 or any("nearly black" in note for note in dark.notes)
    stated = image.read(stored(Image.fromarray(values), "TIFF", tiffinfo={281: 4095}), "x")
    assert stated.pixels.max() == 254 and not any("black" in note for note in stated.notes)
    for share in (2, 64):
        darker = image.read(stored(Image.fromarray(values // share), "PNG"), "x")
        assert any("nearly black" in note for note in darker.notes)


def test_planes_of_16_bits_are_read_right() -> None:
    """Pillow takes their bytes for samples."""
    h, w, n = PIXELS.shape
    planes = np.moveaxis(PIXELS.astype("<u2") * 257, 2, 0).tobytes()
    words = {256: w, 257: h, 258: 0, 259: 1, 262: 2, 273: 0, 277: n, 278: h, 279: 0, 284: 2}
    at = 8 + 2 + 12 * len(words) + 4
    lists = {258: (3, [16] * n), 279: (4, [2 * h * w] * n)}
    starts = at + 6 + 4 * n * 2
    lists[273] = (4, [starts + 2 * h * w * i for i in range(n)])
    table, behind = struct.pack("<H", len(words)), b""
    for tag, value in words.items():
        kind, values = lists.get(tag, (4, [value]))
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        place = packed if len(packed) == 4 else struct.pack("<I", at + len(behind))
        behind += packed if len(packed) > 4 else b""
        table += struct.pack("<HHI", tag, kind, len(values)) + place
    data = b"II*\0\x08\0\0\0" + table + bytes(4) + behind + planes
    picture = image.read(data, "x")
    assert np.array_equal(picture.pixels, PIXELS) and picture.deep


def test_signed_bytes_and_floats_with_a_white_of_zero_are_no_other_picture() -> None:
    with pytest.raises(ImageError, match="whole numbers from 0 to 34, whose black and white"):
        image.read(directories({339: 2}), "x")
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    data = bytearray(stored(Image.fromarray(values), "TIFF"))
    at = data.index(struct.pack("<HHIH", 262, 3, 1, 1))
    data[at + 8] = 0
    assert np.array_equal(image.read(bytes(data), "x").pixels, 255 - np.rint(255 * values))


def test_a_tiff_of_odd_samples_says_what_they_are() -> None:
    told = "a TIFF of floating point samples of 64 bits, 1 per pixel, which cannot be read"
    with pytest.raises(ImageError, match=told):
        image.read(directories({258: 64, 339: 3}), "x")


def test_segments_of_a_jpeg_that_are_too_short_cost_no_picture() -> None:
    data = stored(IM, "JPEG")
    plain = image.read(data, "x")
    for segment in ((0xEE, b"Adobe"), (0xE0, b"JFIF\0"), (0xED, b"Photoshop 3.0\08BIM\4")):
        picture = image.read(jpeg_with(data, segment), "x")
        assert np.array_equal(picture.pixels, plain.pixels)
    part = (0xE2, b"ICC_PROFILE\0\1\2" + RGB_ICC[:99])
    assert image.read(jpeg_with(data, part), "x").notes == ("broken ICC profile dropped",)


def test_salvage_is_offered_only_where_it_would_help() -> None:
    gif = stored(Image.fromarray(LARGE).convert("P"), "GIF")
    with pytest.raises(ImageError) as caught:
        image.read(gif[: len(gif) // 2], "x")
    assert not caught.value.option
