"""``vqcodec sample``: pictures drawn from a codec's prior."""

from pathlib import Path

import click

from vqcodec.cli import options
from vqcodec.files import check_output
from vqcodec.rate import check_rate

_EXAMPLES = """\b
Examples:
  vqcodec sample rrvq-thumbs -o drawn.png
  vqcodec sample photo-2 -o drawn.png --rate 7bit -n 4 --size 512 256
"""


@click.command(epilog=_EXAMPLES)
@click.argument("codec_id", metavar="CODEC", type=options.CODEC)
@click.option("--rate", metavar="RATE", help="A rate point such as 8bit.  [default: see above]")
@options.number("-n --number", "N", 1, 10000, default=16, help="How many, side by side.")
@click.option(
    "--size",
    type=(click.IntRange(1, 4096), click.IntRange(1, 4096)),
    metavar="W H",
    help="Of each, in pixels.  [default: the codec's square, or 256 256]",
)
@options.seed
@options.output("OUT", "A picture.", options.PATH, required=True)
@click.option("--force", is_flag=True, help="Overwrite the output where it exists.")
@options.device
@options.threads
def sample(
    codec_id: str,
    rate: str | None,
    number: int,
    size: tuple[int, int] | None,
    seed: int,
    output: Path,
    force: bool,
    device: str,
    threads: int | None,
) -> None:
    """Draw pictures from the prior of CODEC, an id or a folder, and write them side by side.

    A codec may have a network for this, at one of its rate points, which is the default then.
    Otherwise codes have the probabilities of the tables that the range coder uses, and the default
    is that of its files, or 8bit.
    """
    from vqcodec import image, zoo

    image.format_of(output)  # before the work
    check_output(output, force=force)
    card = zoo.find(codec_id)
    if rate is not None:
        check_rate(card, rate)
    model = zoo.load(card, device)
    options.use_threads(threads)
    from vqcodec.drawing import sample

    side = card.shape.get("side", 32) if card.points else 256
    width, height = size or (side, side)
    pictures = [sample(model, rate, height, width, seed + i) for i in range(number)]
    sheet = image.contact_sheet([picture.pixels for picture in pictures])
    image.write(image.Picture(sheet), output, image.format_of(output), force=force)
