"""``vqcodec desktop``: .vqc files in file managers."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import click

from vqcodec.cli import options, streams
from vqcodec.cli.failure import print_warning
from vqcodec.errors import OutputError, one_line, reason

_EXAMPLES = """\b
Examples:
  vqcodec desktop install
  vqcodec desktop uninstall
"""

_INSTALL = """\b
Examples:
  vqcodec desktop install
  XDG_DATA_HOME=/tmp/try vqcodec desktop install    to see what it puts where
  XDG_DATA_HOME=/usr/local/share vqcodec desktop install    as root, for all users
"""

_UNINSTALL = """\b
Examples:
  vqcodec desktop uninstall
  XDG_DATA_HOME=/tmp/try vqcodec desktop uninstall
"""

_THUMBNAIL = """\b
Examples:
  vqcodec desktop thumbnail photo.vqc small.png 128
  vqcodec desktop thumbnail album.vqc first.png 256
"""


@click.group(invoke_without_command=True, epilog=_EXAMPLES)
@click.pass_context
def desktop(ctx: click.Context) -> None:
    """Show .vqc files in file managers: type, icon, thumbnails, opener (Linux)."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@desktop.command(
    epilog=_INSTALL, short_help="Put type, icon, thumbnailer and opener in your folders."
)
@options.quiet
def install(quiet: bool) -> None:
    """Put a MIME type, its icon, a thumbnailer and an opener in your folders (XDG_DATA_HOME).

    It may be run again, as when vqcodec has moved. Files of the same names that it did not write
    are not replaced.
    """
    from vqcodec.desktop import install

    _tell(install, quiet)


@desktop.command(epilog=_UNINSTALL, short_help="Remove what install put.")
@options.quiet
def uninstall(quiet: bool) -> None:
    """Remove what install put and nobody else, and folders that are empty then."""
    from vqcodec.desktop import uninstall

    _tell(uninstall, quiet)


def _tell(work: Callable[[], tuple[list[Path], list[str]]], quiet: bool) -> None:
    paths, missing = work()
    for path in () if quiet else paths:
        click.echo(one_line(str(path)))
    for line in missing:
        print_warning(line)


@desktop.command(epilog=_THUMBNAIL, short_help="Make a thumbnail, as file managers call it.")
@click.argument("file", metavar="INPUT", type=options.FILE)
@click.argument("out", metavar="OUT", type=options.PATH)
@click.argument("size", metavar="SIZE", type=click.IntRange(1, 1 << 14))
@options.max_pixels
def thumbnail(file: str, out: Path, size: int, max_pixels: int) -> None:
    """Make a PNG of at most SIZE x SIZE pixels of a .vqc file, or of the first one of an archive.

    No more is decoded than such a size shows, and without torch.
    """
    data = streams.read_vqc(file)
    from vqcodec import image
    from vqcodec.thumbnail import thumbnail

    made = BytesIO()
    image.write(thumbnail(data, size, max_pixels), made, "png")
    try:  # in place: Tumbler has the file open already, and reads that
        out.write_bytes(made.getvalue())
    except OSError as error:
        raise OutputError(f"{out}: {reason(error)}") from error
