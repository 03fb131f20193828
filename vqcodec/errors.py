"""Everything that can go wrong, with the sentence that the user reads and the exit code.

Exit codes: 0 success, 1 unexpected failure, 2 wrong usage (also click's), 130 interrupted, and
those below.
"""


def reason(error: OSError) -> str:
    """What the system says, as the end of a sentence: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


class VqcodecError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is one line for the user."""

    exit_code = 1


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
