"""``dqae``: the depth-quantized autoencoder, a ladder of grids of codes (DQ, algorithm 1).

The encoder e goes from fine to coarse, then each level is quantized with what the coarser ones say:

    top      q = Q(e),               d = D(q)
    lower    q = Q(conv1x1 [e, d']), d = D(q) + d'      with d' from the level above
    x_hat = Dec([U(q) of all levels])

Q has a codebook for each of M slices of the channels (``Product``), D leads to the grid of the next
level, so d' is widened to it before it is added, and U to the grid of the finest level. With one
slice and without the skip sum this is VQ-VAE-2, with one level VQ-VAE.

The encoder and the decoders have a linear path from end to end, with residual blocks beside it, in
place of the paper's strided convolutions with a ReLU after each. Without quantization this reaches
a quarter of the squared error in the same few hundred steps.

The decoder sees zeros for a level that is withheld. Where this happened in training too
(``withhold``), the coarser levels alone are rate points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.likelihood import LIKELIHOODS, Likelihood
from vqcodec.autoencoders.system import Config, Level, System
from vqcodec.quantizers import Quantized, choice
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.product import AXES, Product
from vqcodec.quantizers.residual import prefix_lengths


@dataclass(frozen=True)
class DQAEConfig(Config):
    """Sizes of a DQ-AE. The finest grid has side / 2**down rows, each coarser one half of them."""

    width: int = 64  # channels
    blocks: int = 2  # residual blocks of each encoder and decoder
    down: int = 2  # strided convolutions in front of the finest level
    dim: int = 8  # D: numbers of a slice
    columns: int = 4  # M: slices, and codes, of a place
    sizes: tuple[int, ...] = (256, 128)  # K: codewords of each slice by level, top to bottom
    quantizer: str = "ema"  # a name that ``quantizers.choice`` knows
    axis: str = "channel"  # along which the slices have codebooks; or pixel
    tied: bool = False  # all codebooks code one vector of ``dim`` numbers: the paper's VQ
    beta: float = 0.25  # weight of the commitment loss
    likelihood: str = "mse"  # or ce, mix
    skip: bool = True  # the sum d = D(q) + d'
    withhold: float = 0.0  # probability that training decodes a random number of levels

    def check(self) -> None:
        coarsest = 2 ** (self.down + len(self.sizes) - 1)
        if not self.sizes or self.down < 1 or self.side % coarsest:
            raise ValueError(f"squares of {self.side} pixels have no grids down to /{coarsest}")
        if min(self.width, self.dim, self.columns) < 1 or self.blocks < 0:
            raise ValueError("width, dim and columns are at least 1, blocks 0")
        for size in self.sizes:
            choice.check(self.quantizer, self.dim, size)
        for value, known in (
            (self.axis, AXES),
            (self.likelihood, LIKELIHOODS),
        ):
            if value not in known:
                raise ValueError(f"{value!r} is none of {', '.join(known)}")
        if self.axis == "pixel" and self.side // coarsest < self.columns:
            raise ValueError(f"{self.columns} slices of {self.side // coarsest} rows")
        if self.axis == "pixel" and self.tied:
            raise ValueError("slices along the pixels cannot be tied")
        if not 0 <= self.withhold <= 1:
            raise ValueError(f"withhold is a probability, not {self.withhold}")


class ResidualBlock(nn.Module):
    """x + conv1x1(ReLU(conv3x3(ReLU(x)))), close to the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


def residual(width: int, blocks: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(blocks)]


def shrink(inputs: int, outputs: int, down: int) -> nn.Module:
    """A linear map of overlapping squares to 1 / 2**down of the sides, ``down`` at least 1."""
    stride = 2**down
    return nn.Conv2d(inputs, outputs, 2 * stride, stride, stride // 2)


def grow(inputs: int, outputs: int, up: int) -> nn.Module:
    """The mirror of ``shrink``, to 2**up of the sides; nothing for ``up=0``."""
    if up == 0:
        return nn.Identity()
    stride = 2**up
    return nn.ConvTranspose2d(inputs, outputs, 2 * stride, stride, stride // 2)


def encoder(inputs: int, width: int, down: int, blocks: int) -> nn.Sequential:
    """(B, inputs, H, W) -> (B, width, h, w)."""
    return nn.Sequential(shrink(inputs, width, down), *residual(width, blocks))


def decoder(inputs: int, width: int, outputs: int, up: int, blocks: int) -> nn.Sequential:
    """(B, inputs, h, w) -> (B, outputs, H, W)."""
    enter = nn.Conv2d(inputs, width, 3, padding=1)
    return nn.Sequential(enter, *residual(width, blocks), grow(width, outputs, up))


def standardize(conv: nn.Conv2d, x: Tensor) -> None:
    """Give the channels of conv(x) mean 0 and variance 1 (Salimans and Kingma 2016).

    The distances that a quantizer meets, and the weight of its loss, then have a known scale.
    """
    z = conv(x)
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3)).clamp_min(1e-6)
    conv.weight.div_(std[:, None, None, None])
    assert conv.bias is not None
    conv.bias.sub_(mean).div_(std)


class DQAE(System):
    """Rate points are '8bit' and, with ``withhold``, '8bit-4x4' for the levels down to that grid;
    the largest codebook has 2**8 codewords.

    Raises ValueError for sizes that contradict each other.
    """

    def __init__(self, config: DQAEConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.shape = (config.channels, config.side, config.side)
        self.skip, self.withhold = config.skip, config.withhold
        width, latent, count = config.width, config.columns * config.dim, len(config.sizes)
        finest = config.side >> config.down
        self.grids = [(finest >> up, finest >> up) for up in reversed(range(count))]
        bits = f"{round(log2(max(config.sizes)), 2):g}bit"
        coarse = [f"{bits}-{h}x{w}" for h, w in self.grids[:-1]] if config.withhold else []
        self.rates = (*coarse, bits)

        self.encoders: Any = nn.ModuleList(  # fine to coarse, as a picture passes them
            encoder(width, width, 1, config.blocks)
            if number
            else encoder(config.channels, width, config.down, config.blocks)
            for number in range(count)
        )
        # All others are coarse to fine.
        self.projections: Any = nn.ModuleList(
            nn.Conv2d(2 * width if number else width, config.dim if config.tied else latent, 1)
            for number in range(count)
        )
        self.quantizers: Any = nn.ModuleList(
            Product(
                [
                    choice.make(
                        config.quantizer,
                        config.dim,
                        size,
                        beta=config.beta,
                        seed=number * config.columns + column,
                    )
                    for column in range(config.columns)
                ],
                axis=config.axis,
                tied=config.tied,
            )
            for number, size in enumerate(config.sizes)
        )
        self.decoders: Any = nn.ModuleList(
            decoder(latent, width, width, 1, config.blocks) for _ in range(count - 1)
        )
        self.upsamplers: Any = nn.ModuleList(
            grow(latent, width, up) for up in reversed(range(count))
        )
        self.pixels: Likelihood = LIKELIHOODS[config.likelihood](config.channels)
        seen = latent + (count - 1) * width
        maps = self.pixels.maps
        if maps == config.channels:
            self.synthesis: Any = decoder(seen, width, maps, config.down, config.blocks)
        else:  # too many for a wide kernel
            self.synthesis = nn.Sequential(
                *decoder(seen, width, width, config.down, config.blocks),
                nn.ReLU(),
                nn.Conv2d(width, maps, 1),
            )

    def levels(self, rate: str) -> list[Level]:
        """Raises ValueError for a name that is none of ``rates``."""
        if rate not in self.rates:
            raise ValueError(f"rate point {rate!r} is none of {', '.join(self.rates)}")
        count = len(self.grids) - (len(self.rates) - 1 - self.rates.index(rate))
        return [
            Level(f"{h}x{w}", (h, w), self.quantizers[number].sizes)
            for number, (h, w) in enumerate(self.grids[:count])
        ]

    def encode(self, x: Tensor, rate: str) -> list[Tensor]:
        """x (B, channels, side, side) in [0, 1] -> codes (B, columns, h, w) of each level.

        Raises ValueError for another shape or an unknown rate point.
        """
        return [made.codes for made in self._quantize(x, len(self.levels(rate)))]

    def decode(
        self,
        codes: Sequence[Tensor | None],
        rate: str,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes of each level -> (B, channels, side, side). Nothing is drawn.

        Withheld levels and missing last columns count as zeros. Raises ValueError for codes of
        other shapes, where all levels are withheld, or for an unknown rate point.
        """
        levels = self.levels(rate)
        known = [level for level in codes if level is not None]
        if len(codes) != len(levels) or not known:
            raise ValueError(f"codes of {len(levels)} levels, not all withheld, are expected")
        latents: list[Tensor] = []
        for number, quantizer in enumerate(self.quantizers):
            some = codes[number] if number < len(levels) else None
            if some is None:
                empty = (len(known[0]), quantizer.dim, *self.grids[number])
                latents.append(self.synthesis[0].weight.new_zeros(empty))
                continue
            columns, full = some.shape[1], len(quantizer.sizes)
            if some.shape != (len(known[0]), columns, *self.grids[number]) or columns > full:
                raise ValueError(f"codes {tuple(some.shape)} are not of {levels[number]}")
            padded = F.pad(some, (0, 0, 0, 0, 0, full - columns))
            latents.append(quantizer.decode(padded, columns))
        return self.pixels.picture(self._synthesize(latents))

    def loss(self, x: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and commitment loss ('pixels', 'codes'); DQ, eq. 5.

        'perplexity' is the mean over all columns with the most codewords of their level.
        """
        choice.before_step(self, choice.COLDEST**progress)
        made = self._quantize(x, len(self.grids), generator)
        latents = [q.z for q in made]
        if self.training and self.withhold:
            kept = prefix_lengths(len(x), len(latents), self.withhold, generator)
            kept = kept.to(x.device)[:, None, None, None]
            latents = [torch.where(n < kept, z, 0.0) for n, z in enumerate(latents)]
        maps = self._synthesize(latents)
        pixels, codes = self.pixels.loss(maps, x), torch.stack([q.loss for q in made]).sum()
        result = {"loss": pixels + codes, "pixels": pixels.detach(), "codes": codes.detach()}
        with torch.no_grad():
            result["mse"] = F.mse_loss(self.pixels.picture(maps), x)
            result["perplexity"] = self._perplexity([q.codes for q in made])
        return result

    def begin(self, stage: int, x: Tensor, generator: torch.Generator) -> None:
        """The latents of squares x (B, ...) get mean 0 and variance 1."""
        choice.begin(self)
        with torch.no_grad():
            self._quantize(x, len(self.grids), generator, scale=True)

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        choice.after_step(self, progress, generator, optimizer)

    def _quantize(
        self,
        x: Tensor,
        count: int,
        generator: torch.Generator | None = None,
        scale: bool = False,
    ) -> list[Quantized]:
        """The first ``count`` levels of x (B, channels, side, side); ``scale``: see ``begin``."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"squares of {self.shape} are expected, not {tuple(x.shape)}")
        features = [2 * x - 1]
        for part in self.encoders:
            features.append(part(features[-1]))
        made: list[Quantized] = []
        above: Tensor | None = None  # d of the levels above, on this level's grid
        for number in range(count):
            e = features.pop()
            e = e if above is None else torch.cat((e, above), 1)
            if scale:
                standardize(self.projections[number], e)
            made.append(self.quantizers[number](self.projections[number](e), generator))
            if number + 1 < count:
                d = self.decoders[number](made[-1].z)
                if self.skip and above is not None:
                    d = d + F.interpolate(above, scale_factor=2, mode="nearest")
                above = d
        return made

    def _synthesize(self, latents: list[Tensor]) -> Tensor:
        """Quantized latents of all levels (B, M * D, h, w) -> maps of the pixels."""
        on_finest = [up(z) for up, z in zip(self.upsamplers, latents, strict=True)]
        return self.synthesis(torch.cat(on_finest, 1))

    def _perplexity(self, codes: list[Tensor]) -> Tensor:
        found = []
        for quantizer, some in zip(self.quantizers, codes, strict=True):
            size = max(quantizer.sizes)
            columns = [c for c, n in enumerate(quantizer.sizes) if n == size]
            found.append(use.perplexity(use.counts(some[:, columns], size)))
        return torch.cat(found).mean()
