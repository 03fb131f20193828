"""Options that several commands share."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from vqcodec.cli.jobs import STDIO, Job
from vqcodec.cli.report import Style
from vqcodec.container import MAX_PIXELS


class FileName(click.Path):
    """A name of a file or folder, which is looked at when it is used, with the exit code for that.

    click itself would look now, and call a file that cannot be read wrong usage.
    """

    def __init__(self, path_type: type | None = None) -> None:
        super().__init__(readable=False, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class CodecName(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """An id or a folder. The shell completes both."""

    name = "codec"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from vqcodec import zoo

        installed = [card for card in zoo.cards() if card.id.startswith(incomplete)]
        folders = CompletionItem(incomplete, type="dir")
        return [folders, *(CompletionItem(card.id, help=card.title) for card in installed)]


class Recipe(FileName):
    """A file, or the name of a shipped recipe. The shell completes both."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from vqcodec import zoo

        named = [CompletionItem(name) for name in zoo.recipes() if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, param, incomplete), *named]


class Names(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """Names with commas between, which the shell completes. Each must be known to whoever asks."""

    name = "names"

    def __init__(self, known: Callable[[], Iterable[str]], most: int | None = None) -> None:
        """known: imports what it needs when it is called."""
        self._known, self._most = known, most

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, begun = (
            incomplete.rpartition(",") if self._most != 1 else ("", "", incomplete)
        )
        taken = before.split(",")
        return [
            CompletionItem(before + comma + name)
            for name in self._known()
            if name.startswith(begun) and name not in taken
        ]


def names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The callback of an option whose value is names with commas between."""
    names = dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip())
    if value is not None and not names:
        raise click.BadParameter("names nothing", ctx, parameter)
    return tuple(names)


class Colour(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """A colour as CSS has it, or three numbers: (red, green, blue), 0..255."""

    name = "colour"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from PIL import ImageColor

        plain = re.fullmatch(r"(\d+),(\d+),(\d+)", value, re.ASCII)
        spelt = f"rgb({value})" if plain else f"#{value}"
        for name in (value, spelt):
            try:
                found = ImageColor.getrgb(name)
            except ValueError:
                continue
            if len(found) == 3 and max(found) <= 255:
                return found
        self.fail(f"{value!r} is no colour, such as white, #ff8000 or 255,128,0", param, ctx)


class Stripping(click.Command):
    """A command whose ``--strip`` may have the value ``all``, or none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, rest = [], list(args)
        while rest:
            arg = rest.pop(0)
            if arg == "--":
                given += [arg, *rest]
                break
            if arg == "--strip":
                arg = "--strip=metadata"
                if rest[:1] == ["all"]:
                    arg = f"--strip={rest.pop(0)}"
            given.append(arg)
        return super().parse_args(ctx, given)


FILE = FileName()
PATH = FileName(path_type=Path)
CODEC = CodecName()
SEED = click.IntRange(0, 2**63 - 1)
seed = click.option(
    "--seed",
    metavar="SEED",
    type=SEED,
    default=0,
    show_default=True,
    help="Of all that is drawn by chance.",
)


def number(
    name: str,
    metavar: str,
    least: float = 1,
    most: float | None = None,
    *,
    default: float | None = None,
    help: str,
    callback: Callable[[click.Context, click.Parameter, Any], Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that takes a number, a whole one where ``least`` is; shown with its default.

    A default of 0 is that of no effect, which needs not be shown.
    """
    kind = click.IntRange if isinstance(least, int) else click.FloatRange
    return click.option(
        *name.split(),
        type=kind(least, most),  # type: ignore[arg-type]
        metavar=metavar,
        default=default,
        show_default=bool(default),
        help=help,
        callback=callback,
    )


def output(
    metavar: str, help: str, kind: "FileName", *, name: str = "output", required: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Where the result goes, by the same names in each command."""
    spelt = ("-o", "--out", "--output", name)
    return click.option(*spelt, metavar=metavar, type=kind, required=required, help=help)


def _numpy_threads(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value is not None:  # read when numpy is imported, which no command has done yet
        os.environ["OPENBLAS_NUM_THREADS"] = str(value)
    return value


device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)
threads = number(  # torch crashes on absurd numbers
    "--threads",
    "N",
    1,
    1024,
    help="CPU threads.  [default: all cores]",
    callback=_numpy_threads,
)
codec = click.option(
    "--codec",
    "codec_id",
    type=CODEC,
    metavar="ID|DIR",
    help="A codec that `vqcodec models` lists, or the folder of another.",
)
max_pixels = number(
    "--max-pixels",
    "N",
    default=MAX_PIXELS,
    help="Refuse larger pictures before memory is taken for them.",
)
jobs = number(
    "--jobs n_jobs",
    "N",
    1,
    1024,
    default=1,
    help="Processes that work on several files at once, with one thread each.",
)
update = click.option(
    "--update",
    is_flag=True,
    help="Leave out files that are newer than their input, and of this codec and rate.",
)


def metrics(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``--metrics``, of ids of ``vqcodec.metrics`` or ``all``: see ``known_metrics``."""

    def known() -> list[str]:
        from vqcodec.metrics import METRICS

        return ["all", *(metric.id for metric in METRICS)]

    return click.option("--metrics", metavar="LIST", type=Names(known), callback=names, help=help)


def known_metrics(named: tuple[str, ...]) -> tuple[str, ...]:
    """Those named, or for none and for ``all`` those at hand. Raises click.UsageError."""
    from vqcodec.metrics import METRICS, computable

    ids, at_hand = [metric.id for metric in METRICS], computable()
    if named in ((), ("all",)):
        return tuple(at_hand)
    for name in named:
        if name not in ids:
            raise click.UsageError(f"no metric {name!r}; there are {', '.join(ids)} and all")
        if name not in at_hand:
            raise click.UsageError(f"{name} needs the package piq, of vqcodec's extra bench")
    return tuple(name for name in at_hand if name in named)


recursive = click.option("-r", "--recursive", is_flag=True, help="Look into folders of folders.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")


@dataclass(frozen=True)
class Files:
    """What the user gave of that which ``encode`` and ``decode`` have in common."""

    inputs: tuple[str, ...]
    output: str | None
    recursive: bool
    force: bool
    device: str
    threads: int | None
    n_jobs: int
    update: bool
    max_pixels: int
    as_json: bool
    quiet: bool
    verbose: bool

    @property
    def style(self) -> Style:
        return Style(self.as_json, self.quiet, self.verbose)

    def processes(self, jobs: Sequence[Job]) -> int:
        """How many there is work for. Raises UsageError where the work is not for several."""
        if self.n_jobs > 1 and jobs[0].input == STDIO:
            raise click.UsageError("--jobs is for files, not for stdin")
        return min(self.n_jobs, len(jobs))

    def threads_of(self, processes: int) -> int | None:
        """CPU threads of each process."""
        return 1 if self.threads is None and processes > 1 else self.threads


def files(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a command the inputs and options of ``Files``, as its first argument."""

    @wraps(command)
    def with_files(**given: Any) -> int:
        files = Files(**{field.name: given.pop(field.name) for field in fields(Files)})
        number = next((name for name in files.inputs if _is_number(name)), None)
        if files.quiet and number:
            raise click.UsageError(
                f"-q is --quiet, and {number} is no file: a quality is --quality {number}"
            )
        return command(files, **given)

    shared: list[Callable[[Callable[..., int]], Callable[..., int]]] = [
        click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=FILE),
        output("OUT", "File, folder or - (stdout).  [default: next to the input]", FILE),
        recursive,
        click.option("--force", is_flag=True, help="Overwrite outputs that exist."),
        device,
        threads,
        jobs,
        update,
        max_pixels,
        click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file."),
        quiet,
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            help="Print the sections, every warning and, of encode, the quality reached, for which "
            "the file is decoded.",
        ),
    ]
    wrapped: Callable[..., int] = with_files
    for option in reversed(shared):
        wrapped = option(wrapped)
    return wrapped


def _is_number(name: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", name) is not None and not os.path.exists(name)


def use_threads(threads: int | None) -> None:
    """Sets torch's threads, where it is imported by now: numpy has had them from ``--threads``."""
    torch = sys.modules.get("torch")
    if torch is not None and threads is not None:
        torch.set_num_threads(threads)


def need_matplotlib(what: str) -> None:
    """Refuses wrong usage, before the work, where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise click.UsageError(f"{what} needs matplotlib: pip install matplotlib") from None
