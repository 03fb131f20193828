"""``vqcodec analyse``: what codes do, in plots and numbers."""

from pathlib import Path

import click

from vqcodec.cli import options
from vqcodec.errors import one_line
from vqcodec.progress import Bars

_EXAMPLES = """\b
Examples:
  vqcodec analyse photo-3 PHOTOS -o plots
  vqcodec analyse hqa-digits digits.npz -o plots -n 200 --seed 1
"""


@click.command(epilog=_EXAMPLES)
@click.argument("codec_id", metavar="CODEC", type=options.CODEC)
@click.argument("data", type=options.PATH)
@options.output("DIR", "Folder for the files.", options.PATH, required=True)
@options.number(
    "-n --number",
    "N",
    0,
    help="Squares that are looked at, or of a photo codec pictures; 0: all.  "
    "[default: 1000 squares, 10 pictures]",
)
@options.number(
    "--learn",
    "N",
    default=10000,
    help="Labelled training squares that classification learns from.",
)
@options.number(
    "--scale",
    "PIXELS",
    0,
    default=0,
    help="Short side to which pictures are made, as in training.  [default: as they are]",
)
@options.seed
@click.option(
    "--held-out", is_flag=True, help="Look only at pictures that the codec's training holds out."
)
@click.option("--force", is_flag=True, help="Overwrite outputs that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print analysis.json too.")
@options.device
@options.threads
@options.quiet
def analyse(
    codec_id: str,
    data: Path,
    output: Path,
    number: int | None,
    learn: int,
    scale: int,
    seed: int,
    held_out: bool,
    force: bool,
    as_json: bool,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Plot what the codes of CODEC do: index.html shows it, analysis.json has the numbers.

    Of a photo codec bits and error by level and channel, and maps of where bits go. Of a system of
    the papers codebook usage, mutual information, partial decodes and more; what does not apply is
    left out, and said why. DATA is a folder of pictures or an .npz file, as for `vqcodec train`.
    Pictures are taken from all of them, or from `x_test` where an .npz file has it.
    """
    from vqcodec import zoo
    from vqcodec.analysis import folder
    from vqcodec.training import sources

    card = zoo.find(codec_id)
    folder.check(output, force)
    sources.check(data)
    options.need_matplotlib("analyse")
    # What follows brings torch: what can be refused without it has been.
    from vqcodec.analysis import run
    from vqcodec.analysis.subject import Settings

    codec = zoo.load(card, device)
    options.use_threads(threads)
    with Bars(quiet) as bars:
        settings = Settings(number, learn, scale, held_out, card.split, seed)
        report = run.analyse(codec, data, settings, bars.track)
    numbers = report.json() + "\n"
    contents = {folder.JSON: numbers.encode(), folder.INDEX: report.page.encode()}
    folder.write(output, report.figures | contents, force)
    if as_json:
        click.echo(numbers, nl=False)
    elif not quiet:
        click.echo(one_line(f"{output}: {', '.join([*contents, *report.figures])}"))
        for name, why in report.numbers["left_out"].items():
            click.echo(f"no {name}: {why}")
