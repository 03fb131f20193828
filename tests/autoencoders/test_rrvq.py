"""RRVQ-VAE: the ladder of codes, its exact prior, and what training makes of both."""

import math
from importlib import import_module

import pytest
import torch
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.autoencoders import SYSTEMS
from vqcodec.autoencoders.rrvq import RRVQ, RRVQConfig
from vqcodec.autoencoders.rrvq.model import logistic_nats
from vqcodec.autoencoders.system import Config, System
from vqcodec.quantizers.responsibility import Responsibility

TINY = RRVQConfig(
    side=16, grids=(1, 2, 2, 4), sizes=(4, 6, 5, 8), embedding=6, width=12, fine=8, blocks=2
)
CELEBA = RRVQConfig(side=64)  # grids and codebooks of the paper's five layers
DEEP = RRVQConfig(grids=(2,) * 8 + (4,) * 8 + (8,) * 8 + (16,) * 8, sizes=(256,) * 32, width=8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    """A disc on a colour gradient, as multiples of 1/255, (count, channels, side, side)."""
    g = seeded(seed)
    ramp = torch.linspace(-1, 1, side)
    y, x = ramp[:, None], ramp[None]
    a, b, c, e = torch.rand(4, count, channels, 1, 1, generator=g)
    u, v, r = torch.rand(3, count, 1, 1, 1, generator=g) * 1.2 - 0.6
    disc = (x - u) ** 2 + (y - v) ** 2 < (0.3 + 0.3 * r) ** 2
    value = torch.where(disc, c, e + 0.4 * (a - 0.5) * x + 0.4 * (b - 0.5) * y)
    return (value.clamp(0, 1) * 255).round() / 255


def model(config: RRVQConfig = TINY, seed: int = 0) -> RRVQ:
    """In evaluation mode; no weight is trivial, and pictures have many different codes."""
    torch.manual_seed(seed)
    made = RRVQ(config).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.03 * torch.randn(p.shape))
    made.begin(0, pictures(64, config.side, config.channels), seeded(seed))
    return made


@pytest.fixture(scope="module")
def tiny() -> RRVQ:
    return model()


@pytest.fixture(scope="module")
def squares() -> Tensor:
    return pictures(20, seed=1)


# --- the system -----------------------------------------------------------------------------------


def test_five_layers_have_the_rate_of_the_paper() -> None:
    made = RRVQ(CELEBA)
    levels = made.levels("7bit")
    bits = [level.grid[0] * level.grid[1] * math.log2(level.sizes[0]) for level in levels]
    assert bits == [3, 4 * 4, 16 * 5, 64 * 6, 256 * 7]
    assert sum(bits) == 2275
    assert [level.name for level in levels] == ["z5", "z4", "z3", "z2", "z1"]


def test_thirty_two_layers_have_2720_codes_and_run() -> None:
    made = RRVQ(DEEP).eval()
    assert made.rates == ("8bit",)
    codes = made.encode(pictures(1, 32), "8bit")
    assert len(codes) == 32 and sum(c.numel() for c in codes) == 2720
    assert made.decode(list(codes), "8bit").shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": [8, 16]},
        {"grids": [1, 2, 2, 8, 16]},
        {"grids": [2, 1, 4, 8, 16]},
        {"side": 48},
        {"side": 16},
        {"grids": [], "sizes": []},
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RRVQConfig.from_dict(wrong)


def test_the_system_is_found_by_its_name() -> None:
    module, model_name, config_name = SYSTEMS["rrvq"]
    found = import_module(f"vqcodec.autoencoders.{module}")
    assert getattr(found, model_name) is RRVQ and issubclass(RRVQ, System)
    assert getattr(found, config_name) is RRVQConfig and issubclass(RRVQConfig, Config)


@torch.no_grad()
def test_codes_fill_the_levels_and_are_the_same_in_any_batch(tiny: RRVQ, squares: Tensor) -> None:
    rate = tiny.rates[0]
    codes = tiny.encode(squares, rate)
    for level, c in zip(tiny.levels(rate), codes, strict=True):
        assert c.dtype == torch.int64 and c.shape == (20, 1, *level.grid)
        assert c.min() >= 0 and c.max() < level.sizes[0]
        assert len(c.unique()) > 2
    for size in (1, 7):
        parts = [tiny.encode(part, rate) for part in squares.split(size)]
        for whole, same in zip(codes, zip(*parts, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(same))


@torch.no_grad()
def test_what_the_loss_sees_in_evaluation_is_decode_of_encode(tiny: RRVQ, squares: Tensor) -> None:
    codes: list[Tensor | None] = list(tiny.encode(squares, tiny.rates[0]))
    decoded = tiny.decode(codes, tiny.rates[0])
    parts = tiny.loss(squares, 1.0, seeded(0))
    assert parts["mse"] == (decoded - squares).square().mean()
    one_by_one = [
        tiny.decode([c[i : i + 1] for c in codes if c is not None], tiny.rates[0]) for i in range(3)
    ]
    assert torch.allclose(torch.cat(one_by_one), decoded[:3], rtol=0, atol=1e-5)
    price = sum(float(parts[f"kl.{level.name}"]) for level in tiny.levels(tiny.rates[0]))
    dimensions = squares[0].numel()
    assert float(parts["loss"]) == pytest.approx(float(parts["bits"]) + price / dimensions)


@torch.no_grad()
def test_withheld_levels_come_from_the_prior(tiny: RRVQ, squares: Tensor) -> None:
    rate = tiny.rates[0]
    codes = tiny.encode(squares, rate)
    for kept in range(len(codes)):
        preview: list[Tensor | None] = [*codes[:kept], *[None] * (len(codes) - kept)]
        likely = tiny.decode(preview, rate)
        assert torch.equal(likely, tiny.decode(preview, rate))
        drawn = tiny.decode(preview, rate, seeded(5))
        assert torch.equal(drawn, tiny.decode(preview, rate, seeded(5)))
        assert not torch.equal(drawn, tiny.decode(preview, rate, seeded(6)))
        assert len(likely) == (20 if kept else 1)
    empty: list[Tensor | None] = [c[:, :0] for c in codes]
    assert tiny.decode(empty, rate, seeded(5)).shape == squares.shape


@torch.no_grad()
def test_drawn_codes_have_the_frequencies_of_the_prior(tiny: RRVQ) -> None:
    expected = None

    def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
        nonlocal expected
        if layer == 0:
            expected = tiny.codebook(0).log_responsibilities(e_p)[0, :, 0, 0].exp()
        return e_p

    tiny._descend(1, choose)
    assert expected is not None and expected.max() < 0.99
    seen: list[Tensor] = []
    codebook = tiny.codebook(0)
    original = codebook.decode
    codebook.decode = lambda codes: (seen.append(codes), original(codes))[1]  # type: ignore
    try:
        empty: list[Tensor | None] = [
            torch.empty(2000, 0, *level.grid) for level in tiny.levels(tiny.rates[0])
        ]
        tiny.decode(empty, tiny.rates[0], seeded(0))
    finally:
        del codebook.decode
    share = torch.bincount(seen[0].flatten(), minlength=4) / 2000
    assert (share - expected).abs().max() < 4 * math.sqrt(0.25 / 2000)


def test_wrong_shapes_codes_and_rates_end_in_value_errors(tiny: RRVQ, squares: Tensor) -> None:
    rate = tiny.rates[0]
    for x in (squares[:, :1], squares[:, :, :8], squares[0]):
        with pytest.raises(ValueError):
            tiny.encode(x, rate)
        with pytest.raises(ValueError):
            tiny.loss(x, 0.0, seeded(0))
    codes = tiny.encode(squares, rate)
    wrong: list[list[Tensor | None]] = [
        [*codes[:3]],
        [*codes[:3], codes[3][:, :, :2]],
        [*codes[:3], codes[3][:7]],
        [*codes[:3], codes[3] + 8],
        [*codes[:3], codes[3] - 8],
        [*codes[:3], codes[3].repeat(1, 2, 1, 1)],
    ]
    for one in wrong:
        with pytest.raises(ValueError):
            tiny.decode(one, rate)
    with pytest.raises(ValueError):
        tiny.encode(squares, "9bit")


def test_the_logistic_is_a_distribution_over_bytes() -> None:
    values = torch.arange(256).double() / 255
    for mean, log_scale in ((0.3, -3.0), (0.999, -1.0), (-0.2, -6.0), (0.5, 1.0)):
        scale = torch.tensor(log_scale, dtype=torch.float64)
        nats = logistic_nats(values, torch.full_like(values, mean), scale)
        assert torch.exp(-nats).sum() == pytest.approx(1, abs=1e-9)
        x = 100 / 255
        edges = ((torch.tensor([x - 1 / 510, x + 1 / 510]).double() - mean) / scale.exp()).sigmoid()
        assert torch.exp(-nats[100]) == pytest.approx(float(edges[1] - edges[0]), rel=1e-6)


def test_far_off_means_have_finite_costs_and_gradients() -> None:
    mean = torch.tensor([-30.0, 30.0, 0.5], requires_grad=True)
    nats = logistic_nats(torch.tensor([1.0, 0.0, 0.5]), mean, torch.tensor(-6.0))
    nats.sum().backward()
    assert nats.isfinite().all() and mean.grad is not None and mean.grad.isfinite().all()
    assert nats[:2].min() > 1000


def test_every_parameter_gets_a_gradient(squares: Tensor) -> None:
    made = model().train()
    made.loss(squares, 0.5, seeded(0))["loss"].backward()
    idle = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert sum(map(len, made.stages())) == len(list(made.parameters()))


def test_the_rate_moves_from_the_divergence_to_what_a_file_pays(squares: Tensor) -> None:
    made = model().train()

    def rate(progress: float, seed: int = 0) -> float:
        parts = made.loss(squares, progress, seeded(seed))
        return sum(float(value) for name, value in parts.items() if name.startswith("kl."))

    assert made.config.last_bits_back == 0
    assert rate(0.0) < rate(1.0)
    assert [made.codebook(i).temperature for i in range(4)] == [0.5] * 4
    assert [made.codebook(i).bits_back for i in range(4)] == [0.0] * 4


def test_free_bits_are_a_floor_of_each_layer(squares: Tensor) -> None:
    made = model(RRVQConfig(**{**vars(TINY), "free_bits": 2.5})).train()
    parts = made.loss(squares, 0.0, seeded(0))
    for level in made.levels(made.rates[0]):
        cells = level.grid[0] * level.grid[1]
        assert float(parts[f"kl.{level.name}"]) >= 2.5 * cells * (1 - 1e-6)


def test_unused_codewords_cost_at_first(squares: Tensor) -> None:
    """In units of the loss; what they cost falls to nothing in the course of the training."""
    made, plain = (model(RRVQConfig(**{**vars(TINY), "usage": u})).train() for u in (0.5, 0.0))
    for progress, weight in ((0.0, 0.5), (0.6, 0.2), (1.0, 0.0)):
        loss, without = (m.loss(squares, progress, seeded(0))["loss"] for m in (made, plain))
        unused = 0.0
        for layer in range(4):
            codebook = made.codebook(layer)
            assert isinstance(codebook, Responsibility)
            assert codebook.usage == pytest.approx(weight)
            unused += math.log2(codebook.sizes[0])
        assert 0 <= (loss - without).item() < weight * unused + 1e-6
        assert (loss > without) == (weight > 0)


def test_the_state_is_all_there_is(tiny: RRVQ, squares: Tensor) -> None:
    copy = RRVQ(TINY).eval()
    copy.load_state_dict(tiny.state_dict())
    codes: list[Tensor | None] = list(tiny.encode(squares, tiny.rates[0]))
    for mine, other in zip(codes, copy.encode(squares, tiny.rates[0]), strict=True):
        assert mine is not None and torch.equal(mine, other)
    assert torch.equal(tiny.decode(codes, tiny.rates[0]), copy.decode(codes, tiny.rates[0]))


@torch.no_grad()
def test_sixteen_bits_of_a_weight_are_enough(tiny: RRVQ, squares: Tensor) -> None:
    copy = RRVQ(TINY).eval()
    for name, value in tiny.state_dict().items():
        exact = name.startswith(RRVQ.exact)
        copy.state_dict()[name].copy_(fixedpoint.round_weights(value) if exact else value.half())
        assert not exact or value.abs().max() < 8  # a multiple of 2**-12 is then an int16
    codes: list[Tensor | None] = list(tiny.encode(squares, tiny.rates[0]))
    before = tiny.decode(codes, tiny.rates[0])
    after = copy.decode(codes, tiny.rates[0])
    assert (before - after).abs().max() < 0.5 / 255


def test_a_short_training_beats_the_mean_picture() -> None:
    torch.manual_seed(0)
    made = RRVQ(RRVQConfig(side=16, grids=(1, 2, 4), sizes=(8, 8, 8), width=16, fine=8))
    g = seeded(0)
    x = pictures(256, seed=2)
    made.begin(0, x, g)
    made.train()
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    steps = 100
    for step in range(steps):
        batch = x[torch.randint(256, (32,), generator=g)]
        optimizer.zero_grad()
        made.loss(batch, step / steps, g)["loss"].backward()
        optimizer.step()
        made.after_step(step / steps, g, optimizer)
    unseen = pictures(64, seed=3)
    with torch.no_grad():
        parts = made.eval().loss(unseen, 1.0, g)
    baseline = (unseen - x.mean(0)).square().mean()
    assert parts["mse"] < 0.6 * baseline
    raw = 3 + 4 * 3 + 16 * 3
    assert 0 < sum(float(v) for n, v in parts.items() if n.startswith("kl.")) < raw


# --- the bound ------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_bound_is_of_drawn_codes_and_does_not_know_a_temperature(
    tiny: RRVQ, squares: Tensor
) -> None:
    """Eq. 5 with z_l ~ q(z_l | z_>l, x): each layer sees the codes drawn above it."""
    generator = seeded(3)
    d_bars, d = tiny.bottom_up(squares), tiny.top_down.start[:, None, None]
    d = d.expand(len(squares), -1, TINY.grids[0], TINY.grids[0])
    nats = torch.zeros(len(squares))
    for layer, rung in enumerate(tiny.top_down.rungs):
        d, e_p = rung(d)
        codebook, e_q = tiny.codebook(layer), tiny._posterior(layer)(d_bars[layer], d)
        q, p = (codebook.log_responsibilities(e) for e in (e_q, e_p))
        nats += (q.exp() * (q - p)).sum((1, 2, 3))
        d = d + rung.pladder(codebook.decode(codebook.sample(e_q, generator)))
    mean = 0.5 + 0.25 * tiny.leave(d)
    nats += logistic_nats(squares, mean, tiny.log_scale).sum((1, 2, 3))
    expected = nats / math.log(2) / squares[0].numel()
    torch.testing.assert_close(tiny.bound(squares, seeded(3)), expected)
    for part in tiny.modules():
        if hasattr(part, "temperature"):
            part.temperature = 7.0
    torch.testing.assert_close(tiny.bound(squares, seeded(3)), expected)


@torch.no_grad()
def test_the_bound_of_a_certain_posterior_is_what_a_file_pays(squares: Tensor) -> None:
    made = model()
    for layer in range(len(TINY.grids)):
        posterior = made._posterior(layer)
        posterior.qladder.weight.mul_(1e4)  # whatever is above it, one code has it all
    bound = made.bound(squares, seeded(0)).mean()
    torch.testing.assert_close(bound, made.loss(squares, 1.0, seeded(0))["loss"], rtol=1e-3, atol=0)
