"""Where training pictures lie: in a folder, where a list says, or in shards as WebDataset has them.

What is held out of the training is decided by hashes, or by the names of shards; see ``Source``.
"""

import glob
import os
import re
import tarfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np

from vqcodec.errors import InputError, reason
from vqcodec.files import PICTURES

SPLITS = ("content", "name")
_VALIDATION = {"val", "valid", "validation"}  # words in the names of shards


def is_held_out(content: bytes) -> bool:
    """Whether the SHA-256 starts with 0, as of about 1 in 16."""
    return sha256(content).hexdigest()[0] == "0"


class Source(Protocol):
    """Pictures that are not decoded yet, in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """For messages."""

    def content(self, index: int) -> bytes:
        """The picture's file. Raises InputError."""

    def held_out(self, split: str) -> np.ndarray | None:
        """Which pictures are (n,) bool; None where their content decides: see ``is_held_out``.

        split: 'content' or 'name'. Of a set of shards of which some are for validation by their
        names, those are held out whatever the split.
        """


def check(data: Path) -> None:
    """Raises InputError where there can be no pictures, nor arrays, as far as names tell."""
    if data.is_dir():
        if not (any(_below(str(data))) or any(data.glob("*.tar"))):
            raise InputError(f"{data}: no pictures in it")
    elif data.suffix == ".tar":
        paths = _shards(data)
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            raise InputError(f"{missing[0] if missing else data}: no such file")
    elif data.suffix not in (".txt", ".npz"):
        kinds = "a list (.txt), shards (.tar) or arrays (.npz)"
        is_there = f"is no folder, {kinds}" if data.exists() else "no such file or folder"
        raise InputError(f"{data}: {is_there}")
    elif not data.is_file():
        raise InputError(f"{data}: no such file")


def find(data: Path) -> Source:
    """The pictures of a folder and below, of a list (.txt), or of shards (.tar).

    A list has one path per line, relative to the list; lines that begin with # do not count.
    Shards are named one by one, by a pattern such as ``train-{000..017}.tar`` or ``train-*.tar``,
    or by their folder. Raises InputError where there are no pictures.
    """
    check(data)
    if data.is_dir():
        names = sorted(_below(str(data)))
        shards = sorted(data.glob("*.tar"))
        if names and shards:
            raise InputError(
                f"{data}: has pictures and shards; {data / '*.tar'} are the shards alone"
            )
        source: Source = Shards(shards) if shards else Files(str(data), names)
    elif data.suffix == ".tar":
        source = Shards(_shards(data))
    elif data.suffix == ".txt":
        source = Files(str(data.parent), _lines(data))
    else:
        raise InputError(f"{data}: arrays, and not files of pictures")
    if not len(source):
        raise InputError(f"{data}: no pictures in it")
    return source


class Files:
    """Files in or below a folder, by their paths as seen from there."""

    def __init__(self, folder: str, names: list[str]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def content(self, index: int) -> bytes:
        path = self.name(index)
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise InputError(f"{path}: {reason(error)}") from error

    def held_out(self, split: str) -> np.ndarray | None:
        return _by_name(self.names) if split == "name" else None


class Shards:
    """Pictures in tar files, as WebDataset has them: known by their suffixes, read where they lie.

    Raises InputError for a file that is not a whole, uncompressed tar file.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        indexes = [_index(path) for path in paths]
        self.shards = np.repeat(np.arange(len(paths)), [len(index) for index in indexes])
        self.places = np.array([m[1:] for index in indexes for m in index], int).reshape(-1, 2)
        self.by_name = _by_name([name for index in indexes for name, _, _ in index])

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        path = self.paths[self.shards[index]]
        try:
            with path.open("rb") as file:
                file.seek(self.places[index, 0] - tarfile.BLOCKSIZE)
                header = file.read(100)
        except OSError:
            header = b"?"
        return f"{path}: {os.fsdecode(header.partition(bytes(1))[0])}"

    def content(self, index: int) -> bytes:
        path, (offset, size) = self.paths[self.shards[index]], self.places[index]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise InputError(f"{self.name(index)}: {reason(error)}") from error

    def held_out(self, split: str) -> np.ndarray | None:
        words = [set(re.split(r"[^a-z]+", path.stem.lower())) for path in self.paths]
        for_validation = np.array([bool(w & _VALIDATION) for w in words], bool)
        if for_validation.any():
            return for_validation[self.shards]
        return self.by_name if split == "name" else None


def _by_name(names: Iterable[str]) -> np.ndarray:
    """Which of the names are held out: (n,) bool. Folders do not count."""
    return np.array([is_held_out(os.fsencode(os.path.basename(name))) for name in names], bool)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURES


def _below(folder: str) -> Iterable[str]:
    """Paths of pictures, as seen from the folder."""

    def cannot_list(error: OSError) -> None:
        raise InputError(f"{error.filename}: {reason(error)}") from error

    for path, _, files in os.walk(folder, onerror=cannot_list):
        yield from (os.path.relpath(os.path.join(path, f), folder) for f in files if _is_picture(f))


def _lines(path: Path) -> list[str]:
    try:
        text = os.fsdecode(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _braces(pattern: str) -> list[str]:
    """``a-{08..10}-{x,y}`` -> a-08-x, a-08-y, a-09-x and so on."""
    match = re.search(r"\{([^{}]+)\}", pattern)
    if not match:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if numbers:
        first, last = numbers.groups()
        parts = [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
    else:
        parts = match[1].split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [one for part in parts for one in _braces(head + part + tail)]


def _shards(pattern: Path) -> list[Path]:
    return [Path(path) for part in _braces(str(pattern)) for path in _glob(part)]


def _glob(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]


def _index(path: Path) -> list[tuple[str, int, int]]:
    """The name, offset and size of each picture in a tar file."""
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse() and _is_picture(member.name):
                    found.append((member.name, member.offset_data, member.size))
                tar.members.clear()  # type: ignore[attr-defined]  # or it would keep all
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    except tarfile.TarError as error:
        raise InputError(f"{path}: not a whole, uncompressed tar file: {error}") from error
    return found
