"""How far a long work is: a function that is told the share that is done, from 0 to 1."""

from collections.abc import Callable

Progress = Callable[[float], None]


def unseen(share: float) -> None:
    """The progress that nobody looks at."""


def between(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part of the work, which goes from share ``start`` to ``end``."""
    return lambda share: progress(start + (end - start) * share)
