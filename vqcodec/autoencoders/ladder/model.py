"""``ladder``: the photo codec. All rates in one network, five levels, coarse to fine.

The transforms (see ``transform``) start as a block DCT and its transpose, so that the untrained
codec is a JPEG with a better entropy coder. The latent y has one cell for 16x16 pixels and is
quantized channel by channel, depthwise with slices of one dimension, after a predicted mean is
subtracted. Level 0 is a hyper grid with one cell for 64x64 pixels; levels 1 to 4 are the slices of
y, low to high frequency. In the first three slices the cells of one colour of a checkerboard (the
anchors) come first, so that the others see their four neighbours.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.ladder.config import (
    BITS_CENTRE,
    BITS_MOST,
    HYPER_SIZE,
    MAX_WEIGHT,
    MIN_WEIGHT,
    RANGE,
    LadderConfig,
)
from vqcodec.autoencoders.ladder.transform import Analysis, Synthesis
from vqcodec.fixedpoint import log2_magnitude
from vqcodec.metrics.mixture import squared_error
from vqcodec.priors.network import CellNet, Film
from vqcodec.quantizers.depthwise import straight_through
from vqcodec.quantizers.gradients import clamp

LAMBDA = 30.0  # lambda = 30 / step**2, so that the quantization step is near its optimum
LOG2_E = 1.4426950408889634
LOG_TAIL = -9.0  # natural logarithm of the tail's density at zero
MIN_LOG2_SCALE = -4.5  # of a logistic, in steps: a nonzero code has probability 2**-15 there
MAX_LOG2_SCALE = 7.5


def rate_variable(bits: Tensor) -> Tensor:
    """t of rate points ``bits`` (N of ``Nbit``)."""
    return (bits - BITS_CENTRE) / 2


def conditions(bits: Tensor, tune: Tensor | None = None) -> Tensor:
    """What FiLM layers see of rate points (B,): t, t^2, t^3, and v, v t, v t^2 of tunes v (B,).

    Returns (B, 3), or (B, 6) where ``tune`` is given.
    """
    t = rate_variable(bits)
    powers = torch.stack((t, t * t, t * t * t), 1)
    if tune is None:
        return powers
    return torch.cat((powers, tune[:, None] * torch.stack((torch.ones_like(t), t, t * t), 1)), 1)


def step(bits: Tensor) -> Tensor:
    """Distance of two codewords in latent units at rate points ``bits``."""
    return RANGE * torch.exp2(-bits)


class StepWeights(nn.Module):
    """log2 of each channel's step over the rate point's, affine in the conditions, zero at first.

    What quantization matrices are to other codecs. Steps at ``Nbit`` are not finer than those of
    10bit, so that 1024 codewords still cover the range.
    """

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.channels, 1 + config.conditions))

    def forward(self, condition: Tensor) -> Tensor:
        """condition (B, k) -> (B, C)."""
        value = torch.addmm(self.weight[:, 0], condition, self.weight[:, 1:].t())
        bits = 2 * condition[:, :1] + BITS_CENTRE  # the first condition is t
        return torch.maximum(clamp(value, MIN_WEIGHT, MAX_WEIGHT), bits - BITS_MOST)


class HyperAnalysis(nn.Module):
    """Latent to the hyper grid, before rounding. Sees the channels coded at all rates."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.channels = config.base
        self.enter = nn.Conv2d(2 * self.channels, 128, 1)
        self.film = Film(128, config.conditions)
        self.first = nn.Conv2d(128, 128, 3, stride=2, padding=1)
        self.second = nn.Conv2d(128, 128, 3, stride=2, padding=1)
        self.leave = nn.Conv2d(128, config.hyper, 1)

    def forward(self, y: Tensor, condition: Tensor) -> Tensor:
        """y (B, C, h, w) in steps -> (B, hyper, ceil(h / 4), ceil(w / 4)); condition (B, k)."""
        h, w = y.shape[-2:]
        y = F.pad(y[:, : self.channels], (0, -w % 4, 0, -h % 4), mode="replicate")
        magnitude = log2_magnitude(y)
        x = self.enter(torch.cat((magnitude * y.sign(), magnitude), 1))
        x = F.leaky_relu(self.film(x, condition), 1 / 8)
        x = F.leaky_relu(self.second(F.leaky_relu(self.first(x), 1 / 8)), 1 / 8)
        return clamp(self.leave(x), -HYPER_SIZE / 2 + 0.5, HYPER_SIZE / 2 - 1.5)


class HyperSynthesis(nn.Module):
    """Hyper codes to features on the grid of the latent. Has an exact form for files."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.conv64 = nn.Conv2d(config.hyper, 96, 3, padding=1)
        self.film = Film(96, config.conditions)
        self.up64 = nn.Conv2d(96, 4 * 64, 1)
        self.conv32 = nn.Conv2d(64, 64, 3, padding=1)
        self.up32 = nn.Conv2d(64, 4 * config.features, 1)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """z (B, hyper, h, w) integers, condition (B, k) -> (B, features, 4h, 4w)."""
        x = F.leaky_relu(self.film(self.conv64(z / 4), condition), 1 / 8)
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

            def net(inputs: int) -> CellNet:
                return CellNet(inputs, hidden, 2 * size, config.narrow, config.conditions)  # noqa: B023

            self.anchor_nets.append(net(seen))
            seen += 2 * size
            self.other_nets.append(net(seen) if split else nn.Identity())
        # log2 of the scale, and the mean: affine in the conditions
        self.hyper_scale = nn.Parameter(torch.zeros(1 + config.conditions, config.hyper))
        self.hyper_mean = nn.Parameter(torch.zeros(1 + config.conditions, config.hyper))
        self.step_weights = StepWeights(config) if config.weighted else None
        self.register_buffer("std", torch.ones(config.channels))

    def set_std(self, images: Tensor) -> None:
        """Measure the channels' standard deviations on images (B, 3, H, W) 0..255."""
        with torch.no_grad():
            y = self.analysis.transform(images - 127.5)
            self.std.copy_(y.std((0, 2, 3)).clamp_(min=0.5))

    def prior_inputs(self, y: Tensor, part: slice, step: Tensor) -> Tensor:
        """What the prior networks see of decoded channels ``part`` (B, c, h, w): (B, 2c, h, w)."""
        return context_inputs(y, self.std[part], step, linear=part.start == 0)

    def steps(self, bits: Tensor, condition: Tensor) -> Tensor:
        """Of the channels in transform units: (B, C, 1, 1), or (B, 1, 1, 1) where all have one."""
        steps = step(bits)[:, None]
        if self.step_weights is not None:
            steps = steps * torch.exp2(self.step_weights(condition))
        return steps[:, :, None, None]

    def predict(
        self, net: nn.Module, inputs: Tensor, condition: Tensor, part: slice, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean in steps and log2 of the scale in steps, each (B, c, h, w), of channels ``part``."""
        mean, scale = net(inputs, condition).chunk(2, 1)
        std = self.std[part, None, None]
        return mean * (mean_unit(std) / step), clamp_scale(scale + std.log2() - step.log2())

    def code(
        self,
        x: Tensor,
        bits: Tensor,
        generator: torch.Generator,
        rdo: float = 0.0,
        amp: bool = False,
        tune: Tensor | None = None,
    ) -> Coded:
        """x (B, 3, H, W) 0..255, bits (B,): rate points. Sides are multiples of 64.

        ``tune`` (B,), where the ladder is tuned: 0 for PSNR, 1 for the eye.

        The rate is that of the codes, with the gradient of noisy latents; the pictures are those of
        the codes, with a straight-through gradient. ``rdo``: see ``choose_codes``. ``amp``: the
        residual networks are computed in bfloat16.
        """
        condition = conditions(bits, tune)
        all_steps = self.steps(bits, condition).expand(-1, self.config.channels, -1, -1)

        def noise(like: Tensor) -> Tensor:
            drawn = torch.rand(like.shape, generator=generator, device=generator.device)
            return drawn.to(like.device) - 0.5

        with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
            y = self.analysis(x, condition)
        z = self.hyper_analysis((y / all_steps).detach(), condition)
        powers = torch.cat((torch.ones_like(condition[:, :1]), condition), 1)
        z_scale = clamp_scale((powers @ self.hyper_scale)[:, :, None, None])
        z_mean = (powers @ self.hyper_mean)[:, :, None, None]
        hyper_bits = logistic_bits(z + noise(z) - z_mean, z_scale).sum((1, 2, 3))
        h, w = y.shape[-2:]
        features = self.hyper_synthesis(straight_through(z, z.round()), condition)[:, :, :h, :w]

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
            y_part, delta = y[:, part], all_steps[:, part]
            mean, scale = self.predict(first, seen, condition, part, delta)
            y_hat, code = quantize(y_part, mean, scale, delta, rdo)
            if isinstance(second, CellNet):
                known = torch.where(board, y_hat.detach(), 0.0)
                inputs = torch.cat((seen, self.prior_inputs(known, part, delta.detach())), 1)
                mean2, scale2 = self.predict(second, inputs, condition, part, delta)
                mean, scale = torch.where(board, mean, mean2), torch.where(board, scale, scale2)
                y_hat, code = quantize(y_part, mean, scale, delta, rdo)
            # The scale learns from the codes themselves, latent and mean through noise.
            noisy = y_part / delta - mean + noise(mean)
            soft = logistic_bits(noisy, scale.detach()).sum((1, 2, 3))
            hard = logistic_bits(code, scale).sum((1, 2, 3))
            slice_bits.append(coded * (hard + (soft - soft.detach())))
            parts.append(coded[:, None, None, None] * y_hat)
            codes.append(code)
            seen = torch.cat((seen, self.prior_inputs(y_hat.detach(), part, delta.detach())), 1)

        with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
            x_hat = self.synthesis(torch.cat(parts, 1), condition, self.std)
        return Coded(x_hat, hyper_bits, torch.stack(slice_bits, 1), torch.cat(codes, 1))

    def loss(
        self,
        x: Tensor,
        bits: Tensor,
        generator: torch.Generator,
        rdo: float = 0.0,
        amp: bool = False,
        distortion: Callable[[Tensor, Tensor], Tensor] = squared_error,
        tune: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Arguments as of ``code``; ``distortion`` (x_hat, x) -> (B,) in units of squared error.

        Returns 'loss' and its parts, of which 'rd', 'bpp' and 'mse' are per sample (B,).
        """
        coded = self.code(x, bits, generator, rdo, amp, tune)
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


def unit_tables(std: Tensor) -> Tensor:
    """(3, C) int32, made once at export: std * 2**8, mean unit * 2**8, log2(std) * 2**10.

    They are shipped with the weights because a square root or a logarithm may round differently
    on another machine.
    """
    std = std.double()
    rows = (std * 256, mean_unit(std) * 256, std.log2() * 1024)
    return torch.stack([torch.floor(row + 0.5) for row in rows]).to(torch.int32)


def quantize(
    y: Tensor, mean: Tensor, log2_scale: Tensor, step: Tensor, rdo: float
) -> tuple[Tensor, Tensor]:
    """Decoded latents in transform units, differentiable, and their codes around zero."""
    scaled = (y / step).detach()
    code = choose_codes(scaled - mean.detach(), log2_scale.detach(), rdo)
    # Straight-through for the latent, so that the step's gradient is the error in steps. Where the
    # code is zero the mean is what is decoded, so there it gets a gradient too; elsewhere the code
    # follows it.
    mean = torch.where(code == 0, mean, mean.detach())
    return y + step * (mean + code - scaled), code


def perplexity(codes: Tensor) -> Tensor:
    """2 to the entropy of the codes' histogram, (): how many codewords are in use, in effect.

    Codes of 512 and more, which no codebook has, count as 512.
    """
    index = (codes.flatten() + 512.0).clamp_(0, 1024).long()
    counts = codes.new_zeros(1025).index_add_(0, index, codes.new_ones(()).expand(len(index)))
    return torch.exp2(torch.special.entr(counts / codes.numel()).sum() * LOG2_E)


def weight_at(bits: float) -> float:
    return LAMBDA / (RANGE * 2.0**-bits) ** 2


def choose_codes(residual: Tensor, log2_scale: Tensor, rdo: float | Tensor) -> Tensor:
    """Nearest codeword, or with ``rdo`` > 0 the better of it and its neighbour towards zero.

    Minimizes squared error in steps + rdo * bits.
    """
    near = residual.round()
    if isinstance(rdo, float) and rdo <= 0:
        return near
    lower = near - near.sign()
    cost_near = (residual - near).square() + rdo * logistic_bits(near, log2_scale)
    cost_lower = (residual - lower).square() + rdo * logistic_bits(lower, log2_scale)
    return torch.where(cost_lower < cost_near, lower, near)
