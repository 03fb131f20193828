"""Colours that only the stream in an AVIF or HEIC file states."""

import io
import struct

import numpy as np
import pytest
from image_files import PIXELS, box, stored
from PIL import Image

from vqcodec import image
from vqcodec.image import isobmff, sequence

SMALL = Image.fromarray(PIXELS).resize((64, 64))


def avif(primaries: int, transfer: int) -> bytes:
    """Without the box that states them, too."""
    names = {12: "smpte432", 9: "bt2020", 13: "srgb", 16: "smpte2084"}
    said = {"color-primaries": names[primaries], "transfer-characteristics": names[transfer]}
    return stored(SMALL, "AVIF", advanced=said).replace(b"colr", b"free")


def heic(primaries: int, transfer: int) -> bytes:
    heif, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
    heif.from_pillow(SMALL).save(
        buffer,
        color_primaries=primaries,
        transfer_characteristics=transfer,
        save_nclx_profile=True,
    )
    return buffer.getvalue().replace(b"colr", b"free")


@pytest.mark.parametrize("made", [avif, heic])
def test_colours_of_the_stream_are_heeded(made) -> None:  # type: ignore[no-untyped-def]
    with Image.open(io.BytesIO(avif(12, 13))) as im:
        shown = np.array(im)
    wide = image.read(made(12, 13), "x")
    assert wide.icc is not None and "Display P3" in wide.notes[0]
    assert made is heic or np.array_equal(wide.pixels, shown)
    bright = image.read(made(9, 16), "x")
    assert bright.icc is None and "PQ" in bright.notes[0]


def test_the_box_stands_above_the_stream() -> None:
    data = avif(12, 13).replace(b"free", b"colr")
    at = data.index(b"nclx") + 4
    srgb = image.read(data[:at] + struct.pack(">HH", 1, 13) + data[at + 4 :], "x")
    assert srgb.icc is None and srgb.notes == ()


def packed(*fields: tuple[int, int]) -> bytes:
    """Values and how many bits each has, the highest first."""
    text = "".join(f"{value:0{n}b}" for value, n in fields)
    return bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))


P3 = ((1, 1), (12, 8), (13, 8))
SIZES = ((5, 4), (5, 4), (63, 6), (63, 6))
TOOLS = ((0, 3), (0, 4))
AV1 = {
    "of a still picture": packed(
        *((0, 3), (1, 1), (1, 1), (0, 5), *SIZES, (0, 3), (0, 3), (0, 2), *P3)
    ),
    "that could move": packed(
        *((0, 3), (0, 1), (0, 1), (1, 1), (9, 32), (9, 32), (1, 1), (2, 3)),  # timing: golomb of 1
        *((1, 1), (3, 5), (9, 32), (3, 5), (3, 5)),  # a decoder's model
        *((1, 1), (0, 5), (7, 12), (8, 5), (1, 1), (1, 1), (5, 4), (5, 4), (0, 1), (1, 1), (5, 4)),
        *(*SIZES, (1, 1), (0, 7), *TOOLS, (1, 1), (0, 2), (0, 1), (1, 1), (0, 1), (1, 1), (3, 3)),
        *((0, 3), (0, 2), *P3),
    ),
    "of 12 bits": packed(
        *((2, 3), (1, 1), (1, 1), (0, 5), *SIZES, (0, 3), (0, 3), (1, 1), (1, 1), (0, 1), *P3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("header", AV1.values(), ids=AV1)
def test_a_sequence_header_of_av1_of_any_kind(header: bytes) -> None:
    """Behind a temporal delimiter, with and without its size, and with an extension."""
    wanted = sequence.Colour(12, 13)
    assert sequence.colour_of_av1(b"\x12\0\x0a%c" % len(header) + header + b"\x32\0") == wanted
    assert sequence.colour_of_av1(b"\x0c\0" + header) == wanted
    for n in range(len(header)):
        assert sequence.colour_of_av1(b"\x08" + header[:n]) is None


def ue(value: int) -> tuple[int, int]:
    return value + 1, 2 * (value + 1).bit_length() - 1


def test_a_parameter_set_of_hevc_with_all_that_may_stand_before_its_colours() -> None:
    layers = ((1, 1), (1, 1), (0, 14), (0, 96))
    lists = [field for size in range(4) for n in range(2 if size == 3 else 6)
             for field in ([(0, 1), ue(0)] if n else
                           [(1, 1), *[ue(1)] * ((size > 1) + (16, 64, 64, 64)[size])])]  # fmt: skip
    unit = packed(
        *((0, 4), (1, 3), (0, 1), (0x1122334455667788, 96), *layers),
        *(ue(0), ue(3), (0, 1), ue(63), ue(63), (1, 1), ue(1), ue(0), ue(1), ue(0)),
        *(ue(2), ue(2), ue(0), (1, 1), *[ue(1)] * 6, *[ue(0)] * 6, (1, 1), (1, 1), *lists),
        *((0, 2), (1, 1), (0x77, 8), ue(0), ue(0), (0, 1)),
        *(ue(1), ue(1), ue(1), *[ue(0), (1, 1)] * 2, (1, 1), ue(2), *[(0, 5)] * 2, (0, 2)),
        *((1, 1), (1, 1), (255, 8), (9, 32), (1, 1), (0, 1), (1, 1), (5, 3), (1, 1), *P3, (0, 3)),
    )
    body = b"\x42\x01" + unit.replace(b"\0\0", b"\0\0\3")
    config = bytes(22) + b"\2" + b"\x20\0\1\0\2\1\1" + b"\x21\0\1" + struct.pack(">H", len(body))
    assert sequence.colour_of_hevc(config + body) == sequence.Colour(12, 13)
    for n in range(len(config + body) - 5):
        assert sequence.colour_of_hevc((config + body)[:n]) is None


@pytest.mark.parametrize("where", ["configuration", "file", "inside"])
def test_of_a_picture_of_tiles_the_first_tells(where: str) -> None:
    """The picture is item 7, its tiles are 2 and 3; places by offsets of four bytes."""
    coded = b"\x08" + AV1["of a still picture"]
    config = b"\x81\0\x0c\0" + (coded if where == "configuration" else b"")
    tiles = struct.pack(">HHHH", 7, 2, 2, 3)
    owned = struct.pack(">IHBBHBB", 2, 2, 1, 1, 7, 1, 2)
    inside = where == "inside"

    def file(at: int) -> bytes:
        places = struct.pack(">HHHHIHII", 3, 0, 0, 0, 0, 1, 9999, 9)
        places += struct.pack(">HHHIHII", 2, inside, 0, 0 if inside else at, 1, 0, len(coded))
        return box(
            b"meta",
            bytes(4),
            box(b"pitm", bytes(4), struct.pack(">H", 7)),
            box(b"iloc", b"\1\0\0\0\x44\x40", places[:2].replace(b"\0\3", b"\0\2"), places[2:]),
            box(b"idat", coded if inside else b""),
            box(b"iref", bytes(4), box(b"dimg", tiles)),
            box(b"iprp", box(b"ipco", box(b"av1C", config), box(b"ispe", bytes(12))),
                box(b"ipma", bytes(4), owned)),
        ) + box(b"mdat", coded if where == "file" else b"")  # fmt: skip

    data = file(len(file(0)) - len(coded))
    assert isobmff.contents(data).colour == sequence.Colour(12, 13)


class Counted(bytes):
    """Bytes that count how often they are looked at."""

    looks = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__getitem__(key)


def test_a_header_behind_thousands_of_others_is_not_looked_for() -> None:
    units = Counted(b"\x12\0" * 10_000)
    sets = Counted(bytes(22) + b"\1\x20\xff\xff" + bytes(2 * 65535))
    assert sequence.colour_of_av1(units) is None and units.looks < 1000
    assert sequence.colour_of_hevc(sets) is None and sets.looks < 1000
