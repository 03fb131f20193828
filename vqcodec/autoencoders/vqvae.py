"""``vqvae``: VQ-VAE and VQ-VAE-2, with any of the estimators (van den Oord et al., Razavi et al.).

A ladder of DQ-AE with one slice and without the skip sum. Of two levels the top one conditions the
bottom one, and the decoder sees both. The seven estimators that the DiVeQ poster compares differ in
``quantizer`` alone.
"""

from dataclasses import dataclass

from vqcodec.autoencoders.dqae import DQAE, DQAEConfig
from vqcodec.autoencoders.system import Config


@dataclass(frozen=True)
class VQVAEConfig(Config):
    """Sizes of a VQ-VAE. The finest grid has side / 2**down rows, each coarser one half of them."""

    width: int = 64  # channels
    blocks: int = 2  # residual blocks of each encoder and decoder
    down: int = 2  # strided convolutions in front of the finest level
    dim: int = 16  # numbers of a codeword
    size: int = 256  # codewords of each level
    levels: int = 1  # 2: VQ-VAE-2
    quantizer: str = "ema"  # a name that ``quantizers.choice`` knows
    beta: float = 0.25  # weight of the commitment loss
    withhold: float = 0.0  # probability that training decodes a random number of levels

    def ladder(self) -> DQAEConfig:
        """The same sizes as those of a DQ-AE."""
        return DQAEConfig(
            side=self.side,
            channels=self.channels,
            width=self.width,
            blocks=self.blocks,
            down=self.down,
            dim=self.dim,
            columns=1,
            sizes=(self.size,) * self.levels,
            quantizer=self.quantizer,
            beta=self.beta,
            skip=False,
            withhold=self.withhold,
        )

    def check(self) -> None:
        self.ladder().check()


class VQVAE(DQAE):
    """Rate points as those of ``DQAE``."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config.ladder())
        self.config = config
