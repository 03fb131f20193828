"""What the user reads when something goes wrong: one line and an exit code."""

import warnings
from contextlib import suppress

import click

from vqcodec import errors
from vqcodec.errors import VqcodecError, one_line


def explain(error: Exception, *names: str) -> tuple[str, int]:
    """``errors.explain``, which see, of click's errors too."""
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        ours = VqcodecError(error.format_message().rstrip(".") + hint)
        ours.exit_code = error.exit_code
        error = ours
    return errors.explain(error, *names)


def print_error(sentence: str, code: int) -> int:
    """Prints the line on stderr; returns the code."""
    with suppress(OSError):  # there is nobody left to tell
        click.echo(f"vqcodec: error: {sentence}", err=True)
    return code


def print_warning(sentence: str) -> None:
    """Prints the line on stderr."""
    click.echo(one_line(f"vqcodec: warning: {sentence}"), err=True)


def warn_on_one_line() -> None:
    """From now on warnings of Python and of libraries look as ours do, without lines of code."""
    warnings.showwarning = lambda message, *place, **more: print_warning(
        " ".join(str(message).split())
    )
