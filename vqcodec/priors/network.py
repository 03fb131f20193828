"""The network prior: scale and mean of every code from what is already decoded.

``CellNet`` is one small network, evaluated at cells of a grid. It has two forms with the same
weights: ``forward`` in float32 on (B, C, h, w) for training, and ``exact`` (see ``fixedpoint``) for
files, whose results are the same integers on every machine.
"""

import torch
from torch import Tensor, nn

from vqcodec import fixedpoint


class Film(nn.Module):
    """Scale and shift per channel, a cubic in the rate variable t, identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2 * channels, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, C, h, w), t (B,) -> (B, C, h, w)."""
        powers = torch.stack((t, t * t, t * t * t), 1)
        scale, shift = self.linear(powers)[:, :, None, None].chunk(2, 1)
        return x * (1 + scale) + shift


class FixedFilm:
    """The exact form of ``Film`` at one rate point."""

    def __init__(self, film: Film, t: float) -> None:
        # t is a multiple of 2**-9, so t**3 is exact in float64; so is the product with 12-bit weights.
        powers = torch.tensor((t, t * t, t * t * t), dtype=torch.float64)
        weight = fixedpoint.round_weights(film.linear.weight.detach().cpu())
        scale, shift = fixedpoint.round_weights((weight * powers).sum(1)).chunk(2)
        self.scale, self.shift = 1 + scale, shift

    def __call__(self, x: Tensor) -> Tensor:
        return fixedpoint.round_activations(
            x * self.scale.to(x.device) + self.shift.to(x.device)
        )


class CellNet(nn.Module):
    """conv3x3 -> FiLM -> leaky ReLU -> linear -> leaky ReLU -> linear, on a grid of cells."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.film = Film(hidden)
        self.mix = nn.Conv2d(hidden, hidden, 1)
        self.out = nn.Conv2d(hidden, outputs, 1)
        self.activation = nn.LeakyReLU(1 / 8)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.zero_()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, inputs, h, w), t (B,) -> (B, outputs, h, w)."""
        x = self.activation(self.film(self.conv(x), t))
        return self.out(self.activation(self.mix(x)))

    def exact(self, t: float) -> "FixedCellNet":
        return FixedCellNet(self, t)


def fixed_linear(conv: nn.Conv2d) -> fixedpoint.FixedLinear:
    """A 1x1 convolution as an exact linear map on rows."""
    return fixedpoint.FixedLinear(conv.weight.detach().cpu()[:, :, 0, 0], conv.bias.detach().cpu())


def fixed_conv(conv: nn.Conv2d) -> fixedpoint.FixedConv3x3:
    return fixedpoint.FixedConv3x3(conv.weight.detach().cpu(), conv.bias.detach().cpu())


class FixedCellNet:
    """The exact form of ``CellNet`` at one rate point."""

    def __init__(self, net: CellNet, t: float) -> None:
        self.conv, self.film = fixed_conv(net.conv), FixedFilm(net.film, t)
        self.mix, self.out = fixed_linear(net.mix), fixed_linear(net.out)

    def __call__(self, grid: Tensor, cells: Tensor | None = None) -> Tensor:
        """grid (h, w, inputs) float64, cells (n,) or None for all -> (n, outputs)."""
        x = fixedpoint.leaky_relu(self.film(self.conv(grid, cells)))
        return self.out(fixedpoint.leaky_relu(self.mix(x)))
