"""The systems that are analysed, and codes of chance."""

import numpy as np

from vqcodec.autoencoders.dqae import DQAEConfig
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.autoencoders.pqvae import PQVAEConfig
from vqcodec.autoencoders.rrvq import RRVQConfig
from vqcodec.autoencoders.system import Config

HQA_1X1 = HQAConfig(side=16, codebook=16, dim=4, encoder=(4,) * 4, decoder=(4,) * 4, places=4096)
PROGRESSIVE = PQVAEConfig(side=32, channels=1, hidden=8, dim=8, rank=(4, 2), size=16, steps=8)
DEPTHWISE = DQAEConfig(
    side=16, width=8, blocks=0, dim=2, columns=3, sizes=(8, 4), quantizer="diveq", withhold=0.5
)
RESPONSIBLE = RRVQConfig(side=16, grids=(1, 2, 4), sizes=(4, 6, 8), embedding=6, width=12, fine=8)
SHAPES: dict[str, Config] = {
    "dqae": DEPTHWISE,
    "hqa": HQA_1X1,
    "pqvae": PROGRESSIVE,
    "rrvq": RESPONSIBLE,
}


def codes(count: int, size: int, seed: int, columns: int = 1) -> np.ndarray:
    """Independent codes, all as likely, (count, columns)."""
    return np.random.default_rng(seed).integers(0, size, (count, columns))
