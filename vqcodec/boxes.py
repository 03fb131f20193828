"""What stands beside the picture in a .vqc file: docs/format.md, "Box"."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vqcodec import image
from vqcodec.container import Box, Region
from vqcodec.image.metadata import resolution_of_exif, sound_resolution

ALPHA, ICC, EXIF, XMP = "ALPH", "ICC ", "EXIF", "XMP "
DEEP, RESOLUTION, NAME = "DEEP", "RES ", "NAME"
KEPT_BY_STRIP = {ALPHA, ICC}
_WORDS = {
    ALPHA: "alpha",
    ICC: "ICC profile",
    EXIF: "EXIF",
    XMP: "XMP",
    DEEP: "depth",
    RESOLUTION: "resolution",
    NAME: "name",
}


def boxes_of(picture: image.Picture) -> tuple[Box, ...]:
    """All that belongs to a picture but its pixels."""
    boxes = []
    if picture.alpha is not None:
        boxes.append(Box(ALPHA, image.encode_alpha(picture.alpha)))
    if picture.icc:
        boxes.append(Box(ICC, picture.icc))
    if picture.exif:
        boxes.append(Box(EXIF, picture.exif))
    if picture.xmp:
        boxes.append(Box(XMP, picture.xmp))
    if picture.resolution and not _is_in_exif(picture):
        boxes.append(Box(RESOLUTION, _thousandths(picture.resolution)))
    if picture.deep:
        boxes.append(Box(DEEP, b"\x10"))
    return tuple(boxes)


def said_of(boxes: Iterable[Box]) -> str:
    """What boxes are and how many bytes they hold, the largest first: "EXIF 20480, alpha 310"."""
    sizes = sorted(((len(box.payload), box.type) for box in boxes), reverse=True)
    return ", ".join(f"{_WORDS.get(kind, kind)} {n_bytes}" for n_bytes, kind in sizes)


def _is_in_exif(picture: image.Picture) -> bool:
    return picture.exif is not None and resolution_of_exif(picture.exif) == picture.resolution


def _thousandths(resolution: tuple[float, float]) -> bytes:
    return struct.pack("<2I", *(round(1000 * value) for value in resolution))


@dataclass(frozen=True)
class Beside:
    """What boxes say of the picture, or of a region of it."""

    alpha: np.ndarray | None
    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    resolution: tuple[float, float] | None
    deep: bool


def read_boxes(
    boxes: Iterable[Box], width: int, height: int, region: Region | None = None
) -> Beside:
    """width, height: of the picture. region: x, y, width and height of what is wanted.

    Raises FormatError where the alpha is broken. Metadata decides about nothing: what is broken
    of it is left out, or handed on as it is.
    """
    payloads = {box.type: box.payload for box in boxes}
    alpha = None
    if ALPHA in payloads:
        alpha = image.decode_alpha(payloads[ALPHA], width, height)
    exif, xmp = image.upright(payloads.get(EXIF), payloads.get(XMP))
    if region is not None and region != (0, 0, width, height):
        x, y, w, h = region
        if alpha is not None:
            alpha = np.ascontiguousarray(alpha[y : y + h, x : x + w])
        exif, xmp = image.part_of(exif, xmp, w, h)
    resolution = resolution_of(payloads.get(RESOLUTION, b""))
    icc = payloads.get(ICC)
    return Beside(alpha, icc or None, exif or None, xmp or None, resolution, DEEP in payloads)


def resolution_of(payload: bytes) -> tuple[float, float] | None:
    """Pixels per inch, along rows and columns; None where the box has none that can be meant."""
    if len(payload) != 8:
        return None
    x, y = struct.unpack("<2I", payload)
    return sound_resolution(x / 1000, y / 1000)
