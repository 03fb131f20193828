"""A codec for tests of the command line: lossless, quick and without torch. And helpers."""

import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from vqcodec import container, errors, image
from vqcodec.cli.program import program
from vqcodec.progress import Progress
from vqcodec.rate import parse_rate

HASH = b"fake"


@dataclass(frozen=True)
class Card:
    id: str = "fake-1"
    number: int = 7
    system: str = "ladder"
    title: str = "A stand-in"
    licence: str = "Apache-2.0"
    rates: str = "5bit to 10bit"
    default_rate: str = "8bit"
    hash: bytes = HASH
    path: Path = Path("models/fake-1")
    points: tuple[str, ...] = ()
    tunes: tuple[str, ...] = ()
    batch_pixels: int = 1  # as a codec: every picture is encoded alone
    table: tuple[dict[str, object], ...] = (
        {"rate": "7bit", "bpp": 0.361, "psnr_db": 30.35},
        {"rate": "8bit", "bpp": 0.527, "psnr_db": 32.08},
    )

    def tuned(self, tune: str | None = None, effort: int | None = None) -> "Card":
        return self

    def check_choices(self) -> None:
        """Its decoder takes them all."""


@dataclass
class Compressed:
    data: bytes
    rate: str
    width: int
    height: int
    section_bytes: list[int]
    ideal_bits: list[float]
    psnr_db: float | None = None
    quality: float | None = None
    notes: tuple[str, ...] = ()


def find(name: str | None) -> Card:
    if name not in (None, "fake-1"):
        raise errors.CodecError(f"no codec {name}; installed: fake-1")
    return Card()


def for_header(header: container.Header, name: str | None = None) -> Card:
    if (header.codec, header.weights_hash) != (7, HASH):
        raise errors.CodecError(f"codec number {header.codec} is not installed")
    return Card()


def compress(
    codec: Card,
    picture: image.Picture,
    rate: str | None,
    strip: bool,
    progress: Callable[[str, float], None],
) -> Compressed:
    bits = parse_rate(rate or codec.default_rate).value
    progress(f"{bits:g}bit", 0.5)
    sections = (b"coarse", zlib.compress(picture.pixels.tobytes()))
    boxes = (container.Box("EXIF", picture.exif),) if picture.exif and not strip else ()
    size = picture.width, picture.height
    header = container.Header(7, HASH, *size, round(bits * 256), grey=picture.grey)
    data = container.write(container.Container(header, sections, boxes))
    return Compressed(
        data,
        f"{round(bits * 256) / 256:.4g}bit",
        *size,
        [len(s) for s in sections],
        [40.5, 99.0],
    )


def with_quality(codec: Card, picture: image.Picture, made: Compressed, strip: bool) -> Compressed:
    return replace(made, quality=71.26)


@dataclass
class Choices:
    columns: int | None
    seed: int | None
    average: int


SEEN: list[Choices] = []


def decompress(
    codec: Card,
    data: bytes,
    levels: int | None,
    choices: Choices,
    region: tuple[int, int, int, int] | None,
    progress: Progress,
    max_pixels: int,
) -> image.Picture:
    SEEN.append(choices)
    progress(0.25)
    content = container.read(data, levels)
    shape = (content.header.height, content.header.width, *(() if content.header.grey else (3,)))
    if levels == 1:
        return image.Picture(np.full(shape, 128, np.uint8))
    pixels = np.frombuffer(zlib.decompress(content.sections[1]), np.uint8).reshape(shape)
    x, y, width, height = region or (0, 0, shape[1], shape[0])
    return image.Picture(pixels[y : y + height, x : x + width])


def decompress_rows(*how: Any) -> image.Rows:
    whole = decompress(*how)
    return image.Rows(whole.height, whole.width, whole.grey, iter(whole.pixels[:, None]))


def run(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(program, args, prog_name="vqcodec", input=stdin)


def draw(name: str, seed: int = 0) -> np.ndarray:
    """Makes a small picture file; returns its pixels (h, w, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 20, 3), np.uint8)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    image.write(image.Picture(pixels), Path(name), image.format_of(Path(name)))
    return pixels


def pixels_of(name: str | Path) -> np.ndarray:
    return image.read(Path(name), str(name)).pixels


def all_files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def assert_fails(result: Result, code: int, *words: str) -> None:
    """One line on stderr that holds the words, and this exit code."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vqcodec: error: "), result.stderr
    for word in words:
        assert word in lines[0]


def write_foreign_codec() -> None:
    header = container.Header(99, b"1234", 8, 8, 2048)
    Path("foreign.vqc").write_bytes(container.write(container.Container(header, (b"x",))))


def write_flipped() -> None:
    draw("flipped.png")
    run("encode", "flipped.png")
    data = bytearray(Path("flipped.vqc").read_bytes())
    data[-3] ^= 1
    Path("flipped.vqc").write_bytes(data)


def process(*args: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The real program in a process of its own, codec and all."""
    command = [sys.executable, "-m", "vqcodec", *args]
    return subprocess.run(command, capture_output=True, timeout=60, **options)  # type: ignore[call-overload]
