"""``vqcodec data``: pictures made ready for training."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from vqcodec.cli import options
from vqcodec.cli.failure import print_warning
from vqcodec.cli.text import size
from vqcodec.errors import one_line
from vqcodec.progress import Bars

_EXAMPLES = """\b
Examples:
  vqcodec data pack PHOTOS shards
  vqcodec data pack PHOTOS shards --long-side 1024 --min-quality 80
"""


@click.group(invoke_without_command=True, epilog=_EXAMPLES)
@click.pass_context
def data(ctx: click.Context) -> None:
    """Prepare pictures for training."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@data.command(epilog=_EXAMPLES, short_help="Pack pictures into shards, for train.")
@click.argument("source", metavar="DIR|LIST", type=options.PATH)
@click.argument("out", metavar="OUT", type=options.PATH)
@options.number(
    "--long-side",
    "PIXELS",
    16,
    16383,
    default=672,
    help="Larger pictures are made smaller (Lanczos).",
)
@options.number(
    "--quality",
    "N",
    1,
    100,
    default=95,
    help="JPEG (4:4:4) of pictures that are made smaller; other JPEG, PNG and WebP stay.",
)
@click.option("--lossless", is_flag=True, help="Lossless WebP in place of that JPEG.")
@options.number(
    "--min-side",
    "PIXELS",
    0,
    default=0,
    help="Drop pictures whose short side is less, as packed.",
)
@options.number(
    "--min-quality",
    "N",
    0,
    100,
    default=0,
    help="Drop JPEG files of a lower quality, unless made smaller than half.",
)
@options.number(
    "--min-detail",
    "LEVELS",
    0.0,
    default=0.0,
    help="Drop flat and blurred pictures: those whose neighbouring pixels differ by less.",
)
@click.option(
    "--split",
    type=click.Choice(["content", "name"]),
    default="content",
    show_default=True,
    help="By whose hash pictures are held out.",
)
@options.number("--shard-mb", "MB", default=256, help="Size of a shard, about.")
@options.number("--jobs", "N", help="Threads.  [default: all cores]")
@click.option("--force", is_flag=True, help="Replace the shards that OUT has.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@options.quiet
def pack(
    source: Path,
    out: Path,
    long_side: int,
    quality: int,
    lossless: bool,
    min_side: int,
    min_quality: int,
    min_detail: float,
    split: str,
    shard_mb: int,
    jobs: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Pack pictures into shards, for `vqcodec train OUT` and for WebDataset.

    The pictures of the folder DIR and below, or of a LIST (.txt) with one path per line, go to
    OUT/train-00000.tar and so on; about 1 in 16 is held out and goes to OUT/val-00000.tar.
    Broken pictures and copies are dropped. The same pictures give the same bytes.
    """
    from vqcodec.training.data import Skipped
    from vqcodec.training.pack import Packing
    from vqcodec.training.pack import pack as pack_all

    with Bars(quiet) as bars:
        skipped = Skipped((lambda line: None) if quiet else print_warning)
        how = Packing(
            long_side, lossless, quality, min_side, min_quality, min_detail, split, shard_mb
        )
        summary = pack_all(source, out, how, bars.track, skipped, force=force, threads=jobs)
    if as_json:
        click.echo(json.dumps(asdict(summary)))
    elif not quiet:
        dropped = ", ".join(f"{count} {why}" for why, count in summary.dropped.items())
        click.echo(
            one_line(f"{out}: {summary.training} pictures to train on, {summary.held_out} held out")
            + f", in {summary.shards} shards of {size(summary.n_bytes)}"
            + (f"; dropped: {dropped}" if dropped else "")
        )
