"""``ladder``: the photo codec. All rates in one network, five levels, coarse to fine.

Analysis  y = W x + 32 f(x)      Synthesis  x = V y + 32 g(y / std)

W starts as a 16x16 block DCT on an orthonormal colour transform, V as its transpose, so that the
untrained codec is a JPEG with a better entropy coder; f and g are small residual networks. The
latent y has one cell for 16x16 pixels and is quantized channel by channel, depthwise with slices of
one dimension, after a predicted mean is subtracted. Level 0 is a hyper grid with one cell for 64x64
pixels; levels 1 to 4 are the slices of y, low to high frequency. In the first three slices the
cells of one colour of a checkerboard (the anchors) come first, so that the others see their four
neighbours.

Units: pixels 0..255; the latent in units of the orthonormal transform of such pixels; after
division by ``step(n)`` one unit is the distance of two codewords. At ``Nbit`` a codebook of 2**N
codewords covers a range of 10240 units, so step(N) = 10240 / 2**N.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.fixedpoint import log2_magnitude
from vqcodec.priors.network import CellNet, Film, start_small
from vqcodec.quantizers.depthwise import straight_through
from vqcodec.quantizers.gradients import clamp
from vqcodec.settings import Settings

RANGE = 10240.0  # units of the latent that a codebook covers
RESIDUAL_UNIT = 32.0  # of the residual networks' outputs; one unit for all channels keeps DC calm
BITS_CENTRE = 7.5  # t(n) = (n - 7.5) / 2
LAMBDA = 30.0  # lambda = 30 / step**2, so that the quantization step is near its optimum
LOG2_E = 1.4426950408889634
LOG_TAIL = -9.0  # natural logarithm of the tail's density at zero
HYPER_SIZE = 64  # codewords of a hyper channel, the integers -32..31
MIN_LOG2_SCALE = -4.5  # of a logistic, in steps: a nonzero code has probability 2**-15 there
MAX_LOG2_SCALE = 7.5


@dataclass(frozen=True)
class LadderConfig(Settings):
    """Sizes of a ladder. Channel counts are those of the latent y, by frequency."""

    luma: int = 176
    chroma: int = 40
    more_luma: int = 0  # the next frequencies, after all of the above
    more_chroma: int = 0
    slices: tuple[int, ...] = (8, 24, 64, 160)
    checkerboard: tuple[bool, ...] = (True, True, True, False)
    coded_from: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # N from which a slice is coded
    fine: int = 96  # channels at /8
    coarse: int = 192  # channels at /16
    hyper: int = 48  # channels of the hyper grid
    features: int = 64  # channels of the decoded hyper grid
    hidden: tuple[int, ...] = (96, 96, 128, 128)  # of the prior network of each slice
    narrow: int = 0  # channels to which a prior network first reduces twice as many or more

    @property
    def channels(self) -> int:
        return self.luma + self.more_luma + 2 * (self.chroma + self.more_chroma)

    @property
    def base(self) -> int:
        """Channels of the slices that are coded at all rates."""
        return self.coded_channels(0)

    def coded_slices(self, bits: float) -> int:
        """How many slices are coded at rate point ``bits``."""
        return sum(low <= bits for low in self.coded_from)

    def coded_channels(self, bits: float) -> int:
        return sum(self.slices[: self.coded_slices(bits)])

    def check(self) -> None:
        """Raises ValueError where the sizes contradict each other."""
        if sum(self.slices) != self.channels:
            raise ValueError(f"slices {self.slices} do not add up to {self.channels} channels")
        lengths = {len(t) for t in (self.slices, self.checkerboard, self.coded_from, self.hidden)}
        if len(lengths) > 1:
            raise ValueError("slices, checkerboard, coded_from and hidden differ in length")
        if list(self.coded_from) != sorted(self.coded_from) or self.coded_from[0] > 0:
            raise ValueError("coded_from starts at 0 and does not fall")


def rate_variable(bits: Tensor) -> Tensor:
    """t of the FiLM layers for rate points ``bits`` (N of ``Nbit``)."""
    return (bits - BITS_CENTRE) / 2


def step(bits: Tensor) -> Tensor:
    """Distance of two codewords in latent units at rate points ``bits``."""
    return RANGE * torch.exp2(-bits)


def dct_basis(
    luma: int, chroma: int, more_luma: int = 0, more_chroma: int = 0, size: int = 16
) -> Tensor:
    """Rows of a block DCT on an orthonormal colour transform, lowest frequencies first.

    Returns (luma + 2 * chroma + more_luma + 2 * more_chroma, 3, size, size) float32, rows
    orthonormal. Chroma frequencies rank four times as high as luma ones; the "more" ones follow
    all of the others.
    """
    k = torch.arange(size, dtype=torch.float64)
    dct = torch.cos(pi / size * (k[None] + 0.5) * k[:, None]) * sqrt(2 / size)
    dct[0] /= sqrt(2)
    order = sorted(
        ((i, j) for i in range(size) for j in range(size)),
        key=lambda ij: (ij[0] ** 2 + ij[1] ** 2, ij),
    )
    colours = (
        torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
        / torch.tensor([[3.0], [2.0], [6.0]], dtype=torch.float64).sqrt()
    )

    def rows(luma: range, chroma: range) -> list[tuple[int, int, int]]:
        found = [(rank, 0, rank) for rank in luma]
        found += [(4 * rank, c, rank) for c in (1, 2) for rank in chroma]
        return sorted(found)

    chosen = rows(range(luma), range(chroma))
    chosen += rows(range(luma, luma + more_luma), range(chroma, chroma + more_chroma))
    basis = [
        torch.einsum("c,i,j->cij", colours[c], dct[order[rank][0]], dct[order[rank][1]])
        for _, c, rank in chosen
    ]
    return torch.stack(basis).float()


class ResidualBlock(nn.Module):
    """x + conv3x3(leaky ReLU(FiLM(conv3x3(x)))), close to the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = Film(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.film(self.first(x), t), 1 / 8))


def small_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution that starts near zero: the last layer of a residual network."""
    conv = nn.Conv2d(inputs, outputs, 1)
    start_small(conv, 0.01)
    return conv


def initial_transform(config: LadderConfig) -> nn.Parameter:
    """The block DCT as a matrix (C, 768)."""
    basis = dct_basis(config.luma, config.chroma, config.more_luma, config.more_chroma)
    return nn.Parameter(basis.flatten(1))


class Analysis(nn.Module):
    """Image to latent."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.linear = initial_transform(config)
        self.enter = nn.Conv2d(192, config.fine, 1)
        self.fine = nn.ModuleList(ResidualBlock(config.fine) for _ in range(2))
        self.down = nn.Conv2d(4 * config.fine, config.coarse, 1)
        self.coarse = ResidualBlock(config.coarse)
        self.leave = small_conv(config.coarse, config.channels)

    def transform(self, x: Tensor) -> Tensor:
        """The linear part: x (B, 3, 16h, 16w) around zero -> (B, C, h, w)."""
        return F.conv2d(F.pixel_unshuffle(x, 16), self.linear[:, :, None, None])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, 3, 16h, 16w) 0..255, t (B,) -> y (B, C, h, w)."""
        x = x - 127.5
        y = self.transform(x)
        u = self.enter(F.pixel_unshuffle(x / 64, 8))
        for block in self.fine:
            u = block(u, t)
        u = self.coarse(self.down(F.pixel_unshuffle(u, 2)), t)
        return y + RESIDUAL_UNIT * self.leave(u).to(y.dtype)


class Synthesis(nn.Module):
    """Latent to image, the mirror of ``Analysis``."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.linear = initial_transform(config)
        self.enter = nn.Conv2d(config.channels, config.coarse, 1)
        self.coarse = ResidualBlock(config.coarse)
        self.up = nn.Conv2d(config.coarse, 4 * config.fine, 1)
        self.fine = nn.ModuleList(ResidualBlock(config.fine) for _ in range(2))
        self.leave = small_conv(config.fine, 192)

    def forward(self, y: Tensor, t: Tensor, std: Tensor) -> Tensor:
        """y (B, c, h, w), t (B,), std (C,) -> x (B, 3, 16h, 16w), not clipped.

        Of the C channels y may have the first c; the others are zero.
        """
        c = y.shape[1]
        linear = F.conv2d(y, self.linear[:c].t()[:, :, None, None])
        u = F.conv2d(y / std[:c, None, None], self.enter.weight[:, :c], self.enter.bias)
        u = self.coarse(u, t)
        u = F.pixel_shuffle(self.up(u), 2)
        for block in self.fine:
            u = block(u, t)
        residual = F.pixel_shuffle(self.leave(u).to(y.dtype), 8)
        return F.pixel_shuffle(linear, 16) + RESIDUAL_UNIT * residual + 127.5


class HyperAnalysis(nn.Module):
    """Latent to the hyper grid, before rounding. Sees the channels coded at all rates."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.channels = config.base
        self.enter = nn.Conv2d(2 * self.channels, 128, 1)
        self.film = Film(128)
        self.first = nn.Conv2d(128, 128, 3, stride=2, padding=1)
        self.second = nn.Conv2d(128, 128, 3, stride=2, padding=1)
        self.leave = nn.Conv2d(128, config.hyper, 1)

    def forward(self, y: Tensor, t: Tensor, std: Tensor, step: Tensor) -> Tensor:
        """y (B, C, h, w) -> (B, hyper, ceil(h / 4), ceil(w / 4)); t (B,), step (B,)."""
        h, w = y.shape[-2:]
        y = F.pad(y[:, : self.channels], (0, -w % 4, 0, -h % 4), mode="replicate")
        x = context_inputs(y, std[: self.channels], step[:, None, None, None], linear=False)
        x = F.leaky_relu(self.film(self.enter(x), t), 1 / 8)
        x = F.leaky_relu(self.second(F.leaky_relu(self.first(x), 1 / 8)), 1 / 8)
        return clamp(self.leave(x), -HYPER_SIZE / 2 + 0.5, HYPER_SIZE / 2 - 1.5)


class HyperSynthesis(nn.Module):
    """Hyper codes to features on the grid of the latent. Has an exact form for files."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.conv64 = nn.Conv2d(config.hyper, 96, 3, padding=1)
        self.film = Film(96)
        self.up64 = nn.Conv2d(96, 4 * 64, 1)
        self.conv32 = nn.Conv2d(64, 64, 3, padding=1)
        self.up32 = nn.Conv2d(64, 4 * config.features, 1)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """z (B, hyper, h, w) integers -> (B, features, 4h, 4w)."""
        x = F.leaky_relu(self.film(self.conv64(z / 4), t), 1 / 8)
        x = F.leaky_relu(F.pixel_shuffle(self.up64(x), 2), 1 / 8)
        x = F.leaky_relu(self.conv32(x), 1 / 8)
        return F.leaky_relu(F.pixel_shuffle(self.up32(x), 2), 1 / 8)


def logistic_bits(x: Tensor, log2_scale: Tensor) -> Tensor:
    """-log2 of the probability that a logistic variable falls in [x - 1/2, x + 1/2].

    Uses sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which never underflows.
    A faint Cauchy tail is added: without it, one large code where a flat area was predicted costs
    thousands of bits, and its gradient wrecks the training.
    """
    rate = torch.exp2(-log2_scale)
    tails = F.softplus(-(x + 0.5) * rate) + F.softplus((x - 0.5) * rate)
    log_logistic = torch.log1p(-torch.exp(-rate)) - tails
    return torch.logaddexp(log_logistic, LOG_TAIL - torch.log1p(x * x)) * -LOG2_E


def context_inputs(y: Tensor, std: Tensor, step: Tensor, linear: bool) -> Tensor:
    """Values and log magnitudes of latents y (B, c, h, w), for the networks of the prior.

    The values are y / std where ``linear`` (the lowest frequencies, which predict each other), and
    the magnitudes with the sign of y elsewhere: texture is heavy-tailed, and a network that
    extrapolates linearly from it to a logarithm of a scale does not train.
    """
    magnitude = log2_magnitude(y / step)
    values = y / std[:, None, None] if linear else magnitude * y.sign()
    return torch.cat((values, magnitude), 1)


def clamp_scale(log2_scale: Tensor) -> Tensor:
    """Into the range of the scale classes."""
    return clamp(log2_scale, MIN_LOG2_SCALE, MAX_LOG2_SCALE)


def anchors(h: int, w: int, device: torch.device) -> Tensor:
    """(h, w) bool: the cells of a checkerboard that are coded first."""
    return (torch.arange(h, device=device)[:, None] + torch.arange(w, device=device)) % 2 == 0


class Coded(NamedTuple):
    """What training makes of pictures, with the gradients that ``Ladder.code`` describes."""

    x_hat: Tensor  # (B, 3, H, W), not clipped
    hyper_bits: Tensor  # (B,)
    slices_bits: Tensor  # (B, slices)
    codes: Tensor  # (B, C, h, w), around zero


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each picture, (B,)."""
    return (x_hat - x).square().mean((1, 2, 3))


class Ladder(nn.Module):
    """The autoencoder and the networks of its prior."""

    stride = 16
    std: Tensor  # (C,) standard deviations of the latent's channels, in transform units

    def __init__(self, config: LadderConfig = LadderConfig()) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_synthesis = HyperSynthesis(config)
        self.anchor_nets = nn.ModuleList()
        self.other_nets = nn.ModuleList()
        seen = config.features
        for size, hidden, split in zip(
            config.slices, config.hidden, config.checkerboard, strict=True
        ):
            self.anchor_nets.append(CellNet(seen, hidden, 2 * size, config.narrow))
            seen += 2 * size
            other = CellNet(seen, hidden, 2 * size, config.narrow) if split else nn.Identity()
            self.other_nets.append(other)
        self.hyper_scale = nn.Parameter(torch.zeros(4, config.hyper))  # cubic in t of log2 scale
        self.hyper_mean = nn.Parameter(torch.zeros(4, config.hyper))
        self.register_buffer("std", torch.ones(config.channels))

    def set_std(self, images: Tensor) -> None:
        """Measure the channels' standard deviations on images (B, 3, H, W) 0..255."""
        with torch.no_grad():
            y = self.analysis.transform(images - 127.5)
            self.std.copy_(y.std((0, 2, 3)).clamp_(min=0.5))

    def prior_inputs(self, y: Tensor, part: slice, step: Tensor) -> Tensor:
        """What the prior networks see of decoded channels ``part`` (B, c, h, w): (B, 2c, h, w)."""
        return context_inputs(y, self.std[part], step, linear=part.start == 0)

    def _predict(
        self, net: nn.Module, inputs: Tensor, t: Tensor, part: slice, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean in steps and log2 of the scale in steps, each (B, c, h, w), of channels ``part``."""
        mean, scale = net(inputs, t).chunk(2, 1)
        std = self.std[part, None, None]
        return mean * (mean_unit(std) / step), clamp_scale(scale + std.log2() - step.log2())

    def code(
        self,
        x: Tensor,
        bits: Tensor,
        generator: torch.Generator,
        rdo: float = 0.0,
        amp: bool = False,
    ) -> Coded:
        """x (B, 3, H, W) 0..255, bits (B,): rate points. Sides are multiples of 64.

        The rate is that of the codes, with the gradient of noisy latents; the pictures are those of
        the codes, with a straight-through gradient. ``rdo``: see ``choose_codes``. ``amp``: the
        residual networks are computed in bfloat16.
        """
        t, delta = rate_variable(bits), step(bits)[:, None, None, None]

        def noise(like: Tensor) -> Tensor:
            drawn = torch.rand(like.shape, generator=generator, device=generator.device)
            return drawn.to(like.device) - 0.5

        with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
            y = self.analysis(x, t)
        z = self.hyper_analysis(y.detach(), t, self.std, delta[:, 0, 0, 0])
        powers = torch.stack((torch.ones_like(t), t, t * t, t * t * t), 1)
        z_scale = clamp_scale((powers @ self.hyper_scale)[:, :, None, None])
        z_mean = (powers @ self.hyper_mean)[:, :, None, None]
        hyper_bits = logistic_bits(z + noise(z) - z_mean, z_scale).sum((1, 2, 3))
        h, w = y.shape[-2:]
        features = self.hyper_synthesis(straight_through(z, z.round()), t)[:, :, :h, :w]

        board = anchors(h, w, x.device)
        seen, parts, codes, slice_bits, start = features, [], [], [], 0
        for size, low, first, second in zip(
            self.config.slices,
            self.config.coded_from,
            self.anchor_nets,
            self.other_nets,
            strict=True,
        ):
            part = slice(start, start + size)
            start += size
            coded = (bits >= low).to(y.dtype)
            y_part = y[:, part]
            mean, scale = self._predict(first, seen, t, part, delta)
            y_hat, code = quantize(y_part, mean, scale, delta, rdo)
            if isinstance(second, CellNet):
                known = torch.where(board, y_hat.detach(), 0.0)
                inputs = torch.cat((seen, self.prior_inputs(known, part, delta)), 1)
                mean2, scale2 = self._predict(second, inputs, t, part, delta)
                mean, scale = torch.where(board, mean, mean2), torch.where(board, scale, scale2)
                y_hat, code = quantize(y_part, mean, scale, delta, rdo)
            # The scale learns from the codes themselves, latent and mean through noise.
            noisy = y_part / delta - mean + noise(mean)
            soft = logistic_bits(noisy, scale.detach()).sum((1, 2, 3))
            hard = logistic_bits(code, scale).sum((1, 2, 3))
            slice_bits.append(coded * (hard + (soft - soft.detach())))
            parts.append(coded[:, None, None, None] * y_hat)
            codes.append(code)
            seen = torch.cat((seen, self.prior_inputs(y_hat.detach(), part, delta)), 1)

        with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
            x_hat = self.synthesis(torch.cat(parts, 1), t, self.std)
        return Coded(x_hat, hyper_bits, torch.stack(slice_bits, 1), torch.cat(codes, 1))

    def loss(
        self,
        x: Tensor,
        bits: Tensor,
        generator: torch.Generator,
        rdo: float = 0.0,
        amp: bool = False,
        distortion: Callable[[Tensor, Tensor], Tensor] = squared_error,
    ) -> dict[str, Tensor]:
        """Arguments as of ``code``; ``distortion`` (x_hat, x) -> (B,) in units of squared error.

        Returns 'loss' and its parts, of which 'rd', 'bpp' and 'mse' are per sample (B,).
        """
        coded = self.code(x, bits, generator, rdo, amp)
        pixels = x.shape[-2] * x.shape[-1]
        bpp = (coded.hyper_bits + sum(coded.slices_bits.unbind(1))) / pixels
        weight = LAMBDA / step(bits).square()
        cost = weight * distortion(coded.x_hat, x) + bpp
        return {
            "loss": (cost * torch.rsqrt(weight / weight_at(7.5))).mean(),
            "rd": cost.detach(),
            "bpp": bpp.detach(),
            "mse": squared_error(coded.x_hat, x).detach(),
            "hyper_bpp": (coded.hyper_bits / pixels).detach(),
            "slices_bpp": coded.slices_bits.detach() / pixels,
            "perplexity": perplexity(coded.codes.detach()),
        }


def mean_unit(std: Tensor) -> Tensor:
    """Latent units of one unit of a predicted mean; the root keeps the gradients of DC moderate."""
    return (32 * std).sqrt()


def quantize(
    y: Tensor, mean: Tensor, log2_scale: Tensor, step: Tensor, rdo: float
) -> tuple[Tensor, Tensor]:
    """Decoded latents in transform units, differentiable, and their codes around zero."""
    code = choose_codes((y / step - mean).detach(), log2_scale.detach(), rdo)
    # Straight-through for the latent. Where the code is zero the mean is what is decoded, so there
    # it gets the gradient too; elsewhere the code follows it.
    mean = torch.where(code == 0, mean, mean.detach())
    return step * (mean + code) + (y - y.detach()), code


def perplexity(codes: Tensor) -> Tensor:
    """2 to the entropy of the codes' histogram, (): how many codewords are in use, in effect.

    Codes of 512 and more, which no codebook has, count as 512.
    """
    index = (codes.flatten() + 512.0).clamp_(0, 1024).long()
    counts = codes.new_zeros(1025).index_add_(0, index, codes.new_ones(()).expand(len(index)))
    return torch.exp2(torch.special.entr(counts / codes.numel()).sum() * LOG2_E)


def weight_at(bits: float) -> float:
    return LAMBDA / (RANGE * 2.0**-bits) ** 2


def choose_codes(residual: Tensor, log2_scale: Tensor, rdo: float) -> Tensor:
    """Nearest codeword, or with ``rdo`` > 0 the better of it and its neighbour towards zero.

    Minimizes squared error in steps + rdo * bits.
    """
    near = residual.round()
    if rdo <= 0:
        return near
    lower = near - near.sign()
    cost_near = (residual - near).square() + rdo * logistic_bits(near, log2_scale)
    cost_lower = (residual - lower).square() + rdo * logistic_bits(lower, log2_scale)
    return torch.where(cost_lower < cost_near, lower, near)
