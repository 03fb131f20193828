"""Encode in each cell of a matrix, decode all files: python tests/priors/cells.py FOLDER NAME

Writes its files to FOLDER/NAME-*.vqc, prints a line, and waits for one on stdin; then decodes all
files of the folder in each of its cells and prints their codes' hashes as JSON: cell -> file ->
hash. What only the environment can set, such as ATEN_CPU_CAPABILITY, is the caller's affair.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from golden import make
from PIL import Image

from vqcodec import container, image, zoo
from vqcodec.autoencoders import grid_codec
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.codec import Codec
from vqcodec.compress import compress

RATES = {"photo-3": ("6bit", "9bit"), "hqa-digits": ("8bit-8x8",), "rrvq-thumbs": ("7bit",)}
RATES |= {"dqae-thumbs": ("8bit",)}


@cache
def model(name: str, device: str) -> Codec:
    """Each stays, whichever way the cells before have laid it out."""
    return zoo.load(zoo.find(name), device)


@dataclass(frozen=True)
class Cell:
    """What must not matter to the codes of a file."""

    device: str = "cpu"
    threads: int = 1
    onednn: bool = True
    tile: int = ladder_decoder.TILE  # cells
    batch: int = grid_codec.BATCH_PIXELS
    contiguous: bool = False  # memory format, else channels last

    def __str__(self) -> str:
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in changed) or "usual"

    @contextmanager
    def entered(self) -> Iterator[None]:
        usual = Cell()
        torch.set_num_threads(self.threads)
        ladder_decoder.TILE, grid_codec.BATCH_PIXELS = self.tile, self.batch
        form = torch.contiguous_format if self.contiguous else torch.channels_last
        for name in RATES:
            model(name, self.device).system.model.to(memory_format=form)
        try:
            with torch.backends.mkldnn.flags(enabled=self.onednn):
                yield
        finally:
            ladder_decoder.TILE, grid_codec.BATCH_PIXELS = usual.tile, usual.batch


CELLS = [
    Cell(),
    Cell(threads=2),
    Cell(onednn=False),
    Cell(tile=3),
    Cell(batch=1),
    Cell(contiguous=True),
    Cell("cpu", 2, False, 2, 5000, True),
]


def encode(cells: list[Cell], folder: Path, name: str) -> None:
    """Files of all codecs in all cells; those that are alike stand there once."""
    photo = np.array(Image.open(make.PHOTO))[120:200, 200:296]
    for cell in cells:
        with cell.entered():
            for codec, rates in RATES.items():
                for rate in rates:
                    used = model(codec, cell.device)
                    data = compress(used, image.from_array(photo), rate).data
                    digest = hashlib.sha256(data).hexdigest()[:12]
                    (folder / f"{name}-{codec}-{rate}-{digest}.vqc").write_bytes(data)


def decode(cells: list[Cell], folder: Path) -> dict[str, dict[str, str]]:
    """cell -> file -> hash of its codes."""
    files = {}
    for path in sorted(folder.glob("*.vqc")):
        data = path.read_bytes()
        files[path.name] = zoo.for_header(container.read(data).header).id, data
    found = {}
    for cell in cells:
        with cell.entered():
            found[str(cell)] = {
                name: make.codes_hash(model(codec, cell.device), data)
                for name, (codec, data) in files.items()
            }
    return found


def main(folder: Path, name: str) -> None:
    encode(CELLS, folder, name)
    print(json.dumps(torch.backends.cpu.get_cpu_capability()), flush=True)
    sys.stdin.readline()
    print(json.dumps(decode(CELLS, folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
