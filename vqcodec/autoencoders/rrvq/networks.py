"""The sizes of an RRVQ-VAE, the networks that its layers are made of, and their codebooks."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.system import Config
from vqcodec.priors.network import start_small
from vqcodec.quantizers import Quantized, choice
from vqcodec.quantizers.product import Product
from vqcodec.quantizers.residual import Residual
from vqcodec.quantizers.responsibility import Priced, Responsibility


@dataclass(frozen=True)
class RRVQConfig(Config):
    """Sizes of an RRVQ-VAE; layers are listed coarse first, that is z_L to z_1.

    Each grid is as fine as the one before or twice as fine, and the squares twice as fine as the
    last grid, or 4 times, and so on.
    """

    grids: tuple[int, ...] = (1, 2, 4, 8, 16)  # rows, and columns, of each layer
    sizes: tuple[int, ...] = (8, 16, 32, 64, 128)  # codewords of each layer, K
    embedding: int = 32  # channels of a codeword, d_e
    width: int = 64  # channels of both networks on the grids
    fine: int = 32  # channels on grids finer than the last
    blocks: int = 1  # residual blocks between two layers, in both networks
    learn_variances: bool = True  # False: all are 1 (rVQ, Eq. 2)
    temperature: float = 1.0  # of the relaxed samples at first ...
    last_temperature: float = 0.5  # ... and at the end of training
    last_bits_back: float = 0.0  # share of q's entropy that the rate leaves out at last; 1 at first
    free_bits: float = 0.0  # of a code: no lower rate is rewarded
    usage: float = 0.0  # of each bit of a codebook that a batch leaves unused, at first; falls to 0
    quantizer: str = "responsibility"  # or another name that ``quantizers.choice`` knows
    beta: float = 0.25  # weight of the commitment loss of another

    def check(self) -> None:
        layers = len(self.grids)
        if layers == 0 or len(self.sizes) != layers:
            raise ValueError("grids and sizes have one entry for each layer")
        if any(fine not in (coarse, 2 * coarse) for coarse, fine in pairwise(self.grids)):
            raise ValueError(f"grids {self.grids} do not stay or double")
        if self.grids[0] < 1 or self.side not in (self.grids[-1] << n for n in range(1, 8)):
            raise ValueError(f"no powers of two lead from grid {self.grids[-1]} to {self.side}")
        for size in self.sizes:
            choice.check(self.quantizer, self.embedding, size)


class Block(nn.Module):
    """x + conv3x3(leaky ReLU(conv3x3(leaky ReLU(x)))), close to the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        start_small(self.second, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(leaky(self.first(leaky(x))))


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 1 / 8)


def blocks(count: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(count)))


class Down(nn.Module):
    """(B, inputs, 2h, 2w) -> (B, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.conv(F.pixel_unshuffle(x, 2))
        return down


class Up(nn.Module):
    """(B, C, h, w) -> (B, C, 2h, 2w): each cell four times, and a learned difference."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = F.interpolate(x, scale_factor=2, mode="nearest")
        return near + F.pixel_shuffle(self.conv(leaky(x)), 2)


class BottomUp(nn.Module):
    """The encoder's deterministic network: the picture on the grid of every layer, d_bar."""

    def __init__(self, config: RRVQConfig) -> None:
        super().__init__()
        halvings = (config.side // config.grids[-1]).bit_length() - 1
        channels = (config.channels, *(config.fine,) * (halvings - 1), config.width)
        self.enter = nn.Sequential()
        for inputs, outputs in pairwise(channels):
            self.enter.append(Down(inputs, outputs))
            if outputs == config.fine:
                self.enter.append(Block(outputs))
        self.steps = nn.ModuleList()  # coarse first, as all lists of layers
        for coarse, fine in pairwise((*config.grids, config.grids[-1])):
            step = blocks(config.blocks, config.width)
            if coarse != fine:
                step.insert(0, Down(config.width, config.width))
            self.steps.append(step)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, channels, side, side) in [0, 1] -> (B, width, h, w) for each layer."""
        d = self.enter(4 * x - 2)
        found = []
        for step in reversed(self.steps):
            d = step(d)
            found.append(d)
        return found[::-1]


class Rung(nn.Module):
    """One layer of the backbone: what the prior is made of, and exact when files are coded."""

    def __init__(self, config: RRVQConfig, doubles: bool) -> None:
        super().__init__()
        self.up = Up(config.width) if doubles else None
        self.blocks = blocks(config.blocks, config.width)
        self.pstrap = nn.Conv2d(config.width, config.embedding, 1)
        self.pladder = nn.Conv2d(config.embedding, config.width, 1)

    def forward(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """d (B, width, h, w) after the layer above -> d at this layer, e_p (B, d_e, h', w')."""
        d = self.blocks(d if self.up is None else self.up(d))
        return d, self.pstrap(leaky(d))


class TopDown(nn.Module):
    """The backbone down to z_1, and where it starts: d_L of appendix C, the same in all cells."""

    def __init__(self, config: RRVQConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(config.width))
        pairs = pairwise((config.grids[0], *config.grids))
        self.rungs = nn.ModuleList(Rung(config, fine != coarse) for coarse, fine in pairs)


# Of a layer: what it codes has a ``price``, and an ``expected`` value where it is withheld.
LayerCodebook = Responsibility | Priced | Residual | Product


def codebook(config: RRVQConfig, size: int, seed: int) -> LayerCodebook:
    """Of a layer: ``Responsibility``, or a quantizer by name whose codes have a ``price``."""
    if config.quantizer == "responsibility":
        return Responsibility(
            config.embedding,
            size,
            learn_variances=config.learn_variances,
            free_bits=config.free_bits,
            seed=seed,
        )
    priced = partial(Priced, learn_variances=config.learn_variances)
    made = choice.make(config.quantizer, config.embedding, size, beta=config.beta, seed=seed)
    if isinstance(made, Residual):
        return Residual(map(priced, made.stages), straight_through=made.straight_through)
    return Product(map(priced, made.parts)) if isinstance(made, Product) else priced(made)


class Posterior(nn.Module):
    """One layer of the encoder, and its codebook, which is the prior's too."""

    def __init__(self, config: RRVQConfig, size: int, seed: int) -> None:
        super().__init__()
        self.qladder = nn.Conv2d(config.width, config.embedding, 1)
        self.qstrap = nn.Conv2d(config.width, config.embedding, 1)
        self.codebook = codebook(config, size, seed)

    def quantize(
        self, e_q: Tensor, e_p: Tensor, generator: torch.Generator | None = None
    ) -> Quantized:
        """e_q, e_p (B, d_e, h, w) -> its code's vectors, with ``bits``: the KL divergence, or what
        the codes cost where q is all on them; a sum over the grid and a mean over the batch."""
        if isinstance(self.codebook, Responsibility):
            log_p = self.codebook.log_responsibilities(e_p)
            made: Quantized = self.codebook(e_q, log_p, generator)
            return made
        made = self.codebook(e_q, generator)
        nats = self.codebook.price(e_p, made.codes).sum() / len(e_q)
        return made._replace(bits=nats / math.log(2))

    def forward(self, d_bar: Tensor, d: Tensor) -> Tensor:
        """d_bar, d (B, width, h, w) -> e_q (B, d_e, h, w)."""
        e_q: Tensor = self.qladder(leaky(d_bar)) + self.qstrap(leaky(d))
        return e_q


class Leave(nn.Sequential):
    """The backbone below z_1, to pixels."""

    def __init__(self, config: RRVQConfig) -> None:
        halvings = (config.side // config.grids[-1]).bit_length() - 1
        channels = (config.width, *(config.fine,) * (halvings - 1))
        super().__init__(*blocks(config.blocks, config.width))
        for inputs, outputs in pairwise(channels):
            self.append(nn.Conv2d(inputs, 4 * outputs, 1))
            self.append(nn.PixelShuffle(2))
            self.append(Block(outputs))
        self.append(nn.LeakyReLU(1 / 8))
        self.append(nn.Conv2d(channels[-1], 4 * config.channels, 3, padding=1))
        self.append(nn.PixelShuffle(2))
