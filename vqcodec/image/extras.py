"""What a file has beside its pixels: colours, XMP, and what a .vqc file does not keep."""

import struct
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffTags

from vqcodec.image import isobmff, jpeg, png, tiff, xmp
from vqcodec.image.colour import ADOBE_RGB, SRGB, Space, exponent_of, of_code_points, of_values
from vqcodec.image.isobmff import Contents
from vqcodec.image.opening import Opened
from vqcodec.image.sequence import Colour

_ISOBMFF = ("AVIF", "HEIF")
# Tags of a TIFF that lay out its bytes, or say how its samples are meant, or are kept
_LAYOUT = tiff.LAYOUT | {
    *range(269, 273), *range(280, 284), *range(285, 292), 296, 297, 301, 305, 306, 315, 316, 318,
    319, 321, 332, 334, 336, 700, 33432, 34665, 34675, 34853,
}  # fmt: skip
_OF_RGB = {0, 1, 2, 3, 6}  # photometric: grey, RGB, a palette, YCbCr
_NAMED = {33723: "IPTC", 37724: "Photoshop layers", 33550: "GeoTIFF", 33922: "GeoTIFF"}
_NAMED |= {34264: "GeoTIFF", 34735: "GeoTIFF", 34736: "GeoTIFF", 34737: "GeoTIFF"}


def space_of(found: Opened) -> Space | None:
    """The colours that the file states by other means than a profile, where these matter.

    Of a PNG the first that is there counts: cICP, iCCP, sRGB, gAMA and cHRM (section 4.3). What
    EXIF says comes last.
    """
    im = found.im
    if im.format == "PNG" and found.chunks:
        space = _space_of_png(png.before_pixels(found.chunks))
    elif im.info.keys() & {"gamma", "chromaticity", "srgb"}:
        space = _space_in_memory(im.info)
    else:
        space = _space_of_file(found)
    if space is None and not (found.icc or im.info.get("icc_profile")) and _is_adobe_rgb(im):
        return ADOBE_RGB
    return space


def _space_of_file(found: Opened) -> Space | None:
    im = found.im
    if im.info.get("icc_profile"):
        return None
    colour = contents_of(found).colour if im.format in _ISOBMFF else None
    colour = colour or _colour_in_memory(im.info.get("nclx_profile"))
    if colour is not None:
        return of_code_points(colour)
    if im.format == "TIFF":
        return _space_of_tiff(im)
    if im.format == "BMP":
        return _space_of_bmp(_all_of(found)[:126])
    return None


def _is_adobe_rgb(im: Image.Image) -> bool:
    """Whether EXIF says so: cameras write no profile (DCF 2.0, the optional colour space)."""
    try:
        exif = im.getexif()
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(1)
    except Exception:  # Pillow's parser raises nearly everything
        return False
    said = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index)
    stated = inner.get(ExifTags.Base.ColorSpace)
    return stated == 2 or (said.startswith("R03") and stated in (None, 0xFFFF))


def _space_of_tiff(im: Image.Image) -> Space | None:
    """By the fields WhitePoint, PrimaryChromaticities and TransferFunction (TIFF 6.0, part 3)."""
    tags = im.tag_v2  # type: ignore[attr-defined]
    if tags.get(262) not in _OF_RGB:
        return None
    try:
        white, colours, curve = (tuple(map(float, tags.get(tag, ()))) for tag in (318, 319, 301))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (white or colours or curve):
        return None
    primaries = (
        (white or SRGB[:2]) + colours if len(colours) == 6 and len(white) in (0, 2) else None
    )
    table = np.array(curve[: len(curve) // 3] if len(curve) % 3 == 0 else curve)
    gamma = exponent_of(table) if len(table) else None
    return of_values("TIFF", gamma, primaries)


def _space_of_bmp(data: bytes) -> Space | None:
    """By the end points and exponents of a BITMAPV4HEADER, where it is "calibrated"."""
    if len(data) < 122 or struct.unpack_from("<I", data, 14)[0] < 108 or any(data[70:74]):
        return None
    points = np.array(struct.unpack_from("<9i", data, 74)).reshape(3, 3) / 2**30  # X, Y, Z
    gamma = sum(struct.unpack_from("<3I", data, 110)) / 3 / 65536
    gamma = 1 / gamma if 0 < gamma < 1 else gamma  # of encoding: some programs mean that
    sums = points.sum(axis=1)
    primaries = None
    if sums.min() > 0:
        white = points.sum(axis=0)[:2] / sums.sum()
        if np.abs(sums - 1).max() < 0.001:  # x, y, z as ImageMagick has it, which say no white
            white = np.array(SRGB[:2])
        xy = [white, *(points[:, :2] / sums[:, None])]
        primaries = tuple(float(v) for v in np.concatenate(xy))
    return of_values("BMP", gamma, primaries)


def _space_of_png(content: dict[bytes, bytes]) -> Space | None:
    points = content.get(b"cICP", b"")
    if len(points) == 4 and points[2] == 0:
        space = of_code_points(Colour(points[0], points[1], bool(points[3])))
        if space is not None:
            return space
    if b"iCCP" in content:
        return None
    if b"sRGB" in content:
        return Space()
    gamma = primaries = None
    if len(content.get(b"gAMA", b"")) == 4:
        gamma = 100000 / max(1, int.from_bytes(content[b"gAMA"], "big"))
    if len(content.get(b"cHRM", b"")) == 32:
        primaries = tuple(v / 100000 for v in struct.unpack(">8I", content[b"cHRM"]))
    return of_values("cHRM", gamma, primaries) if gamma or primaries else None


def _colour_in_memory(stated: object) -> Colour | None:
    """By what pillow-heif hands on, where the file is gone."""
    values = stated if isinstance(stated, dict) else {}
    primaries, transfer = values.get("color_primaries"), values.get("transfer_characteristics")
    if not (isinstance(primaries, int) and isinstance(transfer, int)):
        return None
    return Colour(int(primaries), int(transfer))


def _space_in_memory(info: dict[str | tuple[int, int], Any]) -> Space | None:
    """By what Pillow hands on of a PNG, where its file is gone."""
    if "icc_profile" in info:
        return None
    if "srgb" in info:
        return Space()
    gamma, points = info.get("gamma"), info.get("chromaticity")
    try:
        return of_values("cHRM", 1 / gamma if gamma else None, points and tuple(map(float, points)))
    except (TypeError, ValueError):  # another program's, or what a user put there
        return None


def contents_of(found: Opened) -> Contents:
    """Of an AVIF or HEIF file."""
    return isobmff.contents(_all_of(found))


def bits_of(found: Opened) -> int:
    """Bits per sample, where Pillow does not tell."""
    if found.im.format in _ISOBMFF:
        return contents_of(found).bits
    if found.im.format == "JPEG2000":
        return isobmff.jp2_bits(_all_of(found))
    return 8


def _all_of(found: Opened) -> bytes:
    if found.source is None:
        return b""
    found.source.seek(0)
    return found.source.read()


def xmp_of(found: Opened) -> bytes | None:
    packet = found.xmp or found.im.info.get("xmp")
    if packet is None and found.im.format == "JPEG2000":
        packet = isobmff.jp2_xmp(_all_of(found))
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    packet = xmp.as_utf8(packet) if isinstance(packet, bytes) else b""
    return packet if packet.strip() else None


def lost_of(found: Opened, packet: bytes | None) -> list[str]:
    """What is there and is not kept, a few words each."""
    im = found.im
    if im.format in ("JPEG", "MPO"):
        return jpeg.lost(_all_of(found), packet or b"")
    if im.format == "PNG":
        return png.lost(found.chunks)
    if im.format == "TIFF":
        return _lost_of_tiff(im)
    if im.format in _ISOBMFF:
        return list(contents_of(found).lost)
    comment = ["comment"] if im.info.get("comment") else []
    if im.format == "JPEG2000":
        return comment + isobmff.jp2_lost(_all_of(found))
    if im.format == "JXL":
        return isobmff.jxl_lost(_all_of(found))
    if im.format == "PSD":
        resources = im.resources  # type: ignore[attr-defined]
        return jpeg.said_of_resources((kind, len(data)) for kind, _, data in resources)
    return comment


def _lost_of_tiff(im: Image.Image) -> list[str]:
    words: dict[str, None] = {}
    for tag in im.tag_v2:  # type: ignore[attr-defined]
        if tag == 34377:
            words.update(dict.fromkeys(_photoshop(im)))
        elif tag not in _LAYOUT:
            words[_NAMED.get(tag) or _tag_name(tag)] = None
    return list(words)


def _photoshop(im: Image.Image) -> list[str]:
    value = im.tag_v2[34377]  # type: ignore[attr-defined]
    return jpeg.photoshop(value) if isinstance(value, bytes) else []


@lru_cache
def _tag_name(tag: int) -> str:
    name = TiffTags.lookup(tag).name
    return f"tag {tag}" if name == "unknown" else f"tag {name}"
