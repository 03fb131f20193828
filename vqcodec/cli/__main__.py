"""``python -m vqcodec.cli`` is the same program as ``vqcodec``."""

from vqcodec.cli import main

main()
