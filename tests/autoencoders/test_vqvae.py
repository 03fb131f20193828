"""VQ-VAE and VQ-VAE-2, with the estimators of the DiVeQ poster."""

import pytest
import torch
from torch import Tensor

from vqcodec.autoencoders import classes
from vqcodec.autoencoders.vqvae import VQVAE, VQVAEConfig
from vqcodec.quantizers.choice import QUANTIZERS

SMALL = {"side": 16, "width": 16, "blocks": 1, "dim": 8, "size": 32, "beta": 0.05}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slopes(count: int, seed: int = 0) -> Tensor:
    """Bands of two random colours in a random direction, (count, 3, 16, 16)."""
    g = seeded(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    angle = 6.28 * torch.rand(count, 1, 1, 1, generator=g)
    one, two = torch.rand(2, count, 3, 1, 1, generator=g)
    share = torch.sigmoid(8 * (x * angle.cos() + y * angle.sin()))
    return share * one + (1 - share) * two


def trained(config: VQVAEConfig, steps: int) -> VQVAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = VQVAE(config)
    generator = seeded(1)
    made.begin(0, slopes(64), generator)
    optimizer = torch.optim.AdamW(made.stages()[0], lr=3e-3)
    made.train()
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (number + 1) / 20)
        optimizer.zero_grad()
        made.loss(slopes(16, number), number / steps, generator)["loss"].backward()
        optimizer.step()
        made.after_step((number + 1) / steps, generator, optimizer)
    return made.eval()


def test_the_levels_of_both() -> None:
    one, two = (VQVAE(VQVAEConfig(**SMALL, levels=n)) for n in (1, 2))
    assert one.rates == two.rates == ("5bit",)
    assert [(level.grid, level.sizes) for level in one.levels("5bit")] == [((4, 4), (32,))]
    grids = [(level.grid, level.sizes) for level in two.levels("5bit")]
    assert grids == [((2, 2), (32,)), ((4, 4), (32,))]
    assert VQVAE(VQVAEConfig(**SMALL, levels=2, withhold=0.1)).rates == ("5bit-2x2", "5bit")


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_estimator_learns_and_decodes_what_it_saw(quantizer: str) -> None:
    """Same net, data and steps. The baseline is the mean picture, which costs no bits."""
    made = trained(VQVAEConfig(**SMALL, quantizer=quantizer), 60)
    test = slopes(64, 1000)
    decoded = made.decode(made.encode(test, "5bit"), "5bit")
    with torch.no_grad():
        found = made.loss(test, 1.0, seeded())
    assert torch.equal(found["mse"], (decoded - test).square().mean())
    baseline = (test - slopes(256, 5).mean(0)).square().mean()
    assert found["mse"] < 2 / 3 * baseline
    assert found["perplexity"] > 8


def test_the_top_level_conditions_the_bottom_one_and_both_reach_the_picture() -> None:
    made = trained(VQVAEConfig(**SMALL, levels=2), 20)
    x = slopes(8)
    top, bottom = made.encode(x, "5bit")
    full = made.decode([top, bottom], "5bit")
    for some in ([top, None], [None, bottom]):
        assert not torch.allclose(made.decode(some, "5bit"), full)
    with torch.no_grad():
        made.quantizers[0].parts[0].inner.codebook.add_(3)  # the same for all places of the top
    moved_top, moved_bottom = made.encode(x, "5bit")
    assert not torch.equal(moved_top, top) and not torch.equal(moved_bottom, bottom)


def test_a_configuration_survives_its_file_and_is_checked() -> None:
    found, config = classes("vqvae")
    assert found is VQVAE
    shape = VQVAEConfig(**SMALL, quantizer="diveq", levels=2)
    assert config.from_dict(shape.to_dict()) == shape
    assert VQVAE(shape).config == shape
    with pytest.raises(ValueError, match="down to /32"):
        VQVAEConfig.from_dict({"side": 16, "down": 4, "levels": 2})
    with pytest.raises(ValueError, match="none of ste"):
        VQVAEConfig.from_dict({"quantizer": "straight"})
