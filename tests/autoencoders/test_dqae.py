"""DQ-AE: ladders of grids of codes, with several codebooks a level."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vqcodec.autoencoders import classes
from vqcodec.autoencoders.dqae import DQAE, DQAEConfig
from vqcodec.autoencoders.likelihood import LIKELIHOODS
from vqcodec.quantizers import choice
from vqcodec.quantizers.choice import QUANTIZERS, tended

SMALL = DQAEConfig(side=16, width=16, blocks=1, dim=4, columns=2, sizes=(16, 8))
SHAPES = [
    SMALL,
    replace(SMALL, channels=1, sizes=(8,)),
    replace(SMALL, sizes=(16, 12, 8), down=1, columns=3, withhold=0.5),
    replace(SMALL, quantizer="sfdiveq", withhold=0.5),
    replace(SMALL, likelihood="ce", axis="pixel"),
    replace(SMALL, likelihood="mix", channels=1, columns=1),
    replace(SMALL, tied=True),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(config: DQAEConfig, count: int = 5, seed: int = 0) -> Tensor:
    """Two random colours, and an edge in a random direction between them."""
    g, n = seeded(seed), config.side
    y, x = torch.meshgrid(torch.linspace(-1, 1, n), torch.linspace(-1, 1, n), indexing="ij")
    angle = 6.28 * torch.rand(count, 1, 1, 1, generator=g)
    one, two = torch.rand(2, count, config.channels, 1, 1, generator=g)
    share = torch.sigmoid(8 * (x * angle.cos() + y * angle.sin()))
    return ((share * one + (1 - share) * two) * 255).round() / 255


def model(config: DQAEConfig, seed: int = 0) -> DQAE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = DQAE(config)
    made.begin(0, pictures(config, 64, seed=99), seeded())
    choice.after_step(made, 1.0, seeded(), torch.optim.SGD(made.parameters()))  # no waiting
    return made


def train(made: DQAE, config: DQAEConfig, steps: int) -> list[float]:
    generator = seeded(1)
    optimizer = torch.optim.AdamW(made.stages()[0], lr=3e-3)
    made.begin(0, pictures(config, 64, seed=99), generator)
    made.train()
    found = []
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (number + 1) / 20)
        parts = made.loss(pictures(config, 16, seed=number), number / steps, generator)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        made.after_step((number + 1) / steps, generator, optimizer)
        found.append(parts["mse"].item())
    return found


@pytest.mark.parametrize("config", SHAPES)
def test_codes_are_what_the_levels_of_their_rate_say(config: DQAEConfig) -> None:
    made = model(config).eval()
    x = pictures(config)
    bits = []
    for rate in made.rates:
        assert re.fullmatch(r"\d+(\.\d+)?bit(-\w+)?", rate)
        levels, codes = made.levels(rate), made.encode(x, rate)
        assert len(codes) == len(levels)
        for level, some in zip(levels, codes, strict=True):
            assert some.shape == (5, len(level.sizes), *level.grid) and some.dtype == torch.int64
            for column, size in zip(some.unbind(1), level.sizes, strict=True):
                assert column.min() >= 0 and column.max() < size
        bits.append(sum(h * w * len(sizes) for _, (h, w), sizes in levels))
    assert bits == sorted(bits) and len(set(made.rates)) == len(made.rates)
    assert [level.grid[0] for level in levels] == sorted(level.grid[0] for level in levels)


def test_rates_are_named_after_the_largest_codebook_and_the_finest_grid() -> None:
    assert model(SMALL).rates == ("4bit",)
    assert model(SHAPES[2]).rates == ("4bit-2x2", "4bit-4x4", "4bit")
    assert model(replace(SMALL, sizes=(10, 200))).rates == ("7.64bit",)


@pytest.mark.parametrize("config", SHAPES)
def test_evaluation_sees_what_a_file_decodes_to(config: DQAEConfig) -> None:
    made = model(config).eval()
    x = pictures(config)
    rate = made.rates[-1]
    codes = made.encode(x, rate)
    decoded = made.decode(codes, rate)
    assert decoded.shape == x.shape
    with torch.no_grad():
        assert torch.equal(made.loss(x, 1.0, seeded())["mse"], (decoded - x).square().mean())
        assert all(map(torch.equal, codes, made.encode(x, rate)))
        for n, one in enumerate(x):
            alone = made.encode(one[None], rate)
            assert all(torch.equal(a[0], b[n]) for a, b in zip(alone, codes, strict=True))
            assert torch.allclose(made.decode(alone, rate)[0], decoded[n], rtol=0, atol=1e-5)


def test_lower_rates_are_the_first_levels_of_higher_ones() -> None:
    made, x = model(SHAPES[2]).eval(), pictures(SHAPES[2])
    full = made.encode(x, "4bit")
    for number, rate in enumerate(made.rates, 1):
        codes = made.encode(x, rate)
        assert len(codes) == number and all(map(torch.equal, codes, full))
        withheld = [*codes, *[None] * (3 - number)]
        assert torch.equal(made.decode(codes, rate), made.decode(withheld, "4bit"))


def test_any_level_alone_decodes_and_says_something() -> None:
    """Figure 4: structure from the top alone, detail from the bottom alone."""
    made, x = model(SMALL).eval(), pictures(SMALL)
    top, bottom = made.encode(x, "4bit")
    pictures_ = [made.decode(some, "4bit") for some in ([top, bottom], [top, None], [None, bottom])]
    for n, one in enumerate(pictures_):
        assert torch.isfinite(one).all() and one.shape == x.shape
        assert all(not torch.equal(one, other) for other in pictures_[:n])
    blank = [torch.zeros(5, 8, n, n) for n in (2, 4)]
    expected = made._synthesize([blank[0], made.quantizers[1].decode(bottom)])
    assert torch.equal(pictures_[2], made.pixels.picture(expected))


def test_missing_last_columns_leave_their_slices_zero() -> None:
    made, x = model(SMALL).eval(), pictures(SMALL)
    top, bottom = made.encode(x, "4bit")
    z = made.quantizers[1].decode(bottom)
    z[:, 4:] = 0
    expected = made.pixels.picture(made._synthesize([made.quantizers[0].decode(top), z]))
    assert torch.equal(made.decode([top, bottom[:, :1]], "4bit"), expected)


def test_unfit_input_is_refused() -> None:
    made, x = model(SMALL).eval(), pictures(SMALL)
    top, bottom = made.encode(x, "4bit")
    with pytest.raises(ValueError, match="none of 4bit"):
        made.levels("5bit")
    for wrong in (x[:, :1], x[..., :8], x[0]):
        with pytest.raises(ValueError, match="squares of"):
            made.encode(wrong, "4bit")
    for codes in ([], [top], [None, None], [top, bottom, bottom]):
        with pytest.raises(ValueError, match="2 levels"):
            made.decode(codes, "4bit")
    for codes in (
        [bottom, top],
        [top, bottom[:3]],
        [top, bottom.repeat(1, 2, 1, 1)],
        [top[0], bottom],
    ):
        with pytest.raises(ValueError, match=r"codes .* are not of"):
            made.decode(codes, "4bit")


@pytest.mark.parametrize(
    "change",
    [
        {"side": 12},
        {"sizes": ()},
        {"down": 0},
        {"width": 0},
        {"columns": 0},
        {"axis": "pixel", "columns": 4},
        {"axis": "depth"},
        {"axis": "pixel", "tied": True},
        {"likelihood": "lpips"},
        {"quantizer": "vq"},
        {"withhold": 1.5},
    ],
)
def test_sizes_that_contradict_each_other_are_refused(change: dict) -> None:
    with pytest.raises(ValueError):
        DQAE(replace(SMALL, **change))


def test_a_configuration_survives_its_file() -> None:
    found, config = classes("dqae")
    assert found is DQAE
    for shape in SHAPES:
        assert config.from_dict(shape.to_dict()) == shape


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_with_one_codebook_a_level_is_plain_vector_quantization(quantizer: str) -> None:
    """M = 1: the same losses, gradients and moving averages if the product is taken away."""
    config = replace(SMALL, columns=1, quantizer=quantizer)
    made = model(config)
    plain = copy.deepcopy(made)
    for number, product in enumerate(plain.quantizers):
        plain.quantizers[number] = product.parts[0]
    x = pictures(config)
    results = []
    for one in (made, plain):
        parts = one.train().loss(x, 0.5, seeded(3))
        parts["loss"].backward()
        gradients = [p.grad for p in one.parameters()]
        results.append([*parts.values(), *gradients, *one.state_dict().values()])
    for a, b in zip(*results, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("config", [*SHAPES[:3], replace(SMALL, quantizer="diveq")])
def test_a_loss_reaches_every_weight(config: DQAEConfig) -> None:
    made = model(config).train()
    weights = made.stages()[0]
    assert {id(w) for w in weights} == {id(w) for w in made.parameters()}
    made.loss(pictures(config, 16), 0.5, seeded())["loss"].backward()
    for name, weight in made.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def test_the_skip_sum_matters_from_three_levels_on() -> None:
    """With two levels nothing is decoded from the sum."""
    for sizes, equal in (((8, 8), True), ((8, 8, 8), False)):
        config = replace(SMALL, sizes=sizes, down=1)
        x = pictures(config)
        with_, without = (model(replace(config, skip=skip)).eval() for skip in (True, False))
        without.load_state_dict(with_.state_dict())
        assert torch.equal(with_.encode(x, "3bit")[-1], without.encode(x, "3bit")[-1]) == equal


def test_withholding_in_training_zeroes_the_finer_levels_of_some_pictures() -> None:
    made = model(replace(SMALL, withhold=1.0)).train()
    x = pictures(SMALL, 64)
    seen = []
    made._synthesize = lambda latents: (seen.append(latents), DQAE._synthesize(made, latents))[1]
    made.loss(x, 0.5, seeded())
    top, bottom = seen[0]
    withheld = ~bottom.flatten(1).any(1)
    assert top.flatten(1).any(1).all() and 16 < withheld.sum() < 48


def test_begin_gives_latents_of_variance_one() -> None:
    made, x = model(SMALL), pictures(SMALL, 64)
    made.begin(0, x, seeded())
    latents: list[torch.Tensor] = []
    for quantizer in tended(made):
        quantizer.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    made.train().loss(x, 0.0, seeded())
    for z in latents:
        assert abs(z.mean()) < 1e-5
        assert abs(z.std() - 1) < 0.01


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_short_training_beats_the_mean_picture(likelihood: str) -> None:
    """By a third of its squared error, and what was learned survives a file of 16-bit weights."""
    config = replace(SMALL, channels=1, quantizer="diveq", likelihood=likelihood)
    made = model(config)
    train(made, config, 60)
    test = pictures(config, 64, seed=1000)
    baseline = (test - pictures(config, 256, seed=5).mean(0)).square().mean()
    made.eval()
    with torch.no_grad():
        found = made.loss(test, 1.0, seeded())
    assert found["mse"] < 2 / 3 * baseline
    state = made.state_dict()
    codes = made.encode(test, "4bit")
    decoded = made.decode(codes, "4bit")
    again = DQAE(config).eval()
    again.load_state_dict(state)
    assert torch.equal(again.decode(codes, "4bit"), decoded)
    again.load_state_dict({k: v.half().to(v.dtype) for k, v in state.items()})
    rounded = (again.decode(again.encode(test, "4bit"), "4bit") - test).square().mean()
    assert rounded < 1.01 * found["mse"]
