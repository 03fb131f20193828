"""``hqa`` and ``ham``: stacks of small autoencoders, trained one by one from the pixels up.

HQA, the hierarchical quantized autoencoder (Williams et al. 2020). Layer 1 compresses the picture,
layer l the latent of layer l - 1, which is normalized but not quantized. A rate point is a layer:
only its codes are sent. The decoder goes down one layer at a time, and each latent that it predicts
is quantized again with that layer's own codebook (algorithm 3), so that the last steps always
start from codewords, whatever was lost above.

HAM, after the hierarchical autoregressive models of De Fauw et al. 2019, as HQA's authors compare
with it (appendix C.2): a layer gets the codewords of the layer below, and its decoder names them.

Codes are chosen in 64 bits, by the decoder too, where no rounding error decides between two
codewords: a square has the same codes in any batch, and the decoder chooses the same lower codes on
any machine.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vqcodec.autoencoders.system import Config, Level, System
from vqcodec.quantizers import choice
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.vq import VQ, draw, planes_of, rows_of

LAST_TEMPERATURE = 0.01
SHOWN = 1  # squares of a training batch whose decoded pixels are compared
PLACES = 2**15  # of the finest grid, that go through the networks in 64 bits at once


@dataclass(frozen=True)
class HQAConfig(Config):
    """Sizes of an HQA; the defaults are those of its table 10, for MNIST in 32x32."""

    channels: int = 1
    codebook: int = 256  # codewords of each layer
    dim: int = 64  # of a codeword
    encoder: tuple[int, ...] = (
        16,
        16,
        32,
        48,
        80,
    )  # hidden channels of each layer, from the pixels
    decoder: tuple[int, ...] = (16, 32, 48, 80, 128)
    more_convs: int = 0  # of each decoder, on its small grid, besides three
    full: bool = False  # layer 1 keeps the resolution; each other one halves it
    quantizer: str = "gumbel"  # or another name that ``quantizers.choice`` knows
    temperature: float = 0.66  # of the relaxed codes, at first; it falls to 0.01
    entropy: float = 1e-3  # beta_e, for 'gumbel'
    commitment: float = 1e-3  # beta_c; with other estimators a weight of the mean over elements
    per_place: bool = False  # both weigh means over places, in place of sums over y's elements
    moved: int = 1  # codewords that move in 20 steps at most, for 'gumbel'; the paper's one is few
    places: int = 16384  # codes in a step of training at most: fine layers get part of the batch
    kept: tuple[int, ...] = ()  # squares that a layer is trained on, and their latents kept; 0: any

    def check(self) -> None:
        if len(self.encoder) != len(self.decoder) or not self.encoder:
            raise ValueError("encoder and decoder differ in length, or there is no layer")
        if min(self.encoder + self.decoder) < 2:
            raise ValueError("a layer has fewer than 2 hidden channels")
        if self.side % (1 << self.halvings(len(self.encoder) - 1)):
            raise ValueError(f"{self.side} pixels cannot be halved {len(self.encoder)} times")
        if self.moved < 0:
            raise ValueError(f"{self.moved} codewords cannot move")
        if self.kept and (len(self.kept) != len(self.encoder) or min(self.kept) < 0):
            raise ValueError("kept is not a number of squares for each layer")
        if self.codebook < 2 or self.codebook & (self.codebook - 1):
            raise ValueError(f"a codebook of {self.codebook} is not a power of two")
        choice.check(self.quantizer, self.dim, self.codebook)

    def halvings(self, layer: int) -> int:
        """How often the side is halved up to a layer, counted from 0."""
        return layer + 1 - self.full


@dataclass(frozen=True)
class HAMConfig(HQAConfig):
    """Sizes of a HAM; the defaults are those of HQA's table 12, for MNIST in 32x32."""

    decoder: tuple[int, ...] = (16, 26, 40, 58, 96)
    quantizer: str = "ema"
    commitment: float = 0.02


def moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """y (B, C, h, w) -> mean and standard deviation of each channel over all, (C, 1, 1) float64."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for y in batches:
        y = y.double()
        count += y[:, 0].numel()
        total = total.to(y) + y.sum((0, 2, 3))
        square = square.to(y) + y.square().sum((0, 2, 3))
    mean = total / count
    std = (square / count - mean.square()).clamp_min(1e-6).sqrt()
    return mean[:, None, None], std[:, None, None]


def run(net: nn.Module, x: Tensor) -> Tensor:
    """net(x) in the precision of x, whatever that of the weights."""
    weights = {name: weight.to(x.dtype) for name, weight in net.named_parameters()}
    result: Tensor = functional_call(net, weights, x)
    return result


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """A padded convolution that keeps the variance and has no bias at first.

    With the usual start, biases learn first, and at a high learning rate nothing else ever does.
    """
    made = nn.Conv2d(inputs, outputs, size, stride, size // 2)
    weight, bias = made.parameters()
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    nn.init.zeros_(bias)
    return made


def last_conv(net: nn.Sequential) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of the last convolution."""
    weight, bias = [part for part in net if isinstance(part, nn.Conv2d)][-1].parameters()
    return weight, bias


class Layer(nn.Module):
    """One autoencoder of the stack, from y (B, inputs, sh, sw) to z (B, dim, h, w) and back.

    mean, std (inputs, 1, 1): of the channels of y, measured when the layer's training begins
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: HQAConfig, index: int, outputs: int) -> None:
        super().__init__()
        inputs = config.dim if index else config.channels
        stride = 1 if config.full and index == 0 else 2
        up, down = config.encoder[index], config.decoder[index]
        self.encoder = nn.Sequential(
            conv(inputs, up // 2, stride=stride),
            nn.Mish(),
            conv(up // 2, up),
            nn.Mish(),
            conv(up, config.dim, 1),
        )
        self.decoder = nn.Sequential(conv(config.dim, down), nn.Mish())
        for _ in range(config.more_convs):
            self.decoder += nn.Sequential(conv(down, down), nn.Mish())
        if stride > 1:
            self.decoder.append(nn.Upsample(scale_factor=stride))
        self.decoder += nn.Sequential(
            conv(down, down // 2),
            nn.Mish(),
            conv(down // 2, outputs),
        )
        if index == 0:
            self.decoder.append(nn.Sigmoid())
        # The paper does not say what its sums over the places of z are divided by: the number of
        # elements of y, as the squared error is, or of places.
        places = 1.0 if config.per_place else 1 / (inputs * stride**2)
        if config.quantizer == "gumbel":
            beta, negentropy = config.commitment * places * config.dim, config.entropy * places
            quantizer = VQ(config.dim, config.codebook, "gumbel", beta=beta, negentropy=negentropy)
            self.quantizer: Any = choice.Tended("gumbel", quantizer, config.moved)
        else:
            self.quantizer = choice.make(
                config.quantizer, config.dim, config.codebook, beta=config.commitment
            )
        self.register_buffer("mean", torch.zeros(inputs, 1, 1))
        self.register_buffer("std", torch.ones(inputs, 1, 1))

    def normalize(self, y: Tensor) -> Tensor:
        return (y - self.mean) / self.std

    def encode(self, y: Tensor) -> Tensor:
        """y (B, inputs, sh, sw), as the layer below makes it -> z (B, dim, h, w)."""
        return run(self.encoder, self.normalize(y))


class HQA(System):
    """Hierarchical quantized autoencoder. Rate points are its layers, the top one first."""

    config: HQAConfig

    def __init__(self, config: HQAConfig = HQAConfig()) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.layers = nn.ModuleList()
        for i in range(len(config.encoder)):
            self.layers.append(Layer(config, i, self._outputs(i)))
        grids = (config.side >> config.halvings(i) for i in range(len(self.layers)))
        names = [f"{log2(config.codebook):.0f}bit-{n}x{n}" for n in grids]
        self.rates = tuple(reversed(names))
        self.stage = 0  # the layer in training, counted from 0
        self._kept: tuple[Tensor, Tensor] | None = None  # what ``_task`` makes of kept squares

    @property
    def _at_once(self) -> int:
        """How many squares go through the networks in 64 bits at once."""
        (height, width), *_ = (level.grid for level in self.levels(self.rates[-1]))
        return max(1, PLACES // (height * width))

    def _outputs(self, index: int) -> int:
        """Channels that the decoder of a layer makes: those of its input."""
        return self.config.dim if index else self.config.channels

    def layer(self, index: int) -> Layer:
        found = self.layers[index]
        assert isinstance(found, Layer)
        return found

    def layer_of(self, rate: str) -> int:
        """The layer of a rate point, counted from 0. Raises ValueError if there is none."""
        if rate not in self.rates:
            raise ValueError(f"rate {rate!r} is none of {', '.join(self.rates)}")
        return len(self.layers) - 1 - self.rates.index(rate)

    def levels(self, rate: str) -> list[Level]:
        index = self.layer_of(rate)
        side = self.config.side >> self.config.halvings(index)
        return [Level(f"layer{index + 1}", (side, side), self.layer(index).quantizer.sizes)]

    # --- Up

    def _climb(self, x: Tensor, index: int) -> Tensor:
        """x (B, channels, side, side) -> the latent z (B, dim, h, w) of a layer, or x below all."""
        y = x
        for i in range(index + 1):
            y = self.layer(i).encode(self._seen(i - 1, y))
        return y

    def _seen(self, index: int, z: Tensor) -> Tensor:
        """What the next layer sees of the latent z of a layer, here all. -1: of the pixels."""
        return z

    @torch.no_grad()
    def latent(self, x: Tensor, rate: str) -> Tensor:
        """x (B, channels, side, side) -> what is quantized, (B, dim, h, w) float64.

        Raises ValueError for another shape or rate point.
        """
        index = self.layer_of(rate)
        square = (self.config.channels, self.config.side, self.config.side)
        if x.ndim != 4 or x.shape[1:] != square:
            raise ValueError(f"squares are {square}, not {tuple(x.shape[1:])}")
        return self._climb(x.double(), index)

    @torch.no_grad()
    def quantize(self, z: Tensor, rate: str) -> Tensor:
        """A latent (B, dim, h, w) -> codes (B, columns, h, w) of the nearest codewords."""
        codes: Tensor = self.layer(self.layer_of(rate)).quantizer.encode(z)
        return codes

    def encode(self, x: Tensor, rate: str) -> list[Tensor]:
        """x (B, channels, side, side) -> [codes (B, columns, h, w)] of the nearest codewords.

        Raises ValueError for another shape or rate point.
        """
        parts = x.split(self._at_once)  # bounds what latents and distances take
        return [torch.cat([self.quantize(self.latent(part, rate), rate) for part in parts])]

    # --- Down

    @torch.no_grad()
    def decode(
        self, codes: list[Tensor | None], rate: str, generator: torch.Generator | None = None
    ) -> Tensor:
        """[codes (B, columns, h, w)] of one layer -> x (B, channels, side, side) (algorithm 3).

        The codes of the layers below are the likeliest ones, or with a ``generator`` they are
        drawn. Raises ValueError without codes or with those of another grid.
        """
        index = self.layer_of(rate)
        (level,) = self.levels(rate)
        shape = (len(level.sizes), *level.grid)
        code = codes[0] if len(codes) == 1 else None
        if code is None or code.ndim != 4 or code.shape[1:] != shape:
            raise ValueError(f"{rate} needs one level of codes {shape}")
        return torch.cat([self._descend(p, index, generator) for p in code.split(self._at_once)])

    def _descend(
        self,
        code: Tensor,
        index: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Codes (B, columns, h, w) of a layer -> x (B, channels, side, side).

        What decides about codes is computed in ``dtype``, pixels in the precision of the weights.
        """
        while True:
            layer = self.layer(index)
            z = layer.quantizer.decode(code)
            if index == 0:
                x: Tensor = layer.decoder(z)
                return x
            code = self._code_below(index, run(layer.decoder, z.to(dtype)), generator)
            index -= 1

    def _code_below(self, index: int, out: Tensor, generator: torch.Generator | None) -> Tensor:
        """Output of a decoder, a normalized latent -> codes (B, columns, h, w) of the layer below.

        The nearest codewords, or with a ``generator`` samples of the posterior (eq. 6).
        """
        layer, lower = self.layer(index), self.layer(index - 1).quantizer
        z = layer.mean + layer.std * out
        codes: Tensor = lower.encode(z) if generator is None else lower.sample(z, generator)
        return codes

    # --- Training

    def stages(self) -> list[list[nn.Parameter]]:
        return [list(layer.parameters()) for layer in self.layers]

    def trained(self, stage: int) -> tuple[str, ...]:
        return self.rates[-1 - stage :]

    @torch.no_grad()
    def begin(self, stage: int, x: Tensor, generator: torch.Generator) -> None:
        """Measure what the layer sees of squares x, and make latents of them its codewords.

        The latents first get zero mean and unit variance: close to each other, all codes would be
        alike. The first layer's decoder starts from the mean colour.
        """
        self.stage, self._kept = stage, None
        layer, parts = self.layer(stage), x.split(self._at_once)
        if stage > 0:
            below = (self._seen(stage - 1, self._climb(part, stage - 1)) for part in parts)
            mean, std = moments(below)
            layer.mean.copy_(mean)
            layer.std.copy_(std)
        else:
            brightness = x.mean((0, 2, 3)).clamp(0.01, 0.99)
            last_conv(layer.decoder)[1].copy_(brightness.logit())
        mean, std = moments(self._climb(part, stage) for part in parts)
        weight, bias = last_conv(layer.encoder)
        weight.div_(std[..., None])
        bias.sub_(mean[:, 0, 0]).div_(std[:, 0, 0])
        latents = []
        for part in parts:
            rows = rows_of(self._climb(part, stage))
            latents.append(use.pick(rows, min(len(rows), self.config.codebook), generator))
        layer.quantizer.start(torch.cat(latents)[:, :, None, None], generator)

    def kept(self, stage: int) -> int:
        """How many squares ``keep`` is to have before the first step of a stage; 0: none."""
        return self.config.kept[stage] if self.config.kept else 0

    def keep(self, x: Iterable[Tensor]) -> None:
        """Train this stage on squares x (B, channels, side, side), and no others.

        The layers below are what takes the time of an upper layer's step. They are done with, so
        what they make of a square can be kept.
        """
        made = [self._task(part) for part in x]
        y, target = (torch.cat(parts) for parts in zip(*made, strict=True))
        self._kept = y, target

    @torch.no_grad()
    def _task(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the layer in training gets, normalized, and what its decoder is to say of it."""
        y = self.layer(self.stage).normalize(self._climb(x, self.stage - 1))
        return y, y

    def loss(self, x: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``System``; of the layer of this stage (eq. 5, algorithm 2).

        L = |y - y_hat|^2 + beta_e sum_k q_k ln q_k + beta_c sum_k q_k |z - e_k|^2, where the
        second term rewards entropy. 'error' is the first, in the units of the normalized latent
        (HAM: nats per place below). 'mse' is that of pixels decoded from hard codes; in training
        from a few squares of the batch. Of kept squares a batch has as many as ``places`` lets it.
        """
        layer, rate = self.layer(self.stage), self.rates[-1 - self.stage]
        h, w = self.levels(rate)[0].grid
        most = max(1, self.config.places // (h * w))
        first = self.config.temperature
        choice.before_step(layer, first + (LAST_TEMPERATURE - first) * progress)
        if self.training and self._kept is not None:
            count = len(self._kept[0])
            some = torch.randint(count, (min(most, count),), generator=generator, device=x.device)
            y, target = (part[some] for part in self._kept)
        else:
            x = x[:most] if self.training else x
            y, target = self._task(x)
        z = layer.encoder(y)
        quantized = layer.quantizer(z, generator)
        out = layer.decoder(quantized.z)
        error = self._error(out, target)
        with torch.no_grad():
            if self.training:
                x = x[:SHOWN]
                shown = z[:SHOWN] if self._kept is None else self._climb(x, self.stage)
                x_hat = self._descend(layer.quantizer.encode(shown), self.stage, None, x.dtype)
            else:
                x_hat = self.decode(list(self.encode(x, rate)), rate)
            hits = use.counts(quantized.codes[:, :1], layer.quantizer.sizes[0])
        return {
            "loss": error + quantized.loss,
            "error": error.detach(),
            "mse": F.mse_loss(x_hat, x),
            "perplexity": use.perplexity(hits)[0],
        }

    def _error(self, out: Tensor, target: Tensor) -> Tensor:
        """Of the output of the decoder in training, (), where ``_task`` says the target."""
        return F.mse_loss(out, target)

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Moves codewords that are hardly used (HQA: appendix C.4)."""
        choice.after_step(self.layer(self.stage), progress, generator, optimizer)


class HAM(HQA):
    """The deterministic stack: each layer above the first compresses the codes of the one below."""

    def _outputs(self, index: int) -> int:
        """Channels that the decoder of a layer makes: a logit for each code of each column below.

        Columns are named independently of each other.
        """
        return sum(self.layer(index - 1).quantizer.sizes) if index else self.config.channels

    def _seen(self, index: int, z: Tensor) -> Tensor:
        """What the next layer sees of the latent z of a layer: its codewords. -1: of the pixels."""
        if index < 0:
            return z
        quantizer = self.layer(index).quantizer
        return quantizer.decode(quantizer.encode(z)).to(z.dtype)

    @torch.no_grad()
    def _task(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.stage == 0:
            return super()._task(x)
        quantizer = self.layer(self.stage - 1).quantizer
        codes = quantizer.encode(self._climb(x, self.stage - 1))
        return self.layer(self.stage).normalize(quantizer.decode(codes)), codes

    def _error(self, out: Tensor, target: Tensor) -> Tensor:
        if self.stage == 0:
            return super()._error(out, target)
        columns = zip(self._columns(self.stage, out), target.unbind(1), strict=True)
        return torch.stack([F.cross_entropy(logits, codes) for logits, codes in columns]).sum()

    def _columns(self, index: int, out: Tensor) -> tuple[Tensor, ...]:
        """Output of a decoder (B, logits, h, w) -> logits (B, K, h, w) of each column below."""
        return out.split(self.layer(index - 1).quantizer.sizes, 1)

    def _code_below(self, index: int, out: Tensor, generator: torch.Generator | None) -> Tensor:
        """Output of a decoder, logits -> the likeliest codes (B, columns, h, w), or samples."""
        columns = self._columns(index, out)
        if generator is None:
            return torch.stack([logits.argmax(1) for logits in columns], 1)
        drawn = [draw(rows_of(logits), generator) for logits in columns]
        return planes_of(torch.stack(drawn, 1), out)
