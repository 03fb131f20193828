"""Jobs in several processes, none of which is lost where a process dies."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from vqcodec.cli.failure import warn_on_one_line
from vqcodec.cli.jobs import Job
from vqcodec.errors import VqcodecError
from vqcodec.processes import end_with_parent

AHEAD = 4  # lists of jobs that are handed out, for each process: a million futures would take a GiB

Result = TypeVar("Result")
Work = Callable[[list[Job]], list[Result]]


class DiedError(VqcodecError):
    """A process ended in the middle of a job, as one does that the system kills."""


def results(
    work: Work[Result], jobs: Iterable[list[Job]], n_processes: int
) -> Iterator[tuple[Job, Result | DiedError]]:
    """What ``work``, which raises nothing, makes of each job, in the order of the jobs.

    It gets the jobs of a list at once.

    Where a process dies, the jobs that were handed out are done again, each in a process of its
    own: one that dies again has its job's fault.
    """
    todo = iter(jobs)
    given: deque[tuple[list[Job], Future[list[Result]]]] = deque()
    pool = _pool(n_processes)
    try:
        while True:
            for some in islice(todo, AHEAD * n_processes - len(given)):
                given.append((some, _submit(pool, work, some)))
            if not given:
                return
            some, future = given.popleft()
            try:
                done = future.result()
            except BrokenProcessPool:
                pool.shutdown()
                again, given = [(some, future), *given], deque()
                for some, future in again:
                    if future.exception() is None:
                        yield from zip(some, future.result(), strict=True)
                    else:
                        for job in some:
                            result = _alone(work, replace(job, again=True))
                            yield job, result
                pool = _pool(n_processes)
            else:
                yield from zip(some, done, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, work: Work[Result], jobs: list[Job]) -> Future[list[Result]]:
    try:
        return pool.submit(work, jobs)
    except BrokenProcessPool as error:  # since the last result
        broken: Future[list[Result]] = Future()
        broken.set_exception(error)
        return broken


def _alone(work: Work[Result], job: Job) -> Result | DiedError:
    with _pool(1) as pool:
        try:
            return pool.submit(work, [job]).result()[0]
        except BrokenProcessPool:
            return DiedError("the process that worked on it died, perhaps for want of memory")


def _pool(n_processes: int) -> ProcessPoolExecutor:
    # A fork of a process in which torch has run may hang.
    return ProcessPoolExecutor(n_processes, get_context("spawn"), initializer=_begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for all: what was begun is finished
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    warn_on_one_line()
    end_with_parent()
