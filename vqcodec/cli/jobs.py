"""Which input becomes which output."""

import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from vqcodec.errors import InputError, OutputError, UsageError, reason
from vqcodec.files import PICTURES, check_output, make_folder

SOME, SOME_BYTES = 16, 1 << 17  # jobs that a process gets at once, and the bytes of their inputs
NAMED = 5  # of the files that are left out
STDIO = "-"  # a file of this name is given as ./-
_STDIN = {STDIO, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
_STDOUT = {STDIO, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}


@dataclass(frozen=True)
class Job:
    """One file to make: paths as the user would write them, or "-"."""

    input: str
    output: str
    in_folder: bool = False  # the output's folder is made where it is missing
    index: int | None = None  # of the input's picture, where that is an archive
    again: bool = False  # the output may be there already, from a process that died after it
    problem: str = ""  # why the output cannot be made, known before

    def check_output(self, force: bool) -> None:
        """Finds out before the work, and not after it, that the output cannot be made."""
        if self.problem:
            raise OutputError(f"{self.output}: {self.problem}")
        if self.output == STDIO:
            return
        if self.input != STDIO and os.path.realpath(self.output) == os.path.realpath(self.input):
            raise OutputError(f"{self.output}: is the input and would be overwritten")
        check_output(Path(self.output), force=force or self.again, in_new_folder=self.in_folder)

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


def names_of(
    inputs: Sequence[str], output: str | None, is_output: Callable[[str], bool]
) -> tuple[list[str], str | None]:
    """What is read and what is written, "-" for stdin and stdout by any name.

    Without ``output`` the last of two inputs is one where it can be no input, as ``is_output``
    says: ``encode a.png a.vqc``. Raises UsageError where the last of more seems to be one.
    """
    given = [STDIO if name in _STDIN else name for name in inputs]
    last = inputs[-1]
    if output is None and len(inputs) > 1 and not os.path.isdir(last):
        if len(inputs) == 2 and (last in _STDOUT or is_output(last)):
            return given[:1], STDIO if last in _STDOUT else last
        if is_output(last):
            raise UsageError(f"{last}: the output of several inputs is named by -o {last}")
    return given, STDIO if output in _STDOUT else output


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    recursive: bool,
    input_suffixes: Collection[str],
    output_suffix: str,
    keep_suffix: bool = False,
    leave_out: Callable[[str], None] = lambda why: None,
) -> list[Job]:
    """All jobs in the order of the inputs. Those that would clash have a ``problem``.

    ``output`` names a folder if there are several inputs or one of them is a folder, and a file
    or "-" otherwise; without it a file is made next to its input. ``input_suffixes`` (lower case)
    say which files of a folder count; what of these is left out ``leave_out`` is told.

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
        found = _find(inputs, recursive, input_suffixes, leave_out, output_suffix == ".vqc")
        jobs = [_renamed(top, name, output, output_suffix, keep_suffix) for top, name in found]
    else:
        jobs = [Job(inputs[0], output)]
    hint = "" if keep_suffix or output_suffix != ".vqc" else "; --keep-suffix gives each its own"
    jobs = _told_of_clashes(jobs, hint)
    if jobs[0].output == STDIO and sys.stdout.isatty():
        raise OutputError("will not write binary data to a terminal; -o names a file")
    return jobs


def plan_archive(
    inputs: Sequence[str],
    output: str | None,
    *,
    recursive: bool,
    leave_out: Callable[[str], None] = lambda why: None,
) -> list[Job]:
    """The jobs of which all have the archive ``output``; none where it is not to be an archive.

    It is one where it names a .vqc file and no folder, and ``inputs`` are several or a folder.
    Raises InputError for a folder with nothing to do, OutputError.
    """
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    named = output is not None and output.lower().endswith(".vqc") and not os.path.isdir(output)
    if STDIO in inputs or not several or not named:
        return []
    assert output is not None
    found = _find(inputs, recursive, PICTURES, leave_out, by_content=True)
    return [Job(os.path.join(*path), output) for path in found]


def unpack(
    jobs: Sequence[Job], folder: str | None, suffix: str, stems: Callable[[str], Sequence[str]]
) -> list[Job]:
    """The jobs, but of an archive one for each of its pictures.

    ``stems`` are the names of an archive's pictures, none for other inputs. They go to ``folder``,
    without it to one that is named as the job's output, less its suffix.
    """
    unpacked: list[Job] = []
    for job in jobs:
        names = stems(job.input)
        into = folder or os.path.splitext(job.output)[0]
        outputs = [os.path.join(into, name + suffix) for name in names]
        unpacked += [Job(job.input, output, True, i) for i, output in enumerate(outputs)] or [job]
    return _told_of_clashes(unpacked, "")


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
    """The files that are named, and the pictures in the folders.

    Raises InputError, also for a name that is none of both.
    """
    for name in inputs:
        if not os.path.exists(name):
            raise InputError(f"{name}: no such file or folder")
    return [Path(top, name) for top, name in _find(inputs, recursive, PICTURES)]


def files_in(inputs: Sequence[str], recursive: bool) -> list[str]:
    """The files that are named, stdin by any name, and the .vqc files in the folders.

    Raises InputError.
    """
    given = [STDIO if name in _STDIN else name for name in inputs]
    return [os.path.join(*found) for found in _find(given, recursive, (".vqc",))]


def _renamed(top: str, name: str, folder: str | None, suffix: str, keep_suffix: bool) -> Job:
    stem, old = os.path.splitext(name)
    if keep_suffix:
        stem = name
    elif os.path.splitext(stem)[1].lower() == suffix and old.lower() == ".vqc":
        stem = os.path.splitext(stem)[0]  # a.png.vqc becomes a.png
    output = os.path.join(top if folder is None else folder, stem + suffix)
    return Job(os.path.join(top, name), output, in_folder=folder is not None)


def _find(
    inputs: Sequence[str],
    recursive: bool,
    suffixes: Collection[str],
    leave_out: Callable[[str], None] = lambda why: None,
    by_content: bool = False,
) -> Iterator[tuple[str, str]]:
    """All files, once each, as a folder and a path below it that an output folder repeats.

    by_content: pictures are taken whatever their suffix, and what is left out is named.
    """
    seen: set[str] = set()

    def is_new(path: str) -> bool:
        before = len(seen)
        folder, name = os.path.split(path)  # a link is a file of its own, with its own output
        seen.add(os.path.join(os.path.realpath(folder), name))
        return len(seen) > before

    for item in inputs:
        if not os.path.isdir(item):
            if item == STDIO or is_new(item):
                yield os.path.split(item)
            continue
        names = sorted(_names_in(item, recursive, suffixes, leave_out, by_content))
        if not names:
            hint = "" if recursive else "; -r looks into its folders"
            kind = "picture" if by_content else f"{' or '.join(suffixes)} file"
            raise InputError(f"{item}: no {kind} in this folder{hint}")
        yield from ((item, name) for name in names if is_new(os.path.join(item, name)))


def _names_in(
    folder: str,
    recursive: bool,
    suffixes: Collection[str],
    leave_out: Callable[[str], None],
    by_content: bool,
) -> Iterator[str]:
    """The files that are not hidden, nor what macOS adds to disks and archives."""
    others: list[str] = []
    for path, folders, files in os.walk(folder, onerror=_cannot_list):
        hidden = {name for name in folders if name.startswith(".") or name == "__MACOSX"}
        folders[:] = sorted(set(folders) - hidden) if recursive else []
        for whole in (os.path.join(path, name) for name in folders):
            if by_content and os.path.islink(whole):  # which may lead back up
                leave_out(f"{whole}: left out: a link to a folder")
        for name in files:
            whole = os.path.join(path, name)
            named = os.path.splitext(name)[1].lower() in suffixes
            if name.startswith(".") or (not named and not by_content):
                continue
            kind = _odd_kind(whole)
            is_picture, problem = (named, "") if named or kind else _seen_in(whole)
            if is_picture and not (kind or problem):
                yield os.path.relpath(whole, folder)
            elif kind or problem:
                leave_out(f"{whole}: left out: {problem or f'{kind}, not a file'}")
            elif not name.lower().endswith(".vqc"):
                others.append(os.path.relpath(whole, folder))
    if others:
        leave_out(f"{folder}: left out {_counted(sorted(others))}")


def _seen_in(path: str) -> tuple[bool, str]:
    from vqcodec.image.opening import found_in_folder

    return found_in_folder(Path(path))


def _counted(names: Sequence[str]) -> str:
    """How many files, and the names of the first ones."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    noun = "file that is no picture" if len(names) == 1 else "files that are no pictures"
    return f"{len(names)} {noun}: {', '.join(names[:NAMED])}{more}"


def _odd_kind(path: str) -> str:
    """What a name is that reading might hang on; empty for a file, and for a broken link."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # whatever it is, the work will tell
        return ""
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else ""


def _cannot_list(error: OSError) -> None:
    raise InputError(f"{error.filename}: {reason(error)}") from error


def _told_of_clashes(jobs: Sequence[Job], hint: str) -> list[Job]:
    """No output may be that of another job, or another job's input: such are not made."""
    inputs = {os.path.realpath(job.input): job.input for job in jobs if job.input != STDIO}
    makers: dict[str, list[str]] = {}
    targets = [job.output if job.output == STDIO else os.path.realpath(job.output) for job in jobs]
    for job, target in zip(jobs, targets, strict=True):
        makers.setdefault(target, []).append(job.input)

    def problem(job: Job, target: str) -> str:
        if len(makers[target]) > 1:
            first, *others = makers[target]
            other = first if first != job.input else others[0]
            return f"{job.input} and {other} both become this{hint}"
        if inputs.get(target, job.input) != job.input:
            return "is an input and would be overwritten"
        return ""

    return [
        replace(job, problem=problem(job, target))
        for job, target in zip(jobs, targets, strict=True)
    ]
