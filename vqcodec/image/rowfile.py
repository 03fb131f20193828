"""PNG, TIFF and PNM files of pictures whose rows come from top to bottom.

Nothing larger than a band of rows is kept, so that the size of a picture is no matter. PNG is
filtered by Paeth's predictor throughout, which on photographs is as good as a choice for each row.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import TiffImagePlugin, TiffTags

from vqcodec.files import Sink, atomic_write
from vqcodec.image import png
from vqcodec.image.picture import Rows
from vqcodec.image.writing import Kept

FORMATS = ("PNG", "TIFF", "PPM", "PGM", "PNM")
_PIECE = 1 << 20  # bytes that are filtered at once
_LEVEL = 4  # of zlib: against its default 2 % larger and more than twice as fast


def write(rows: Rows, target: Path | Sink, format: str, *, force: bool = False) -> tuple[str, ...]:
    """As ``image.write``, for one of ``FORMATS``; takes the rows as they come.

    A path has its file when all rows are written, or none. Raises OutputError likewise.
    """
    kept = Kept.of(rows, format)
    if isinstance(target, Path):
        with atomic_write(target, force=force) as file:
            _write(rows, file, format, kept)
    else:
        _write(rows, target, format, kept)
    return kept.notes


def _write(rows: Rows, sink: Sink, format: str, kept: Kept) -> None:
    if format == "PNG":
        _write_png(rows, sink, kept)
        return
    if format == "TIFF":
        sink.write(_tiff_head(rows, kept))
    grey = rows.grey and format != "PPM"  # which knows no grey
    if format != "TIFF":
        sink.write(b"P%d\n%d %d\n255\n" % (5 if grey else 6, rows.width, rows.height))
    for band in _samples(rows):
        sink.write(band.repeat(3 if rows.grey and not grey else 1, axis=2).tobytes())


def _samples(rows: Rows) -> Iterator[np.ndarray]:
    """Bands (n, w, samples) uint8: grey or RGB, then alpha where there is one."""
    at = 0
    for band in rows.bands:
        samples = band.reshape(*band.shape[:2], -1)
        if rows.alpha is not None:
            samples = np.concatenate([samples, rows.alpha[at : at + len(band), :, None]], axis=2)
        at += len(band)
        yield samples


def _write_png(rows: Rows, sink: Sink, kept: Kept) -> None:
    """A PNG file (W3C Recommendation, 3rd edition): 8 bits a sample, not interlaced."""

    def chunk(kind: bytes, data: bytes) -> None:
        sink.write(struct.pack(">I", len(data)) + kind + data)
        sink.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))

    colour = (0 if rows.grey else 2) + (0 if rows.alpha is None else 4)
    sink.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">2I5B", rows.width, rows.height, 8, colour, 0, 0, 0))
    if kept.icc:
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(kept.icc))
    if kept.resolution:
        per_metre = [round(value / 0.0254) for value in kept.resolution]
        chunk(b"pHYs", struct.pack(">2IB", *per_metre, 1))
    if kept.xmp:
        chunk(b"iTXt", png.XMP + bytes(5) + kept.xmp)
    if kept.exif:
        chunk(b"eXIf", kept.exif)
    packer = zlib.compressobj(_LEVEL)
    above: np.ndarray | None = None
    for band in _samples(rows):
        step = max(1, _PIECE // band[0].size)
        for start in range(0, len(band), step):
            piece = band[start : start + step]
            if packed := packer.compress(_paeth(piece, above).tobytes()):
                chunk(b"IDAT", packed)
            above = piece[-1]
    chunk(b"IDAT", packer.flush())
    chunk(b"IEND", b"")


def _paeth(rows: np.ndarray, above: np.ndarray | None) -> np.ndarray:
    """Rows (n, w, samples) filtered by the type 4, which stands before each: (n, 1 + w * samples).

    above (w, samples): the row before, None at the top.
    """
    n, w, samples = rows.shape
    padded = np.zeros((n + 1, w + 1, samples), np.uint8)
    padded[1:, 1:] = rows
    if above is not None:
        padded[0, 1:] = above
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    from_left = up.astype(np.int16) - corner  # of left + up - corner, the estimate
    from_up = left.astype(np.int16) - corner
    from_corner = np.abs(from_left + from_up)
    np.abs(from_left, out=from_left)
    np.abs(from_up, out=from_up)
    nearest = np.where(from_up <= from_corner, up, corner)
    take_left = (from_left <= from_up) & (from_left <= from_corner)
    nearest = np.where(take_left, left, nearest)
    filtered = np.empty((n, 1 + w * samples), np.uint8)
    filtered[:, 0] = 4
    filtered[:, 1:] = (rows - nearest).reshape(n, -1)
    return filtered


def _tiff_head(rows: Rows, kept: Kept) -> bytes:
    """All of an uncompressed TIFF that stands before its one strip of samples."""
    tags = kept.tiff_tags()
    samples = (1 if rows.grey else 3) + (0 if rows.alpha is None else 1)
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = rows.width, rows.height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8,) * samples
    tags[TiffImagePlugin.COMPRESSION] = 1  # none
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if rows.grey else 2
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = samples
    tags[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    tags[TiffImagePlugin.ROWSPERSTRIP] = rows.height
    tags.tagtype[TiffImagePlugin.STRIPBYTECOUNTS] = TiffTags.LONG
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = rows.width * rows.height * samples
    tags[TiffImagePlugin.STRIPOFFSETS] = (0,)  # the directory is saved with its own end added
    if rows.alpha is not None:
        tags[TiffImagePlugin.EXTRASAMPLES] = 2  # not premultiplied
    if kept.resolution:
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inch
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = kept.resolution
    if kept.icc:
        tags[TiffImagePlugin.ICCPROFILE] = kept.icc
    head = BytesIO()
    tags.save(head)
    return head.getvalue()
