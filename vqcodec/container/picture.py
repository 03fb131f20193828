"""A file of one picture: written, read to its end, or as far as it is whole."""

import zlib
from typing import NamedTuple

from vqcodec.container.archive import read_archive
from vqcodec.container.header import (
    ARCHIVE,
    BOXES,
    TAIL,
    Container,
    Header,
    check,
    read_header,
    write_header,
)
from vqcodec.container.parts import (
    LONG_PAYLOAD,
    TYPE_BYTES,
    Box,
    box_type,
    checksum,
    counted,
    read_box,
    read_part,
    take,
    varint,
)
from vqcodec.errors import FormatError, KindError, UsageError


def write(container: Container) -> bytes:
    """The file. Raises ValueError where an argument is out of its range."""
    check(container)
    flags = (BOXES if container.boxes else 0) | (TAIL if _has_tail(container) else 0)
    head = write_header(container.header, flags, len(container.sections), len(container.boxes))
    parts = [head]
    crc = zlib.crc32(head)
    for index, payload in enumerate(container.sections):
        parts += [varint(len(payload)), checksum(crc, bytes([index]), payload), payload]
    if flags & TAIL:
        del parts[-3]  # the last length
    for box in container.boxes:
        kind = box_type(box)
        parts += [kind, varint(len(box.payload)), checksum(crc, kind, box.payload), box.payload]
    return b"".join(parts)


def read(data: bytes, levels: int | None = None) -> Container:
    """The content of a file, every checksum verified.

    With ``levels`` only the first so many sections are returned, and only they must be sound: the
    rest may be missing or damaged. The boxes of such a file are left out unless all of it is sound.

    Raises NotVqcError, VersionError, SizeError, TruncatedError, ChecksumError or FormatError,
    UsageError where the file has fewer levels, and ValueError where ``levels`` is below 1.
    """
    found = _survey(data)
    n_sections, whole = found.n_sections, len(found.sections)
    if levels is not None and levels < 1:
        raise ValueError(f"levels is at least 1, not {levels}")
    if levels is not None and levels > n_sections:
        raise UsageError(f"the file has {counted(n_sections, 'level')}, not {levels}")
    if not found.problems:
        return Container(found.header, tuple(found.sections[:levels]), tuple(found.boxes))
    if levels is not None and levels <= whole:
        return Container(found.header, tuple(found.sections[:levels]))
    error, verb = found.problems[0], "is" if whole == 1 else "are"
    sight = "a preview" if whole < n_sections else "the picture"
    raise type(error)(
        f"{error}; {whole} of {counted(n_sections, 'level')} {verb} whole",
        f"--salvage shows {sight}" if whole else "",
    )


def salvage(data: bytes) -> tuple[Container, tuple[str, ...]]:
    """What is whole of a damaged file, and a line for each thing that is not.

    The sections before the first damaged one, as a section means nothing without those before it,
    and every sound box that can still be found. Raises as ``read`` where that is no section.
    """
    found = _survey(data)
    n_sections, whole = found.n_sections, len(found.sections)
    if not whole:
        raise found.problems[0]
    problems = list(map(str, found.problems))
    if whole < n_sections:
        problems.append(f"{whole} of {counted(n_sections, 'level')} can be decoded")
    content = Container(found.header, tuple(found.sections), tuple(found.boxes))
    return content, tuple(problems)


def overhead(container: Container) -> int:
    """Bytes of the file that are not payload of a section: header, lengths, checksums, boxes."""
    return len(write(container)) - sum(len(payload) for payload in container.sections)


def _has_tail(container: Container) -> bool:
    return not container.boxes and len(container.sections[-1]) < LONG_PAYLOAD


class _Survey(NamedTuple):
    """A file of one picture, read to its end."""

    header: Header
    n_sections: int
    sections: list[bytes]  # before the first damaged one
    boxes: list[Box]  # the sound ones
    problems: list[FormatError]


def _survey(data: bytes) -> _Survey:
    """All that can be found, and what is wrong. Raises where the header cannot be read."""
    flags, header, n_sections, n_boxes, at = read_header(data)
    if flags & ARCHIVE:
        n_pictures = counted(len(read_archive(data)), "picture")
        raise KindError(f"an archive of {n_pictures}, not a picture", "--index 1 is its first")
    crc = zlib.crc32(data[:at])
    found = _Survey(header, n_sections, [], [], [])
    for index in range(n_sections + n_boxes):
        try:
            if index < n_sections:
                name, label = f"level {index + 1} of {n_sections}", bytes([index])
                tail = bool(flags & TAIL) and index + 1 == n_sections
            else:
                name, tail = f"box {index - n_sections + 1} of {n_boxes}", False
                label, at = take(data, at, TYPE_BYTES, name)
            part, at = read_part(data, at, name, tail)
        except FormatError as error:  # where the next part begins nobody knows
            found.problems.append(error)
            return found
        try:
            payload = part.checked(crc, label)
            if index >= n_sections:
                found.boxes.append(read_box(label, payload, name))
            elif not found.problems:
                found.sections.append(payload)
        except FormatError as error:
            found.problems.append(error)
    if at < len(data):
        found.problems.append(FormatError(f"{counted(len(data) - at, 'byte')} after the end"))
    return found
