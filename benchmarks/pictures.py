"""Makes the README's pictures: details enlarged at equal bytes, and a thumbnail.

    python benchmarks/pictures.py KODAK [--codec ID]

docs/side-by-side.png: a row for each of DETAILS, where eyes go. Each picture is encoded whole; JPEG
and AVIF get the best file within the row's bytes, ours one that is no larger than either. Pixels
are enlarged, not smoothed. docs/thumbnail.png: a whole small picture, in about a thousand bytes.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqcodec import zoo
from vqcodec.bench import style
from vqcodec.bench.measure import within
from vqcodec.bench.references import available
from vqcodec.bench.tries import OwnCodec, Tries
from vqcodec.image import read_rgb

DOCS = Path(__file__).resolve().parent.parent / "docs"
REFERENCES = ("jpeg", "avif")
GAP, LINE, TIMES = 12, 30, 2  # pixels, and how much details are enlarged
THUMBNAIL = 256  # pixels, both sides


@dataclass(frozen=True)
class Detail:
    """What of a picture is shown: left, top, width, height in pixels; and the bits per pixel."""

    picture: str
    box: tuple[int, int, int, int]
    bpp: float


DETAILS = (
    Detail("kodim15.png", (330, 60, 200, 150), 0.25),  # a face
    Detail("kodim21.png", (260, 60, 200, 150), 0.35),  # a lighthouse, an edge against the sky
    Detail("kodim22.png", (70, 210, 200, 150), 0.35),  # foliage, and a barn
)
SMALL = Detail("kodim23.png", (128, 0, 512, 512), 0.13)
Shown = list[tuple[str, np.ndarray]]  # captions and pixels (h, w, 3) uint8, from left to right


def encoded(pixels: np.ndarray, bpp: float, codec: str) -> Shown:
    """The original, the references and ours at no more bytes than ``bpp`` bits per pixel are."""
    height, width = pixels.shape[:2]
    n_bytes = int(bpp * height * width / 8)
    known, row, sizes = available(), [("Original", pixels)], [n_bytes]
    for name in REFERENCES:
        tries = Tries(known[name], pixels)
        quality = within(tries, n_bytes)
        size = len(tries.file(quality))
        caption = f"{known[name].label}, {size:,} bytes"
        if size > n_bytes:
            caption += ", its least"
        else:
            sizes.append(size)
        row.append((caption, tries.decoded(quality)))
    own = Tries(OwnCodec(codec, "cpu"), pixels)
    rate = f"{min(sizes)}B"
    row.append((f"{codec}, {len(own.file(rate)):,} bytes", own.decoded(rate)))
    return row


def cut(row: Shown, box: tuple[int, int, int, int]) -> Shown:
    """A detail of each, enlarged."""
    left, top, width, height = box
    return [
        (text, pixels[top : top + height, left : left + width].repeat(TIMES, 0).repeat(TIMES, 1))
        for text, pixels in row
    ]


def sheet(rows: list[Shown]) -> Image.Image:
    """Captions stand below the pictures."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [
        ImageFont.truetype(folder / name, 17) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
    ]
    height, width = rows[0][0][1].shape[:2]
    columns = len(rows[0])
    made = Image.new(
        "RGB",
        (columns * (width + GAP) - GAP, len(rows) * (height + LINE + GAP) - GAP),
        style.PAGE,
    )
    draw = ImageDraw.Draw(made)
    for i, row in enumerate(rows):
        for j, (text, pixels) in enumerate(row):
            x, y = j * (width + GAP), i * (height + LINE + GAP)
            made.paste(Image.fromarray(pixels), (x, y))
            ours = j == columns - 1
            draw.text(
                (x, y + height + 6), text, style.COLOURS[0] if ours else style.INK, fonts[ours]
            )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, metavar="KODAK")
    parser.add_argument("--codec", default=zoo.DEFAULT)
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    rows = []
    for detail in DETAILS:
        pixels = read_rgb(options.pictures / detail.picture)
        rows.append(cut(encoded(pixels, detail.bpp, options.codec), detail.box))
    sheet(rows).save(options.out / "side-by-side.png", optimize=True)
    left, top, width, height = SMALL.box
    square = Image.fromarray(read_rgb(options.pictures / SMALL.picture)).crop(
        (left, top, left + width, top + height)
    )
    small = np.asarray(square.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))
    sheet([encoded(small, SMALL.bpp, options.codec)]).save(
        options.out / "thumbnail.png", optimize=True
    )


if __name__ == "__main__":
    main()
