"""Small pictures, files of them by hand and by Pillow, and their metadata."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from vqcodec import image
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


def cmyk_profile() -> bytes:
    """A printer's profile of which only the inks' corners are given, cyan a dark green."""
    corners = b""
    for inks in range(16):
        c, m, y, k = (inks >> shift & 1 for shift in (3, 2, 1, 0))
        lightness = 255 - 150 * c - 60 * m - 10 * y
        corners += bytes(
            [max(0, lightness) // (1 + 4 * k), 128 - 40 * c + 60 * m, 128 + 20 * c + 60 * y]
        )
    identity = bytes(range(256))
    body = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    body += struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    body += identity * 4 + corners + identity * 3
    tags = {b"A2B0": body, b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)}
    table, data, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", at + len(data), len(content))
        data += content.ljust(-(-len(content) // 4) * 4, b"\0")
    head = struct.pack(
        ">I4sI4s4s4s", at + len(data), bytes(4), 0x02100000, b"prtr", b"CMYK", b"Lab "
    )
    head = head.ljust(36, b"\0") + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data


def jpeg_with(data: bytes, *segments: tuple[int, bytes], after: bytes = b"") -> bytes:
    """A JPEG with further segments behind its start, and something behind its end."""
    added = b"".join(
        bytes([255, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
    )
    return data[:2] + added + data[2:] + after


def raw_tiff(**tags: object) -> bytes:
    """A TIFF of a preview, whose first directory says what is given."""
    given = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        given[int(name[1:])] = value
    return stored(Image.fromarray(PIXELS), "TIFF", tiffinfo=given)


def box(kind: bytes, *content: bytes) -> bytes:
    """Of a file of boxes, as AVIF and JPEG 2000 are."""
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body
