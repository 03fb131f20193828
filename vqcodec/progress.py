"""How far a long work is: functions that are told it, and what a person sees of it."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

T = TypeVar("T")
Progress = Callable[[float], None]
LINE_SECONDS = 10.0  # between two lines of a work, where stderr is no terminal


class Advance(Protocol):
    """Is told how much more of a total is done."""

    def __call__(self, more: float = 1, /) -> None: ...


def unseen(share: float) -> None:
    """The progress that nobody looks at."""


def between(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part of the work, which goes from share ``start`` to ``end``."""
    return lambda share: progress(start + (end - start) * share)


def bars_can_be_shown() -> bool:
    """Whether stderr is a terminal, and rich is there: to decode, an installation needs it not."""
    return sys.stderr.isatty() and find_spec("rich") is not None


class Bars:
    """What is being done, on stderr: bars where that is a terminal, elsewhere a line now and then.

    Lines, too, where the package rich is missing. A context manager; nothing is shown if ``quiet``.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: RichProgress | None = None

    def __enter__(self) -> "Bars":
        if not self._quiet and bars_can_be_shown():
            from rich import progress
            from rich.console import Console

            self._live = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        """A bar, or lines, for the block."""
        live = self._live
        if live is None:
            yield lines(name, total, self._quiet)
            return
        bar = live.add_task(name, total=total)
        try:
            yield lambda more=1: live.advance(bar, more)
        finally:
            live.remove_task(bar)

    def track(self, items: Sequence[T], name: str) -> Iterator[T]:
        """The items, with a bar for them."""
        with self.task(name, len(items)) as advance:
            for item in items:
                yield item
                advance()


def lines(name: str, total: int, quiet: bool = False) -> Advance:
    """Prints a line on stderr when it is told of progress, but not more often than LINE_SECONDS."""
    begun = printed = time.monotonic()
    done = 0.0

    def advance(more: float = 1, /) -> None:
        nonlocal done, printed
        done += more
        now = time.monotonic()
        if not quiet and now - printed >= LINE_SECONDS and done > 0:
            printed = now
            said = f"{name}: {done:.1f}".removesuffix(".0") + f" of {total}"
            if done >= total / 10:  # before, nobody knows
                said += f", about {(now - begun) * max(0.0, total - done) / done:.0f} s left"
            print(said, file=sys.stderr, flush=True)

    return advance
