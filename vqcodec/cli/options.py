"""Options that several commands share."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from vqcodec.cli.jobs import STDIO, Job
from vqcodec.container import MAX_PIXELS

Command = TypeVar("Command", bound=Callable[..., Any])


class FileName(click.Path):
    """A name of a file or folder, which is looked at when it is used, with the exit code for that.

    click itself would look now, and call a file that cannot be read wrong usage.
    """

    def __init__(self, path_type: type | None = None) -> None:
        super().__init__(readable=False, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = FileName()
PATH = FileName(path_type=Path)

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
codec = click.option(
    "--codec",
    "codec_id",
    metavar="ID|DIR",
    help="A codec that `vqcodec models` lists, or the folder of another.",
)
max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger pictures before memory is taken for them.",
)
jobs = click.option(
    "--jobs",
    "n_jobs",
    type=click.IntRange(1, 1024),
    default=1,
    metavar="N",
    help="Processes that work on several files at once, with one thread each.",
)
update = click.option(
    "--update",
    is_flag=True,
    help="Leave out files that are newer than their input, and of this codec and rate.",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")


def files(command: Command) -> Command:
    """The inputs and options that ``encode`` and ``decode`` have in common."""
    for option in reversed(
        [
            click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=FILE),
            click.option(
                "-o",
                "--output",
                metavar="OUT",
                type=FILE,
                help="File, folder or - (stdout).  [default: next to the input]",
            ),
            click.option("-r", "--recursive", is_flag=True, help="Look into folders of folders."),
            click.option("--force", is_flag=True, help="Overwrite outputs that exist."),
            device,
            threads,
            max_pixels,
            click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file."),
            quiet,
            click.option("-v", "--verbose", is_flag=True, help="Print the sections too."),
        ]
    ):
        command = option(command)
    return command


def processes(n_jobs: int, jobs: Sequence[Job]) -> int:
    """How many there is work for. Raises UsageError where the work is not for several."""
    if n_jobs > 1 and jobs[0].input == STDIO:
        raise click.UsageError("--jobs is for files, not for stdin")
    return min(n_jobs, len(jobs))


def threads_of(threads: int | None, processes: int) -> int | None:
    """CPU threads of each process."""
    return 1 if threads is None and processes > 1 else threads


def use_threads(threads: int | None) -> None:
    """Sets torch's threads. Imports torch."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def need_matplotlib(what: str) -> None:
    """Refuses wrong usage, before the work, where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise click.UsageError(f"{what} needs matplotlib: pip install 'vqcodec[bench]'") from None
