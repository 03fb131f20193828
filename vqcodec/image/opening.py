"""Files, bytes and pipes as images of Pillow that are not yet decoded."""

import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO, cast

from PIL import Image, ImageFile, UnidentifiedImageError

from vqcodec.errors import ImageError, InputError, VqcodecError, reason

_MAGIC = b"VQC"
# Formats that are not decoded here: EPS would start Ghostscript and WMF a system's renderer; the
# others hold images of a size of their own, which Pillow measures by its own limit only.
_REFUSED = {"EPS", "WMF", "VQC", "ICO", "CUR", "ICNS", "IPTC", "BLP"}
# Formats whose further frames are views, gain maps or layers beside one whole picture.
_FIRST_FRAME = {"MPO", "PSD"}


@contextmanager
def opened(stream: IO[bytes], name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The image in a stream; whatever is wrong with it raises ImageError or InputError."""
    try:
        if stream.read(len(_MAGIC)) == _MAGIC:
            raise ImageError(f"{name}: is a .vqc file already")
        im = open_image(stream)
        check_size(im, name, max_pixels)  # before pixel data is decoded and memory is taken
        yield im
    except VqcodecError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image that can be read") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on broken data
        if isinstance(error, OSError) and error.strerror:  # of the system, not of Pillow
            raise InputError(f"{name}: {reason(error)}") from error
        raise ImageError(f"{name}: broken image: {line(error)}") from error


def stream_of(source: Path | bytes | BinaryIO, name: str) -> AbstractContextManager[IO[bytes]]:
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


def line(error: BaseException) -> str:
    """The cause on one line."""
    if isinstance(error, OSError) and error.strerror:
        return reason(error)
    return " ".join(str(error).split()) or type(error).__name__


def check_size(im: Image.Image, name: str, max_pixels: int) -> None:
    if not 0 < im.width * im.height <= max_pixels:
        raise ImageError(f"{name}: {im.width} x {im.height} pixels; 1 to {max_pixels} can be read")


def check_still(im: ImageFile.ImageFile, name: str) -> None:
    count = 1 if im.format in _FIRST_FRAME else getattr(im, "n_frames", 1)
    if count > 1:
        what = f"animated {im.format} with {count} frames"
        if im.format == "TIFF":
            what = f"multi-page TIFF with {count} pages"
        raise ImageError(f"{name}: {what}; only still images can be coded")
