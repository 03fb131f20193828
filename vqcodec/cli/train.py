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
    if recipe is None and not smoke:
        raise click.UsageError("--recipe FILE (or --smoke) is needed")
    from vqcodec.training.run import train_command

    train_command(data, recipe, out, smoke, resume, threads, device, quiet)
