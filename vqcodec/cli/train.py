"""``vqcodec train``: a codec from a folder of pictures."""

from pathlib import Path

import click

from vqcodec.cli import options


@click.command()
@click.argument("data", type=options.PATH)
@click.option(
    "--recipe",
    metavar="FILE",
    type=options.PATH,
    help="recipes/*.toml: all settings.",
)
@click.option("--system", metavar="NAME", help="ladder, hqa, dqae, ...; as card.system=NAME.")
@click.option("--quantizer", metavar="NAME", help="ste, diveq, ...; as shape.quantizer=NAME.")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting in place of the recipe's, such as training.lr=1e-4; may be repeated.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=options.PATH,
    required=True,
    help="Folder for checkpoints, the log and the finished codec.",
)
@click.option("--smoke", is_flag=True, help="A tiny codec in under a minute, to try things out.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on from the last checkpoint in DIR, if there is one.",
)
@options.device
@options.threads
@options.quiet
def train(
    data: Path,
    recipe: Path | None,
    system: str | None,
    quantizer: str | None,
    settings: tuple[str, ...],
    out: Path,
    smoke: bool,
    resume: bool,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Train a codec on the pictures in the folder DATA.

    Ctrl-C is safe: the same command goes on from the last checkpoint.
    """
    if recipe is None and system is None and not smoke:
        raise click.UsageError("--recipe FILE, --system NAME or --smoke is needed")
    from vqcodec.training.run import train_command

    named = {"card.system": system, "shape.quantizer": quantizer}
    changes = [f"{key}={value}" for key, value in named.items() if value] + list(settings)
    train_command(data, recipe, changes, out, smoke, resume, threads, device, quiet)
