"""What a person sees of a training, on stderr: live on a terminal, lines elsewhere."""

import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from vqcodec.progress import lines
from vqcodec.training.meter import State

T = TypeVar("T")
LINE_SECONDS = 60.0  # between two lines where stderr is no terminal


class Display:
    """A context manager; nothing is shown if ``quiet``."""

    def __init__(self, quiet: bool, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._bars = Progress(*columns, console=self.console)
        self._live = Live(
            self._bars, console=self.console, transient=True, refresh_per_second=4, screen=False
        )
        self._steps: TaskID | None = None  # the bar of the training loop
        self._printed = -math.inf

    def __enter__(self) -> "Display":
        if self.console.is_terminal and not self.console.quiet:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar for the block, or lines, with what advances it by one."""
        if not self._live.is_started:
            yield lines(name, total, self.console.quiet)
            return
        bar = self._bars.add_task(name, total=total)
        try:
            yield lambda: self._bars.advance(bar)
        finally:
            self._bars.remove_task(bar)

    def track(self, items: Sequence[T], name: str) -> Iterator[T]:
        """The items, with a bar for them."""
        with self.task(name, len(items)) as advance:
            for item in items:
                yield item
                advance()

    def update(self, state: State) -> None:
        """The state of the training loop."""
        if self._live.is_started:
            if self._steps is None:
                self._steps = self._bars.add_task("training", total=state.steps)
            self._bars.update(self._steps, completed=state.step)
            self._live.update(Group(_table(state), self._bars))
        elif time.monotonic() - self._printed > LINE_SECONDS:
            self._printed = time.monotonic()
            parts = (f"{name} {value}" for name, value in _cells(state).items())
            self.note(f"step {state.step}/{state.steps}  " + "  ".join(parts))

    def finish(self) -> None:
        """The training loop has ended."""
        if self._steps is not None:
            self._bars.remove_task(self._steps)
            self._steps = None
        self._live.update(self._bars)


def to_use(codec: Path) -> str:
    """The line that a training ends with: where the codec is, and how it is used."""
    return f"To use it: vqcodec encode PICTURE --codec {shlex.quote(str(codec))}"


def _cells(state: State) -> dict[str, str]:
    values = state.values
    cells = {"stage": f"{state.stage} of {state.stages}"} if state.stages > 1 else {}
    cells["loss"] = f"{values['loss']:.4g}"
    if "bpp" in values:
        cells["bpp"] = f"{values['bpp']:.3f}"
    cells["PSNR"] = f"{state.psnr_db:.2f} dB"
    if "perplexity" in values:
        cells["perplexity"] = f"{values['perplexity']:.1f}"
    cells["lr"] = f"{state.lr:.1e}"
    cells["images/s"] = f"{state.images_per_second:.1f}"
    cells["waiting"] = f"{100 * state.wait_share:.0f} %"
    cells["left"] = str(timedelta(seconds=round(state.seconds_left)))
    return cells


def _table(state: State) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    cells = {"step": f"{state.step}/{state.steps}"} | _cells(state)
    for name in cells:
        table.add_column(name, no_wrap=True)
    table.add_row(*cells.values())
    return table
