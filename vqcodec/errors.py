"""Everything that can go wrong, with the sentence that the user reads and the exit code.

Exit codes: 0 success, 1 unexpected failure, 2 wrong usage (also click's), 130 interrupted, and
those below.
"""

import os
import sys
import traceback

_NEEDS = "this needs {0}, which is not installed: pip install {0}"
NEEDS_TORCH = _NEEDS.format("torch")
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def reason(error: OSError) -> str:
    """What the system says, as the end of a sentence: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


class VqcodecError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is one line for the user.

    option: what helps on the command line, such as "--salvage takes what is there": ``explain``
    ends with it.
    """

    exit_code = 1

    def __init__(self, sentence: str = "", option: str = "") -> None:
        super().__init__(sentence)
        self.option = option


class UsageError(VqcodecError):
    """What was asked for is not there: a device, an encoder, a level of the file."""

    exit_code = 2


class InputError(VqcodecError):
    """An input file is missing or cannot be opened."""

    exit_code = 3


class ImageError(VqcodecError):
    """The input opens but is not a picture that can be coded."""

    exit_code = 4


class FormatError(VqcodecError):
    """The bytes are not a whole, sound .vqc file."""

    exit_code = 5


class NotVqcError(FormatError):
    """The magic is wrong: another kind of file."""


class VersionError(FormatError):
    """A .vqc file of a version that this program does not know."""


class TruncatedError(FormatError):
    """The file ends before what its header promises."""


class ChecksumError(FormatError):
    """A part of the file is damaged."""


class KindError(UsageError, FormatError):
    """An archive where a picture was asked for, or the other way round: what was asked is wrong."""


class SizeError(FormatError):
    """The header states a size that no sound file has."""


class CodecError(VqcodecError):
    """The codec is not installed, or its weights are not those the file was made with."""

    exit_code = 6


class RateError(VqcodecError):
    """The rate cannot be parsed, is not offered by the codec, or cannot be reached."""

    exit_code = 7


class OutputError(VqcodecError):
    """The output exists already, or cannot be written."""

    exit_code = 8


def explain(error: Exception, *names: str) -> tuple[str, int]:
    """The sentence for an error and its exit code.

    ``names`` are those of the files that were worked on. The sentence begins with one of them:
    with the first, unless it does so already.
    """
    sentence, code = _sentence(error)
    if names and not sentence.startswith(tuple(f"{name}: " for name in names)):
        sentence = f"{names[0]}: {sentence}"
    return one_line(sentence), code


def one_line(text: str) -> str:
    """File names may hold line ends, terminal codes and bytes that are no text: escape those."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _sentence(error: Exception) -> tuple[str, int]:
    if isinstance(error, VqcodecError):
        return "; ".join(filter(None, (str(error), error.option))), error.exit_code
    if isinstance(error, OSError) and error.strerror:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return name + reason(error), 1
    # torch says it with a RuntimeError, of which only the text is its own.
    if isinstance(error, MemoryError) or any(text in str(error).lower() for text in _NO_MEMORY):
        return "not enough memory", 1
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in ("torch", "rich"):
            return _NEEDS.format(package), UsageError.exit_code
    if os.environ.get("VQCODEC_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    first_line = next(iter(str(error).splitlines()), "")
    return f"unexpected {type(error).__name__}: {first_line} (VQCODEC_DEBUG=1 shows where)", 1
