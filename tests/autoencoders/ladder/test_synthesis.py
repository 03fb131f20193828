"""The fast synthesis: Winograd's convolution, and the function that it is folded from."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.autoencoders.ladder import winograd
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.model import Ladder
from vqcodec.autoencoders.ladder.synthesis import FoldedSynthesis
from vqcodec.autoencoders.ladder.winograd import WinogradConv3x3

SMALL = LadderConfig(fine=8, coarse=16, hyper=4, features=8, hidden=(8, 8, 8, 8))


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14))
def test_winograd_is_a_convolution(seed: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    grid, bias = normal(generator, h, w, 5), normal(generator, 4)
    weight = normal(generator, 4, 5, 3, 3)
    expected = F.conv2d(grid.permute(2, 0, 1)[None], weight, bias, padding=1)[0].permute(1, 2, 0)
    assert (WinogradConv3x3(weight, bias)(grid) - expected).abs().max() < 1e-11


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = WinogradConv3x3(normal(generator, 4, 5, 3, 3), normal(generator, 4))
    grid = normal(generator, 21, 9, 5)
    expected = conv(grid)
    monkeypatch.setattr(winograd, "BAND_TILES", 6)
    assert (conv(grid) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("t", "channels"), [(-1.25, 96), (0.5, 256)])
def test_the_folded_synthesis_is_the_synthesis(t: float, channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    model = Ladder(SMALL).eval().requires_grad_(False)
    for p in model.synthesis.parameters():
        p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    model.std.copy_(200 * torch.arange(1, SMALL.channels + 1) ** -0.8 + 1)
    steps = 20.0 * torch.exp2(torch.rand(channels, generator=generator))
    condition = torch.tensor([[t, t * t, t * t * t]])
    y = torch.randn(6, 7, channels, generator=generator) * model.std[:channels] / steps
    inputs = (y * steps).permute(2, 0, 1)[None]
    expected = model.synthesis(inputs, condition, model.std)[0].permute(1, 2, 0)
    pixels = FoldedSynthesis(model.synthesis, model.std, condition, steps)(y)
    assert pixels.shape == (96, 112, 3) and pixels.dtype == torch.uint8
    assert expected.std() > 10  # something is computed
    assert (pixels - expected.clamp(0, 255)).abs().max() <= 0.501
