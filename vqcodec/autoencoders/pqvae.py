"""``pqvae``: a picture as a sequence of codes, the most telling first (PQ-VAE, Huang et al.).

    x (side) --encoder--> features (side / 4) --progressive quantizer--> codes of each sub-map

A sub-map has 8x8 cells: a square of 32 pixels is one, a square of 64 is 2x2 of them, each sampled
from all over the square (section 4.3). There is one level, whose columns are the quantizer's steps,
and the rate points are prefixes of the columns: ``8bit-4`` is the first 4 codes of every sub-map.

Encoder and decoder have the residual bottleneck blocks of DALL-E's dVAE, three each (section 5.1).
They work at a half and a quarter of the resolution; the dVAE's blocks for single pixels, which
would cost most, are a convolution here.

The loss is the mean squared error less weighted mutual information (Eq. 5 with the signs of a
loss). Some squares of each batch are decoded from a random prefix.

The paper's codebook is ``gumbel``. Another quantizer by name takes its place, for all steps too; it
brings a loss of its own, and the information is rewarded where it chooses codes at random.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.likelihood import IMAGENET_VARIANCE
from vqcodec.autoencoders.system import Config, Level, System
from vqcodec.quantizers import choice, usage
from vqcodec.quantizers.progressive import Progressive

STRIDE = 4  # pixels of a cell
CELLS = 8  # of a side of a sub-map
REVIVE_EVERY = 20  # steps, in the first three quarters of training (HQA, appendix C.4)


@dataclass(frozen=True)
class PQVAEConfig(Config):
    """Sizes of a PQ-VAE. The paper has ``dim`` 512 and, for each step, maps of the same rank."""

    side: int = 64
    hidden: int = 64  # channels at half the resolution; twice as many at a quarter
    dim: int = 64  # channels of the features
    rank: tuple[int, ...] = (16, 4)  # columns of a step's maps, of cells and of channels
    size: int = 256  # codewords
    steps: int = 64  # codes of a sub-map
    weight: float = 1e-5  # of a nat of mutual information, in squared error of pixels in [0, 1]
    prefixes: float = 0.5  # share of squares that are decoded from a random prefix in training
    hot: float = 0.66  # temperature at the start of training,
    cold: float = 0.05  # and at its end
    quantizer: str = "gumbel"  # or another name that ``quantizers.choice`` knows
    beta: float = 0.25  # weight of the commitment loss of another, where pixels have variance 1

    def check(self) -> None:
        """Raises ValueError where the sizes contradict each other."""
        unit = STRIDE * CELLS
        if self.side < unit or self.side % unit:
            raise ValueError(f"side is a multiple of {unit} pixels, not {self.side}")
        if self.channels not in (1, 3):
            raise ValueError(f"pictures have 1 or 3 channels, not {self.channels}")
        if len(self.rank) != 2:
            raise ValueError(f"a rank has 2 numbers, not {len(self.rank)}")
        if self.hidden < 4:
            raise ValueError(f"there are at least 4 hidden channels, not {self.hidden}")
        if not 0 < self.cold <= self.hot:
            raise ValueError(f"temperatures fall and stay positive, not {self.hot} to {self.cold}")
        choice.check(self.quantizer, math.prod(self.rank), self.size)


class Block(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H, W): four convolutions with few channels, and a skip."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.branch = nn.Sequential()
        few = outputs // 4
        widths = (inputs, few, few, few, outputs)
        for number, k in enumerate(kernels):
            self.branch.append(nn.ReLU())
            self.branch.append(nn.Conv2d(widths[number], widths[number + 1], k, padding=k // 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.branch(x)
        return y


class PQVAE(System):
    """See the module. ValueError for a configuration that contradicts itself."""

    steps_done: Tensor

    def __init__(self, config: PQVAEConfig) -> None:
        super().__init__()
        config.check()
        self.config: PQVAEConfig = config
        fine, coarse = config.hidden, 2 * config.hidden
        down, up = (3, 3, 3, 1), (1, 3, 3, 3)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * config.channels, fine, 3, padding=1),
            Block(fine, fine, down),
            nn.MaxPool2d(2),
            Block(fine, coarse, down),
            Block(coarse, coarse, down),
            nn.ReLU(),
            nn.Conv2d(coarse, config.dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.dim, coarse, 1),
            Block(coarse, coarse, up),
            Block(coarse, coarse, up),
            nn.Upsample(scale_factor=2),
            Block(coarse, fine, up),
            nn.ReLU(),
            nn.Conv2d(fine, 4 * config.channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in the dVAE
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        shared = None
        if config.quantizer != "gumbel":
            shared = choice.make(
                config.quantizer,
                math.prod(config.rank),
                config.size,
                beta=config.beta * IMAGENET_VARIANCE,
            )
        self.quantizer = Progressive(
            config.dim,
            config.size,
            config.steps,
            side=CELLS,
            rank=(config.rank[0], config.rank[1]),
            weight=config.weight,
            temperature=config.hot,
            dropout=config.prefixes,
            shared=shared,
        )
        self.lengths = {
            f"{math.log2(config.size):g}bit-{n}": n
            for n in (*(2**k for k in range((config.steps - 1).bit_length())), config.steps)
        }
        self.rates = tuple(self.lengths)
        # A buffer, so that a checkpoint has it; it does not ship.
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64), persistent=False)

    def levels(self, rate: str) -> list[Level]:
        """One level: a cell for each sub-map, the columns of each step of the rate point."""
        grid = self.config.side // (STRIDE * CELLS)
        columns = self.lengths[rate] * self.quantizer.columns
        return [Level("codes", (grid, grid), self.quantizer.sizes[:columns])]

    def features(self, x: Tensor) -> Tensor:
        """x (B, channels, side, side) in [0, 1] -> (B, dim, side / 4, side / 4).

        ValueError: another shape.
        """
        side, channels = self.config.side, self.config.channels
        if x.ndim != 4 or x.shape[1:] != (channels, side, side):
            raise ValueError(f"squares of {channels}x{side}x{side}, not {tuple(x.shape)}")
        y: Tensor = self.encoder(4 * x - 2)  # about zero, and about unit variance
        return y

    def encode(self, x: Tensor, rate: str) -> list[Tensor]:
        """See System. The codes of a rate point are the first of those of a higher one."""
        return [self.quantizer.encode(self.features(x), self.lengths[rate])]

    def decode(
        self, codes: list[Tensor | None], rate: str, generator: torch.Generator | None = None
    ) -> Tensor:
        """See System. Any number of columns will do. ValueError: other shapes, or no level."""
        (level,) = self.levels(rate)
        given = codes[0] if len(codes) == 1 else None
        if given is None:
            raise ValueError("there is one level of codes, and nothing without it")
        if given.ndim != 4 or given.shape[2:] != level.grid or given.shape[1] > len(level.sizes):
            raise ValueError(
                f"codes of up to {len(level.sizes)} columns on a grid of {level.grid}, "
                f"not {tuple(given.shape)}"
            )
        x: Tensor = self.decoder(self.quantizer.decode(given))
        return x

    def decode_without(self, codes: Tensor, column: int) -> Tensor:
        """Codes (B, columns, h, w) -> squares as ``decode``, less what one column adds."""
        quantizer = self.quantizer
        own = quantizer.decode(codes, column + 1) - quantizer.decode(codes, column)
        x: Tensor = self.decoder(quantizer.decode(codes) - own)
        return x

    def loss(self, x: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """See System. The temperature of the relaxed samples falls exponentially with ``progress``.

        ``perplexity`` is that of the first columns of all steps together, as they share a codebook.
        """
        hot, cold = self.config.hot, self.config.cold
        choice.before_step(self, hot * (cold / hot) ** progress)
        quantized = self.quantizer(self.features(x), generator)
        mse = F.mse_loss(self.decoder(quantized.z), x)
        first = quantized.codes[:, :: self.quantizer.columns]
        counts = usage.counts(first, self.quantizer.sizes[0])
        return {
            "loss": mse + quantized.loss,
            "mse": mse.detach(),
            "perplexity": usage.perplexity(counts.sum(0, keepdim=True))[0],
        }

    def begin(self, stage: int, x: Tensor, generator: torch.Generator) -> None:
        choice.begin(self)

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Codewords that are hardly used move, while there is time to learn from it."""
        choice.after_step(self, progress, generator, optimizer)
        self.steps_done += 1
        own = self.quantizer.shared is None
        if own and int(self.steps_done) % REVIVE_EVERY == 0 and progress < choice.SETTLED:
            self.quantizer.revive(generator, optimizer)
