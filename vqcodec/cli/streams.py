"""Bytes in and out: files, or stdin and stdout for "-"."""

import errno
import io
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from vqcodec import container
from vqcodec.cli.jobs import STDIO
from vqcodec.errors import InputError, NotVqcError, OutputError, reason

_MAGICS = 12  # bytes that tell what a file is
_KINDS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"P5": "a PGM picture",
    b"P6": "a PPM picture",
    b"\xff\x0a": "a JPEG XL picture",
}


def read_vqc(name: str) -> bytes:
    """The bytes of a .vqc file; of another file no more than its first bytes are read.

    Raises InputError where it cannot be read, NotVqcError, VersionError.
    """
    try:
        with _opened(name) as file:
            head = file.read(_MAGICS)
            if head[: len(container.MAGIC)] != container.MAGIC:
                kind = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), "")
                if kind or head[4:8] == b"ftyp":
                    what = kind or "an AVIF, HEIF or other picture"
                    raise NotVqcError(f"{name}: {what}, not a .vqc file; encode makes one of it")
                container.read(head)  # raises the error that fits
            return head + file.read()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from error


def open_archive(name: str) -> container.Archive:
    """An archive of which each picture is read when it is asked for.

    Raises InputError, and FormatError for a file that is none.
    """
    if name == STDIO or not os.path.isfile(name):  # which can be read only once
        return container.read_archive(read_vqc(name))
    try:
        return container.read_archive(Path(name).open("rb"))  # which the archive keeps open
    except FileNotFoundError:
        raise InputError(f"{name}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from error


def is_archive(name: str) -> bool:
    """Whether a file begins as an archive does. Not said of what can be read only once."""
    return container.is_archive(_beginning(name, len(container.MAGIC) + 1))


def is_vqc(name: str) -> bool:
    """Whether a file begins as a .vqc file does. Not said of what can be read only once."""
    return _beginning(name, len(container.MAGIC)) == container.MAGIC


def _beginning(name: str, n_bytes: int) -> bytes:
    """The first bytes of a file; none of stdin and of pipes."""
    try:
        if name == STDIO or not Path(name).is_file():
            return b""
        with _opened(name) as file:
            return file.read(n_bytes)
    except OSError:
        return b""


def open_picture(name: str) -> tuple[Path | bytes, int]:
    """What ``image.read`` takes, and how many bytes that are. Raises InputError."""
    if name == STDIO:
        data = stdin().read()
        return data, len(data)
    path = Path(name)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # read once, and no more
            data = path.read_bytes()
            return data, len(data)
        return path, path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{name}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from error


def stdin() -> BinaryIO:
    """stdin, binary. Raises InputError where the caller closed it."""
    if sys.stdin is None:
        raise InputError(f"{STDIO}: stdin is closed")
    return sys.stdin.buffer


def write(data: bytes | memoryview) -> None:
    """Writes all of it to stdout. Raises OutputError, and BrokenPipeError where nobody listens."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise stdout_error(error) from error


class Stdout:
    """stdout as a file to write to, which counts. See ``write``."""

    n_bytes = 0

    def write(self, data: bytes | memoryview, /) -> None:
        write(data)
        self.n_bytes += len(data)


def stdout_error(error: OSError) -> OutputError:
    """What the user is told of an error of stdout."""
    why = "it is closed" if error.errno == errno.EBADF else reason(error)
    return OutputError(f"stdout cannot be written: {why}")


def open_closed() -> None:
    """Fills the places of stdout and stderr where the caller closed them and Python has None.

    Whatever is printed is then an error, or lost for stderr; and no file that is opened later gets
    their descriptors, or what libraries print.
    """
    for name, flags in (("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), "w"))


def print_any_name() -> None:
    """Letters that the encoding of stdout or stderr has not are printed as escapes from now on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_unwritten() -> None:
    """Lets go of what could not be written: at exit, Python would try again and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(stdin()) if name == STDIO else Path(name).open("rb")
