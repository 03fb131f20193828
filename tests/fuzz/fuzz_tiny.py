"""Decoding with untrained codecs of a few kB, quick enough for thousands of inputs a second."""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import tiny_codec
from fuzz import fuzz_decode
from fuzz.harness import sealed

from vqcodec import container
from vqcodec.autoencoders.dqae import DQAEConfig
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.autoencoders.rrvq import RRVQConfig
from vqcodec.autoencoders.system import Config
from vqcodec.autoencoders.vqvae import VQVAEConfig
from vqcodec.codec import Codec
from vqcodec.errors import FormatError

SHAPES: dict[str, Config] = {
    "vqvae": VQVAEConfig(side=8, width=4, blocks=1, down=1, dim=2, size=8),
    "dqae": DQAEConfig(side=8, width=4, blocks=1, down=1, dim=2, columns=2, sizes=(8, 4)),
    "hqa": HQAConfig(
        side=8, codebook=8, dim=4, encoder=(4, 4, 4), decoder=(4, 4, 4), places=64
    ),
    "rrvq": RRVQConfig(side=8, grids=(1, 2, 4), sizes=(4, 4, 8), embedding=4, width=4, fine=4),
}  # fmt: skip


@cache
def codecs() -> list[Codec]:
    """One of each system."""
    with tempfile.TemporaryDirectory() as folder:
        return [tiny_codec.made(Path(folder, name), name, SHAPES[name]) for name in SHAPES]


def check(data: bytes) -> None:
    """data: a .vqc file, whose codec's number picks one of the tiny ones."""
    try:
        content = container.read(sealed(data))
    except FormatError:
        return
    codec = codecs()[content.header.codec % len(SHAPES)]
    header = replace(content.header, codec=codec.card.number, weights_hash=codec.card.hash)
    file = container.write(replace(content, header=header))
    for levels in (None, 1):
        fuzz_decode.decode(codec, file, levels, (header.width, header.height))
