"""``vqcodec compare``: pictures beside one original."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vqcodec.cli import options, streams
from vqcodec.errors import OutputError
from vqcodec.files import atomic_write

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
    which = _known(metrics)
    options.use_threads(threads)

    from vqcodec.bench.compare import compare as compared
    from vqcodec.bench.compare import for_page

    pictures = [_shown(name, codec_id, device, max_pixels) for name in names]
    short = [os.path.basename(name) for name in names]
    if len(set(short)) == len(short):
        pictures = [replace(p, name=name) for p, name in zip(pictures, short, strict=True)]
    found = compared(pictures, which)
    if html:
        from vqcodec.bench.report import page

        text = page("compare.html", for_page(pictures, found, which))
        with atomic_write(html, force=force) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print(found, which)


def _known(metrics: tuple[str, ...]) -> tuple[str, ...]:
    """Those asked for, or all that are at hand, in order. Raises click.UsageError."""
    from vqcodec.metrics import METRICS, computable

    ids, at_hand = [m.id for m in METRICS], computable()
    for name in metrics:
        if name not in ids:
            raise click.UsageError(f"no metric {name!r}; there are {', '.join(ids)}")
        if name not in at_hand:
            raise click.UsageError(f"{name} needs the package piq, of vqcodec's extra bench")
    return tuple(name for name in at_hand if name in (metrics or at_hand))


def _check_page(path: Path, inputs: tuple[str, ...], force: bool) -> None:
    if os.path.realpath(path) in {os.path.realpath(name) for name in inputs}:
        raise OutputError(f"{path}: is an input")
    if not force and path.is_file():
        raise OutputError(f"{path}: exists; --force overwrites")


def _shown(name: str, codec_id: str | None, device: str, max_pixels: int) -> Any:
    """The picture in a file, whatever its format."""
    from vqcodec import image
    from vqcodec.api import decode_picture
    from vqcodec.bench.compare import Shown
    from vqcodec.errors import FormatError

    try:
        if streams.is_vqc(name):
            data = streams.read_vqc(name)
            picture = decode_picture(data, device=device, codec=codec_id, max_pixels=max_pixels)
            return Shown(name, len(data), image.rgb(picture))
        source, n_bytes = streams.open_picture(name)
        return Shown(name, n_bytes, image.rgb(image.read(source, name, max_pixels)))
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
