"""Colours that are not sRGB's are converted, or described by a profile."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import PIXELS, RGB_ICC, png, stored
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, TiffTags

from vqcodec import image
from vqcodec.errors import ImageError
from vqcodec.image import colour, isobmff
from vqcodec.image.colour import SRGB, Colour, Space
from vqcodec.image.picture import Picture

P3 = colour.of_code_points(Colour(12, 13))
ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
RAMP = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)


def chrm(primaries: tuple[float, ...]) -> bytes:
    return struct.pack(">8I", *(round(100000 * value) for value in primaries))


def gama(gamma: float) -> bytes:
    return struct.pack(">I", round(100000 * gamma))


def by_profile(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """What a viewer with colour management shows."""
    made = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert made is not None
    return np.array(made)


def test_a_profile_of_srgb_changes_nothing() -> None:
    icc = colour.profile("sRGB", SRGB)
    assert np.abs(by_profile(PIXELS, icc).astype(int) - PIXELS).max() <= 1
    description = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    assert description.strip() == "sRGB"


def test_display_p3_has_the_colorants_that_are_published() -> None:
    """Those of Apple's profile."""
    assert P3 is not None
    found = ImageCms.ImageCmsProfile(io.BytesIO(colour.profile(*P3[:2]))).profile
    for made, wanted in (
        (found.red_colorant, (0.51512, 0.24120, -0.00105)),
        (found.green_colorant, (0.29198, 0.69225, 0.04189)),
        (found.blue_colorant, (0.15710, 0.06657, 0.78407)),
    ):
        assert made is not None
        assert np.allclose(made[0], wanted, atol=1e-4)


def test_linear_samples_get_the_curve_of_srgb() -> None:
    picture = image.read(png(RAMP, 2, 8, gAMA=gama(1)), "x")
    linear = np.arange(256) / 255
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(picture.pixels[0, :, 0] - 255 * wanted).max() <= 0.5
    assert picture.icc is None and "gamma 1.00" in picture.notes[0]


def test_linear_grey_of_16_bits_keeps_its_dark_tones() -> None:
    values = np.arange(0, 2560, 10, dtype=np.uint16).reshape(1, 256, 1)
    picture = image.read(png(values, 0, 16, gAMA=gama(1)), "x")
    assert len(np.unique(picture.pixels)) > 50, "of 8 bits there would be 10"


@pytest.mark.parametrize(
    "chunks", [{}, {"gAMA": gama(0.45455)}, {"gAMA": gama(0.45455), "cHRM": chrm(SRGB)}]
)
def test_what_is_srgb_in_other_words_stays(chunks: dict[str, bytes]) -> None:
    picture = image.read(png(PIXELS, 2, 8, **chunks), "x")
    assert np.array_equal(picture.pixels, PIXELS)
    assert (picture.icc, picture.notes) == (None, ())


def test_wide_primaries_keep_their_samples_and_get_a_profile() -> None:
    picture = image.read(png(PIXELS, 2, 8, gAMA=gama(1 / 2.2), cHRM=chrm(ADOBE)), "x")
    assert np.array_equal(picture.pixels, PIXELS) and picture.icc is not None
    wanted = colour.profile("Adobe", ADOBE, 2.2)
    shown = by_profile(PIXELS, picture.icc).astype(int)
    assert np.abs(shown - by_profile(PIXELS, wanted)).max() <= 1
    assert np.abs(shown - PIXELS).max() > 10


def test_the_first_of_cicp_iccp_srgb_and_gama_counts() -> None:
    """PNG, 3rd edition, section 4.3."""
    p3, linear = bytes([12, 13, 0, 1]), gama(1)
    iccp = b"x\0\0" + zlib.compress(RGB_ICC)
    both = image.read(png(PIXELS, 2, 8, cICP=p3, iCCP=iccp, gAMA=linear), "x")
    assert both.icc not in (None, RGB_ICC) and np.array_equal(both.pixels, PIXELS)
    profile = image.read(png(PIXELS, 2, 8, iCCP=iccp, sRGB=b"\0", gAMA=linear), "x")
    assert profile.icc == RGB_ICC and np.array_equal(profile.pixels, PIXELS)
    srgb = image.read(png(PIXELS, 2, 8, sRGB=b"\0", gAMA=linear, cHRM=chrm(ADOBE)), "x")
    assert srgb.icc is None and np.array_equal(srgb.pixels, PIXELS)
    unknown = image.read(png(PIXELS, 2, 8, cICP=bytes([99, 99, 0, 1]), iCCP=iccp), "x")
    assert unknown.icc == RGB_ICC


def test_colours_that_are_unspecified_or_behind_the_pixels_count_for_nothing() -> None:
    icc = b"x\0\0" + zlib.compress(RGB_ICC)
    assert image.read(png(PIXELS, 2, 8, cICP=bytes([2, 2, 0, 1]), iCCP=icc), "x").icc == RGB_ICC
    data = png(PIXELS, 2, 8, gAMA=gama(1.0))
    at = data.index(b"gAMA") - 4
    chunk, rest = data[at : at + 16], data[:at] + data[at + 16 :]
    first = png(PIXELS, 2, 8, gAMA=gama(1 / 2.2))
    for moved in (rest[:-12] + chunk + rest[-12:], first[: at + 16] + chunk + first[at + 16 :]):
        assert np.array_equal(image.read(moved, "x").pixels, PIXELS)


def test_narrow_range_is_widened() -> None:
    picture = image.read(png(RAMP, 2, 8, cICP=bytes([1, 13, 0, 0])), "x")
    row = picture.pixels[0, :, 0].astype(int)
    assert (row[16], row[235], row[0], row[255]) == (0, 255, 0, 255)


def test_impossible_chromaticities_are_passed_over() -> None:
    dark_white, white_outside = (0.3127, 0, *SRGB[2:]), (0.7, 0.2, *SRGB[2:])
    for primaries in ([0.0] * 8, [0.3] * 8, [0.33, 0.33, *[0.2] * 6], dark_white, white_outside):
        picture = image.read(png(PIXELS, 2, 8, cHRM=chrm(tuple(primaries))), "x")
        assert picture.icc is None and np.array_equal(picture.pixels, PIXELS)
    assert image.read(png(PIXELS, 2, 8, gAMA=bytes(4)), "x").notes == ()


def test_grey_has_no_primaries() -> None:
    picture = image.read(png(PIXELS[..., :1], 0, 8, cICP=bytes([12, 13, 0, 1])), "x")
    assert picture.icc is None and np.array_equal(picture.pixels, PIXELS[..., 0])


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.581), (18, 0.75)])
def test_hdr_is_tone_mapped_and_said(transfer: int, white: float) -> None:
    """ITU-R BT.2408: diffuse white of 203 cd/m2 is at 58 % of PQ and 75 % of HLG."""
    picture = image.read(png(RAMP, 2, 8, cICP=bytes([9, transfer, 0, 1])), "x")
    row = picture.pixels[0, :, 1].astype(int)
    assert (np.diff(row) >= 0).all() and row[0] == 0 and row[255] >= 253
    assert 230 <= row[round(255 * white)] <= 250, "there is room above for what is brighter"
    assert picture.icc is None and "compressed" in picture.notes[0]


def with_nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_code_points_of_an_avif_are_heeded() -> None:
    data = stored(Image.fromarray(RAMP).resize((64, 16)), "AVIF", quality=100)
    plain = image.read(data, "x")
    assert plain.icc is None and plain.notes == ()
    wide = image.read(with_nclx(data, 12, 13), "x")
    assert wide.icc is not None and np.array_equal(wide.pixels, plain.pixels)
    assert "Display P3" in wide.notes[0]
    bright = image.read(with_nclx(data, 9, 16), "x")
    assert bright.icc is None and "PQ" in bright.notes[0]
    assert not np.array_equal(bright.pixels, plain.pixels)
    assert isobmff.contents(data).bits == 8


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_the_narrow_range_of_an_avif_or_heic_is_widened_once(format: str) -> None:
    """Its decoder does that already."""
    im = Image.fromarray(RAMP).resize((256, 16))
    if format == "AVIF":
        data = stored(im, "AVIF", quality=100, subsampling="4:4:4", range="limited")
    else:
        heif, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
        heif.from_pillow(im).save(buffer, quality=-1, chroma=444, full_range_flag=0)
        data = buffer.getvalue()
    picture = image.read(data, "x")
    assert np.abs(picture.pixels.astype(int) - np.array(im)).max() <= 4 and picture.notes == ()


@pytest.mark.parametrize("format", ["PNG", "AVIF"])
def test_the_colours_of_an_image_of_pillows_are_those_of_its_file(
    format: str, tmp_path: Path
) -> None:
    """Pillow hands on neither code points nor what stands above what."""
    data = png(PIXELS, 2, 8, cICP=bytes([12, 13, 0, 1]))
    if format == "AVIF":
        data = with_nclx(stored(Image.fromarray(PIXELS), "AVIF"), 12, 13)
    with Image.open(io.BytesIO(data)) as im:
        before = dict(im.info)
        found = image.from_pillow(im)
        assert found.icc == image.read(data, "x").icc is not None
        assert before.items() <= im.info.items() and "icc_profile" not in im.info
    (tmp_path / "a").write_bytes(data)
    with Image.open(tmp_path / "a") as im:
        im.load()  # as Pillow does before it saves
        assert image.from_pillow(im).icc == found.icc
    (tmp_path / "a").unlink()
    assert image.from_pillow(im).icc is None


def test_an_image_of_pillow_heif_has_its_code_points() -> None:
    heif, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
    heif.from_pillow(Image.fromarray(PIXELS)).save(
        buffer, color_primaries=12, transfer_characteristics=13, save_nclx_profile=True
    )
    im = heif.HeifImageFile(buffer, "")
    icc = image.read(buffer.getvalue(), "x").icc
    assert image.from_pillow(im).icc == image.from_pillow(im.rotate(180)).icc == icc is not None


def test_what_pillow_keeps_of_a_pngs_colours_is_heeded_without_its_file() -> None:
    data = png(PIXELS, 2, 8, gAMA=gama(1), cHRM=chrm(ADOBE))
    read = image.read(data, "x")
    with Image.open(io.BytesIO(data)) as im:
        found = image.from_pillow(im.rotate(180))
    assert np.array_equal(found.pixels[::-1, ::-1], read.pixels) and found.icc == read.icc
    with Image.open(io.BytesIO(png(PIXELS, 2, 8, sRGB=b"\0", gAMA=gama(1)))) as im:
        assert np.array_equal(image.from_pillow(im.rotate(0)).pixels, PIXELS)
    odd = Image.fromarray(PIXELS)
    odd.info["gamma"] = "2.2"
    assert np.array_equal(image.from_pillow(odd).pixels, PIXELS)


def test_an_avifs_profile_stands_above_its_code_points() -> None:
    data = stored(Image.fromarray(PIXELS), "AVIF", icc_profile=RGB_ICC)
    assert image.read(data, "x").icc == RGB_ICC


def test_without_its_profile_a_picture_is_converted_first() -> None:
    assert P3 is not None
    icc = colour.profile(*P3[:2])
    bare = image.stripped(Picture(PIXELS, icc=icc, exif=b"x", xmp=b"y", deep=True), profile=True)
    assert (bare.icc, bare.exif, bare.xmp, bare.deep) == (None, None, None, False)
    assert np.abs(bare.pixels.astype(int) - by_profile(PIXELS, icc)).max() <= 2
    assert image.stripped(Picture(PIXELS, icc=icc, exif=b"x")).icc == icc
    with pytest.raises(ImageError, match="profile cannot be used"):
        image.stripped(Picture(PIXELS, icc=b"junk"), profile=True)


def of_a_camera(index: str, stated: int, format: str = "JPEG", **options: object) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = stated
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    if format != "TIFF":
        return stored(Image.fromarray(PIXELS), format, exif=exif.tobytes(), **options)
    buffer = io.BytesIO()  # Pillow's would state an offset that is not this file's
    image.write(Picture(PIXELS, exif=exif.tobytes()[6:]), buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("index", "stated", "wide"),
    [("R03", 0xFFFF, True), ("R98", 2, True), ("R98", 1, False), ("R03", 1, False)],
)
def test_exif_says_adobe_rgb(index: str, stated: int, wide: bool, format: str) -> None:
    """A camera set to it writes no profile (DCF 2.0)."""
    data = of_a_camera(index, stated, format)
    if format == "AVIF":
        data = with_nclx(data, 2, 2)
    picture = image.read(data, "x")
    assert np.array_equal(picture.pixels, np.array(Image.open(io.BytesIO(data))))
    assert (picture.icc is not None) == wide
    if picture.icc is None:
        return
    assert "Adobe RGB" in picture.notes[0]
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc)).profile
    assert profile.red_colorant and profile.green_colorant  # those of Adobe's own profile
    assert np.allclose(profile.red_colorant[0], (0.60974, 0.31111, 0.01947), atol=1e-4)
    assert np.allclose(profile.green_colorant[0], (0.20528, 0.62567, 0.06087), atol=1e-4)


def test_what_a_file_states_itself_stands_above_exif() -> None:
    assert image.read(of_a_camera("R03", 0xFFFF, "JPEG", icc_profile=RGB_ICC), "x").icc == RGB_ICC
    assert image.read(of_a_camera("R03", 0xFFFF, "AVIF"), "x").icc is None, "of nclx, sRGB"
    exif = Image.open(io.BytesIO(of_a_camera("R03", 0xFFFF))).info["exif"]
    for name, content, icc in (
        ("sRGB", b"\0", None),
        ("gAMA", gama(1 / 2.2), None),
        ("iCCP", b"x\0\0" + zlib.compress(RGB_ICC), RGB_ICC),
    ):
        said = {name: content, "eXIf": exif.removeprefix(b"Exif\0\0")}
        assert image.read(png(PIXELS, 2, 8, **said), "x").icc == icc


def tiff_of(**fields: tuple[float, ...] | None) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for name, number in (("white", 318), ("primaries", 319)):
        if fields.get(name):
            tags.tagtype[number] = TiffTags.RATIONAL
            tags[number] = fields[name]
    if fields.get("curve"):
        tags.tagtype[301] = TiffTags.SHORT
        tags[301] = tuple(round(value) for value in fields["curve"] or ())
    return stored(Image.fromarray(PIXELS), "TIFF", tiffinfo=tags)


def test_colours_of_a_tiff() -> None:
    wide = image.read(tiff_of(white=ADOBE[:2], primaries=ADOBE[2:]), "x")
    assert wide.icc is not None and np.array_equal(wide.pixels, PIXELS)
    assert np.abs(
        by_profile(PIXELS, wide.icc).astype(int)
        - by_profile(PIXELS, colour.profile("", ADOBE))
    ).max() <= 1  # fmt: skip
    for same in ({"white": SRGB[:2], "primaries": SRGB[2:]}, {"white": (0.3457, 0.3585)}):
        picture = image.read(tiff_of(**same), "x")
        assert picture.icc is None and picture.notes == ()


@pytest.mark.parametrize("channels", [1, 3])
def test_transfer_function_of_a_tiff(channels: int) -> None:
    linear = tuple(np.linspace(0, 65535, 256)) * channels
    picture = image.read(tiff_of(curve=linear), "x")
    wanted = image.read(png(PIXELS, 2, 8, gAMA=gama(1)), "x")
    assert np.array_equal(picture.pixels, wanted.pixels) and "gamma 1.00" in picture.notes[0]
    usual = tuple(65535 * np.linspace(0, 1, 256) ** 2.2) * channels
    assert np.array_equal(image.read(tiff_of(curve=usual), "x").pixels, PIXELS)


def bmp_of(kind: bytes, primaries: tuple[float, ...], gamma: float) -> bytes:
    """A BITMAPV4HEADER by hand."""
    matrix = colour._to_xyz(primaries).T  # X, Y, Z of red, green, blue
    h, w = PIXELS.shape[:2]
    rows = np.zeros((h, -(-3 * w // 4) * 4), np.uint8)
    rows[:, : 3 * w] = PIXELS[::-1, :, ::-1].reshape(h, -1)
    head = struct.pack("<IiiHHIIiiII", 108, w, h, 1, 24, 0, rows.size, 0, 0, 0, 0) + bytes(16)
    head += kind + struct.pack("<9i", *np.rint(2**30 * matrix.ravel()).astype(int))
    head += struct.pack("<3I", *[round(65536 * gamma)] * 3)
    return struct.pack("<2sIHHI", b"BM", 14 + 108 + rows.size, 0, 0, 122) + head + rows.tobytes()


def test_colours_of_a_bmp() -> None:
    wide = image.read(bmp_of(bytes(4), ADOBE, 2.2), "x")
    assert wide.icc is not None and np.array_equal(wide.pixels, PIXELS)
    linear = image.read(bmp_of(bytes(4), SRGB, 1.0), "x")
    assert np.array_equal(
        linear.pixels, image.read(png(PIXELS, 2, 8, gAMA=gama(1)), "x").pixels
    )  # fmt: skip
    same = image.read(bmp_of(b"BGRs", ADOBE, 1.0), "x")  # sRGB, whatever else it says
    assert same.icc is None and np.array_equal(same.pixels, PIXELS)
    encoding = image.read(bmp_of(bytes(4), SRGB, 1 / 2.2), "x")
    assert encoding.icc is None and np.array_equal(encoding.pixels, PIXELS)
    xyz = bytearray(bmp_of(bytes(4), SRGB, 2.2))  # chromaticities, which say no white
    for at, x, y in zip((74, 86, 98), ADOBE[2::2], ADOBE[3::2], strict=True):
        xyz[at : at + 12] = struct.pack("<3i", *(int(v * 2**30) for v in (x, y, 1 - x - y)))
    icc = image.read(bytes(xyz), "x").icc
    assert icc is not None
    shown = by_profile(PIXELS, icc).astype(int)
    assert np.abs(shown - by_profile(PIXELS, wide.icc)).max() <= 1
    nothing = bytearray(bmp_of(bytes(4), SRGB, 1.0))
    nothing[74:122] = bytes(48)
    assert np.array_equal(image.read(bytes(nothing), "x").pixels, PIXELS)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1, 2), min_size=8, max_size=8), st.floats(0, 10))
def test_any_chromaticities_and_gamma_end_in_a_picture(
    primaries: list[float], gamma: float
) -> None:
    space = colour.of_values("stated", gamma, tuple(primaries))
    pixels, icc, _ = colour.understood(PIXELS, space)
    assert pixels.shape == PIXELS.shape and pixels.dtype == np.uint8
    if icc is not None:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))


def test_any_space_has_rising_levels() -> None:
    for gamma in (None, 0.5, 1.0, 1.8, 2.2, 2.6):
        for full_range in (False, True):
            table = colour.levels(Space(gamma=gamma, full_range=full_range), 256)
            assert (np.diff(table.astype(int)) >= 0).all() and table[0] == 0 and table[-1] == 255
