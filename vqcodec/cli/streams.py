"""Bytes in and out: files, or stdin and stdout for "-"."""

import errno
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from vqcodec import container
from vqcodec.cli.jobs import STDIO
from vqcodec.errors import InputError, OutputError, reason


def read_vqc(name: str) -> bytes:
    """The bytes of a .vqc file; of another file no more than its first bytes are read.

    Raises InputError where it cannot be read, NotVqcError, VersionError.
    """
    try:
        with _opened(name) as file:
            head = file.read(len(container.MAGIC))
            if head != container.MAGIC:
                container.read(head)  # raises the error that fits
            return head + file.read()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from error


def open_archive(name: str) -> container.Archive:
    """An archive of which each picture is read when it is asked for.

    Raises InputError, and FormatError for a file that is none.
    """
    if name == STDIO:
        return container.read_archive(read_vqc(name))
    try:
        return container.read_archive(Path(name).open("rb"))  # which the archive keeps open
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from error


def is_archive(name: str) -> bool:
    """Whether a file begins as an archive does. Not said of stdin, which can be read only once."""
    try:
        with _opened(name) as file:
            return name != STDIO and container.is_archive(file.read(len(container.MAGIC) + 1))
    except OSError:
        return False


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
    """stdout as a file to write to. See ``write``."""

    def write(self, data: bytes | memoryview, /) -> None:
        write(data)


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


def drop_unwritten() -> None:
    """Lets go of what could not be written: at exit, Python would try again and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(stdin()) if name == STDIO else Path(name).open("rb")
