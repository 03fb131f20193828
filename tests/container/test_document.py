"""The document and the module say the same."""

import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

from container_files import LONG, crc_of, starts

from vqcodec.container import (
    Box,
    Container,
    Header,
    read,
    read_archive,
    write,
    write_archive,
)

FORMAT_MD = Path(__file__).parents[2] / "docs" / "format.md"


def examples() -> list[bytes]:
    """The files that the document shows."""
    blocks = re.findall(r"```hex\n(.*?)```", FORMAT_MD.read_text(encoding="utf-8"), re.DOTALL)
    return [b"".join(bytes.fromhex(line[:16]) for line in b.splitlines()) for b in blocks]


def test_the_examples_of_the_document_are_these_files() -> None:
    data, tail, archive = examples()
    digit = Container(Header(3, b"\x5e\xa1\xc0\xde", 32, 32, 9), (b"\x2a",))
    grey = Header(3, b"\x5e\xa1\xc0\xde", 300, 2, 9, grey=True)
    pictures = [
        digit,
        replace(digit, sections=(b"\7\1",)),
        Container(grey, (b"\x7c\xc6", b"\xcf"), (Box("NAME", b"x"),)),
    ]
    assert (len(tail), read(tail), write(digit)) == (16, digit, tail)
    assert (len(archive), list(read_archive(archive))) == (47, pictures)
    assert write_archive(pictures) == archive
    container = Container(
        Header(codec=1, weights_hash=b"\x5e\xa1\xc0\xde", width=300, height=2, rate=9, grey=True),
        (b"\x7c\xc6", b"\xcf\xb5\x32"),
        (Box("noTe", b"hi"),),
    )
    assert len(data) == 35
    assert read(data) == container
    assert write(container) == data


def test_the_checksums_of_the_document_are_those_of_the_file() -> None:
    data = write(LONG)
    at = starts(LONG)
    for index, payload in enumerate(LONG.sections):
        crc = crc_of(data[: at[0]], bytes([index]), payload)
        assert data[at[index] + 1 : at[index] + 5] == crc
    kind, size = data[at[-1] : at[-1] + 4], data[at[-1] + 4]
    crc = crc_of(data[: at[0]], kind, LONG.boxes[0].payload)
    assert (kind, size) == (b"EXIF", 70)
    assert data[at[-1] + 5 : at[-1] + 9] == crc
    assert zlib.crc32(b"123456789") == 0xCBF43926


def test_importing_the_container_imports_nothing_heavy() -> None:
    code = "import sys, vqcodec.container; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=FORMAT_MD.parents[2],
    )
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    # Pillow and numpy come with the package itself, which registers its format with Pillow.
    assert not loaded & {"torch", "constriction", "safetensors", "click", "rich"}
