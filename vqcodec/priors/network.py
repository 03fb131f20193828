"""The network prior: scale and mean of every code from what is already decoded.

``CellNet`` is one small network, evaluated at cells of a grid. It has two forms with the same
weights: ``forward`` in float32 on (B, C, h, w) for training, and ``exact`` (see ``fixedpoint``) for
files, whose results are the same integers on every machine.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vqcodec import fixedpoint
from vqcodec.arithmetic import UNITS
from vqcodec.priors.classes import CLASSES, LOWEST, WIDTH

Condition = Sequence[float]  # of one file, exact in binary


class Film(nn.Module):
    """Scale and shift per channel, linear in the conditions, identity at first.

    The conditions are powers of the rate variable, and of what else a file is tuned to.
    """

    def __init__(self, channels: int, conditions: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(conditions, 2 * channels, bias=False)
        nn.init.zeros_(self.linear.weight)

    def at(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """condition (B, k) -> scale and shift, each (B, C)."""
        scale, shift = self.linear(condition).chunk(2, 1)
        return 1 + scale, shift

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, h, w), condition (B, k) -> (B, C, h, w)."""
        scale, shift = self.at(condition)
        return x * scale[:, :, None, None] + shift[:, :, None, None]


class FixedFilm:
    """The exact form of ``Film``."""

    def __init__(self, film: Film, device: torch.device) -> None:
        self.weight = fixedpoint.round_weights(film.linear.weight.detach()).to(device)

    def at(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,). Conditions are multiples of 2**-27 up to 8: sums are exact."""
        row = torch.tensor(condition, dtype=torch.float64, device=self.weight.device)
        scale, shift = fixedpoint.round_weights((self.weight * row).sum(1)).chunk(2)
        return 1 + scale, shift


def apply_film(x: Tensor, film: tuple[Tensor, Tensor]) -> Tensor:
    """Then the leaky ReLU. x (n, C) in units, from ``FixedFilm.at``: scale and shift."""
    scale, shift = film
    return fixedpoint.leaky_relu(torch.addcmul(shift * UNITS + 0.5, x.double(), scale))


def classify(log2_scale: Tensor) -> Tensor:
    """log2 scales (float64 integers, in units of 2**-10) -> classes, uint8, 0 <= class < 64."""
    # The quotient, correctly rounded, cannot cross an integer; the conversion cuts off.
    return (log2_scale - LOWEST).div_(WIDTH).clamp_(0, CLASSES - 1).to(torch.uint8)


def start_small(conv: nn.Conv2d, factor: float) -> None:
    """Scale the initial weights of a last layer, and set its bias to zero."""
    with torch.no_grad():
        conv.weight.mul_(factor)
        if conv.bias is not None:
            conv.bias.zero_()


def weight_and_bias(conv: nn.Conv2d, device: torch.device) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None
    return conv.weight.detach().to(device), conv.bias.detach().to(device)


class CellNet(nn.Module):
    """conv3x3 -> FiLM -> leaky ReLU -> linear -> leaky ReLU -> linear, on a grid of cells.

    Where there are at least 2 * ``narrow`` inputs, a linear layer and a leaky ReLU first reduce
    them to ``narrow``: the convolution is what costs.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, narrow: int = 0, conditions: int = 3
    ) -> None:
        super().__init__()
        self.narrow = None
        if 0 < 2 * narrow <= inputs:
            self.narrow, inputs = nn.Conv2d(inputs, narrow, 1), narrow
        self.conv = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.film = Film(hidden, conditions)
        self.mix = nn.Conv2d(hidden, hidden, 1)
        self.out = nn.Conv2d(hidden, outputs, 1)
        self.activation = nn.LeakyReLU(1 / 8)
        start_small(self.out, 0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, inputs, h, w), condition (B, k) -> (B, outputs, h, w)."""
        if self.narrow is not None:
            x = self.activation(self.narrow(x))
        x = self.activation(self.film(self.conv(x), condition))
        return self.out(self.activation(self.mix(x)))


def fixed_linear(conv: nn.Conv2d, device: torch.device) -> fixedpoint.FixedLinear:
    """The exact form of a 1x1 convolution."""
    weight, bias = weight_and_bias(conv, device)
    return fixedpoint.FixedLinear(weight[:, :, 0, 0], bias)


def fixed_conv(conv: nn.Conv2d, device: torch.device) -> fixedpoint.FixedConv3x3:
    """The exact form of a 3x3 convolution."""
    return fixedpoint.FixedConv3x3(*weight_and_bias(conv, device))


class FixedCellNet:
    """The exact form of ``CellNet``."""

    def __init__(self, net: CellNet, device: torch.device) -> None:
        self.narrow = fixed_linear(net.narrow, device) if net.narrow is not None else None
        self.conv, self.film = fixed_conv(net.conv, device), FixedFilm(net.film, device)
        self.mix, self.out = fixed_linear(net.mix, device), fixed_linear(net.out, device)

    def __call__(self, grid: Tensor, cells: Tensor, condition: Condition) -> Tensor:
        """grid (h, w, inputs) float32, cells (n,) flat indices -> (n, outputs) float64: units."""
        return torch.cat(list(self.chunks(grid, cells, condition)))

    def chunks(self, grid: Tensor, cells: Tensor, condition: Condition) -> Iterator[Tensor]:
        """The same in parts: see ``fixedpoint.FixedConv3x3``."""
        film = self.film.at(condition)
        for x in self.conv.chunks(self._narrowed(grid), cells):
            yield self.out(self.mix.activated(apply_film(x, film))).double()

    def _narrowed(self, grid: Tensor) -> Tensor:
        return grid if self.narrow is None else fixedpoint.each_cell(self.narrow.activated, grid)
