"""What is particular to pictures in an archive: their rates, and their names."""

import re
from collections import Counter
from dataclasses import replace

from vqcodec.container import MAX_PICTURES, Archive, Box, Container
from vqcodec.errors import FormatError, RateError, UsageError
from vqcodec.rate import parse_rate

_NAME = "NAME"
_NAME_BYTES = 200  # with a number and a suffix less than the 255 that file systems take
_UNSAFE = '/\\:*?"<>|'
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows


def check(n_pictures: int, rate: str) -> None:
    """Raises UsageError for a number of pictures, and RateError for a rate, that no archive has."""
    if not 1 <= n_pictures <= MAX_PICTURES:
        raise UsageError(f"an archive has 1 to {MAX_PICTURES} pictures, not {n_pictures}")
    if parse_rate(rate).kind == "bytes":
        raise RateError(f"rate {rate!r} is the size of one file; an archive takes 8bit, 1bpp, 34dB")


def picked(pictures: Archive, number: int) -> Container:
    """A picture by its number, from 1 as in the names of ``stems``. Raises UsageError."""
    if not 1 <= number <= len(pictures):
        which = f"1 to {len(pictures)}" if len(pictures) > 1 else "1 alone"
        raise UsageError(f"the archive has no picture {number}, but {which}")
    return pictures[number - 1]


def with_name(picture: Container, stem: str) -> Container:
    """The picture with the name of its file, less folder and suffix, in a box."""
    return replace(picture, boxes=(*picture.boxes, Box(_NAME, stem.encode("utf-8", "replace"))))


def stems(pictures: Archive) -> list[str]:
    """A file name without suffix for each picture: its own, made harmless, or its number.

    Names that differ at most in case have the number before them. Damaged pictures have none.
    """
    n_digits = max(4, len(str(len(pictures))))
    numbers = [f"{index + 1:0{n_digits}}" for index in range(len(pictures))]
    names = [_name(pictures, index) or numbers[index] for index in range(len(pictures))]
    count = Counter(name.casefold() for name in names)
    return [
        f"{number}-{name}" if count[name.casefold()] > 1 else name
        for number, name in zip(numbers, names, strict=True)
    ]


def _name(pictures: Archive, index: int) -> str:
    try:
        boxes = pictures[index].boxes
    except FormatError:
        return ""
    return next((harmless(box.payload) for box in boxes if box.type == _NAME), "")


def harmless(name: bytes) -> str:
    """A stored name as one that is safe in any folder of any system, or "" where nothing is left.

    It has no separators of folders, is not hidden, has no control characters and no end that
    Windows drops, and is no device.
    """
    text = "".join(
        c if c.isprintable() and c not in _UNSAFE else "_" for c in name.decode("utf-8", "replace")
    )
    text = text.encode()[:_NAME_BYTES].decode("utf-8", "ignore").strip(". ")
    return f"_{text}" if _DEVICE.fullmatch(text) else text
