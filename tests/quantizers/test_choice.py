"""Quantizers by name, and the care that they get between steps."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vqcodec.quantizers import choice
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.choice import CODEBOOKS, QUANTIZERS, make
from vqcodec.quantizers.product import Product
from vqcodec.quantizers.residual import Residual

WITH_GRADIENT = [name for name in CODEBOOKS if name != "ema"]


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "WINDOW", 7)
    monkeypatch.setattr(choice, "HQA_WINDOW", 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(b: int = 2, d: int = 3, h: int = 8, w: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(b, d, h, w, generator=seeded(seed))


def clusters(count: int, seed: int = 0) -> Tensor:
    """(1, 2, count, 16): ``count`` tight groups of vectors, far apart."""
    centres = 10 * torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))[:count]
    z = centres[:, None] + 0.1 * torch.randn(count, 16, 2, generator=seeded(seed))
    return z.movedim(-1, 0)[None]


def train(
    module: nn.Module,
    batches: list[Tensor],
    lr: float = 1e-3,
    until: float = 1.0,
    start: bool = True,
) -> None:
    """Steps on the error of the quantized latents and the quantizers' own loss."""
    weights = list(module.parameters())
    optimizer = torch.optim.Adam(weights or [torch.zeros((), requires_grad=True)], lr=lr)
    generator = seeded(9)
    if start:
        choice.begin(module)
    module.train()
    for number, z in enumerate(batches):
        result = module(z, generator)
        loss = (result.z - z).square().mean() + result.loss
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        done = (number + 1) / len(batches)
        choice.after_step(module, until * (done if start else 1), generator, optimizer)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_name_makes_a_quantizer_whose_codes_are_the_truth(name: str) -> None:
    quantizer = make(name, 4, 16, seed=1).eval()
    z = latents(d=4)
    result = quantizer(z)
    assert torch.equal(result.codes, quantizer.encode(z))
    assert torch.equal(result.z, quantizer.decode(result.codes))
    assert len(quantizer.sizes) == result.codes.shape[1]
    for column, size in zip(result.codes.unbind(1), quantizer.sizes, strict=True):
        assert column.min() >= 0 and column.max() < size
    same, other = make(name, 4, 16, seed=1), make(name, 4, 16, seed=2)
    assert torch.equal(same.decode(result.codes), result.z)
    assert not torch.equal(other.decode(result.codes), result.z)
    assert not quantizer.decode(result.codes, 0).any()


@pytest.mark.parametrize("name", CODEBOOKS)
def test_points_are_what_codes_decode_to_in_their_order(name: str) -> None:
    quantizer = make(name, 3, 4, seed=1).eval()
    codes = torch.cartesian_prod(*map(torch.arange, quantizer.sizes)).reshape(
        -1, len(quantizer.sizes), 1, 1
    )
    assert torch.equal(quantizer.decode(codes)[:, :, 0, 0], quantizer.points())


@pytest.mark.parametrize("name", QUANTIZERS)
def test_drawn_codes_are_a_function_of_the_generator_and_mostly_near(name: str) -> None:
    quantizer, z = make(name, 4, 16).eval(), 3 * latents(8, 4)
    one, same, other = (quantizer.sample(z, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    nearest = quantizer.encode(z)
    assert one.shape == nearest.shape
    for column, size in zip(one.unbind(1), quantizer.sizes, strict=True):
        assert column.min() >= 0 and column.max() < size
    assert (one == nearest).float().mean() > 0.3
    error = (quantizer.decode(one) - z).square().mean()
    shape, g = z[:, 0].shape, seeded(2)
    anything = torch.stack([torch.randint(n, shape, generator=g) for n in quantizer.sizes], 1)
    assert error < (quantizer.decode(anything) - z).square().mean()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'vq' is none of ste, ema, .*, sfdiveq"):
        make("vq", 3, 16)


def test_beta_weighs_the_commitment_and_only_that() -> None:
    z = latents()
    plain, heavy = (make("ste", 3, 16, beta=beta)(z).loss for beta in (0.0, 2.0))
    assert torch.allclose(heavy, 3 * plain)
    assert make("diveq", 3, 16, beta=2.0)(z).loss == 0


@pytest.mark.parametrize(
    ("arguments", "message"), [(("ste", 3, 1), "2 codewords"), (("product", 3, 8), "3 numbers")]
)
def test_what_cannot_be_made_is_said_before(arguments: tuple[str, int, int], message: str) -> None:
    for function in (choice.check, make):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def optimizer_of(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([*module.parameters(), torch.zeros((), requires_grad=True)], lr=0.0)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_latents_pass_for_a_while_and_then_become_codewords(name: str) -> None:
    quantizer = make(name, 3, 16)
    choice.begin(quantizer)
    z = 5 + latents()
    untouched = quantizer.points().detach().clone()
    for progress in (0.0, choice.UNQUANTIZED / 2, choice.UNQUANTIZED):
        result = quantizer(z, seeded())
        assert torch.equal(result.z, z) and result.loss == 0
        assert torch.equal(quantizer.points(), untouched)
        choice.after_step(quantizer, progress, seeded(), optimizer_of(quantizer))
    assert not torch.equal(quantizer(z, seeded()).z, z)
    book = "means" if name == "responsibility" else "codebook"
    codebook = getattr(quantizer.inner, book).detach().clone()
    rows = {tuple(row) for row in z.movedim(1, -1).reshape(-1, 3).tolist()}
    if name == "sfdiveq":  # means of 16 runs of latents
        assert torch.allclose(codebook, z.movedim(1, -1).reshape(16, -1, 3).mean(1))
    elif name == "ema":  # latents, and a step of the averages
        assert (codebook - 5).abs().max() < 5
    else:
        assert {tuple(row) for row in codebook.tolist()} <= rows
    quantizer.eval()(z + 100)
    quantizer.train()(z + 100, seeded())
    if name != "ema":
        assert torch.equal(getattr(quantizer.inner, book), codebook)  # once is enough


@pytest.mark.parametrize("name", QUANTIZERS)
def test_without_begin_there_is_quantization_from_the_first_step(name: str) -> None:
    quantizer, z = make(name, 4, 16), latents(d=4)
    assert not torch.equal(quantizer(z, seeded()).z, z)
    choice.after_step(quantizer, 0.5, seeded(), optimizer_of(quantizer))
    assert not torch.equal(quantizer(z, seeded()).z, z)


def test_the_second_stage_of_a_chain_starts_from_what_the_first_leaves() -> None:
    chain = Residual([make("ste", 3, 16), make("ste", 3, 16)])
    choice.begin(chain)
    z = 5 + latents()
    assert torch.equal(chain(z, seeded()).z, z)
    choice.after_step(chain, 1.0, seeded(), optimizer_of(chain))
    chain(z, seeded())
    first, second = (stage.inner.codebook.detach() for stage in chain.stages)
    rest = z - chain.stages[0].decode(chain.stages[0].encode(z))
    rows = {tuple(row) for row in rest.movedim(1, -1).reshape(-1, 3).tolist()}
    assert {tuple(row) for row in second.tolist()} <= rows
    assert first.mean() > 4


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codewords_that_a_system_has_made_are_used_from_the_first_step_on(name: str) -> None:
    quantizer, z = make(name, 4, 16), 5 + latents(d=4)
    quantizer.start(z, seeded())
    first = [part.inner.points().detach().clone() for part in choice.tended(quantizer)]
    for progress in (0.0, choice.UNQUANTIZED / 2, choice.UNQUANTIZED):
        choice.after_step(quantizer, progress, seeded(), optimizer_of(quantizer))
    for part, points in zip(choice.tended(quantizer), first, strict=True):
        assert torch.equal(part.inner.points(), points)
    assert not torch.equal(quantizer(z, seeded()).z, z)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_first_codewords_wait_for_several_latents_each(name: str) -> None:
    quantizer = make(name, 3, 16)
    choice.begin(quantizer)
    choice.after_step(quantizer, choice.UNQUANTIZED, seeded(), optimizer_of(quantizer))
    batches = [5 + latents(16, 3, 1, 1, seed) for seed in range(choice.SEVERAL)]
    for z in batches[:-1]:
        assert torch.equal(quantizer(z, seeded()).z, z)
        choice.after_step(quantizer, 0.5, seeded(), optimizer_of(quantizer))
    assert not torch.equal(quantizer(batches[-1], seeded()).z, batches[-1])
    assert (quantizer.inner.points().mean(1) > 2).all()
    if name not in ("ema", "sfdiveq"):  # averages, and means
        rows = [{tuple(row) for row in z[:, :, 0, 0].tolist()} for z in batches]
        points = {tuple(row) for row in quantizer.inner.points().tolist()}
        assert points <= set.union(*rows) and all(points & some for some in rows)


def test_latents_are_gathered_over_a_checkpoint() -> None:
    quantizer, resumed = make("ste", 3, 16), make("ste", 3, 16)
    choice.begin(quantizer)
    choice.after_step(quantizer, choice.UNQUANTIZED, seeded(), optimizer_of(quantizer))
    batches = [latents(16, 3, 1, 1, seed) for seed in range(choice.SEVERAL)]
    for z in batches[:2]:
        quantizer(z, seeded())
    for name, buffer in resumed.named_buffers():
        buffer.copy_(dict(quantizer.named_buffers())[name])
    for z in batches[2:]:
        made = [one(z, seeded()).z for one in (quantizer, resumed)]
    assert torch.equal(*made) and torch.equal(quantizer.points(), resumed.points())


@pytest.mark.parametrize("name", ["gumbel", "responsibility"])
def test_cold_samples_are_codewords(name: str) -> None:
    quantizer, z = make(name, 3, 16), latents()
    gaps = []
    for temperature in (1.0, 1e-4):
        choice.before_step(quantizer, temperature)
        made = quantizer(z, seeded())
        gaps.append((made.z - quantizer.decode(made.codes)).abs().max())
    assert gaps[0] > 0.1 and gaps[1] < 1e-5


def test_unused_codewords_of_ema_become_latents_at_once() -> None:
    quantizer = make("ema", 2, 16)
    quantizer.inner.codebook += 1000
    quantizer.inner.codebook[0] = 0  # the only one that is hit
    quantizer.inner.ema_counts.fill_(1e-3)
    quantizer.inner.ema_counts[0] = 200
    z = clusters(16)
    quantizer(z, seeded())
    optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)])
    choice.after_step(quantizer, 0.1, seeded(), optimizer)
    rows = {tuple(row) for row in z.movedim(1, -1).reshape(-1, 2).tolist()}
    assert {tuple(row) for row in quantizer.inner.codebook[1:].tolist()} <= rows


@pytest.mark.parametrize(
    "name", [n for n in CODEBOOKS if n not in ("gumbel", "st-gumbel", "sfdiveq", "responsibility")]
)
def test_lost_codewords_come_back_to_the_latents(name: str) -> None:
    quantizer = make(name, 2, 16)
    with torch.no_grad():
        quantizer.inner.codebook[1:] += 1000
    train(quantizer, [latents(d=2)] * choice.WINDOW, lr=0.0, until=0.7, start=False)
    assert quantizer.inner.codebook.abs().max() < 10
    assert use.used(use.counts(quantizer.eval().encode(latents(d=2)), 16)) > 1


def test_codewords_settle_for_the_last_quarter() -> None:
    for progress, moves in ((choice.SETTLED - 0.01, True), (choice.SETTLED, False)):
        quantizer = make("ste", 2, 16)
        optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.0)
        with torch.no_grad():
            quantizer.inner.codebook[1:] += 1000
        before = quantizer.inner.codebook.detach().clone()
        for _ in range(choice.WINDOW):
            quantizer(latents(d=2), seeded())
            choice.after_step(quantizer, progress, seeded(), optimizer)
        assert torch.equal(quantizer.inner.codebook, before) != moves


def test_gumbel_moves_one_codeword_next_to_the_most_used() -> None:
    quantizer = make("gumbel", 2, 16)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.0)
    with torch.no_grad():
        quantizer.inner.codebook.copy_(1000.0 * torch.arange(16)[:, None])
    before = quantizer.inner.codebook.detach().clone()
    for _ in range(choice.HQA_WINDOW):
        quantizer(latents(d=2), seeded())
        choice.after_step(quantizer, 0.1, seeded(), optimizer)
    moved = (quantizer.inner.codebook != before).any(1)
    assert moved.sum() == 1
    assert torch.allclose(quantizer.inner.codebook[moved], before[0], atol=0.1)


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_training_is_a_function_of_its_seeds(name: str) -> None:
    batches = [latents(seed=seed) for seed in range(choice.WINDOW + 5)]
    found = []
    for _ in range(2):
        quantizer = make(name, 3, 8, seed=4)
        train(quantizer, batches, until=0.5)
        found.append(quantizer.points().detach().clone())
    assert torch.equal(found[0], found[1])
    assert torch.isfinite(found[0]).all()


def test_care_reaches_quantizers_inside_of_others() -> None:
    inside = Product([make("gumbel", 2, 4), Residual([make("gumbel", 2, 4), make("ema", 2, 4)])])
    assert len(list(choice.tended(inside))) == 3
    choice.begin(inside)
    z = latents(d=4)
    assert torch.equal(inside(z, seeded()).z, z)
    for _ in range(2):
        choice.after_step(inside, 1.0, seeded(), optimizer_of(inside))
        assert not torch.equal(inside(z, seeded()).z, z)
    choice.before_step(inside, 0.1)
    assert inside.parts[0].inner.temperature == 0.1
    assert inside.parts[1].stages[0].inner.temperature == 0.1


def test_a_residual_chain_knows_a_straight_through_stage_by_name() -> None:
    assert Residual([make("ste", 3, 4), make("ema", 3, 4)]).straight_through
    assert not Residual([make("ste", 3, 4), make("diveq", 3, 4)]).straight_through


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_quantizer_survives_copy_and_state_dict(name: str) -> None:
    quantizer = make(name, 4, 16)
    train(quantizer, [latents(d=4, seed=seed) for seed in range(3)])
    other = make(name, 4, 16, seed=5)
    other.load_state_dict(quantizer.state_dict())
    codes = quantizer.eval().encode(latents(d=4))
    for twin in (other.eval(), copy.deepcopy(quantizer)):
        assert torch.equal(twin.encode(latents(d=4)), codes)
        assert torch.equal(twin.decode(codes), quantizer.decode(codes))


def test_what_training_remembers_is_in_buffers_and_not_in_weights() -> None:
    quantizer = make("ste", 3, 16)
    choice.begin(quantizer)
    for progress in (0.01, 0.5, 0.6, 0.7):
        quantizer(latents(), seeded())
        choice.after_step(quantizer, progress, seeded(), optimizer_of(quantizer))
    assert (quantizer.steps, quantizer.bypassed, quantizer.waiting) == (2, False, False)
    other = make("ste", 3, 16)
    for name, buffer in other.named_buffers():
        buffer.copy_(dict(quantizer.named_buffers())[name])
    assert (other.steps, other.bypassed, other.waiting) == (2, False, False)
    assert set(quantizer.state_dict()) == {"inner.codebook"}


def test_what_training_remembers_stays_where_it_is_read_at_once() -> None:
    quantizer = make("ste", 3, 16)
    choice.begin(quantizer)
    moved = quantizer.to("meta")
    assert moved.inner.codebook.is_meta and moved.bypassed
