"""The image loader: any bytes are a picture, which a PNG holds alike, or an ImageError."""

import struct
import warnings
from io import BytesIO

import numpy as np

from vqcodec import image
from vqcodec.boxes import boxes_of, read_boxes
from vqcodec.errors import FormatError, ImageError

MAX_PIXELS = 1 << 16
PNG = b"\x89PNG\r\n\x1a\n"

warnings.simplefilter("ignore")  # of Pillow


def check(data: bytes) -> None:
    """data: a file of any format."""
    _check_alpha(data)
    _check_salvage(data)
    try:
        picture = image.read(data, "x", MAX_PIXELS)
    except ImageError as error:
        assert "\n" not in str(error)
        return
    size = picture.height, picture.width
    assert picture.pixels.dtype == np.uint8 and 0 < size[0] * size[1] <= MAX_PIXELS
    assert picture.pixels.shape == (size if picture.grey else (*size, 3))
    assert picture.alpha is None or picture.alpha.shape == size
    buffer = BytesIO()
    told = image.write(picture, buffer, "PNG")
    again = image.read(buffer.getvalue(), "y", MAX_PIXELS)
    assert np.array_equal(again.pixels, picture.pixels)
    assert np.array_equal(again.alpha, picture.alpha)
    assert again.icc == picture.icc
    left_out = any("XMP" in note and "left out" in note for note in told)  # it is not UTF-8
    assert again.xmp == (None if left_out else picture.xmp) or len(picture.xmp or b"") > 99
    found = read_boxes(boxes_of(picture), picture.width, picture.height)
    assert (found.icc, found.exif, found.xmp) == (picture.icc, picture.exif, picture.xmp)
    assert all("\n" not in said for said in (*picture.notes, *picture.lost))


def _check_salvage(data: bytes) -> None:
    """Of a file that ends early there is a picture of the size that it states, or none."""
    try:
        picture = image.read(data[: len(data) * 2 // 3], "x", MAX_PIXELS, salvage=True)
    except ImageError as error:
        assert "\n" not in str(error)
        return
    assert picture.width * picture.height <= MAX_PIXELS


def _check_alpha(data: bytes) -> None:
    if not data.startswith(PNG) or len(data) < 24:
        return
    width, height = struct.unpack(">II", data[16:24])
    if width * height <= MAX_PIXELS:  # as the codec has made sure
        try:
            alpha = image.decode_alpha(data, width, height)
        except FormatError:
            return
        assert alpha.shape == (height, width)
