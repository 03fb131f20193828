"""The fast transforms: Winograd's convolution, and the functions that they are folded from."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.autoencoders.ladder import winograd
from vqcodec.autoencoders.ladder.analysis import FoldedAnalysis
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.model import Ladder, conditions
from vqcodec.autoencoders.ladder.synthesis import FoldedSynthesis
from vqcodec.autoencoders.ladder.winograd import WinogradConv3x3

SMALL = LadderConfig(fine=8, coarse=16, hyper=4, features=8, hidden=(8, 8, 8, 8))


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14))
def test_winograd_is_a_convolution(seed: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    grids, bias = normal(generator, 2, h, w, 5), normal(generator, 4)
    weight = normal(generator, 4, 5, 3, 3)
    expected = F.conv2d(grids.permute(0, 3, 1, 2), weight, bias, padding=1).permute(0, 2, 3, 1)
    assert (WinogradConv3x3(weight, bias)(grids) - expected).abs().max() < 1e-11


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = WinogradConv3x3(normal(generator, 4, 5, 3, 3), normal(generator, 4))
    grids = normal(generator, 1, 21, 9, 5)
    expected = conv(grids)
    monkeypatch.setattr(winograd, "BAND_TILES", 6)
    assert (conv(grids) - expected).abs().max() < 1e-12


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


@pytest.mark.parametrize(("bits", "channels"), [(5.0, 96), (8.5, 256)])
def test_the_folded_analysis_is_the_analysis(bits: float, channels: int) -> None:
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    model = Ladder(replace(SMALL, analysis_fine=3, analysis_coarse=2)).eval().requires_grad_(False)
    for p in model.analysis.parameters():
        p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    steps = 20.0 * torch.exp2(torch.rand(channels, generator=generator))
    condition = conditions(torch.tensor([bits]))
    pixels = torch.randint(0, 256, (2, 48, 80, 3), generator=generator, dtype=torch.uint8)
    expected = model.analysis(pixels.permute(0, 3, 1, 2).float(), condition)[:, :channels]
    expected = expected.permute(0, 2, 3, 1) / steps
    y = FoldedAnalysis(model.analysis, condition, steps)(pixels)
    linear = model.analysis.transform(pixels.permute(0, 3, 1, 2) - 127.5)[:, :channels]
    assert (expected - linear.permute(0, 2, 3, 1) / steps).std() > 0.1  # the network does something
    assert torch.allclose(y, expected, atol=1e-3, rtol=1e-5)
    rough = FoldedAnalysis(model.analysis, condition, steps, torch.bfloat16)(pixels)
    assert 0 < (rough - expected).abs().max() < 0.1 * (expected - expected.mean()).std()
