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


def check_output(path: Path, *, force: bool, in_new_folder: bool = False) -> None:
    """Finds out before the work, and not after it, that a file cannot be written.

    in_new_folder: its folder, and those above it, are made for it. Raises OutputError.
    """
    try:
        is_folder, is_special = path.is_dir(), path.exists() and not path.is_file()
    except OSError as error:  # a name that is too long, a folder that is not to be looked into
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error
    if is_folder:
        raise OutputError(f"{path}: is a folder")
    if is_special:
        return  # a pipe or a device
    if not force and os.path.lexists(path):
        raise OutputError(f"{path}: exists; --force overwrites")
    if in_new_folder:
        check_folder(path.parent)
        return
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise OutputError(f"{path}: no such folder: {path.parent}")
    _try(folder, path)


def check_folder(folder: Path) -> None:
    """Finds out that ``make_folder`` would fail, without making it. Raises OutputError."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not os.path.isdir(there):
        raise OutputError(f"{folder}: cannot be made: {there} is not a folder")
    _try(there, folder)


def make_folder(folder: Path) -> None:
    """Makes a folder to write files to, and those above it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {reason(error)}") from error
    _try(folder, folder)


def _try(folder: Path, named: Path) -> None:
    """Whether a file can be made in a folder is known when one was: permissions say little to root,
    and /proc takes none of anybody. Raises OutputError for what the user has ``named``."""
    probe = folder / f".vqcodec-{secrets.token_hex(8)}.tmp"
    try:
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)  # what /proc says
        why = "no files can be made there" if missing else reason(error)
        raise OutputError(f"{named}: cannot be written: {why}") from error


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
