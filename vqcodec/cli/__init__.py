"""The command line. The program is in ``program``; this is how it is entered."""

import sys


def main() -> None:
    """Runs the program. Ctrl-C ends it with 130 and no traceback, also while it is imported."""
    try:
        from vqcodec.cli.program import program

        program()
    except KeyboardInterrupt:
        sys.exit(130)
