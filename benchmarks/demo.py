"""A photo to .vqc and back, beside JPEG.

    make demo
    python benchmarks/demo.py [PHOTO] [RATE]

Writes into demo/: the .vqc file, the picture that comes back, the smallest JPEG with at least the
same PSNR, the best JPEG of at most the same size, and original | JPEG | vqcodec at equal size.
"""

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from vqcodec.metrics.psnr import psnr_db

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "tests" / "data" / "photo.png"
RATE = "7bit"
OUT = Path("demo")


def vqcodec(*args: str) -> None:
    """Runs the command line program, and shows the command."""
    print("$ vqcodec", *args, flush=True)
    subprocess.run([sys.executable, "-m", "vqcodec", *args], check=True)


def db(one: Image.Image, other: Image.Image) -> float:
    return psnr_db(np.asarray(one), np.asarray(other))


def jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


def lowest_quality(holds: Callable[[int], bool]) -> int:
    """The lowest JPEG quality from which on a condition holds, by bisection; 95 if none does."""
    low, high = 1, 95
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def side_by_side(pictures: dict[str, Image.Image]) -> Image.Image:
    font, bar = ImageFont.load_default(size=20), 32
    width, height = next(iter(pictures.values())).size
    sheet = Image.new("RGB", (width * len(pictures), height + bar), "white")
    for index, (title, picture) in enumerate(pictures.items()):
        sheet.paste(picture, (index * width, bar))
        ImageDraw.Draw(sheet).text((index * width + 8, 4), title, fill="black", font=font)
    return sheet


def main(photo: Path = PHOTO, rate: str = RATE) -> None:
    OUT.mkdir(exist_ok=True)
    small, back = OUT / "photo.vqc", OUT / "photo.png"
    vqcodec("encode", str(photo), "-o", str(small), "--rate", rate, "--force")
    vqcodec("decode", str(small), "-o", str(back), "--force")
    vqcodec("info", str(small))

    original, decoded = Image.open(photo).convert("RGB"), Image.open(back).convert("RGB")
    n_bytes, reached = small.stat().st_size, db(original, decoded)
    equal_psnr = jpeg(
        original,
        lowest_quality(lambda q: db(original, opened(jpeg(original, q))) >= reached),
    )
    too_large = lowest_quality(lambda q: len(jpeg(original, q)) > n_bytes)
    equal_size = jpeg(original, max(1, too_large - 1))
    (OUT / "jpeg-equal-psnr.jpg").write_bytes(equal_psnr)
    (OUT / "jpeg-equal-size.jpg").write_bytes(equal_size)

    table = Table("", "bytes", "bpp", "PSNR dB", "size")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, size, picture in (
        ("original PNG" if photo.suffix == ".png" else "original", photo.stat().st_size, None),
        ("JPEG, same PSNR", len(equal_psnr), opened(equal_psnr)),
        ("JPEG, same size", len(equal_size), opened(equal_size)),
        (f"vqcodec, {rate}", n_bytes, decoded),
    ):
        bpp = 8 * size / (original.width * original.height)
        quality = "" if picture is None else f"{db(original, picture):.2f}"
        table.add_row(name, f"{size:,}", f"{bpp:.3f}", quality, f"{n_bytes / size:.0%}")
    table.columns[-1].header = "vqcodec is"
    Console().print(table)

    sheet = side_by_side(
        {
            "original": original,
            f"JPEG, {len(equal_size):,} bytes": opened(equal_size),
            f"vqcodec, {n_bytes:,} bytes": decoded,
        }
    )
    sheet.save(OUT / "side-by-side.png")
    print(f"See {OUT / 'side-by-side.png'}: original | JPEG | vqcodec, at equal size.")


if __name__ == "__main__":
    main(*(kind(arg) for kind, arg in zip((Path, str), sys.argv[1:], strict=False)))
