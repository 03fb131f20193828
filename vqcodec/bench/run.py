"""Many pictures: in parallel, from the cache where they were measured before."""

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from vqcodec.bench.measure import Plan, measure_pixels
from vqcodec.errors import ImageError, InputError, VqcodecError
from vqcodec.files import atomic_write
from vqcodec.image import read_rgb

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
    with a file for each record. ``advance`` is told the share of a picture that is done.
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
    steps = len(plan.codecs) + len(plan.references) + 1
    if jobs == 1:
        for index, path in enumerate(paths):
            parts: list[float] = []

            def step(parts: list[float] = parts) -> None:
                parts.append(1 / steps)
                advance(1 / steps)

            yield index, one(path, plan, cache, step)
            advance(1 - sum(parts))
        return
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (threads,))
    try:
        futures = {pool.submit(one, path, plan, cache): i for i, path in enumerate(paths)}
        for future in as_completed(futures):
            yield futures[future], future.result()
            advance(1.0)
    except BaseException:  # Ctrl-C, or an error: records are written whole, so workers may go
        for worker in list((pool._processes or {}).values()):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    torch.set_num_threads(threads)


def one(
    path: Path, plan: Plan, cache: Path | None, step: Callable[[], None] = lambda: None
) -> dict[str, Any] | VqcodecError:
    """The record of a picture, or why there is none: it cannot be read, or a reference fails."""

    def make() -> dict[str, Any]:
        return measure_pixels(path.name, pixels, plan, step)

    try:
        pixels = read_rgb(path)
        return _renamed(kept(cache, plan.key(pixels), make), path.name)
    except (InputError, ImageError) as error:
        return error


def kept(cache: Path | None, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``make`` returns, from the file of that key in the cache where it has one."""
    if cache is None:
        return make()
    path = cache / f"{key}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or cut short by another program: made again
        known = None
    if isinstance(known, dict):
        return known
    made = make()
    with atomic_write(path, force=True) as file:
        file.write(json.dumps(made).encode())
    return made


def _renamed(record: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy of a picture, under its own name."""
    changed: dict[str, Any] = {"name": name}
    changed["equal_size"] = [row | {"image": name} for row in record["equal_size"]]
    if "picture" in record:
        changed["picture"] = record["picture"] | {"image": name}
    return record | changed
