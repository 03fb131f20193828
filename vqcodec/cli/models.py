"""``vqcodec models``: which codecs are installed."""

import json

import click

from vqcodec.cli.failure import print_warning
from vqcodec.errors import one_line

_EXAMPLES = """\b
Examples:
  vqcodec models
  VQCODEC_MODELS=my-models vqcodec models --json
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per codec.")
def models(as_json: bool) -> None:
    """List the installed codecs, with what was measured for each.

    They lie in the package and in the folders that the environment variable VQCODEC_MODELS names;
    a folder there whose card is broken is told on stderr.
    """
    from vqcodec import zoo

    cards = zoo.cards()
    default = zoo.default_codec().partition(":")[0]  # less its tune
    for problem in zoo.broken():
        print_warning(str(problem))
    if not cards:
        click.echo("no codec is installed", err=True)
    for card in cards:
        if as_json:
            record = {
                "id": card.id,
                "default": card.id == default,
                "number": card.number,
                "system": card.system,
                "title": card.title,
                "licence": card.licence,
                "rates": card.rates,
                "hash": card.hash.hex(),
                "path": str(card.path),
                "table": card.table,
            }
            click.echo(json.dumps(record))
            continue
        mark = " (default)" if card.id == default else ""
        click.echo(one_line(f"{card.id}{mark}: {card.title}"))
        about = f"system {card.system}, number {card.number}, licence {card.licence}"
        click.echo(f"  {one_line(about)}")
        click.echo(f"  {one_line(f'rates  {card.rates}')}")
        if card.table:
            click.echo("  means of finished files of pictures that were held out from training:")
            _print_table(card.table)


def _print_table(points: list[dict[str, object]]) -> None:
    """The measured points; the first one names the columns."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    names = list(points[0])
    for name in names:
        table.add_column(name, justify="right")
    for point in points:
        table.add_row(*(_cell(name, point.get(name, "")) for name in names))
    Console(markup=False).print(table)


def _cell(name: str, value: object) -> str:
    """Numbers of a column have the same decimals: hundredths, or of bpp ten-thousandths."""
    if isinstance(value, float):
        return f"{value:.{4 if name == 'bpp' else 2}f}"
    return one_line(str(value))
