"""``vqcodec view``: .vqc files in the system's viewer."""

import os
import shutil
from pathlib import Path

import click

from vqcodec.cli import options, streams
from vqcodec.cli.failure import explain, print_error
from vqcodec.cli.jobs import STDIO

_EXAMPLES = """\b
Examples:
  vqcodec view photo.vqc
  vqcodec encode - < photo.png | vqcodec view -
"""


@click.command(epilog=_EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=options.FILE)
@options.codec
@options.max_pixels
def view(inputs: tuple[str, ...], codec_id: str | None, max_pixels: int) -> int:
    """Open .vqc files in the viewer of the system.

    INPUT is a file or - (stdin). It is decoded to a private temporary folder, which a later call
    removes when it is a day old. Of an archive all pictures are, and the first one is opened.
    """
    exit_code = 0
    for name in inputs:
        try:
            _show(name, codec_id, max_pixels)
        except Exception as error:  # the others are none the worse
            code = print_error(*explain(error, name))
            exit_code = exit_code or code
    return exit_code


def _show(name: str, codec_id: str | None, max_pixels: int) -> None:
    from vqcodec import archive, container, desktop, image, zoo

    data = streams.read_vqc(name)
    stem = "picture" if name == STDIO else os.path.splitext(os.path.basename(name))[0]
    stems, files = [archive.harmless(os.fsencode(stem)) or "picture"], [data]
    if container.is_archive(data):
        pictures = container.read_archive(data)
        stems = [*archive.stems(pictures)]
        files = [container.write(picture) for picture in pictures]
    folder = desktop.place_to_show()
    try:
        for picture, one in zip(stems, files, strict=True):
            card = zoo.for_header(container.read(one).header, codec_id)
            decoder = zoo.load_decoder(card, "cpu", light=True)
            from vqcodec.decompress import decompress

            shown = decompress(decoder, one, max_pixels=max_pixels)
            image.write(shown, folder / f"{picture}.png", "png", force=False)
        desktop.show(Path(folder, f"{stems[0]}.png"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
