"""``vqcodec export``: a codec from a training run, finished or not."""

import json
from pathlib import Path

import click

from vqcodec.cli import options

_EXAMPLES = """\b
Examples:
  vqcodec export my-codec -o models/mine
  vqcodec export my-codec -o models/mine --force --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("run", type=options.PATH)
@options.output("DIR", "Folder for the codec.", options.PATH, name="out", required=True)
@click.option(
    "--data", metavar="DATA", type=options.PATH, help="The pictures, where they have moved."
)
@click.option("--name", metavar="NAME", help="What the codec calls itself, in place of the run's.")
@click.option("--force", is_flag=True, help="Replace a codec in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print the measured points as JSON.")
@options.threads
@options.quiet
def export(
    run: Path,
    out: Path,
    data: Path | None,
    name: str | None,
    force: bool,
    as_json: bool,
    threads: int | None,
    quiet: bool,
) -> None:
    """Make a codec of the last checkpoint of RUN, the folder that `vqcodec train` wrote to.

    Tables are fitted to training pictures, prior networks rounded to integers, held-out pictures
    encoded to files. DIR is written whole, and only if each file decodes to what was encoded.
    """
    from vqcodec.training.interrupts import exit_on_sigterm
    from vqcodec.training.run import export_command

    with exit_on_sigterm():
        points = export_command(run, out, data, force, threads, quiet or as_json, name)
    if as_json:
        click.echo(json.dumps({"codec": str(out), "table": points}))
