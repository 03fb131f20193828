"""The commands, one file each with hardly any logic, and the end of the program in any case.

``--help``, ``--version``, ``info`` and ``models`` must start fast, so a command is imported when
it is named, and torch and rich only inside the functions that need them.
"""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

import vqcodec
from vqcodec.cli import streams
from vqcodec.cli.failure import explain, print_error, warn_on_one_line
from vqcodec.errors import InputError

_COMMANDS = (
    "encode",
    "decode",
    "verify",
    "info",
    "view",
    "models",
    "train",
    "export",
    "compare",
    "bench",
    "data",
    "sample",
    "analyse",
    "desktop",
)

_EPILOG = """\b
Examples:
  vqcodec encode photo.png                    photo.vqc, at the codec's own rate
  vqcodec encode photo.png small.vqc --rate 12kB
  vqcodec encode -r photos -o small --rate 34dB
  vqcodec decode photo.vqc again.png
  vqcodec encode - < photo.png > photo.vqc
  vqcodec bench photos --html report.html     against JPEG, WebP, AVIF and others

\b
Shell completion, for this shell or in its start-up file:
  bash  eval "$(_VQCODEC_COMPLETE=bash_source vqcodec)"
  zsh   eval "$(_VQCODEC_COMPLETE=zsh_source vqcodec)"
  fish  _VQCODEC_COMPLETE=fish_source vqcodec | source

\b
Exit codes:
  0 success              1 unexpected failure    2 wrong usage
  3 input not readable   4 not a usable picture  5 not a sound .vqc file
  6 codec not installed  7 rate not possible     8 output not possible
  130 interrupted
With several files, that of the first failure.
"""


class Program(click.Group):
    """A group that imports its commands late and says every error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"vqcodec.cli.{cmd_name}"), cmd_name
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says which command was meant, perhaps: click knows those alone that are imported."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            for near in get_close_matches(args[0], _COMMANDS, 1):
                raise click.UsageError(f"{error.message} Did you mean {near!r}?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What each command does in a whole sentence, which click would cut at the line's end."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(1000)) for name, command in commands if command]
            )

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command and exits with the code that it returns, or with that of its error.

        A closed pipe (``vqcodec info ... | head``) is click's affair: it exits with 1, quietly.
        """
        streams.open_closed()
        streams.print_any_name()
        warn_on_one_line()
        try:
            code = super().main(
                args, prog_name or "vqcodec", complete_var, standalone_mode=False, **extra
            )
        except click.Abort:  # Ctrl-C
            code = 130
        except Exception as error:
            # No file is named only where nothing could be printed, or a name lies nowhere: each
            # other error is the job's, or has no number, as of a library that cannot be loaded.
            if isinstance(error, FileNotFoundError) and not error.filename:
                error = InputError("the current folder is there no more")
            elif isinstance(error, OSError) and error.errno and not error.filename:
                error = streams.stdout_error(error)
            code = print_error(*explain(error))
        streams.drop_unwritten()
        sys.exit(code)


@click.group(
    cls=Program,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(vqcodec.__version__, message="%(prog)s %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """A learned image codec: pictures to small .vqc files, and back."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
