"""RRVQ-VAE: a deep ladder of discrete latents with a prior of its own ("Relaxed-Responsibility
Hierarchical Discrete VAEs", Eqs. 3 to 7 and appendix C).

    p(x, z) = p(x | z) prod_l p(z_l | z_>l)        q(z | x) = prod_l q(z_l | z_>l, x)

A bottom-up network reads the picture, and a top-down network, the backbone, writes it, layer after
layer from z_L on one grid cell to z_1 on the finest grid. At each layer the backbone d says what it
expects, the embedding e_p; together with the bottom-up network it says what is there, e_q; both are
turned into probabilities of codes by the same codebook (see ``quantizers.responsibility``), and the
vector of the code is added to the backbone:

    e_p = pstrap(d)    e_q = qladder(d_bar) + qstrap(d)    z ~ pi(e_q)    d <- d + pladder(z)

What is minimized is -ELBO in bits per dimension (Eq. 5), of a discretized logistic likelihood with
one learned scale, with free bits. A file pays -log2 p(z_l | z_>l), so p has to be the same on every
machine: ``ExactTopDown`` evaluates the backbone and e_p in fixed point.

The paper's quantizer is ``responsibility``. With another, by name, q is all on one code: the rate
is its -log2 p, where p are the responsibilities of the quantizer's codewords for e_p as before, and
the quantizer brings a loss of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import fixedpoint
from vqcodec.autoencoders.system import Config, Level, System
from vqcodec.priors.network import fixed_conv, fixed_linear, start_small
from vqcodec.quantizers import Quantized, choice, usage
from vqcodec.quantizers.product import Product
from vqcodec.quantizers.residual import Residual
from vqcodec.quantizers.responsibility import SPREAD, Priced, Responsibility, kl
from vqcodec.quantizers.vq import rows_of

SHARPEN_FROM = 0.4  # of the training: before, the rate is the KL divergence of the paper


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


def codebook(config: RRVQConfig, size: int, seed: int) -> Any:
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


def logistic_nats(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log of the probability of 8-bit values x = v / 255 under a discretized logistic, nats.

    The bins are 1/255 wide; the outermost two reach to infinity. x and mean have the same shape.
    """
    rate = torch.exp(-log_scale)
    low, high = (x - mean - 1 / 510) * rate, (x - mean + 1 / 510) * rate
    below = torch.where(x < 1 / 510, 0.0, F.softplus(low))  # -log of the upper tail from low on
    above = torch.where(x > 1 - 1 / 510, 0.0, F.softplus(-high))
    # sigmoid(high) - sigmoid(low) = sigmoid(high) sigmoid(-low) (1 - exp(low - high))
    inside = (x >= 1 / 510) & (x <= 1 - 1 / 510)
    return below + above - torch.where(inside, torch.log(-torch.expm1(-rate / 255)), 0.0)


Choose = Callable[[int, Tensor, Tensor], Tensor]  # layer, d, e_p -> z (B, d_e, h, w)


class RRVQ(System):
    """Trained jointly; one rate point, named after the largest codebook."""

    config: RRVQConfig
    exact = ("top_down.",)

    def __init__(self, config: RRVQConfig = RRVQConfig()) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.rates = (f"{math.log2(max(config.sizes)):.4g}bit",)
        self.bottom_up, self.top_down = BottomUp(config), TopDown(config)
        self.leave = Leave(config)
        self.posteriors = nn.ModuleList(
            Posterior(config, size, seed) for seed, size in enumerate(config.sizes)
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.05)))  # of pixels in [0, 1]
        self._levels = [
            Level(f"z{len(config.grids) - layer}", (grid, grid), self.codebook(layer).sizes)
            for layer, grid in enumerate(config.grids)
        ]

    def levels(self, rate: str) -> list[Level]:
        if rate not in self.rates:
            raise ValueError(f"there is no rate point {rate!r}, only {self.rates[0]!r}")
        return self._levels

    def network(self) -> "ExactTopDown | None":
        """None where a level has several columns."""
        if any(len(level.sizes) > 1 for level in self._levels):
            return None
        return ExactTopDown(self)

    def codebook(self, layer: int) -> Any:
        return self._posterior(layer).codebook

    def _posterior(self, layer: int) -> Posterior:
        return cast(Posterior, self.posteriors[layer])

    def _descend(self, squares: int, choose: Choose) -> Tensor:
        """The backbone, with what ``choose`` adds to it -> (B, channels, side, side)."""
        grid = self.config.grids[0]
        d = self.top_down.start[:, None, None].expand(squares, -1, grid, grid)
        for layer, rung in enumerate(self.top_down.rungs):
            d, e_p = rung(d)
            d = d + cast(Rung, rung).pladder(choose(layer, d, e_p))
        pixels: Tensor = 0.5 + 0.25 * self.leave(d)
        return pixels

    def encode(self, x: Tensor, rate: str) -> list[Tensor]:
        self.levels(rate)
        self._check_pixels(x)
        d_bars = self.bottom_up(x)
        codes: list[Tensor] = []

        def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
            posterior = self._posterior(layer)
            codes.append(posterior.codebook.encode(posterior(d_bars[layer], d)))
            return posterior.codebook.decode(codes[-1])

        self._descend(len(x), choose)
        return codes

    def decode(
        self, codes: list[Tensor | None], rate: str, generator: torch.Generator | None = None
    ) -> Tensor:
        """See ``System.decode``. Codes of withheld levels come from the prior p(z_l | z_>l): with a
        ``generator`` they are drawn, and without the mean of their codewords takes their place,
        which shows less than a draw but is nearer to the picture. A tensor (B, 0, h, w) also stands
        for a withheld level, so that whole pictures can be drawn; where all are None, one is.
        Raises ValueError for codes of another shape or outside of a codebook.
        """
        levels = self.levels(rate)
        if len(codes) != len(levels):
            raise ValueError(f"{len(codes)} levels of codes where there are {len(levels)}")
        given = [c if c is not None and c.shape[1:2] != (0,) else None for c in codes]
        squares = {len(c) for c in codes if c is not None} or {1}
        if len(squares) > 1:
            raise ValueError("levels are of different numbers of squares")
        (count,) = squares
        for level, c in zip(levels, given, strict=True):
            if c is None:
                continue
            if c.shape != (count, len(level.sizes), *level.grid):
                raise ValueError(f"codes of {level.name} have the shape {tuple(c.shape)}")
            for column, size in zip(c.unbind(1), level.sizes, strict=True):
                if column.numel() and not 0 <= column.min() <= column.max() < size:
                    raise ValueError(f"a code of {level.name} is not in [0, {size})")

        def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
            codebook, known = self.codebook(layer), given[layer]
            if known is None and generator is not None:
                known = codebook.sample(e_p, generator)
            z: Tensor = codebook.expected(e_p) if known is None else codebook.decode(known)
            return z

        return self._descend(count, choose)

    def loss(self, x: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``System.loss``; 'loss' is in bits per dimension. Named parts: 'bits' per dimension
        of the pixels, given the codes, and 'kl.z5' and so on, bits of each layer in a square: KL in
        training, -log2 p of the codes in evaluation. 'perplexity' is that of first columns.
        """
        self._check_pixels(x)
        first, last = self.config.temperature, self.config.last_temperature
        choice.before_step(self, first + (last - first) * progress)
        # Not from the start: a layer whose posterior gets sharp before it is of use never will be.
        sharpening = max(0.0, (progress - SHARPEN_FROM) / (1 - SHARPEN_FROM))
        for part in self.modules():
            if isinstance(part, Responsibility):
                part.bits_back = 1 + (self.config.last_bits_back - 1) * sharpening
        d_bars = self.bottom_up(x)
        rates: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        perplexities: list[Tensor] = []

        def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
            posterior = self._posterior(layer)
            quantized = posterior.quantize(posterior(d_bars[layer], d), e_p, generator)
            assert quantized.bits is not None
            rates[f"kl.{self._levels[layer].name}"] = quantized.bits
            losses.append(quantized.loss)
            hits = quantized.codes[:, 0].flatten()
            size = self._levels[layer].sizes[0]
            counts = x.new_zeros(size).index_add_(0, hits, x.new_ones(len(hits)))
            perplexities.append(usage.perplexity(counts[None])[0])
            return quantized.z

        mean = self._descend(len(x), choose)
        pixels = logistic_nats(x, mean, self.log_scale).mean() / math.log(2)
        rate = torch.stack(list(rates.values())).sum()
        return {
            "loss": pixels + rate / x[0].numel() + torch.stack(losses).sum(),
            "mse": F.mse_loss(mean, x).detach(),
            "perplexity": torch.stack(perplexities).mean(),
            "bits": pixels.detach(),
            **{name: value.detach() for name, value in rates.items()},
        }

    @torch.no_grad()
    def divergences(self, x: Tensor) -> dict[str, Tensor]:
        """KL(q || p) of each level, given the codes of ``encode`` above it: bits a square, (B,).

        Where q is all on one code, this is what the codes cost.
        """
        return self._rates(x, None)[1]

    @torch.no_grad()
    def bound(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """-ELBO of squares x (B, channels, side, side), bits per dimension, (B,).

        Eq. 5 with z drawn from q, one draw of each code, and not relaxed: the bound that the paper
        reports. Only bits-back coding would reach it; free bits are no part of it.
        """
        mean, rates = self._rates(x, generator)
        pixels = logistic_nats(x, mean, self.log_scale).mean((1, 2, 3)) / math.log(2)
        return pixels + torch.stack(list(rates.values())).sum(0) / x[0].numel()

    def _rates(
        self, x: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What squares x decode to, and KL(q || p) of each level: bits a square, (B,).

        Codes are drawn with the ``generator``, or else those of ``encode``.
        """
        self._check_pixels(x)
        d_bars = self.bottom_up(x)
        found: dict[str, Tensor] = {}

        def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
            posterior = self._posterior(layer)
            codebook, e_q = posterior.codebook, posterior(d_bars[layer], d)
            if isinstance(codebook, Responsibility):
                codes = codebook.sample(e_q, generator) if generator else codebook.encode(e_q)
                nats = kl(codebook.logits(e_q).log_softmax(1), codebook.log_responsibilities(e_p))
            else:
                codes = codebook.encode(e_q)
                nats = codebook.price(e_p, codes)
            found[self._levels[layer].name] = nats.sum((1, 2)) / math.log(2)
            z: Tensor = codebook.decode(codes)
            return z

        return self._descend(len(x), choose), found

    @torch.no_grad()
    def begin(self, stage: int, x: Tensor, generator: torch.Generator) -> None:
        """Codebooks of embeddings e_q of pictures, spread so that few codes are likely for each."""
        choice.begin(self)
        d_bars = self.bottom_up(x)

        def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
            posterior = self._posterior(layer)
            qladder, codebook = posterior.qladder, posterior.codebook
            rows = rows_of(qladder(leaky(d_bars[layer])))
            factor = SPREAD / rows.std(0).mean()
            qladder.weight.mul_(factor)
            e_q = posterior(d_bars[layer], d)
            codebook.start(e_q, generator)
            z: Tensor = codebook.decode(codebook.encode(e_q))
            return z

        self._descend(len(x), choose)

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        choice.after_step(self, progress, generator, optimizer)

    def _check_pixels(self, x: Tensor) -> None:
        c = self.config
        if x.ndim != 4 or x.shape[1:] != (c.channels, c.side, c.side):
            raise ValueError(f"{c.channels} x {c.side} x {c.side} pixels, not {tuple(x.shape)}")


# --- the exact form: what follows has the arithmetic of ``fixedpoint``, on grids (B, h, w, C) ---


class ExactBlock:
    """``Block`` in fixed point."""

    def __init__(self, block: Block, device: torch.device) -> None:
        self.first, self.second = fixed_conv(block.first, device), fixed_conv(block.second, device)

    def __call__(self, grid: Tensor) -> Tensor:
        x = self.first.everywhere(fixedpoint.leaky_relu(grid))
        x = self.second.everywhere(fixedpoint.leaky_relu(x))
        return fixedpoint.clip(x.add_(grid))


class ExactRung:
    """``Rung`` and its codebook in fixed point."""

    def __init__(self, rung: Rung, means: Tensor, device: torch.device) -> None:
        self.up = None if rung.up is None else fixed_linear(rung.up.conv, device)
        self.blocks = [ExactBlock(cast(Block, block), device) for block in rung.blocks]
        self.pstrap = fixed_linear(rung.pstrap, device)
        rows = fixedpoint.round_activations(means.detach().to(device).double() * fixedpoint.UNITS)
        self.added = fixed_linear(rung.pladder, device)(rows).float()  # (K, width): of each code

    def enter(self, grid: Tensor) -> Tensor:
        """d after the layer above -> d at this layer."""
        if self.up is not None:
            change = fixedpoint.each_cell(self.up, fixedpoint.leaky_relu(grid))
            near = grid.repeat_interleave(2, 1).repeat_interleave(2, 2)
            grid = fixedpoint.clip(fixedpoint.pixel_shuffle(change).add_(near))
        for block in self.blocks:
            grid = block(grid)
        return grid

    def embedding(self, grid: Tensor) -> Tensor:
        """d at this layer -> e_p, in ones and not in units."""
        e_p = fixedpoint.each_cell(self.pstrap, fixedpoint.leaky_relu(grid))
        return e_p.div_(fixedpoint.UNITS)

    def leave(self, grid: Tensor, codes: np.ndarray) -> Tensor:
        """d at this layer and its codes (B, 1, h, w) -> d after it. Raises ValueError."""
        if codes.shape != (len(grid), 1, *grid.shape[1:3]):
            raise ValueError(f"codes {codes.shape} do not fit a grid {tuple(grid.shape[:3])}")
        if not 0 <= codes.min() <= codes.max() < len(self.added):
            raise ValueError(f"a code is not in [0, {len(self.added)})")
        index = torch.from_numpy(codes[:, 0]).to(grid.device, torch.int64)
        return fixedpoint.clip(self.added[index].add_(grid))


class ExactTopDown:
    """``TopDown`` in fixed point: the ``priors.embedding.Network`` of an RRVQ-VAE."""

    def __init__(self, model: RRVQ) -> None:
        """Raises ValueError where the weights are too large to be evaluated exactly."""
        self.names = [level.name for level in model.levels(model.rates[0])]
        self.grid = model.config.grids[0]
        start = model.top_down.start.detach()
        start = fixedpoint.round_activations(start.double() * fixedpoint.UNITS)
        self.start = start.float()  # (width,)
        self.codebooks = [model.codebook(layer) for layer in range(len(self.names))]
        self.rungs = [
            ExactRung(cast(Rung, rung), codebook.means, start.device)
            for rung, codebook in zip(model.top_down.rungs, self.codebooks, strict=True)
        ]

    def walk(self, squares: int) -> "ExactWalk":
        return ExactWalk(self, squares)

    def probabilities(self, level: int, embeddings: Tensor) -> Tensor:
        """Responsibilities for e_p: (n, d_e) -> (n, K). Not exact."""
        e_p = embeddings.t()[None, :, :, None]
        return self.codebooks[level].log_responsibilities(e_p).detach()[0, :, :, 0].t().exp()


class ExactWalk:
    """The backbone of some squares: see ``priors.embedding.Walk``."""

    def __init__(self, network: ExactTopDown, squares: int) -> None:
        self.network, self.level = network, 0
        self._above = network.start.expand(squares, network.grid, network.grid, -1)
        self._here: Tensor | None = None  # d at the next layer, once it is needed

    def _enter(self) -> Tensor:
        if self._here is None:
            self._here = self.network.rungs[self.level].enter(self._above)
        return self._here

    def embedding(self) -> Tensor:
        return self.network.rungs[self.level].embedding(self._enter())

    def put(self, codes: np.ndarray) -> None:
        self._above = self.network.rungs[self.level].leave(self._enter(), codes)
        self._here, self.level = None, self.level + 1
