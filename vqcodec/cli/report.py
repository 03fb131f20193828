"""Works through the jobs and tells the user about each: a line, a JSON object or an error."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from vqcodec.cli.failure import explain, one_line
from vqcodec.cli.jobs import STDIO, Job
from vqcodec.progress import Progress, unseen

LARGE = 1 << 24  # pixels from which on a picture takes so long that its progress is shown


@dataclass(frozen=True)
class Done:
    """What is to be said about a finished file."""

    summary: str  # stands behind "input -> output"
    record: dict[str, Any]  # the JSON object, less input and output
    details: Sequence[str] = ()  # lines that -v adds
    warnings: Sequence[str] = ()


def run(
    jobs: Sequence[Job],
    work: Callable[[Job, Progress], Done],
    *,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Does all jobs; one that fails does not stop the others.

    ``work`` tells the progress of a job that takes long.

    Returns the exit code of the first failure, or 0. Results go to stdout, or to stderr where
    stdout carries a picture; warnings and errors go to stderr.
    """
    to_stderr = any(job.output == STDIO for job in jobs)
    if as_json and to_stderr:
        raise click.UsageError("--json and the output cannot both go to stdout")
    exit_code = 0
    with _progress(len(jobs), quiet) as (say, advance, share):
        for job in jobs:
            names = {"input": job.input, "output": job.output}
            try:
                done = work(job, share)
            except BrokenPipeError:
                raise  # nobody listens any more
            except Exception as error:
                sentence, code = explain(error, job.input, job.output)
                exit_code = exit_code or code
                say(f"vqcodec: error: {sentence}", True)
                if as_json:
                    say(json.dumps({**names, "error": sentence, "exit_code": code}), False)
            else:
                for warning in () if quiet else done.warnings:
                    say(one_line(f"vqcodec: warning: {job.input}: {warning}"), True)
                if as_json:
                    say(json.dumps({**names, **done.record}), False)
                elif not quiet:
                    details = [f"    {line}" for line in done.details] if verbose else []
                    heading = one_line(f"{job.input} -> {job.output}  {done.summary}")
                    say("\n".join([heading, *details]), to_stderr)
            advance()
    return exit_code


@contextmanager
def _progress(
    count: int, quiet: bool
) -> Iterator[tuple[Callable[[str, bool], None], Callable[[], None], Progress]]:
    """``say(text, to_stderr)``, ``advance()`` and the progress of one job.

    A terminal shows them in a bar, that of one job only when it tells its progress.
    """
    if quiet or not sys.stderr.isatty():
        yield _say, lambda: None, unseen
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)

    def say_above(text: str, to_stderr: bool) -> None:
        if to_stderr or sys.stdout.isatty():
            console.out(text, highlight=False)  # the bar's terminal: rich prints above the bar
        else:
            _say(text, to_stderr)

    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        bar.update(task, completed=done)

    def share(part: float) -> None:
        bar.start()  # where it has not
        bar.update(task, completed=done + part)

    bar = Bar(
        BarColumn(bar_width=None),
        MofNCompleteColumn() if count > 1 else TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task("", total=count)
    try:
        if count > 1:
            bar.start()
        yield say_above, advance, share
    finally:
        bar.stop()


def _say(text: str, to_stderr: bool) -> None:
    click.echo(text, err=to_stderr)
