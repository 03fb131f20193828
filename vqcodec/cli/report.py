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


@dataclass(frozen=True)
class Done:
    """What is to be said about a finished file."""

    summary: str  # stands behind "input -> output"
    record: dict[str, Any]  # the JSON object, less input and output
    details: Sequence[str] = ()  # lines that -v adds
    warnings: Sequence[str] = ()


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], Done],
    *,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Does all jobs; one that fails does not stop the others.

    Returns the exit code of the first failure, or 0. Results go to stdout, or to stderr where
    stdout carries a picture; warnings and errors go to stderr.
    """
    to_stderr = any(job.output == STDIO for job in jobs)
    if as_json and to_stderr:
        raise click.UsageError("--json and the output cannot both go to stdout")
    exit_code = 0
    with _progress(len(jobs), quiet) as (say, advance):
        for job in jobs:
            names = {"input": job.input, "output": job.output}
            try:
                done = work(job)
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
) -> Iterator[tuple[Callable[[str, bool], None], Callable[[], None]]]:
    """``say(text, to_stderr)`` and ``advance()``, with a bar if there is a terminal to show it."""
    if count < 2 or quiet or not sys.stderr.isatty():
        yield _say, lambda: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)

    def say_above(text: str, to_stderr: bool) -> None:
        if to_stderr or sys.stdout.isatty():
            console.out(text, highlight=False)  # the bar's terminal: rich prints above the bar
        else:
            _say(text, to_stderr)

    with Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task("", total=count)
        yield say_above, lambda: progress.advance(task)


def _say(text: str, to_stderr: bool) -> None:
    click.echo(text, err=to_stderr)
