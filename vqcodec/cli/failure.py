"""What the user reads when something goes wrong: one line and an exit code."""

import os
import sys
import traceback
from contextlib import suppress

import click

from vqcodec.errors import VqcodecError, reason

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def explain(error: Exception, *names: str) -> tuple[str, int]:
    """The sentence for an error and its exit code.

    ``names`` are those of the files that were worked on. The sentence begins with one of them:
    with the first, unless it does so already.
    """
    sentence, code = _sentence(error)
    if names and not sentence.startswith(tuple(f"{name}: " for name in names)):
        sentence = f"{names[0]}: {sentence}"
    return one_line(sentence), code


def print_error(sentence: str, code: int) -> int:
    """Prints the line on stderr; returns the code."""
    with suppress(OSError):  # there is nobody left to tell
        click.echo(f"vqcodec: error: {sentence}", err=True)
    return code


def print_warning(sentence: str) -> None:
    """Prints the line on stderr."""
    click.echo(one_line(f"vqcodec: warning: {sentence}"), err=True)


def one_line(text: str) -> str:
    """File names may hold line ends, terminal codes and bytes that are no text: escape those."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _sentence(error: Exception) -> tuple[str, int]:
    if isinstance(error, VqcodecError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return error.format_message().rstrip(".") + hint, error.exit_code
    if isinstance(error, OSError) and error.strerror:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return name + reason(error), 1
    # torch says it with a RuntimeError, of which only the text is its own.
    if isinstance(error, MemoryError) or any(text in str(error).lower() for text in _NO_MEMORY):
        return "not enough memory", 1
    if os.environ.get("VQCODEC_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    first_line = next(iter(str(error).splitlines()), "")
    return f"unexpected {type(error).__name__}: {first_line} (VQCODEC_DEBUG=1 shows where)", 1
