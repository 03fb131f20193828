"""Reads all of Pillow's own test pictures, which its source distribution carries.

    python tests/image/pillow_pictures.py [FOLDER]

FOLDER has them (Tests/images); without it they are downloaded from the package index. A picture
either has the pixels that Pillow gives it, or a note tells what was done to it, or it is refused on
one line. Anything else is printed, and the exit code is 1. Not part of the tests: it needs the net.
"""

import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, __version__

from vqcodec import image
from vqcodec.errors import VqcodecError

# A picture of BMP's test suite has 6 10^12
_MAX_PIXELS = 50_000_000


def kind_of(path: Path) -> tuple[str, str]:
    """(what happened, what there is to say of it)."""
    try:
        picture = image.read(path, path.name, _MAX_PIXELS)
    except VqcodecError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence.startswith(path.name):
            return "BAD SENTENCE", sentence
        return ("refused", sentence) if pillows(path) is not None else ("refused by both", "")
    except Exception as error:
        return "CRASH", f"{type(error).__name__}: {error}"
    wanted = pillows(path)
    if wanted is None:
        return "read, though Pillow does not", "; ".join(picture.notes)
    mode = image.to_pillow(picture).mode
    ours = np.array(image.to_pillow(picture).convert("RGBA"))
    theirs = np.array(as_8bit(wanted).convert("RGBA"))
    if ours.shape == theirs.shape and np.array_equal(ours, theirs):
        return "equal", mode
    if picture.notes:
        return "different, and said", "; ".join(picture.notes)
    if ours.shape != theirs.shape:
        return "OTHER SIZE", f"{ours.shape[:2]} {theirs.shape[:2]}"
    return "OTHER PIXELS", f"{wanted.mode}: up to {np.abs(ours.astype(int) - theirs).max()}"


def pillows(path: Path) -> Image.Image | None:
    """What Pillow makes of it, upright."""
    try:
        with Image.open(path) as im:
            im.load()
            return ImageOps.exif_transpose(im)
    except Exception:
        return None


def as_8bit(im: Image.Image) -> Image.Image:
    if im.mode.startswith("I;16") or im.mode == "I":
        return Image.fromarray(np.rint(np.array(im) / 257).clip(0, 255).astype(np.uint8))
    return im


@contextmanager
def pictures(folder: str | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as name:
        wanted = f"pillow=={__version__}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps"]
        subprocess.run([*command, "--no-binary", "pillow", "-d", name, wanted], check=True)
        (archive,) = Path(name).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(name, filter="data")
        yield next(Path(name).glob("*/Tests/images"))


def main() -> int:
    counts: Counter[str] = Counter()
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS // 2  # it raises at twice that
    with pictures(sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            kind, said = kind_of(path)
            counts[kind] += 1
            if kind.isupper() or "-v" in sys.argv:
                print(f"{kind}: {path.relative_to(folder)}: {said}")
    for kind, count in counts.most_common():
        print(f"{count:5} {kind}")
    return any(kind.isupper() for kind in counts)


if __name__ == "__main__":
    sys.exit(main())
