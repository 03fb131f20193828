"""The .vqc file: a header, sections from coarse to fine, and boxes; docs/format.md describes it.

A file holds one picture, or as an archive many of one codec, which then share one header.

Knows nothing of codes, tables or pixels: sections are byte strings whose meaning belongs to the
codec. Each part carries a checksum that covers the header too, so a damaged header is found at
the first section. Bytes from outside cause no exception but those of ``vqcodec.errors``.
"""

from vqcodec.card import MAX_CODEC
from vqcodec.container.archive import Archive, is_archive, read_archive, write_archive
from vqcodec.container.header import (
    MAGIC,
    MAX_BOXES,
    MAX_PICTURES,
    MAX_PIXELS,
    MAX_RATE,
    MAX_SECTIONS,
    MAX_SIDE,
    Container,
    Header,
    Region,
)
from vqcodec.container.parts import Box
from vqcodec.container.picture import overhead, read, salvage, write

__all__ = [
    "MAGIC",
    "MAX_BOXES",
    "MAX_CODEC",
    "MAX_PICTURES",
    "MAX_PIXELS",
    "MAX_RATE",
    "MAX_SECTIONS",
    "MAX_SIDE",
    "Archive",
    "Box",
    "Container",
    "Header",
    "Region",
    "is_archive",
    "overhead",
    "read",
    "read_archive",
    "salvage",
    "write",
    "write_archive",
]
