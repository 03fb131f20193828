"""PQ-VAE: rate points are prefixes of one sequence of codes, and the first codes tell most."""

import pytest
import torch
from torch import Tensor

from vqcodec.autoencoders import classes
from vqcodec.autoencoders.pqvae import PQVAE, PQVAEConfig

TINY = {
    "side": 32,
    "channels": 1,
    "hidden": 8,
    "dim": 8,
    "rank": (4, 2),
    "size": 16,
    "steps": 8,
    "cold": 0.1,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int = 0, **changes) -> PQVAE:
    torch.manual_seed(seed)  # of the initial weights
    return PQVAE(PQVAEConfig(**{**TINY, **changes}))


def blobs(count: int, side: int = 32, channels: int = 1, seed: int = 0) -> Tensor:
    """A bright spot somewhere on black, (count, channels, side, side)."""
    places = torch.rand(count, channels, 2, generator=seeded(seed)) * 0.6 + 0.2
    cell = (torch.arange(side) + 0.5) / side
    squares = (cell - places[..., None]).square()  # (count, channels, 2, side)
    return (-(squares[:, :, 0, :, None] + squares[:, :, 1, None]) / 0.02).exp()


@pytest.fixture(scope="module")
def trained() -> PQVAE:
    model, generator = tiny(), seeded(1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    x = blobs(2048, seed=2)
    steps = 160
    for step in range(steps):
        progress = step / steps
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - progress)
        parts = model.loss(x[32 * step % 2048 :][:32], progress, generator)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        model.after_step(progress, generator, optimizer)
    return model.eval()


@torch.no_grad()
def mse(model: PQVAE, x: Tensor, rate: str) -> float:
    return (model.decode([*model.encode(x, rate)], rate) - x).square().mean().item()


def test_the_papers_numbers_of_codes() -> None:
    assert classes("pqvae") == (PQVAE, PQVAEConfig)
    model = PQVAE(PQVAEConfig())
    assert model.rates == tuple(f"8bit-{n}" for n in (1, 2, 4, 8, 16, 32, 64))
    (level,) = model.levels("8bit-64")
    assert level.grid == (2, 2) and level.sizes == (256,) * 64  # 256 codes of CelebA at 64x64
    (level,) = PQVAE(PQVAEConfig(side=32)).levels("8bit-4")
    assert level.grid == (1, 1) and level.sizes == (256,) * 4  # 64 codes of CIFAR-10 in all
    assert tiny(steps=12).rates == ("4bit-1", "4bit-2", "4bit-4", "4bit-8", "4bit-12")
    assert tiny(steps=1, size=6).rates == ("2.58496bit-1",)


@pytest.mark.parametrize("side, channels", [(32, 1), (64, 3)])
def test_codes_are_those_of_the_levels_at_every_rate(side: int, channels: int) -> None:
    model = tiny(side=side, channels=channels).eval()
    x = torch.rand(3, channels, side, side, generator=seeded(0))
    all_codes = model.encode(x, model.rates[-1])[0]
    for rate in model.rates:
        (level,) = model.levels(rate)
        assert level.name == "codes"  # with one prior, as the first columns are the same codes
        (codes,) = model.encode(x, rate)
        assert codes.shape == (3, len(level.sizes), *level.grid) and codes.dtype == torch.int64
        assert codes.min() >= 0 and codes.max() < level.sizes[0]
        assert torch.equal(codes, all_codes[:, : len(level.sizes)])
        assert model.decode([codes], rate).shape == x.shape


def test_a_square_has_the_same_codes_in_any_batch(trained: PQVAE) -> None:
    x = blobs(12, seed=4)
    with torch.no_grad():
        together = trained.encode(x, "4bit-8")[0]
        alone = torch.cat([trained.encode(one[None], "4bit-8")[0] for one in x])
        assert torch.equal(together, alone)
        assert torch.equal(together, trained.encode(x, "4bit-8")[0])
        pixels = trained.decode([together], "4bit-8")
        for number in range(12):
            one = trained.decode([together[number : number + 1]], "4bit-8")
            torch.testing.assert_close(one, pixels[number : number + 1], rtol=0, atol=1e-5)


def test_in_evaluation_the_loss_is_that_of_decoded_codes(trained: PQVAE) -> None:
    x = blobs(16, seed=5)
    first, second = (trained.loss(x, progress, seeded(seed)) for seed, progress in ((0, 0), (1, 1)))
    assert first["mse"] == second["mse"]  # no noise, no prefixes
    assert first["mse"].item() == pytest.approx(mse(trained, x, "4bit-8"), rel=1e-6)


def test_a_file_cut_short_is_one_of_a_lower_rate(trained: PQVAE) -> None:
    (codes,) = trained.encode(blobs(4, seed=6), "4bit-8")
    with torch.no_grad():
        for rate, n in (("4bit-1", 1), ("4bit-2", 2), ("4bit-4", 4)):
            short = trained.decode([codes[:, :n]], "4bit-8")
            assert torch.equal(short, trained.decode([codes[:, :n]], rate))
        nothing = trained.decode([codes[:, :0]], "4bit-8")
    assert nothing.shape == (4, 1, 32, 32) and torch.equal(nothing[0], nothing[1])


def test_training_beats_the_mean_picture_with_one_code_and_each_rate_the_one_before(
    trained: PQVAE,
) -> None:
    x = blobs(256, seed=7)
    errors = [mse(trained, x, rate) for rate in trained.rates]
    baseline = (x - blobs(2048, seed=2).mean(0)).square().mean().item()
    assert baseline > errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 0.2 * baseline


def test_the_first_code_is_missed_most(trained: PQVAE) -> None:
    x = blobs(256, seed=8)
    with torch.no_grad():
        codes = trained.encode(x, "4bit-8")[0]
        vectors = trained.quantizer.codebook[codes[:, :, 0, 0]].permute(1, 2, 0)  # (L, r*s, N)
        inverses = trained.quantizer.inverses()
        costs = []
        for step in range(8):
            rest = vectors.clone()
            rest[step] = 0
            maps = trained.quantizer.join(trained.quantizer.lift(rest, inverses), 1, 1)
            costs.append((trained.decoder(maps) - x).square().mean().item())
    assert max(costs) == costs[0] and min(costs) > mse(trained, x, "4bit-8")


def test_weights_of_16_bits_cost_little(trained: PQVAE) -> None:
    x = blobs(256, seed=9)
    rounded = tiny(seed=1).eval()
    rounded.load_state_dict({k: v.half().float() for k, v in trained.state_dict().items()})
    assert mse(rounded, x, "4bit-8") < 1.02 * mse(trained, x, "4bit-8")


def test_a_saved_model_decodes_alike(trained: PQVAE) -> None:
    again = tiny(seed=1).eval()
    again.load_state_dict(trained.state_dict())
    (codes,) = trained.encode(blobs(4), "4bit-8")
    with torch.no_grad():
        assert torch.equal(again.decode([codes], "4bit-8"), trained.decode([codes], "4bit-8"))


def test_every_parameter_learns() -> None:
    model = tiny(side=64, channels=3)
    assert [len(stage) for stage in model.stages()] == [len(list(model.parameters()))]
    # A square whose prefix is short says nothing about the last maps, but a batch does.
    model.loss(blobs(16, 64, 3), 0.0, seeded(0))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert (
            (parameter.grad.flatten(1).abs().sum(1) > 0).all()
            if "quant" in name
            else (parameter.grad.any())
        ), name


def test_noise_comes_from_the_generator_and_the_temperature_falls() -> None:
    model, x = tiny(), blobs(8)
    same = [model.loss(x, 0.5, seeded(3))["loss"].item() for _ in range(2)]
    assert same[0] == same[1] != model.loss(x, 0.5, seeded(4))["loss"].item()
    seen = []
    for progress in (0.0, 0.5, 1.0):
        model.loss(x, progress, seeded(0))
        seen.append(model.quantizer.temperature)
    assert seen == pytest.approx([0.66, (0.66 * 0.1) ** 0.5, 0.1])


def test_codewords_out_of_use_come_back() -> None:
    model = tiny(weight=0.0)
    with torch.no_grad():
        model.quantizer.codebook[3:] = 1e3 + torch.arange(13.0)[:, None]  # out of reach
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    x, generator = blobs(16), seeded(0)
    for step in range(40):
        parts = model.loss(x, 0.0, generator)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        model.after_step(0.0 if step < 20 else 0.8, generator, optimizer)
    # One after 20 steps, and none in the last quarter of the training.
    assert (model.quantizer.codebook.abs().amax(1) < 100).sum() == 4


def test_mistakes_are_named() -> None:
    model = tiny().eval()
    (codes,) = model.encode(blobs(2), "4bit-8")
    for x in (blobs(2, 64), blobs(2, channels=3), blobs(2)[0]):
        with pytest.raises(ValueError, match="squares of 1x32x32"):
            model.encode(x, "4bit-8")
    for wrong in (codes.repeat(1, 1, 2, 2), codes[:, 0], codes.repeat(1, 2, 1, 1)):
        with pytest.raises(ValueError, match="codes of up to 8 columns"):
            model.decode([wrong], "4bit-8")
    with pytest.raises(ValueError, match="up to 2 columns"):
        model.decode([codes], "4bit-2")
    for none in ([None], [], [codes, codes]):
        with pytest.raises(ValueError, match="one level"):
            model.decode(none, "4bit-8")
    for match, changes in (
        ("multiple of 32", {"side": 48}),
        ("1 or 3 channels", {"channels": 2}),
        ("rank has 2", {"rank": [4]}),
        ("rank", {"rank": [65, 2]}),
        ("hidden", {"hidden": 2}),
        ("temperatures", {"cold": 0.7}),
        ("temperatures", {"cold": 0.0}),
        ("probability", {"prefixes": 1.5}),
        ("codewords", {"size": 1}),
        ("step", {"steps": 0}),
    ):
        with pytest.raises(ValueError, match=match):
            PQVAE(PQVAEConfig.from_dict(changes))
    with pytest.raises(TypeError, match="rank is not a list"):
        PQVAEConfig.from_dict({"rank": 4})
    config = PQVAEConfig(**TINY)
    assert PQVAEConfig.from_dict(config.to_dict()) == config
