"""The command line. The program is in ``program``; this is how it is entered."""

import os
import sys


def main() -> None:
    """Runs the program. Ctrl-C ends it with 130 and no traceback, also while it is imported."""
    # Threads that spin while they wait take the processors from those that work: on a busy machine
    # that is many times slower (benchmarks/busy.py). Torch's OpenMP reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from vqcodec.cli.program import program

        program()
    except KeyboardInterrupt:
        sys.exit(130)
