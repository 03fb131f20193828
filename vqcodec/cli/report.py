"""Works through the jobs and tells the user about each: a line, a JSON object or an error."""

import json
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import click

from vqcodec.cli import text
from vqcodec.cli.failure import explain
from vqcodec.cli.jobs import STDIO, Job, together
from vqcodec.errors import one_line
from vqcodec.progress import bars_can_be_shown

LARGE = 1 << 24  # pixels from which on a picture is decoded to rows, not as a whole


@dataclass(frozen=True)
class Done:
    """What is to be said about a finished file."""

    summary: str  # stands behind "input -> output"
    record: dict[str, Any]  # the JSON object, less input and output
    details: Sequence[str] = ()  # lines that -v adds
    warnings: Sequence[str] = ()
    skipped: bool = False  # the output was up to date
    content: bytes = field(default=b"", repr=False)  # for the archive of all
    n_read: int = 0  # bytes of the input
    n_written: int = 0  # bytes of the output


@dataclass(frozen=True)
class Style:
    """How much is said, and how."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Failed:
    """What is to be said about a file that was not made."""

    sentence: str
    exit_code: int


Result = tuple[str, str, Done | Failed]  # with the names of input and output
Made = TypeVar("Made")


class Watcher:
    """Who looks on while a job is done; this one looks away."""

    def show(self, what: str, share: float | None = None) -> None:
        """What is being done, and how far that is, from 0 to 1; None: nobody knows."""


NOBODY = Watcher()


class Work(ABC):
    """Makes files. It can be pickled, for other processes."""

    @abstractmethod
    def __call__(self, job: Job, watcher: Watcher = NOBODY, /) -> Done:
        """Makes one. Raises where it cannot."""

    def each(
        self, jobs: Iterable[Job], watcher: Watcher = NOBODY, /
    ) -> Iterator[tuple[Job, Done | Failed]]:
        """Makes all, one by one, and raises for none."""
        for job in jobs:
            yield job, attempt(partial(self, job, watcher), job.input, job.output)


def run(
    jobs: Sequence[Job],
    work: Work,
    *,
    processes: int = 1,
    archive: Callable[[list[Done]], Done] | None = None,
    style: Style = Style(),
) -> int:
    """Does all jobs; one that fails does not stop the others.

    archive: makes one file of all that were made, if none failed.

    Returns the exit code of the first failure, or 0. Results go to stdout, or to stderr where
    stdout carries a picture; warnings, errors and the summary of several jobs go to stderr.
    """
    if style.as_json and any(job.output == STDIO for job in jobs):
        raise click.UsageError("--json and the output cannot both go to stdout")
    made: list[Done] = []

    def results(bar: _Bar) -> Iterator[Result]:
        for job, result in _results(jobs, work, processes, bar):
            yield job.input, job.output, result
            made.extend([result] if isinstance(result, Done) else [])
        if archive is not None:
            whole = f"{len(jobs)} picture{'s' if len(jobs) > 1 else ''}", jobs[0].output
            yield (*whole, attempt(lambda: archive(made), *whole))

    return tell(
        results,
        len(jobs),
        summary=len(jobs) > 1 and archive is None,
        style=style,
    )


def tell(
    results: Callable[["_Bar"], Iterator[Result]],
    count: int | None,
    *,
    summary: bool = True,
    style: Style = Style(),
) -> int:
    """Tells of results as they come, of which there will be ``count``. Returns as ``run``."""
    tally, begun = _Tally(), time.perf_counter()
    warned: Counter[str] = Counter()
    with _bar(count, style.quiet) as bar:
        for input, output, result in results(bar):
            tally.add(result)
            _tell(bar, input, output, result, style, warned)
            bar.advance()
        for warning, times in warned.items():
            if times > 1 and not (style.verbose or style.quiet):
                files = "file" if times == 2 else "files"
                bar.say(one_line(f"vqcodec: warning: {times - 1} more {files}: {warning}"), True)
        if summary and not style.quiet:
            bar.say(tally.line(time.perf_counter() - begun), True)
    return tally.exit_code


def _tell(
    bar: "_Bar",
    input: str,
    output: str,
    result: Done | Failed,
    style: Style,
    warned: Counter[str],
) -> None:
    """warned: how often each warning was given; unless ``verbose`` only the first is printed."""
    names = {"input": input, "output": output}
    if isinstance(result, Failed):
        bar.say(f"vqcodec: error: {result.sentence}", True)
        error = {"error": result.sentence, "exit_code": result.exit_code}
        if style.as_json:
            bar.say(json.dumps({**names, **error}), False)
        return
    warned.update(result.warnings)
    for warning in () if style.quiet else result.warnings:
        if warned[warning] == 1 or style.verbose:
            bar.say(one_line(f"vqcodec: warning: {input}: {warning}"), True)
    if style.as_json:
        bar.say(json.dumps({**names, **result.record}), False)
    elif not style.quiet:
        details = [f"    {line}" for line in result.details] if style.verbose else []
        heading = one_line(f"{input} -> {output}  {result.summary}")
        bar.say("\n".join([heading, *details]), output == STDIO)


def _results(
    jobs: Sequence[Job], work: Work, processes: int, bar: "_Bar"
) -> Iterator[tuple[Job, Done | Failed]]:
    if processes == 1 or len(jobs) == 1:
        yield from work.each(jobs, bar)
        return
    from vqcodec.cli import workers

    for job, result in workers.results(partial(_all, work), together(jobs), processes):
        if isinstance(result, workers.DiedError):
            result = Failed(*explain(result, job.input, job.output))
        yield job, result


def _all(work: Work, jobs: Sequence[Job]) -> list[Done | Failed]:
    return [result for _, result in work.each(jobs)]


def attempt(work: Callable[[], Made], input: str, output: str) -> Made | Failed:
    """What ``work`` makes, or why it failed."""
    try:
        return work()
    except BrokenPipeError:
        raise  # nobody listens any more
    except Exception as error:
        return Failed(*explain(error, input, output))


class _Tally:
    """What the jobs add up to."""

    def __init__(self) -> None:
        self.exit_code = self.failed = self.skipped = self.done = 0
        self.n_read = self.n_written = self.n_pixels = 0

    def add(self, result: Done | Failed) -> None:
        if isinstance(result, Failed):
            self.failed += 1
            self.exit_code = self.exit_code or result.exit_code
            return
        self.skipped += result.skipped
        self.done += not result.skipped
        self.n_read += result.n_read
        self.n_written += result.n_written
        self.n_pixels += result.record.get("width", 0) * result.record.get("height", 0)

    def line(self, seconds: float) -> str:
        counts = {"done": self.done, "up to date": self.skipped, "failed": self.failed}
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        line = f"{self.done + self.skipped + self.failed} files: {said}"
        if self.n_read and self.n_written:
            line += f"; {text.sizes(self.n_read, self.n_written)}"
        if not self.done:
            return line
        speed = self.n_pixels / 1e6 / seconds
        return f"{line}; {text.seconds(seconds)}" + (f", {speed:.1f} MP/s" if speed > 0.1 else "")


class _Bar(Watcher):
    """Where there is a terminal to show it: how many jobs are done, and how far one is."""

    def __init__(self, count: int | None, live: Any, console: Any) -> None:
        self._live, self._console, self._count = live, console, count
        # The bar of one file moves to and fro until it is known how far that is.
        self._task = live and live.add_task("", total=None if count == 1 else count)
        self._done = 0

    def say(self, line: str, to_stderr: bool) -> None:
        if self._live and (to_stderr or sys.stdout.isatty()):
            self._console.out(line, highlight=False)  # its terminal: rich prints above the bar
        else:
            click.echo(line, err=to_stderr)

    def show(self, what: str, share: float | None = None) -> None:
        if self._live:
            self._live.start()  # if it has not
            done = self._done + (share or 0.0)
            total = None if share is None else self._count  # None leaves it as it is
            self._live.update(self._task, description=what, completed=done, total=total)

    def advance(self) -> None:
        self._done += 1
        if self._live:
            self._live.update(self._task, completed=self._done, total=self._count)


@contextmanager
def _bar(count: int | None, quiet: bool) -> Iterator[_Bar]:
    if quiet or not bars_can_be_shown():
        yield _Bar(count, None, None)
        return

    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    number = progress.MofNCompleteColumn() if count != 1 else progress.TaskProgressColumn()
    live = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=None),
        number,
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    try:
        if count != 1:
            live.start()
        yield _Bar(count, live, console)
    finally:
        live.stop()
