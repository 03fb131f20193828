"""Losses of pixels, against sums over all 256 values."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.autoencoders.likelihood import IMAGENET_VARIANCE, LIKELIHOODS, LogisticMixture

GREYS = torch.arange(256, dtype=torch.float64) / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps_of(name: str, channels: int, h: int = 2, w: int = 3, scale: float = 1.0) -> Tensor:
    count = LIKELIHOODS[name](channels).maps
    return scale * torch.randn(2, count, h, w, generator=seeded(), dtype=torch.float64)


def pixels(channels: int, h: int = 2, w: int = 3) -> Tensor:
    return torch.randint(256, (2, channels, h, w), generator=seeded(1)).double() / 255


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_a_mixture_of_grey_logistics_sums_to_one_and_has_the_mean_of_its_picture(
    scale: float,
) -> None:
    """One pixel for each value. The picture is the mean to half a grey level."""
    mixture = LogisticMixture(1)
    maps = maps_of("mix", 1, 1, 1, scale)
    share = mixture.log_probability(maps.expand(2, -1, 1, 256), GREYS.expand(2, 1, 1, 256)).exp()
    assert torch.allclose(share.sum(2), torch.ones(2, 1, dtype=torch.float64), atol=1e-12)
    mean = (share * GREYS).sum(2)
    assert (mixture.picture(maps)[:, 0, :, 0] - mean).abs().max() < 0.5 / 255


@pytest.mark.parametrize("colour", range(3))
def test_a_mixture_of_colours_sums_to_one_over_each_colour_in_turn(colour: int) -> None:
    """p(R) = p(R, G, B) summed over G and B, and so on: here given one value of the others.

    Over blue the probabilities of whole pixels sum to that of (R, G); they do so for red and green
    in a mixture whose later colours are certain of one value.
    """
    mixture = LogisticMixture(3)
    maps = maps_of("mix", 3, 1, 1)
    parts = maps.unflatten(1, (mixture.components, -1))  # logit, 3 means, 3 scales, 3 coefficients
    parts[:, :, 1 + colour + 1 : 4] = 1e6  # far above white: the later colours are white
    parts[:, :, 7:] *= 0 if colour < 2 else 1
    x = torch.ones(2, 3, 1, 256, dtype=torch.float64)
    x[:, colour] = GREYS
    share = mixture.log_probability(maps.expand(2, -1, 1, 256), x).exp().sum(2)
    x_before = x.clone()
    x_before[:, colour:] = 1
    parts = parts.clone()
    parts[:, :, 1 + colour : 4] = 1e6
    before = mixture.log_probability(parts.flatten(1, 2), x_before[..., :1]).exp()
    assert torch.allclose(share, before[..., 0], rtol=1e-9)
    if colour == 0:
        assert torch.allclose(share, torch.ones_like(share))


def test_a_mixture_is_the_sum_over_components_of_products_of_differences() -> None:
    """The formula as it is written, where nothing underflows."""
    maps, x = maps_of("mix", 3), pixels(3)
    v = 2 * x - 1
    total = torch.zeros(2, 2, 3, dtype=torch.float64)
    parts = maps.unflatten(1, (10, 10))  # a logit, 3 means, 3 log scales, 3 coefficients
    for part, share in zip(parts.unbind(1), parts[:, :, 0].softmax(1).unbind(1), strict=True):
        (r, g, b), scales = part[:, 1:4].unbind(1), part[:, 4:7].exp()
        a1, a2, a3 = part[:, 7:].tanh().unbind(1)
        means = torch.stack((r, g + a1 * v[:, 0], b + a2 * v[:, 0] + a3 * v[:, 1]), 1)
        upper = torch.where(x == 1, 1.0, torch.sigmoid((v + 1 / 255 - means) / scales))
        lower = torch.where(x == 0, 0.0, torch.sigmoid((v - 1 / 255 - means) / scales))
        total += share * (upper - lower).prod(1)
    found = LogisticMixture(3).log_probability(maps, x)
    assert torch.allclose(found, total.log(), rtol=1e-9)
    assert torch.allclose(LogisticMixture(3).loss(maps, x), -total.log().mean() / 3)


def test_a_certain_and_wrong_mixture_has_a_finite_loss_and_gradient() -> None:
    maps = torch.zeros(1, 30, 1, 2).unflatten(1, (10, 3))
    maps[:, :, 1], maps[:, :, 2] = 0.9, -50.0  # bright, with the least scale
    maps = maps.flatten(1, 2).requires_grad_(True)
    loss = LogisticMixture(1).loss(maps, torch.tensor([[[[0.0, 0.5]]]]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(maps.grad).all()
    assert loss > 100 and maps.grad.any()


def test_a_narrow_mixture_shows_its_colour() -> None:
    """One component, certain of a colour whose green and blue follow the red."""
    maps = torch.zeros(1, 10, 10, 1, 1)
    maps[:, 0, 0], maps[:, :, 4:7] = 50.0, -20.0
    maps[:, 0, 1:4, 0, 0] = torch.tensor([0.5, -0.2, 0.1])
    maps[:, 0, 7:, 0, 0] = torch.tensor([0.3, -0.4, 0.6])
    a, b, c = torch.tensor([0.3, -0.4, 0.6]).tanh().tolist()
    green = -0.2 + a * 0.5
    blue = 0.1 + b * 0.5 + c * green
    picture = LogisticMixture(3).picture(maps.flatten(1, 2))
    expected = (torch.tensor([0.5, green, blue]) + 1) / 2
    assert torch.allclose(picture.flatten(), expected, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_histogram_is_that_of_each_subpixel(channels: int) -> None:
    maps, x = maps_of("ce", channels), pixels(channels)
    likelihood = LIKELIHOODS["ce"](channels)
    share = maps.reshape(2, channels, 256, 2, 3).softmax(2)
    chosen = share.gather(2, (x * 255).round().long()[:, :, None])
    assert torch.allclose(likelihood.loss(maps, x), -chosen.log().mean())
    mean = (share * GREYS[:, None, None]).sum(2)
    assert torch.allclose(likelihood.picture(maps), mean)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_squared_error_is_that_of_pixels_of_variance_one(channels: int) -> None:
    maps, x = maps_of("mse", channels), pixels(channels)
    likelihood = LIKELIHOODS["mse"](channels)
    error = F.mse_loss(likelihood.picture(maps), x)
    assert torch.allclose(likelihood.loss(maps, x), error / IMAGENET_VARIANCE)


def test_a_mixture_is_for_grey_or_colour() -> None:
    with pytest.raises(ValueError, match="not 2"):
        LogisticMixture(2)
