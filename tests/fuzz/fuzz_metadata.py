"""What stands beside a picture: any bytes as a box, a profile or EXIF cost no picture.

The first byte says what the rest is: one of ``KINDS``.
"""

import warnings
from io import BytesIO

import numpy as np
from PIL import Image

from vqcodec import image
from vqcodec.boxes import read_boxes
from vqcodec.container import Box
from vqcodec.errors import FormatError, ImageError
from vqcodec.image import isobmff, jpeg, png, sequence
from vqcodec.image.picture import Picture

KINDS = ("ICC ", "EXIF", "XMP ", "RES ", "ALPH", "CMYK", "file")
PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
CMYK = Image.fromarray(PIXELS).convert("CMYK")

warnings.simplefilter("ignore")  # of Pillow


def check(data: bytes) -> None:
    kind, payload = KINDS[data[0] % len(KINDS)] if data else "ICC ", data[1:]
    if kind == "CMYK":
        _check_cmyk(payload)
    elif kind == "file":
        _check_parsers(payload)
    else:
        _check_box(Box(kind, payload))


def _check_box(box: Box) -> None:
    for region in (None, (1, 1, 3, 2)):
        try:
            beside = read_boxes([box], 5, 4, region)
        except FormatError as error:
            assert box.type == "ALPH" and "\n" not in str(error)
            continue
        pixels = PIXELS if region is None else np.ascontiguousarray(PIXELS[1:3, 1:4])
        picture = Picture(
            pixels,
            beside.alpha,
            beside.icc,
            beside.exif,
            beside.deep,
            xmp=beside.xmp,
            resolution=beside.resolution,
        )
        _check_writing(picture)
    given = {"EXIF": "exif", "XMP ": "xmp"}.get(box.type)
    if given:
        _check_writing(image.described(Picture(PIXELS), **{given: box.payload}))


def _check_writing(picture: Picture) -> None:
    """Each format has the pixels, and is read with what it holds."""
    for format in ("PNG", "TIFF", "WEBP", "JPEG", "BMP"):
        shown = picture if format in ("PNG", "TIFF", "WEBP") else image.blended(picture, (9, 9, 9))
        buffer = BytesIO()
        notes = image.write(shown, buffer, format)
        assert all("\n" not in note for note in notes)
        again = image.read(buffer.getvalue(), "x")
        assert again.pixels.shape == picture.pixels.shape
        if format == "PNG":
            assert np.array_equal(again.pixels, picture.pixels)
    try:
        bare = image.stripped(picture, profile=True)
    except ImageError as error:
        assert picture.icc and "\n" not in str(error)
    else:
        assert (bare.icc, bare.exif, bare.xmp) == (None, None, None)


def _check_cmyk(profile: bytes) -> None:
    im = CMYK.copy()
    im.info["icc_profile"] = profile
    picture = image.from_pillow(im)
    assert picture.icc is None and picture.pixels.shape == PIXELS.shape


def _check_parsers(data: bytes) -> None:
    """Those of the structure of files end, and raise nothing."""
    walked = jpeg.walk(data)
    assert walked.end is None or walked.end <= len(data)
    assert jpeg.walk(jpeg.without_metadata(data)).end is None or walked.end is not None
    jpeg.lost(data, data)
    jpeg.photoshop(data)
    isobmff.contents(data)
    isobmff.jp2_xmp(data)
    isobmff.jp2_bits(data)
    isobmff.jp2_odd_space(isobmff.jp2_mended(BytesIO(data))[0].read())
    isobmff.jxl_size(data)
    sequence.colour_of_av1(data)
    sequence.colour_of_hevc(data)
    mended = png.mended(BytesIO(data))
    png.lost(mended.chunks)
    width, height = png.size(mended.chunks) or (0, 0)
    if width * height < 1 << 20:
        png.completed(BytesIO(data), partly=True)
