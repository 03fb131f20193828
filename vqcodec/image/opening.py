"""Files, bytes and pipes as images of Pillow that are not yet decoded."""

import importlib
import importlib.util
import os
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from vqcodec.errors import ImageError, InputError, VqcodecError, reason
from vqcodec.image import isobmff, jpeg, png, tiff

_MAGIC = b"VQC"
_SALVAGE = "--salvage takes what is there"  # of the command line
# Formats that are not decoded here: EPS would start Ghostscript and WMF a system's renderer; the
# others hold images of a size of their own, which Pillow measures by its own limit only.
_REFUSED = {"EPS", "WMF", "VQC", "ICO", "CUR", "ICNS", "IPTC", "BLP"}
# Formats whose further frames are views, gain maps or layers beside one whole picture.
_FIRST_FRAME = {"MPO", "PSD"}
# Formats of which Pillow does not hand on all that is said of the colours
_SAYS_MORE = {"PNG", "AVIF", "HEIF", "JPEG2000", "BMP"}
_MOST_PAGES = 1000  # of a TIFF that are looked at

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
# How files of the formats begin that are taken by their content; others are by their suffix
_BEGINNINGS = (
    *(png.SIGNATURE, b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"8BPS", b"qoif", b"DDS "),
    *(_JP2, b"\xff\x4f\xff\x51", b"II+\0", b"MM\0+", b"\x01\xda"),
    *(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b"\n\r\t "),
)
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0", re.DOTALL)
_FTYP = {b"ftypavif", b"ftypavis"}

# Formats that a package reads, where it is installed: its module and its image class
_PLUGINS = {
    "HEIC": ("pillow-heif", "pillow_heif", "HeifImageFile"),
    "JPEG XL": ("pillow-jxl-plugin", "pillow_jxl.JpegXLImagePlugin", "JXLImageFile"),
}


@dataclass
class Opened:
    """An image, and what was found on the way to it."""

    im: Image.Image
    source: IO[bytes] | None  # the file as it is, where there is one
    chunks: list[png.Chunk] = field(default_factory=list)  # of a PNG, the sound ones
    icc: bytes | None = None  # that Pillow would not read
    xmp: bytes | None = None
    notes: list[str] = field(default_factory=list)
    dpi: tuple[float, float] | None = None


@contextmanager
def opened(
    stream: IO[bytes], name: str, max_pixels: int, salvage: bool = False
) -> Iterator[Opened]:
    """The image in a stream; whatever is wrong with it raises ImageError or InputError.

    What is wrong with its metadata alone is mended, with a note. ``salvage``: what is missing of
    the pixels, too.
    """
    try:
        found = _opened(stream, name, max_pixels, salvage)
        check_size(
            *found.im.size, name, max_pixels
        )  # before pixel data is decoded, memory is taken
        yield found
    except VqcodecError:
        raise
    except UnidentifiedImageError:
        kind = tiff.samples_of(stream)
        why = f"a TIFF of {kind}, which cannot be read" if kind else "not an image that can be read"
        raise ImageError(f"{name}: {why}") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on broken data
        if isinstance(error, OSError) and error.strerror:  # of the system, not of Pillow
            raise InputError(f"{name}: {reason(error)}") from error
        option = ""
        if not salvage and _may_be_cut(error) and _begins(stream, png.SIGNATURE):
            option = _SALVAGE
        raise ImageError(f"{name}: broken image: {line(error)}", option) from error


def _may_be_cut(error: Exception) -> bool:
    return any(word in str(error) for word in ("truncated", "broken data stream", "Truncated"))


def _begins(stream: IO[bytes], prefix: bytes) -> bool:
    try:
        stream.seek(0)
        return stream.read(len(prefix)) == prefix
    except (OSError, ValueError):  # closed by now
        return False


def _opened(stream: IO[bytes], name: str, max_pixels: int, salvage: bool) -> Opened:
    stream.seek(0)
    prefix = stream.read(16)
    if prefix.startswith(_MAGIC):
        raise ImageError(f"{name}: is a .vqc file already")
    kind = foreign_kind(stream)
    if kind == "JPEG XL":  # which its plugin decodes before it tells the size
        stream.seek(0)
        width, height = isobmff.jxl_size(stream.read()) or (0, 0)
        check_size(width, height, name, max_pixels)
    if kind:
        return Opened(_by_plugin(stream, name, kind), stream)
    if prefix.startswith(png.SIGNATURE):
        return _opened_png(stream, name, max_pixels, salvage)
    if prefix.startswith(b"\xff\xd8\xff"):
        return _opened_jpeg(stream, name, max_pixels, salvage)
    raw = tiff.raw_kind(stream)
    if raw:
        raise ImageError(
            f"{name}: a camera raw file ({raw}), whose picture is not developed; "
            "make a TIFF or JPEG of it first"
        )
    notes = []
    n_broken = 0
    if prefix.startswith((b"II*\0", b"MM\0*")):
        stream, n_broken = tiff.mended(stream)
    elif prefix.startswith(_JP2):
        stream, n_broken = isobmff.jp2_mended(stream)
    if n_broken:
        s = "s" if n_broken > 1 else ""
        notes.append(f"{n_broken} broken field{s} of metadata dropped")
    try:
        found = Opened(open_image(stream), stream, notes=notes)
    except UnidentifiedImageError:
        raise
    except Exception:  # whatever it is, of an AVIF it may not be of the pixels
        if prefix[4:12] not in _FTYP:
            raise
        stream.seek(0)
        im = open_image(BytesIO(isobmff.without_metadata(stream.read())))
        return Opened(im, stream, notes=["broken metadata dropped"])
    _complete(found, stream)
    return found


def _complete(found: Opened, stream: IO[bytes]) -> None:
    """Adds what Pillow leaves unread: profiles of JPEG 2000 and BMP, XMP and resolution of PSD."""
    im = found.im
    if im.format == "PSD":
        resources = {kind: data for kind, _, data in im.resources}  # type: ignore[attr-defined]
        found.xmp = resources.get(1060)
        if len(resources.get(1005, b"")) >= 12:
            x, y = struct.unpack_from(">I4xI", resources[1005])
            found.dpi = x / 65536, y / 65536
    elif im.format in ("JPEG2000", "BMP"):
        stream.seek(0)
        data = stream.read()
        is_bmp = im.format == "BMP"
        found.icc = _icc_of_bmp(data) if is_bmp else isobmff.jp2_icc(data)
        found.dpi = None if is_bmp else isobmff.jp2_resolution(data)
        space = None if is_bmp else isobmff.jp2_odd_space(data)
        if space is not None:
            found.notes.append(f"colours of JPEG 2000's space {space} taken for sRGB")


def in_memory(im: Image.Image) -> Opened:
    """An image of Pillow's, and what its file says of its colours, if that is still there."""
    found = Opened(im, None)
    if im.format not in _SAYS_MORE or not isinstance(im, ImageFile.ImageFile):
        return found
    file = im.fp if im.tile else None  # which Pillow closes when it loads, as before it saves
    try:
        if file is None:
            stream = BytesIO(Path(os.fsdecode(im.filename)).read_bytes())
        else:
            at = file.tell()
            file.seek(0)
            stream = BytesIO(file.read())
            file.seek(at)
    except (OSError, ValueError, AttributeError):  # closed, or no more than read; no name
        return found
    if im.format == "PNG":
        found.chunks = png.mended(stream).chunks
    else:
        found.source = stream
        _complete(found, stream)
    return found


def _icc_of_bmp(data: bytes) -> bytes | None:
    """The profile that a BITMAPV5HEADER embeds."""
    if len(data) < 138 or struct.unpack_from("<I", data, 14)[0] < 124 or data[70:74] != b"DEBM":
        return None
    at, n_bytes = struct.unpack_from("<II", data, 126)
    return data[14 + at : 14 + at + n_bytes]


def foreign_kind(stream: IO[bytes]) -> str | None:
    """A format that Pillow itself does not read: a key of ``_PLUGINS``."""
    stream.seek(0)
    head = stream.read(64)
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, len(head) - 3, 4))}
        if head[8:12] != b"avif" and b"avif" not in brands and brands & _HEIF_BRANDS:
            return "HEIC"
    return None


def _by_plugin(stream: IO[bytes], name: str, kind: str) -> ImageFile.ImageFile:
    package, module, factory = _PLUGINS[kind]
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        raise ImageError(
            f"{name}: is {kind}, which the package {package} reads: pip install {package}"
        ) from None
    stream.seek(0)
    # A stream of its own: plugins close theirs when they have decoded it.
    made: ImageFile.ImageFile = getattr(plugin, factory)(BytesIO(stream.read()), "")
    return made


def _opened_png(stream: IO[bytes], name: str, max_pixels: int, salvage: bool) -> Opened:
    mended = png.mended(stream)
    source, notes = mended.stream, mended.notes
    completed = None
    if salvage or not _has_end(mended):
        check_size(*(png.size(mended.chunks) or (1, 1)), name, max_pixels)
        completed = png.completed(source, salvage)
    if completed is not None:
        source, share = completed
        if share < 1:
            notes.append(f"{100 * (1 - share):.0f} % of the picture is missing: black")
        elif not _has_end(mended):
            notes.append("the file ends before its end mark; the picture is all there")
    im = open_image(source)
    return Opened(im, stream, mended.chunks, mended.icc, mended.xmp, notes)


def _has_end(mended: png.Mended) -> bool:
    return bool(mended.chunks) and mended.chunks[-1].kind == b"IEND"


def _opened_jpeg(stream: IO[bytes], name: str, max_pixels: int, salvage: bool) -> Opened:
    stream.seek(0)
    data = stream.read()
    notes = []
    size = jpeg.size_of_cut(data)
    if size:
        check_size(*size, name, max_pixels)
        data = data.rstrip(b"\xff")
        if jpeg.is_whole(data, _decoded):
            notes.append("the file ends before its end mark; the picture is all there")
        elif salvage:
            notes.append("the file ends early: the rest of the picture is grey or blurred")
            data = jpeg.without_cut_segment(data)
        else:
            raise ImageError(f"{name}: the file ends early, within the picture", _SALVAGE)
        stream = BytesIO(data + jpeg.EOI)
    try:
        im = open_image(stream)
    except Exception:  # whatever it is, it may not be of the pixels
        im = open_image(BytesIO(jpeg.without_metadata(data)))
        notes.append("broken metadata dropped")
    else:
        if not im.info.get("icc_profile") and jpeg.has_profile(data):
            notes.append("broken ICC profile dropped")
    return Opened(im, stream, notes=notes)


def _decoded(stream: BytesIO) -> np.ndarray:
    with open_image(stream) as im:
        return np.array(im)


def stream_of(source: Path | bytes | BinaryIO, name: str) -> AbstractContextManager[IO[bytes]]:
    """A context with a seekable binary stream at its start."""
    if isinstance(source, bytes):
        return BytesIO(source)
    if isinstance(source, Path):
        try:
            file = cast(BinaryIO, source.open("rb"))
        except FileNotFoundError:
            raise InputError(f"{name}: no such file") from None
        except ValueError:  # a name with a zero byte
            raise InputError(f"{name!r}: no such file") from None
        except OSError as error:
            # Windows calls opening a folder a lack of permission
            why = "is a folder" if os.path.isdir(source) else reason(error)
            raise InputError(f"{name}: {why}") from error
        if file.seekable():
            return file
        with file:
            return BytesIO(file.read())
    if not (hasattr(source, "seekable") and source.seekable()):  # as a map of memory has it not
        return BytesIO(source.read())
    source.seek(0)
    return nullcontext(source)


def open_image(stream: IO[bytes], only: str | None = None) -> ImageFile.ImageFile:
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


def found_in_folder(path: Path) -> tuple[bool, str]:
    """(whether a file is a picture by its beginning, why it cannot be read although it is one)."""
    try:
        with path.open("rb") as stream:
            raw = tiff.raw_kind(stream)
            if raw:
                return True, f"a camera raw file ({raw}), which is not developed"
            kind = foreign_kind(stream)
            stream.seek(0)
            prefix = stream.read(32)
    except OSError:  # whatever it is, the work will tell
        return False, ""
    if kind:
        package, module, _ = _PLUGINS[kind]
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            return True, f"{kind}, which {package} reads: pip install {package}"
        return True, ""
    known = prefix.startswith(_BEGINNINGS) or prefix[4:12] in _FTYP or _BMP.match(prefix)
    return bool(known) or _is_webp(prefix), ""


def _is_webp(prefix: bytes) -> bool:
    return prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP"


def line(error: BaseException) -> str:
    """The cause on one line."""
    if isinstance(error, OSError) and error.strerror:
        return reason(error)
    return " ".join(str(error).split()) or type(error).__name__


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if not 0 < width * height <= max_pixels:
        raise ImageError(f"{name}: {width} x {height} pixels; 1 to {max_pixels} can be read")


def mend_planes(im: Image.Image) -> None:
    """Lets libtiff read planes of 16 bits, of which Pillow takes every second byte for a sample
    where they are not compressed. The page is the one that is sought."""
    tiles = getattr(im, "tile", None)
    if not isinstance(im, TiffImagePlugin.TiffImageFile) or not tiles:
        return
    tags = im.tag_v2
    in_planes = tags.get(tiff.PLANES) == 2 and max(tags.get(tiff.BITS) or (8,)) == 16
    if not in_planes or tiles[0].codec_name != "raw":
        return
    letters = dict.fromkeys(tile.args[0] for tile in tiles)
    if len(letters) < 2:
        return
    args = "".join(letters) + ";16N", False, tags.offset
    whole = (0, 0, *im.size)
    im.tile = [tiles[0]._replace(codec_name="libtiff", extents=whole, offset=0, args=args)]
    im.use_load_libtiff = True


def to_whole_picture(im: Image.Image, name: str) -> tuple[str, ...]:
    """Seeks the one page that is a whole picture; what further ones there are, for the user.

    Raises ImageError where there are several pictures, or moving ones.
    """
    count = getattr(im, "n_frames", 1)
    if count == 1:
        return ()
    if im.format in _FIRST_FRAME:
        return ("layers",) if im.format == "PSD" and count > 1 else ()
    if im.format == "TIFF":
        whole = [page for page in range(min(count, _MOST_PAGES)) if _is_whole_page(im, page)]
        if len(whole) == 1 and count <= _MOST_PAGES:
            im.seek(whole[0])
            return ()
        raise ImageError(
            f"{name}: multi-page TIFF with {count} pages; only still images can be coded"
        )
    if im.format == "HEIF":
        return (f"{count - 1} further picture{'s' if count > 2 else ''}",)
    raise ImageError(
        f"{name}: animated {im.format} with {count} frames; only still images can be coded"
    )


def _is_whole_page(im: Image.Image, page: int) -> bool:
    """Neither a reduced picture nor a mask of another page (TIFF 6.0, NewSubfileType)."""
    im.seek(page)
    tags = im.tag_v2  # type: ignore[attr-defined]
    kind = tags.get(tiff.SUBFILE_TYPE, 0)
    reduced = tags.get(tiff.OLD_SUBFILE_TYPE) == tiff.OLD_REDUCED
    return not (reduced or (isinstance(kind, int) and kind & 0b101))
