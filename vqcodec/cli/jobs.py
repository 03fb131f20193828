"""Which input becomes which output."""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from vqcodec.errors import InputError, OutputError, reason
from vqcodec.files import PICTURES, make_folder

SOME, SOME_BYTES = 16, 1 << 17  # jobs that a process gets at once, and the bytes of their inputs
STDIO = "-"  # a file of this name is given as ./-


@dataclass(frozen=True)
class Job:
    """One file to make: paths as the user would write them, or "-"."""

    input: str
    output: str
    in_folder: bool = False  # the output's folder is made where it is missing
    index: int | None = None  # of the input's picture, where that is an archive
    again: bool = False  # the output may be there already, from a process that died after it

    def check_output(self, force: bool) -> None:
        """Finds out before the work, and not after it, that the output exists."""
        if not (force or self.again) and self.output != STDIO and os.path.isfile(self.output):
            raise OutputError(f"{self.output}: exists; --force overwrites")

    def is_newer(self) -> bool:
        """Whether the output is there and no older than the input."""
        try:
            return os.stat(self.output).st_mtime_ns >= os.stat(self.input).st_mtime_ns
        except OSError:  # whatever it is, the work will tell
            return False

    def make_folder(self) -> None:
        """Makes the output's folder, where that is ours to make. Raises OutputError."""
        if self.in_folder:
            make_folder(Path(self.output).parent)


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    recursive: bool,
    input_suffixes: Collection[str],
    output_suffix: str,
) -> list[Job]:
    """All jobs in the order of the inputs; refused as a whole if two would clash.

    ``output`` names a folder if there are several inputs or one of them is a folder, and a file
    or "-" otherwise; without it a file is made next to its input. ``input_suffixes`` (lower case)
    say which files of a folder count.

    Raises UsageError, InputError for a folder with nothing to do, OutputError.
    """
    if STDIO in inputs and len(inputs) > 1:
        raise click.UsageError("- (stdin) cannot be combined with other inputs")
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    if output == STDIO and several:
        raise click.UsageError("-o - (stdout) takes one input file")
    if several and output and os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"{output}: is a file, but several inputs need a folder")
    into_folder = several or (output and (os.path.isdir(output) or output.endswith(os.sep)))
    if inputs[0] == STDIO:
        jobs = [Job(STDIO, output or STDIO)]
    elif into_folder or output is None:
        found = _find(inputs, recursive, input_suffixes)
        jobs = [_renamed(top, name, output, output_suffix) for top, name in found]
    else:
        jobs = [Job(inputs[0], output)]
    _refuse_clashes(jobs)
    if jobs[0].output == STDIO and sys.stdout.isatty():
        raise OutputError("will not write binary data to a terminal; -o names a file")
    return jobs


def plan_archive(inputs: Sequence[str], output: str | None, *, recursive: bool) -> list[Job]:
    """The jobs of which all have the archive ``output``; none where it is not to be an archive.

    It is one where it names a .vqc file and no folder, and ``inputs`` are several or a folder.
    Raises InputError for a folder with nothing to do, OutputError.
    """
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    named = output is not None and output.lower().endswith(".vqc") and not os.path.isdir(output)
    if STDIO in inputs or not several or not named:
        return []
    assert output is not None
    jobs = [Job(os.path.join(*found), output) for found in _find(inputs, recursive, PICTURES)]
    for job in jobs:
        _refuse_clashes([job])
    return jobs


def unpack(
    jobs: Sequence[Job], folder: str | None, suffix: str, stems: Callable[[str], Sequence[str]]
) -> list[Job]:
    """The jobs, but of an archive one for each of its pictures; refused if two would clash.

    ``stems`` are the names of an archive's pictures, none for other inputs. They go to ``folder``,
    without it to one that is named as the job's output, less its suffix.
    """
    unpacked: list[Job] = []
    for job in jobs:
        names = stems(job.input)
        into = folder or os.path.splitext(job.output)[0]
        outputs = [os.path.join(into, name + suffix) for name in names]
        unpacked += [Job(job.input, output, True, i) for i, output in enumerate(outputs)] or [job]
    _refuse_clashes(unpacked)
    return unpacked


def together(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs in the same order, those of small files in lists: such are handed out together."""
    some: list[Job] = []
    n_bytes = 0
    for job in jobs:
        some.append(job)
        n_bytes += _n_bytes(job)
        if n_bytes >= SOME_BYTES or len(some) == SOME:
            yield some
            some, n_bytes = [], 0
    if some:
        yield some


def _n_bytes(job: Job) -> int:
    try:
        return os.path.getsize(job.input)
    except OSError:  # whatever it is, the work will tell
        return 0


def pictures_in(inputs: Sequence[str], recursive: bool) -> list[Path]:
    """The files that are named, and the pictures in the folders. Raises InputError."""
    found = _find(inputs, recursive, PICTURES)
    return [Path(top, name) for top, name in found]


def _renamed(top: str, name: str, folder: str | None, suffix: str) -> Job:
    renamed = os.path.splitext(name)[0] + suffix
    output = os.path.join(top if folder is None else folder, renamed)
    return Job(os.path.join(top, name), output, in_folder=folder is not None)


def _find(
    inputs: Sequence[str], recursive: bool, suffixes: Collection[str]
) -> Iterator[tuple[str, str]]:
    """All files, as a folder and a path below it that an output folder repeats."""
    for item in inputs:
        if not os.path.isdir(item):
            yield os.path.split(item)
            continue
        names = sorted(_names_in(item, recursive, suffixes))
        if not names:
            hint = "" if recursive else "; -r looks into its folders"
            raise InputError(f"{item}: no {' or '.join(suffixes)} file in this folder{hint}")
        yield from ((item, name) for name in names)


def _names_in(folder: str, recursive: bool, suffixes: Collection[str]) -> Iterator[str]:
    for path, folders, files in os.walk(folder, onerror=_cannot_list):
        if not recursive:
            folders.clear()
        for name in files:
            if os.path.splitext(name)[1].lower() in suffixes:
                yield os.path.relpath(os.path.join(path, name), folder)


def _cannot_list(error: OSError) -> None:
    raise InputError(f"{error.filename}: {reason(error)}") from error


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    """No output may be that of another job, or any job's input."""
    inputs = {os.path.realpath(job.input) for job in jobs if job.input != STDIO}
    makers: dict[str, str] = {}
    for job in jobs:
        if job.output == STDIO:
            continue
        target = os.path.realpath(job.output)
        if target in makers:
            raise OutputError(f"{job.output}: {makers[target]} and {job.input} both become this")
        if target in inputs:
            raise OutputError(f"{job.output}: is an input and would be overwritten")
        makers[target] = job.input
