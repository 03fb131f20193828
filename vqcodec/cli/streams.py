"""Bytes in and out: files, or stdin and stdout for "-"."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from vqcodec import container
from vqcodec.cli.jobs import STDIO
from vqcodec.errors import InputError


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
        raise InputError(f"{name}: {(error.strerror or str(error)).lower()}") from error


def stdin() -> BinaryIO:
    """stdin, binary."""
    return sys.stdin.buffer


def stdout() -> BinaryIO:
    """stdout, binary. Flush it: an error at exit would come too late."""
    return sys.stdout.buffer


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(stdin()) if name == STDIO else Path(name).open("rb")
