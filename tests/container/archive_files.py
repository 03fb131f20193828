"""Archives of pictures that are alike, and of others."""

from dataclasses import replace

import pytest
from container_files import part

from vqcodec.container import Box, Container, Header

HEADER = Header(codec=3, weights_hash=b"hash", width=32, height=32, rate=9)
DIGIT = Container(HEADER, (b"\x2a",))
ALIKE = [Container(HEADER, (part(n, n), part(3, n))) for n in (1, 0, 72, 130, 9)]
MIXED = [
    DIGIT,
    Container(replace(HEADER, width=300), (part(128, 1), part(3, 2)), (Box("ICC ", part(5, 7)),)),
    Container(replace(HEADER, rate=700, grey=True), (part(72, 1),)),
    Container(HEADER, (part(1, 2),) * 16, (Box("NAME", b"x"), Box("EXIF", b""))),
]
BOTH = [pytest.param(ALIKE, id="alike"), pytest.param(MIXED, id="mixed")]
