"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(1, 1024),  # torch crashes on absurd numbers
    metavar="N",
    help="CPU threads.  [default: all cores]",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")


def files(command: Command) -> Command:
    """The inputs and options that ``encode`` and ``decode`` have in common."""
    for option in reversed(
        [
            click.argument(
                "inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path()
            ),
            click.option(
                "-o",
                "--output",
                metavar="OUT",
                type=click.Path(),
                help="File, folder or - (stdout).  [default: next to the input]",
            ),
            click.option("-r", "--recursive", is_flag=True, help="Look into folders of folders."),
            click.option("--force", is_flag=True, help="Overwrite outputs that exist."),
            device,
            threads,
            click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file."),
            quiet,
            click.option("-v", "--verbose", is_flag=True, help="Print the sections too."),
        ]
    ):
        command = option(command)
    return command


def use_threads(threads: int | None) -> None:
    """Sets torch's threads. Imports torch."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
