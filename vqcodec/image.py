"""Files to arrays and back: grey, alpha, 16 bit, palettes, orientation, ICC, EXIF.

Only this file, ``rowfile``, which writes large pictures, and ``pillow``, which teaches Pillow to
open and save .vqc files, import Pillow.
"""

import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from vqcodec.container import MAX_PIXELS
from vqcodec.errors import (
    FormatError,
    ImageError,
    InputError,
    OutputError,
    VqcodecError,
    reason,
)
from vqcodec.files import Sink, atomic_write

_MAGIC = b"VQC"
EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION = ExifTags.Base.Orientation

# Formats that are not decoded here: EPS would start Ghostscript and WMF a system's renderer; the
# others hold images of a size of their own, which Pillow measures by its own limit only.
_REFUSED = {"EPS", "WMF", "VQC", "ICO", "CUR", "ICNS", "IPTC", "BLP"}
# Formats whose further frames are views, gain maps or layers beside one whole picture.
_FIRST_FRAME = {"MPO", "PSD"}

# EXIF orientation -> the upright array
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}

# ITU-T T.81, table K.1
_LUMINANCE_STEPS = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)

# Tags of a TIFF that describe the picture and not the layout of its bytes
_DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PGM",
    ".pnm": "PNM",
}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {},  # uncompressed: with libtiff Pillow cannot store EXIF
    "BMP": {},
    "PPM": {},
    "PGM": {},
    "PNM": {},
}
_WITH_ALPHA = {"PNG", "WEBP", "TIFF"}
_WITH_METADATA = {"PNG", "JPEG", "WEBP", "TIFF"}


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright still image with 8 bits per sample, and what belongs to it."""

    pixels: np.ndarray  # (h, w, 3) uint8, or (h, w) uint8 for a grey picture
    alpha: np.ndarray | None = None  # (h, w) uint8; None: opaque
    icc: bytes | None = None  # an RGB profile, or a grey one for a grey picture
    exif: bytes | None = None  # from its TIFF header on (b"II*\0" or b"MM\0*"); no orientation
    deep: bool = False  # the source had more than 8 bits per sample
    notes: tuple[str, ...] = ()  # what was changed on the way in, a line each, for the user

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def grey(self) -> bool:
        return self.pixels.ndim == 2


@dataclass(frozen=True, eq=False)
class Rows:
    """A picture whose pixels come row by row, once; the rest as in ``Picture``."""

    height: int
    width: int
    grey: bool
    bands: Iterator[np.ndarray]  # (rows, w, 3) uint8, or (rows, w), from top to bottom
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    deep: bool = False


# ------------------------------------------------------------------------------------------ in


def read(
    source: Path | bytes | BinaryIO,
    name: str,
    max_pixels: int = MAX_PIXELS,
    long_side: int | None = None,
) -> Picture:
    """The picture in a file, in bytes or in a binary stream (a pipe will do).

    Any still image that Pillow opens, except EPS, WMF and icons. Grey stays grey; so does a palette
    of greys without an ICC profile. Alpha that is 255 everywhere is dropped. 16 bits per sample
    become 8: grey with rounding, RGB in Pillow by its upper byte. (Pillow does not tell 10 bit
    AVIF and 16 bit RGB JPEG 2000 from 8 bit; they are read without a note.) The EXIF orientation
    is applied. An ICC profile is kept if it is for grey and the picture is, or for RGB likewise.

    ``name`` stands for the source in messages. With ``long_side`` a JPEG is decoded at a half, a
    quarter or an eighth of its size, in as small a fraction of the time, as long as that leaves so
    many pixels. Raises InputError if the source cannot be opened, ImageError if it is not a whole
    still image of at most ``max_pixels`` pixels.
    """
    with _stream(source, name) as stream, _opened(stream, name, max_pixels) as im:
        _check_still(im, name)
        if long_side and im.format == "JPEG":
            factor = long_side / max(im.size)
            im.draft(None, (max(1, int(factor * im.width)), max(1, int(factor * im.height))))
        return _picture(im, name)


def read_rgb(path: Path) -> np.ndarray:
    """Pixels of a picture as (h, w, 3) uint8, upright; alpha is ignored. Raises as ``read``."""
    return rgb(read(path, str(path)))


def rgb(picture: Picture) -> np.ndarray:
    """Pixels (h, w, 3) uint8, of a grey picture too; without alpha."""
    pixels = picture.pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


@dataclass(frozen=True)
class Header:
    """What is known of a picture's file without decoding it."""

    format: str  # Pillow's name: JPEG, PNG, WEBP, ...
    height: int  # as stored, before the orientation is applied
    width: int
    quality: int | None  # of JPEG, see ``_jpeg_quality``


def header(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Header:
    """Raises ImageError as ``read`` does, as far as the header tells."""
    with BytesIO(content) as stream, _opened(stream, name, max_pixels) as im:
        tables = getattr(im, "quantization", {})
        quality = _jpeg_quality(sum(tables[0])) if im.format == "JPEG" and 0 in tables else None
        return Header(im.format or "", im.height, im.width, quality)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (h, w[, 3]) uint8 at another size, by Lanczos's filter."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def contact_sheet(
    pictures: Sequence[np.ndarray], gap: int = 2, columns: int | None = None
) -> np.ndarray:
    """Pictures (h, w, 3) of one size in rows, white in between; by default about a square."""
    h, w = pictures[0].shape[:2]
    if columns is None:
        columns = -(-len(pictures) * h // math.isqrt(max(1, len(pictures) * h * w)))
        columns = min(len(pictures), max(1, columns))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for index, pixels in enumerate(pictures):
        top, left = index // columns * (h + gap), index % columns * (w + gap)
        sheet[top : top + h, left : left + w] = pixels
    return sheet


def from_pillow(im: Image.Image, max_pixels: int = MAX_PIXELS) -> Picture:
    """The same as ``read`` for an image of Pillow's (its current frame). Raises ImageError."""
    try:
        _check_size(im, "picture", max_pixels)
        return _picture(im, "picture")
    except VqcodecError:
        raise
    except Exception as error:
        raise ImageError(f"picture: {_line(error)}") from error


def from_array(pixels: np.ndarray) -> Picture:
    """(h, w) or (h, w, 3) uint8 -> Picture. Raises ImageError for anything else."""
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or 0 in pixels.shape:
        raise ImageError(
            f"an array of {pixels.dtype} {pixels.shape} is not a picture: uint8 (h, w[, 3])"
        )
    return Picture(np.ascontiguousarray(pixels))


@contextmanager
def _opened(stream: IO[bytes], name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The image in a stream; whatever is wrong with it raises ImageError or InputError."""
    try:
        if stream.read(len(_MAGIC)) == _MAGIC:
            raise ImageError(f"{name}: is a .vqc file already")
        im = _open(stream)
        _check_size(im, name, max_pixels)  # before pixel data is decoded and memory is taken
        yield im
    except VqcodecError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image that can be read") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on broken data
        if isinstance(error, OSError) and error.strerror:  # of the system, not of Pillow
            raise InputError(f"{name}: {reason(error)}") from error
        raise ImageError(f"{name}: broken image: {_line(error)}") from error


def _jpeg_quality(total: int) -> int:
    """1..100: the quality at which the table of ITU-T T.81, K.1 has the most similar sum.

    total: of the 64 quantization steps for luminance. Quality scales the table as the library of
    the Independent JPEG Group does, and all programs that use it.
    """
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    steps = ((_LUMINANCE_STEPS[:, None] * scale + 50) // 100).clip(1, 255)
    return int(qualities[np.abs(steps.sum(0) - total).argmin()])


def _stream(source: Path | bytes | BinaryIO, name: str) -> AbstractContextManager[IO[bytes]]:
    """A context with a seekable binary stream at its start."""
    if isinstance(source, bytes):
        return BytesIO(source)
    if isinstance(source, Path):
        try:
            file = cast(BinaryIO, source.open("rb"))
        except FileNotFoundError:
            raise InputError(f"{name}: no such file") from None
        except OSError as error:
            # Windows calls opening a folder a lack of permission
            why = "is a folder" if os.path.isdir(source) else reason(error)
            raise InputError(f"{name}: {why}") from error
        if file.seekable():
            return file
        with file:
            return BytesIO(file.read())
    if not source.seekable():
        return BytesIO(source.read())
    source.seek(0)
    return nullcontext(source)


def _open(stream: IO[bytes], only: str | None = None) -> ImageFile.ImageFile:
    """Image.open without its limit of pixels, which is global and prints a warning at a third of
    ours; the caller checks the size. Raises UnidentifiedImageError, and what the plugins raise.
    """
    stream.seek(0)
    prefix = stream.read(16)
    tried = set(_REFUSED)
    for load_plugins in (Image.preinit, Image.init):  # the common ones first
        load_plugins()
        for kind in [only] if only else Image.ID:
            if kind in tried:
                continue
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            try:
                if not accept or accept(prefix) is True:
                    stream.seek(0)
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # as Image.open: not this format after all
    raise UnidentifiedImageError


def _line(error: BaseException) -> str:
    """The cause on one line."""
    if isinstance(error, OSError) and error.strerror:
        return reason(error)
    return " ".join(str(error).split()) or type(error).__name__


def _check_size(im: Image.Image, name: str, max_pixels: int) -> None:
    if not 0 < im.width * im.height <= max_pixels:
        raise ImageError(f"{name}: {im.width} x {im.height} pixels; 1 to {max_pixels} can be read")


def _check_still(im: ImageFile.ImageFile, name: str) -> None:
    count = 1 if im.format in _FIRST_FRAME else getattr(im, "n_frames", 1)
    if count > 1:
        what = f"animated {im.format} with {count} frames"
        if im.format == "TIFF":
            what = f"multi-page TIFF with {count} pages"
        raise ImageError(f"{name}: {what}; only still images can be coded")


def _picture(im: Image.Image, name: str) -> Picture:
    """Conversion to 8-bit grey or RGB, alpha apart, upright."""
    rawmode, max_value = _raw(im)  # before load() forgets it
    im.load()
    mode = im.mode  # after load(), which may change it
    deep = max_value > 255
    notes = [f"{max_value.bit_length()} bits per sample coded as 8"] if deep else []
    icc = im.info.get("icc_profile") or None

    if mode.startswith("I;16") or (mode == "I" and im.format in ("PNG", "PPM")):
        values = np.array(im)  # (h, w) uint16 or int32, 0..max_value
        pixels, alpha = _to_8bit(values, max_value), _keyed_alpha(values, im, rawmode)
        if im.format == "TIFF" and getattr(im, "tag_v2", {}).get(262) == 0:
            pixels = 255 - pixels  # white is zero, which Pillow undoes for up to 8 bits only
    elif mode in ("I", "F"):
        kind = "32-bit integers" if mode == "I" else "floating point numbers"
        raise ImageError(
            f"{name}: samples are {kind}, whose black and white are unknown; "
            "make it 8 or 16 bits per sample first"
        )
    elif mode in ("1", "L", "RGB"):
        pixels = np.array(im.convert("L") if mode == "1" else im)
        alpha = _keyed_alpha(pixels, im, rawmode)
    else:
        has_alpha = im.has_transparency_data
        straight = im.convert("LA") if mode == "La" else im
        samples = np.array(straight.convert("RGBA" if has_alpha else "RGB"))
        pixels, alpha = samples[..., :3], samples[..., 3] if has_alpha else None
        # Pillow delivers 16-bit grey with alpha as RGBA
        grey = mode in ("LA", "La") or rawmode == "LA;16B"
        if grey or (mode in ("P", "PA") and icc is None and not np.ptp(pixels, axis=2).any()):
            pixels = pixels[..., 0]
        if mode in ("CMYK", "LAB", "HSV"):
            notes.append(f"{mode} converted to RGB")

    if icc is not None and not _fits(icc, grey=pixels.ndim == 2):
        icc = None
        notes.append("ICC profile dropped: it is not for a grey or an RGB picture as this one is")
    orientation, exif = _exif(im, notes)
    if alpha is not None and alpha.min() == 255:
        alpha = None
    upright = _UPRIGHT.get(orientation, lambda a: a)
    return Picture(
        np.ascontiguousarray(upright(pixels)),
        None if alpha is None else np.ascontiguousarray(upright(alpha)),
        icc,
        exif,
        deep,
        tuple(notes),
    )


def _raw(im: Image.Image) -> tuple[str, int]:
    """(raw mode in the file, largest sample value), as far as Pillow knows it before load().

    Pillow delivers most 16-bit files with modes of 8 bits; only the raw mode tells.
    """
    rawmode, max_value = "", 255
    tiles = getattr(im, "tile", None)
    if tiles:
        args = tiles[0][3]
        args = args if isinstance(args, tuple) else (args,)
        rawmode = next((a for a in args if isinstance(a, str)), "")
        if tiles[0][0].startswith("ppm") and len(args) > 1:  # (raw mode, largest value)
            return rawmode, 65535 if args[1] > 255 else 255
    if rawmode.endswith(";12"):
        max_value = 4095
    # not BGR;16, which is 5 + 6 + 5 bits
    elif im.mode.startswith("I") or (";16" in rawmode and not rawmode.startswith("BGR")):
        max_value = 65535
    return rawmode, max_value


def _to_8bit(values: np.ndarray, max_value: int) -> np.ndarray:
    """Integers 0..max_value to uint8, to the nearest; 65535 -> 255."""
    scale = (np.arange(max_value + 1, dtype=np.uint32) * 255 + max_value // 2) // max_value
    return scale.astype(np.uint8)[np.clip(values, 0, max_value)]


def _keyed_alpha(values: np.ndarray, im: Image.Image, rawmode: str) -> np.ndarray | None:
    """Alpha (h, w) from the one colour that a PNG without palette may declare transparent.

    ``values`` are the samples of mode 1 (as 0, 255), L, RGB or 16-bit grey.
    """
    key = im.info.get("transparency")
    if not isinstance(key, int | tuple):
        return None
    # Pillow gives the key in units of the file, the samples in 8 bits
    if im.mode == "1":
        key = 255 if key else 0
    elif rawmode in ("L;2", "L;4"):
        key = int(cast(int, key)) * {"L;2": 85, "L;4": 17}[rawmode]
    elif im.mode == "RGB" and ";16" in rawmode:
        key = tuple(k >> 8 for k in cast(tuple[int, ...], key))
    same = values == np.asarray(key)
    return np.where(same.all(axis=2) if same.ndim == 3 else same, 0, 255).astype(np.uint8)


def _fits(icc: bytes, grey: bool) -> bool:
    """Whether it is an ICC profile for the colour space that the picture is stored in.

    A grey picture with an RGB profile breaks the rules of PNG and TIFF, and viewers ignore the
    profile; storing three channels for its sake would cost more than it brings.
    """
    return icc[36:40] == b"acsp" and icc[16:20] == (b"GRAY" if grey else b"RGB ")


def _exif(im: Image.Image, notes: list[str]) -> tuple[int, bytes | None]:
    """(orientation, EXIF without it). Broken EXIF is dropped with a note, as viewers do."""
    orientation = 1
    try:
        tags = im.getexif()  # also finds an orientation in XMP
        orientation = tags.get(_ORIENTATION, 1)
        exif = im.info.get("exif")
        if not exif:  # TIFF, whose own tags are the EXIF
            return orientation, _exif_of_tags(tags)
        while exif.startswith(EXIF_PREFIX):
            exif = exif[len(EXIF_PREFIX) :]
        return orientation, _without_orientation(exif)
    except Exception:  # Pillow's parser raises nearly everything
        notes.append("broken EXIF dropped")
        return orientation, None


def _exif_of_tags(tags: Image.Exif) -> bytes | None:
    kept = Image.Exif()
    kept.update({tag: tags[tag] for tag in _DESCRIPTIVE if tag in tags})
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if found := tags.get_ifd(ifd):
            kept.get_ifd(ifd).update(found)
            kept[ifd] = found
    return kept.tobytes().removeprefix(EXIF_PREFIX) if len(kept) else None


def _without_orientation(exif: bytes) -> bytes:
    """The same bytes with that entry cut out of the first directory.

    No other byte moves, since maker notes hold offsets that nobody can correct. If the picture
    was turned, its thumbnail, which was not, is unlinked.
    """
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * count
    next_directory = exif[end : end + 4]
    entries = [exif[i : i + 12] for i in range(start + 2, end, 12)]
    kept = []
    for entry in entries:
        tag, _, _, value = struct.unpack(order + "HHIH2x", entry)
        if tag != _ORIENTATION:
            kept.append(entry)
        elif value != 1:
            next_directory = bytes(4)
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + next_directory
    return exif[:start] + directory.ljust(end + 4 - start, b"\0") + exif[end + 4 :]


# ----------------------------------------------------------------------------------------- out


def format_of(path: Path) -> str:
    """The format that a file's suffix names, for ``write``. Raises OutputError if it names none."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise OutputError(
            f"{path}: no format known for this suffix; can write {', '.join(_SUFFIXES)}"
        ) from None


def write(
    picture: Picture,
    target: Path | Sink,
    format: str,
    *,
    quality: int = 95,
    force: bool = False,
) -> tuple[str, ...]:
    """Store as PNG, JPEG (4:4:4), WebP (lossless), TIFF, BMP, PPM, PGM or PNM.

    quality: of JPEG, 1 to 100.

    ICC and EXIF go along, except into BMP and PNM, which cannot carry them: what is left out is
    returned, a line for the user. A path is written atomically, and replaced only with ``force``.

    Raises OutputError for an unknown format, alpha in a format without it, colour in PGM, a
    picture that the format cannot hold (WebP: 16383 pixels a side) and a path that cannot be
    written. Errors of a stream pass through.
    """
    format = format.upper()
    icc, exif, notes = metadata(picture, format)
    im = to_pillow(picture)
    if format in ("PPM", "WEBP"):  # which know no grey
        im = im.convert("RGB" if picture.alpha is None else "RGBA")
    options = dict(_SAVE_OPTIONS[format])
    if format == "JPEG":
        options["quality"] = quality
    if icc:
        options["icc_profile"] = icc
    if exif:
        options["exif"] = exif if format == "TIFF" else EXIF_PREFIX + exif
    buffer = BytesIO()  # TIFF needs to seek, pipes cannot
    try:
        im.save(buffer, format="PPM" if format in ("PGM", "PNM") else format, **options)
    except Exception as error:
        raise OutputError(f"cannot be stored as {format}: {_line(error)}") from error
    if isinstance(target, Path):
        with atomic_write(target, force=force) as file:
            file.write(buffer.getbuffer())
    else:
        target.write(buffer.getbuffer())
    return notes


def metadata(
    picture: Picture | Rows, format: str
) -> tuple[bytes | None, bytes | None, tuple[str, ...]]:
    """ICC profile and EXIF as a file of a format can hold them, and what is left out, for the user.

    Raises OutputError for an unknown format, alpha in one without it, and colour in PGM.
    """
    if format not in _SAVE_OPTIONS:
        raise OutputError(f"{format}: unknown format; can write {', '.join(_SAVE_OPTIONS)}")
    if picture.alpha is not None and format not in _WITH_ALPHA:
        raise OutputError(f"{format} cannot store alpha; {', '.join(sorted(_WITH_ALPHA))} can")
    if format == "PGM" and not picture.grey:
        raise OutputError("PGM cannot store colour; PPM can")
    icc, exif = picture.icc, picture.exif
    dropped = []
    if icc and not (format in _WITH_METADATA and _fits(icc, picture.grey and format != "WEBP")):
        icc = None
        dropped.append("ICC profile")
    if exif and format not in _WITH_METADATA:
        exif = None
        dropped.append("EXIF")
    if exif and format == "TIFF":  # or its tags would replace the file's own
        try:
            tags = Image.Exif()
            tags.load(exif)
            exif = _exif_of_tags(tags)
        except Exception as error:
            raise OutputError(f"cannot be stored as {format}: {_line(error)}") from error
    left_out = f"{' and '.join(dropped)} left out: {format} cannot hold that"
    return icc, exif, (left_out,) if dropped else ()


def to_pillow(picture: Picture) -> Image.Image:
    """An image of mode L, LA, RGB or RGBA with icc_profile and exif in its info."""
    im = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        im.putalpha(Image.fromarray(picture.alpha))
    if picture.icc:
        im.info["icc_profile"] = picture.icc
    if picture.exif:
        im.info["exif"] = EXIF_PREFIX + picture.exif
    return im


def encode_alpha(alpha: np.ndarray) -> bytes:
    """(h, w) uint8 as a grey PNG."""
    buffer = BytesIO()
    Image.fromarray(alpha).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def decode_alpha(data: bytes, width: int, height: int) -> np.ndarray:
    """Alpha (height, width) uint8 from ``encode_alpha``'s bytes, which need not be trusted.

    Raises FormatError unless they are a still 8-bit grey PNG of exactly that size.
    """
    try:
        im = _open(BytesIO(data), only="PNG")
        if (im.mode, im.size, _raw(im)[0]) != ("L", (width, height), "L"):
            raise FormatError(f"alpha is not {width} x {height} grey")
        if getattr(im, "n_frames", 1) != 1:
            raise FormatError("alpha is animated")
        return np.array(im)
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"broken alpha: {_line(error)}") from error
