"""``vqcodec compare``: pictures beside one original."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vqcodec.cli import options, streams
from vqcodec.errors import FormatError, OutputError
from vqcodec.files import atomic_write, check_output
from vqcodec.progress import Bars

_EXAMPLES = """\b
Examples:
  vqcodec compare photo.png photo.vqc
  vqcodec compare photo.png photo.vqc photo.avif photo.jpg --html compare.html
"""


@click.command(epilog=_EXAMPLES)
@click.argument("original", type=options.FILE)
@click.argument("others", metavar="OTHER...", nargs=-1, required=True, type=options.FILE)
@click.option("--html", metavar="FILE", type=options.PATH, help="A page to look at.")
@options.metrics("Such as psnr,ssimulacra2.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--force", is_flag=True, help="Overwrite the page if it exists.")
@options.codec
@options.device
@options.threads
@options.max_pixels
def compare(
    original: str,
    others: tuple[str, ...],
    html: Path | None,
    metrics: tuple[str, ...],
    as_json: bool,
    force: bool,
    codec_id: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
) -> None:
    """Compare pictures or .vqc files with an original: bytes, metrics, and a page to look at.

    All are of one size. The page has a slider between any two, and, enlarged, the square where each
    is least like the original. Metrics are of 8-bit RGB without alpha.
    """
    names = (original, *others)
    if html:
        _check_page(html, names, force)
    which = options.known_metrics(metrics)
    files = [_read(name, max_pixels) for name in names]

    from vqcodec.bench.compare import compare as compared
    from vqcodec.bench.compare import for_page

    options.use_threads(threads)
    pictures = [
        _shown(name, read, codec_id, device, max_pixels)
        for name, read in zip(names, files, strict=True)
    ]
    short = [os.path.basename(name) for name in names]
    if len(set(short)) == len(short):
        pictures = [replace(p, name=name) for p, name in zip(pictures, short, strict=True)]
    n_metrics = len(which) * len(others)
    with Bars() as bars, bars.task("metrics measured", n_metrics) as advance:
        found = compared(pictures, which, advance)
    if html:
        from vqcodec.bench.report import page

        text = page("compare.html", for_page(pictures, found, which))
        with atomic_write(html, force=force) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print(found, which)


def _check_page(path: Path, inputs: tuple[str, ...], force: bool) -> None:
    if os.path.realpath(path) in {os.path.realpath(name) for name in inputs}:
        raise OutputError(f"{path}: is an input")
    check_output(path, force=force)


def _read(name: str, max_pixels: int) -> tuple[Any, int]:
    """The picture in a file, or the bytes of a .vqc file, which needs torch; and its size."""
    from vqcodec import container, image

    if streams.is_vqc(name):
        data = streams.read_vqc(name)
        with _named(name):
            container.read(data)  # what is broken is refused now
        return data, len(data)
    source, n_bytes = streams.open_picture(name)
    return image.read(source, name, max_pixels), n_bytes


def _shown(name: str, read: tuple[Any, int], codec: str | None, device: str, limit: int) -> Any:
    from vqcodec import image
    from vqcodec.api import decode_picture
    from vqcodec.bench.compare import Shown

    picture, n_bytes = read
    if isinstance(picture, bytes):
        with _named(name):
            picture = decode_picture(picture, device=device, codec=codec, max_pixels=limit)
    return Shown(name, n_bytes, image.rgb(picture))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of a file say which."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{name}: {error}") from error


def _print(found: dict[str, Any], which: tuple[str, ...]) -> None:
    """A column for each picture: there are more metrics than pictures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vqcodec.metrics import METRICS

    rows = found["pictures"]
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(f"{found['width']}x{found['height']}")
    for row in (found["original"], *rows):
        table.add_column(Text(row["name"]), justify="right", overflow="fold")
    table.add_row("bytes", *(f"{row['bytes']}" for row in (found["original"], *rows)))
    table.add_row("bits per pixel", *(f"{row['bpp']:.4f}" for row in (found["original"], *rows)))
    for metric in (m for m in METRICS if m.id in which):
        digits = 2 if metric.unit or metric.id == "ssimulacra2" else 4
        cells = [
            "equal"
            if row["equal"]
            else "too small"
            if row["metrics"][metric.id] is None
            else f"{row['metrics'][metric.id]:.{digits}f}"
            for row in rows
        ]
        table.add_row(f"{metric.label} {metric.unit}".strip(), "", *cells)
    console.print(table)
