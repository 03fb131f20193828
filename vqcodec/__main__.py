"""``python -m vqcodec`` is the same program as ``vqcodec``."""

from vqcodec.cli import main

main()
