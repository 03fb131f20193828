"""``vqcodec export``: a codec from a training run, finished or not; or a codec for browsers."""

import json
from pathlib import Path

import click

from vqcodec.cli import options

_EXAMPLES = """\b
Examples:
  vqcodec export my-codec -o models/mine
  vqcodec export my-codec -o models/mine --force --json
  vqcodec export photo-3 --web web/models
"""


@click.command(epilog=_EXAMPLES)
@click.argument("run", type=options.PATH)
@options.output("DIR", "Folder for the codec.", options.PATH, name="out")
@click.option(
    "--web",
    metavar="DIR",
    type=options.PATH,
    help="Folder for what the decoder in web/ needs of a codec, which RUN names.",
)
@click.option(
    "--data", metavar="DATA", type=options.PATH, help="The pictures, where they have moved."
)
@click.option("--name", metavar="NAME", help="What the codec calls itself, in place of the run's.")
@click.option("--force", is_flag=True, help="Replace what is in DIR.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the measured points, or the files of --web, as JSON.",
)
@options.threads
@options.quiet
def export(
    run: Path,
    out: Path | None,
    web: Path | None,
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

    With --web RUN is a codec, by its id or folder, and nothing is fitted or measured: its integers
    and its synthesis, as ONNX, become two files in DIR.
    """
    if (out is None) == (web is None):
        raise click.UsageError("either -o DIR or --web DIR says what to make")
    if web is not None:
        from vqcodec import zoo

        zoo.find(str(run))
        from vqcodec.web import export_web

        written = [str(path) for path in export_web(str(run), web, force)]
        if as_json:
            click.echo(json.dumps({"web": written}))
        elif not quiet:
            for path in written:
                click.echo(path)
        return
    assert out is not None
    from vqcodec.training.refusals import check_export

    check_export(run, data, name, out, force)
    from vqcodec.training.interrupts import exit_on_sigterm
    from vqcodec.training.run import export_command

    with exit_on_sigterm():
        points = export_command(run, out, data, force, threads, quiet or as_json, name)
    if as_json:
        click.echo(json.dumps({"codec": str(out), "table": points}))
