"""Jobs in several processes, none of which loads torch here."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from vqcodec.cli import report, workers
from vqcodec.cli.jobs import Job, together


@dataclass(frozen=True)
class Deadly(report.Work):
    """Work that kills its process on some jobs: always, or only while other jobs run beside it."""

    killers: tuple[str, ...]
    once: Path

    def __call__(self, job: Job, watcher: report.Watcher = report.NOBODY, /) -> report.Done:
        if job.input in self.killers or (job.input == "once" and not self.once.exists()):
            self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if job.input == "raises":
            raise ValueError("no")
        return report.Done("made", {"again": job.again})


def results(work: Deadly, names: Sequence[str]) -> dict[str, report.Done | report.Failed]:
    jobs = [Job(name, f"{name}.out") for name in names]
    bar = report._Bar(len(jobs), None, None)
    return {job.input: result for job, result in report._results(jobs, work, 2, bar)}


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_job_only(tmp_path: Path) -> None:
    names = ["a", "b", "kill", "c", "once", "raises", *map(str, range(12))]
    found = results(Deadly(("kill",), tmp_path / "killed"), names)
    assert list(found) == names  # in order, none lost or doubled
    failed = {name: result for name, result in found.items() if isinstance(result, report.Failed)}
    assert set(failed) == {"kill", "raises"}
    assert "died" in failed["kill"].sentence and failed["kill"].exit_code == 1


def test_jobs_are_handed_out_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    class Pool:
        def submit(self, work: object, jobs: list[Job]) -> "workers.Future[list[str]]":
            future: workers.Future[list[str]] = workers.Future()
            future.set_result([job.input for job in jobs])
            return future

        def shutdown(self, **options: object) -> None:
            pass

    def jobs() -> "object":
        for index in range(1000):
            drawn.append(index)
            yield [Job(str(index), "")]

    monkeypatch.setattr(workers, "_pool", lambda n: Pool())
    found = workers.results(lambda jobs: [""], jobs(), 3)  # type: ignore[arg-type]
    assert next(found)[1] == "0" and len(drawn) == 3 * workers.AHEAD
    assert len(list(found)) == 999


def test_small_files_are_handed_out_together_and_large_ones_alone(tmp_path: Path) -> None:
    sizes = [10, 200_000, 10, 10, 10, 100_000, 100_000, *[1] * 20]
    jobs = [Job(str(tmp_path / str(index)), "") for index in range(len(sizes))]
    for job, size in zip(jobs, sizes, strict=True):
        Path(job.input).write_bytes(bytes(size))
    jobs.append(Job(str(tmp_path / "missing"), ""))
    lists = list(together(jobs))
    assert [job for some in lists for job in some] == jobs
    assert [len(some) for some in lists] == [2, 5, 16, 5]


@pytest.mark.slow
def test_processes_end_when_their_parent_is_killed() -> None:
    """As they hold its output, whoever reads that would otherwise wait for ever."""
    program = (
        "import os, signal\n"
        "from vqcodec.cli.workers import _pool\n"
        "if __name__ == '__main__':\n"
        "    pool = _pool(2)\n"
        "    print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=120)
    assert killed.returncode == -signal.SIGKILL and killed.stdout.split()
