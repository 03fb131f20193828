"""RRVQ-VAE as a system: see ``vqcodec.autoencoders.rrvq``."""

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.rrvq.exact import ExactTopDown
from vqcodec.autoencoders.rrvq.networks import (
    BottomUp,
    LayerCodebook,
    Leave,
    Posterior,
    RRVQConfig,
    Rung,
    TopDown,
    leaky,
)
from vqcodec.autoencoders.system import Level, System
from vqcodec.quantizers import choice, usage
from vqcodec.quantizers.responsibility import SPREAD, Mixture, Responsibility, kl
from vqcodec.quantizers.vq import rows_of

SHARPEN_FROM = 0.4  # of the training: before, the rate is the KL divergence of the paper


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

    def network(self) -> ExactTopDown | None:
        """None where a level has several columns."""
        if any(len(level.sizes) > 1 for level in self._levels):
            return None
        codebooks = [cast(Mixture, self.codebook(layer)) for layer in range(len(self._levels))]
        names = [level.name for level in self._levels]
        return ExactTopDown(names, self.config.grids[0], self.top_down, codebooks)

    def codebook(self, layer: int) -> LayerCodebook:
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
                part.usage = self.config.usage * (1 - progress)
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
