"""The ladder's transforms: pixels to latent and back.

Analysis  y = W x + 32 f(x)      Synthesis  x = V y + 32 g(y / std)

W starts as a 16x16 block DCT on an orthonormal colour transform, V as its transpose; f and g are
small residual networks.
"""

from math import pi, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.priors.network import Film, start_small

RESIDUAL_UNIT = 32.0  # of the residual networks' outputs; one unit for all channels keeps DC calm
PIXEL_UNIT = 64.0  # of what the analysis' residual network sees


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
    colours = (
        torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
        / torch.tensor([[3.0], [2.0], [6.0]], dtype=torch.float64).sqrt()
    )

    basis = [
        torch.einsum("c,i,j->cij", colours[c], dct[i], dct[j])
        for c, i, j in frequencies(luma, chroma, more_luma, more_chroma, size)
    ]
    return torch.stack(basis).float()


def frequencies(
    luma: int, chroma: int, more_luma: int = 0, more_chroma: int = 0, size: int = 16
) -> list[tuple[int, int, int]]:
    """(colour, vertical, horizontal frequency) of each channel, in the order of ``dct_basis``."""
    order = sorted(
        ((i, j) for i in range(size) for j in range(size)),
        key=lambda ij: (ij[0] ** 2 + ij[1] ** 2, ij),
    )

    def rows(luma: range, chroma: range) -> list[tuple[int, int, int]]:
        found = [(rank, 0, rank) for rank in luma]
        found += [(4 * rank, c, rank) for c in (1, 2) for rank in chroma]
        return sorted(found)

    chosen = rows(range(luma), range(chroma))
    chosen += rows(range(luma, luma + more_luma), range(chroma, chroma + more_chroma))
    return [(c, *order[rank]) for _, c, rank in chosen]


class ResidualBlock(nn.Module):
    """x + conv3x3(leaky ReLU(FiLM(conv3x3(x)))), close to the identity at first."""

    def __init__(self, channels: int, conditions: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = Film(channels, conditions)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.film(self.first(x), condition), 1 / 8))


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
        self.fine = nn.ModuleList(
            ResidualBlock(config.fine, config.conditions) for _ in range(config.analysis_fine)
        )
        self.down = nn.Conv2d(4 * config.fine, config.coarse, 1)
        self.coarse = ResidualBlock(config.coarse, config.conditions)
        self.more = nn.ModuleList(
            ResidualBlock(config.coarse, config.conditions)
            for _ in range(config.analysis_coarse - 1)
        )
        self.leave = small_conv(config.coarse, config.channels)
        # Where a smaller analysis is grown, these are the new ones: they start as the identity.
        with torch.no_grad():
            for block in (*self.fine[2:], *self.more):
                block.second.weight.zero_()
                block.second.bias.zero_()

    def transform(self, x: Tensor) -> Tensor:
        """The linear part: x (B, 3, 16h, 16w) around zero -> (B, C, h, w)."""
        return F.conv2d(F.pixel_unshuffle(x, 16), self.linear[:, :, None, None])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, 3, 16h, 16w) 0..255, condition (B, k) -> y (B, C, h, w)."""
        x = x - 127.5
        y = self.transform(x)
        u = self.enter(F.pixel_unshuffle(x / PIXEL_UNIT, 8))
        for block in self.fine:
            u = block(u, condition)
        u = self.coarse(self.down(F.pixel_unshuffle(u, 2)), condition)
        for block in self.more:
            u = block(u, condition)
        return y + RESIDUAL_UNIT * self.leave(u).to(y.dtype)


class Synthesis(nn.Module):
    """Latent to image, the mirror of ``Analysis``."""

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.linear = initial_transform(config)
        self.enter = nn.Conv2d(config.channels, config.coarse, 1)
        self.coarse = ResidualBlock(config.coarse, config.conditions)
        self.up = nn.Conv2d(config.coarse, 4 * config.fine, 1)
        self.fine = nn.ModuleList(ResidualBlock(config.fine, config.conditions) for _ in range(2))
        self.leave = small_conv(config.fine, 192)

    def forward(self, y: Tensor, condition: Tensor, std: Tensor) -> Tensor:
        """y (B, c, h, w), condition (B, k), std (C,) -> x (B, 3, 16h, 16w), not clipped.

        Of the C channels y may have the first c; the others are zero.
        """
        c = y.shape[1]
        linear = F.conv2d(y, self.linear[:c].t()[:, :, None, None])
        u = F.conv2d(y / std[:c, None, None], self.enter.weight[:, :c], self.enter.bias)
        u = self.coarse(u, condition)
        u = F.pixel_shuffle(self.up(u), 2)
        for block in self.fine:
            u = block(u, condition)
        residual = F.pixel_shuffle(self.leave(u).to(y.dtype), 8)
        return F.pixel_shuffle(linear, 16) + RESIDUAL_UNIT * residual + 127.5
