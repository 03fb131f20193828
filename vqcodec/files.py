"""Output files that appear whole or not at all, and the suffixes of pictures."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from vqcodec.errors import OutputError, reason

# What is taken from a folder of pictures. A file that is named is tried whatever its suffix.
PICTURES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jfif", ".jpe", ".jp2", ".j2k"),
    *(".tga", ".qoi", ".pcx", ".sgi", ".dib"),
)

# What pictures are written as: the format by its suffix.
WRITTEN = {
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


class Sink(Protocol):
    """Where bytes go: a file, or anything else to write to."""

    def write(self, data: bytes | memoryview, /) -> object: ...


@contextmanager
def atomic_write(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes ``path`` when the block ends without an error.

    Until then the bytes lie in a hidden file in the same folder, which is removed on any error,
    KeyboardInterrupt included. Without ``force`` a file at ``path`` is never replaced, not even
    one that appears during the block; with it, a symbolic link is followed. The new file has the
    permissions that the umask leaves. Pipes and devices (/dev/null) are written to directly.

    Raises OutputError where ``path`` exists or cannot be written, and for any OSError in the
    block: do nothing in it but write.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as device:
                yield device
            return
        if path.is_dir():
            raise OutputError(f"{path}: is a folder")
        if not force and os.path.lexists(path):
            raise FileExistsError
        target = Path(os.path.realpath(path)) if force else path
        if not target.parent.is_dir():
            raise OutputError(f"{path}: no such folder: {target.parent}")
        temporary = target.with_name(f".vqcodec-{secrets.token_hex(8)}.tmp")
        try:
            # "x" and not tempfile, whose files no one else may read
            with temporary.open("xb") as file:
                yield file
            if force:
                os.replace(temporary, target)
            else:
                _move_to_free(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise OutputError(f"{path}: exists; --force overwrites") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


def make_folder(folder: Path) -> None:
    """Makes a folder to write files to, and those above it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {reason(error)}") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: cannot be written to")


def _move_to_free(source: Path, target: Path) -> None:
    """Rename, or raise FileExistsError: os.rename alone would replace what is there."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network drives): claim the name first
        target.touch(exist_ok=False)
        try:
            os.replace(source, target)
        except BaseException:
            target.unlink()
            raise
