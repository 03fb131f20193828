"""Many pictures, in parallel."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from vqcodec.bench.measure import measure_pixels
from vqcodec.bench.plan import Plan
from vqcodec.errors import ImageError, InputError, VqcodecError
from vqcodec.image import read_rgb
from vqcodec.processes import end_with_parent

Found = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def run(
    paths: Sequence[Path],
    plan: Plan,
    *,
    jobs: int = 1,
    cache: Path | None = None,
    advance: Callable[[float], None] = lambda pictures: None,
) -> Found:
    """(records in the order of ``paths``, what was skipped: 'path', 'why' and 'exit_code').

    With several ``jobs`` each is a process with its share of torch's threads. ``cache``: a folder
    of what was measured, see ``Tries``. ``advance`` is told the share of a picture that is done.
    """
    done: dict[int, dict[str, Any]] = {}
    skipped: dict[int, dict[str, Any]] = {}
    for index, outcome in _outcomes(paths, plan, jobs, cache, advance):
        if isinstance(outcome, VqcodecError):
            name = str(paths[index])
            why = str(outcome).removeprefix(f"{name}: ")
            skipped[index] = {"path": name, "why": why, "exit_code": outcome.exit_code}
        else:
            done[index] = outcome
    return [done[i] for i in sorted(done)], [skipped[i] for i in sorted(skipped)]


def _outcomes(
    paths: Sequence[Path],
    plan: Plan,
    jobs: int,
    cache: Path | None,
    advance: Callable[[float], None],
) -> Iterator[tuple[int, dict[str, Any] | VqcodecError]]:
    if jobs == 1:
        for index, path in enumerate(paths):
            yield index, one(path, plan, cache, advance)
        return
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    told = context.SimpleQueue()  # shares of pictures, from the workers
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (threads, told))
    try:
        futures = {pool.submit(_one, path, plan, cache): i for i, path in enumerate(paths)}
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            while not told.empty():
                advance(told.get())
            for future in done:
                yield futures[future], future.result()
    except BaseException:  # Ctrl-C, or an error: the cache's files are written whole
        for worker in list((pool._processes or {}).values()):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_told: Any = None  # of a worker: the queue to its parent


def _start_worker(threads: int, told: Any) -> None:
    global _told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    torch.set_num_threads(threads)
    _told = told
    end_with_parent()


def _one(path: Path, plan: Plan, cache: Path | None) -> dict[str, Any] | VqcodecError:
    return one(path, plan, cache, _told.put)


def one(
    path: Path, plan: Plan, cache: Path | None, advance: Callable[[float], None]
) -> dict[str, Any] | VqcodecError:
    """The record of a picture, or why there is none: it cannot be read, or a reference fails."""
    left = [plan.steps]

    def step() -> None:
        left[0] -= 1
        advance(1 / plan.steps)

    try:
        return measure_pixels(path.name, read_rgb(path), plan, cache, step)
    except (InputError, ImageError) as error:
        return error
    finally:
        advance(left[0] / plan.steps)
