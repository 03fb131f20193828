"""HQA and HAM: greedy stacks whose rate points are their layers."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.autoencoders import classes
from vqcodec.autoencoders.hqa import HAM, HQA, HAMConfig, HQAConfig, Layer
from vqcodec.quantizers import choice
from vqcodec.quantizers.vq import distances, rows_of

SMALL = HQAConfig(side=16, codebook=16, dim=8, encoder=(8, 8, 8), decoder=(8, 8, 8))
FULL = replace(
    SMALL, side=8, channels=3, full=True, more_convs=1, encoder=(8,) * 4, decoder=(8,) * 4
)
SMALL_HAM = HAMConfig(side=16, codebook=16, dim=8, encoder=(8, 8, 8), decoder=(8, 8, 8))
# Two layers suffice to learn something.
SHORT = {"side": 8, "encoder": (8, 8), "decoder": (8, 8)}
TRAINED = [replace(c, **SHORT) for c in (SMALL, SMALL_HAM, replace(SMALL, quantizer="diveq"))]
CONFIGS = {"hqa": SMALL, "hqa-full": FULL, "ham": SMALL_HAM}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(count: int, config: HQAConfig, seed: int = 0) -> Tensor:
    """Pictures of one soft spot each, (count, channels, side, side) in [0, 1]."""
    generator = seeded(seed)
    where = torch.rand(count, config.channels, 2, 1, 1, generator=generator) * 2 - 1
    line = torch.linspace(-1, 1, config.side)
    square = (line[:, None] - where[:, :, 0]).square() + (line - where[:, :, 1]).square()
    return torch.exp(-4 * square)


def begun(name: str) -> HQA:
    """An untrained system whose layers have measured their inputs and latents."""
    torch.manual_seed(0)
    config = CONFIGS[name]
    made = HAM(config) if isinstance(config, HAMConfig) else HQA(config)
    for stage in range(len(made.stages())):
        made.begin(stage, squares(100, config), seeded())
    return made.eval()


@cache
def fitted(config: HQAConfig) -> HQA:
    """Every stage trained for 50 steps, as the trainer does it."""
    torch.manual_seed(1)
    made = HAM(config) if isinstance(config, HAMConfig) else HQA(config)
    x = squares(256, config)
    for stage, parameters in enumerate(made.stages()):
        generator = seeded(stage)
        made.train().begin(stage, x, generator)
        optimizer = torch.optim.AdamW(parameters, 5e-3, weight_decay=0)
        for step in range(50):
            batch = x[torch.randint(len(x), (48,), generator=generator)]
            optimizer.zero_grad()
            made.loss(batch, step / 50, generator)["loss"].backward()
            optimizer.step()
            made.after_step(step / 50, generator, optimizer)
    return made.eval()


def psnr_gain(made: HQA, rate: str, baseline: Tensor) -> float:
    """Decibels by which fresh squares are nearer to their reconstruction than to ``baseline``."""
    x = squares(64, made.config, seed=99)
    mse = F.mse_loss(made.decode(list(made.encode(x, rate)), rate), x)
    return 10 * math.log10((x - baseline).square().mean() / mse)


everywhere = pytest.mark.parametrize("name", CONFIGS)


# --- Rates


def test_rates_are_layers_the_top_one_first() -> None:
    made = HQA()
    assert made.rates == ("8bit-1x1", "8bit-2x2", "8bit-4x4", "8bit-8x8", "8bit-16x16")
    (level,) = made.levels("8bit-2x2")
    assert level.name == "layer4" and level.grid == (2, 2) and level.sizes == (256,)
    thumbs = HQAConfig(
        side=64, channels=3, codebook=512, full=True, encoder=(4,) * 7, decoder=(4,) * 7
    )
    assert HQA(thumbs).rates[0] == "9bit-1x1" and HQA(thumbs).rates[-1] == "9bit-64x64"


def test_the_systems_are_found_by_name() -> None:
    assert classes("hqa") == (HQA, HQAConfig) and classes("ham") == (HAM, HAMConfig)


# --- Codes and pictures


@everywhere
def test_codes_and_pictures_have_the_shapes_of_their_level(name: str) -> None:
    made = begun(name)
    x = squares(5, made.config)
    for rate in made.rates:
        (level,) = made.levels(rate)
        (codes,) = made.encode(x, rate)
        assert codes.shape == (5, 1, *level.grid) and codes.dtype == torch.int64
        assert (codes >= 0).all() and (codes < level.sizes[0]).all()
        decoded = made.decode([codes], rate)
        assert decoded.shape == x.shape and decoded.dtype == x.dtype
        assert (decoded >= 0).all() and (decoded <= 1).all()


@everywhere
def test_a_square_has_the_same_codes_and_picture_in_any_batch(name: str) -> None:
    made = begun(name)
    x = squares(33, made.config)
    for rate in made.rates:
        (together,) = made.encode(x, rate)
        alone = torch.cat([made.encode(one[None], rate)[0] for one in x])
        assert torch.equal(together, alone)
        apart = torch.cat([made.decode([one[None]], rate) for one in together])
        assert torch.allclose(made.decode([together], rate), apart, atol=1e-6, rtol=0)


@everywhere
def test_evaluation_reports_the_error_of_what_is_decoded(name: str) -> None:
    made = begun(name)
    x = squares(20, made.config)
    for stage in range(len(made.rates)):
        made.stage = stage
        rate = made.rates[-1 - stage]
        result = made.loss(x, 1.0, seeded())
        codes = made.encode(x, rate)
        assert result["mse"] == F.mse_loss(made.decode(list(codes), rate), x)
        share = torch.bincount(codes[0].flatten()) / codes[0].numel()
        perplexity = torch.special.entr(share).sum().exp()
        assert torch.isclose(result["perplexity"].float(), perplexity)
        assert not result["mse"].requires_grad and not result["perplexity"].requires_grad


@everywhere
def test_what_a_layer_sees_in_evaluation_is_what_its_codes_decode_to(name: str) -> None:
    made = begun(name)
    x = squares(6, made.config)
    for index in range(len(made.rates)):
        quantizer = made.layer(index).quantizer
        z = made._climb(x, index)
        assert torch.equal(quantizer(z).z, quantizer.decode(quantizer.encode(z)))


def test_lower_codes_are_the_nearest_to_the_predicted_latent() -> None:
    """Algorithm 3 by hand, in the precision of the weights."""
    made = begun("hqa")
    (codes,) = made.encode(squares(4, SMALL), made.rates[0])
    lower = codes
    for index in (2, 1, 0):
        layer = made.layer(index)
        out = layer.decoder(layer.quantizer.decode(lower))
        if index:
            rows = rows_of(out * layer.std + layer.mean)
            book = made.layer(index - 1).quantizer.inner.codebook
            nearest = torch.cdist(rows, book, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
            lower = nearest.reshape(4, 1, *out.shape[2:])
    assert torch.allclose(made.decode([codes], made.rates[0]), out, atol=1e-5)


def test_ham_decodes_the_codes_that_it_names() -> None:
    made = begun("ham")
    layer, bottom = made.layer(1), made.layer(0)
    (codes,) = made.encode(squares(4, SMALL_HAM), made.rates[1])
    logits = layer.decoder(layer.quantizer.decode(codes))
    assert logits.shape == (4, 16, 8, 8)
    named = logits.argmax(1, keepdim=True)
    by_hand = bottom.decoder(bottom.quantizer.decode(named))
    assert torch.allclose(made.decode([codes], made.rates[1]), by_hand, atol=1e-5)


def test_ham_depends_on_the_codes_below_alone() -> None:
    made = begun("ham")
    x = squares(30, SMALL_HAM)
    (below,) = made.encode(x, made.rates[2])
    y = made.layer(0).quantizer.decode(below)
    (codes,) = made.encode(x, made.rates[1])
    assert torch.equal(made.layer(1).quantizer.encode(made.layer(1).encode(y.double())), codes)


@pytest.mark.parametrize("name", ["hqa", "ham"])
def test_a_seed_decides_what_the_decoder_draws(name: str) -> None:
    made = begun(name)
    x = squares(8, made.config)
    (codes,) = made.encode(x, made.rates[0])
    first, second, other = (made.decode([codes], made.rates[0], seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    (codes,) = made.encode(x, made.rates[-1])  # the last layer has nothing to choose
    still = made.decode([codes], made.rates[-1])
    assert torch.equal(made.decode([codes], made.rates[-1], seeded(1)), still)


def test_drawn_codes_follow_the_posterior() -> None:
    """q(k) is softmax(-|z - e_k|^2) (eq. 6: no half, no temperature)."""
    made, n = begun("hqa"), 20_000
    layer, book = made.layer(1), made.layer(0).quantizer.inner.codebook.double()
    # Near two codewords, so that the posterior has something to say.
    z = (0.6 * book[3] + 0.4 * book[7]).reshape(1, -1, 1, 1)
    out = layer.normalize(z).expand(n, -1, 1, 1)
    drawn = made._code_below(1, out, seeded())
    share = torch.bincount(drawn.flatten(), minlength=16) / n
    q = (-(z.flatten() - book).square().sum(1)).softmax(0)
    assert ((share - q).abs() <= 5 * (q * (1 - q) / n).sqrt() + 1e-12).all()


# --- Training


@everywhere
def test_a_stage_trains_its_layer_and_nothing_else(name: str) -> None:
    made = begun(name).train()
    x = squares(16, made.config)
    stages = made.stages()
    assert {id(p) for stage in stages for p in stage} == {id(p) for p in made.parameters()}
    for stage, trained in enumerate(stages):
        made.zero_grad()
        made.stage = stage
        made.loss(x, 0.5, seeded())["loss"].backward()
        own = {id(p) for p in trained}
        for label, p in made.named_parameters():
            reached = p.grad is not None and bool(p.grad.any())
            assert reached == (id(p) in own), label


@pytest.mark.parametrize("per_place", [False, True])
@pytest.mark.parametrize("name", ["hqa", "hqa-full"])
def test_the_loss_rewards_entropy_and_commitment(name: str, per_place: bool) -> None:
    """Eq. 5 with its sign: sums over places are divided by the elements of y, or are means."""
    made = HQA(replace(CONFIGS[name], per_place=per_place))
    made.load_state_dict(begun(name).state_dict())
    config, x = made.config, squares(7, made.config)
    for stage in range(len(made.rates)):
        made.stage = stage
        layer = made.layer(stage)
        result = made.loss(x, 1.0, seeded())
        y = made._climb(x, stage - 1)
        square = distances(rows_of(made._climb(x, stage)), layer.quantizer.inner.codebook)
        q = (-square).softmax(1)
        entropy = torch.special.entr(q).sum()
        extra = config.commitment * (q * square).sum() - config.entropy * entropy
        expected = result["error"] + extra / (len(square) if per_place else y.numel())
        assert entropy > 0 and torch.allclose(result["loss"], expected, rtol=1e-5)


def test_the_error_of_ham_is_the_cross_entropy_of_the_codes_below() -> None:
    made = begun("ham")
    x = squares(7, SMALL_HAM)
    made.stage = 1
    result = made.loss(x, 1.0, seeded())
    (below,) = made.encode(x, made.rates[2])
    (codes,) = made.encode(x, made.rates[1])
    layer = made.layer(1)
    logits = layer.decoder(layer.quantizer.decode(codes)).log_softmax(1)
    assert torch.allclose(result["error"], -logits.gather(1, below).mean(), rtol=1e-5)


@everywhere
def test_a_layer_begins_with_normalized_input_and_latents_for_codewords(name: str) -> None:
    made = begun(name)
    x = squares(100, made.config)
    for index in range(len(made.rates)):
        layer = made.layer(index)
        y = made._seen(index - 1, made._climb(x, index - 1))
        normal = layer.normalize(y)
        if index == 0:
            assert torch.equal(normal, x)
        else:
            moving = y.std((0, 2, 3)) > 1e-3
            assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(8), atol=1e-4)
            assert torch.allclose(normal.var((0, 2, 3), correction=0)[moving], torch.tensor(1.0))
            assert torch.allclose(normal * layer.std + layer.mean, y, atol=1e-6)
        z = made._climb(x, index)
        assert torch.allclose(z.std((0, 2, 3)), torch.ones(8), atol=0.02)
        gap = distances(layer.quantizer.inner.codebook.detach(), rows_of(z).detach()).min(1).values
        assert (gap < 1e-3).all()


@everywhere
def test_the_codewords_that_a_layer_begins_with_are_trained(name: str) -> None:
    """And not replaced once a twentieth of the stage is over."""
    made, x = begun(name).train(), squares(8, CONFIGS[name])
    made.stage = len(made.rates) - 1
    quantizer = made.layer(made.stage).quantizer
    first = quantizer.points().detach().clone()
    still = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=0.0)
    for progress in (0.01, choice.UNQUANTIZED, 0.1):
        made.loss(x, progress, seeded())
        if isinstance(made, HAM):  # moving averages go on
            quantizer.inner.ema_counts.fill_(1.0)
            quantizer.inner.codebook.copy_(first)
        made.after_step(progress, seeded(), still)
        assert not quantizer.bypassed
    assert torch.equal(quantizer.points(), first)


@pytest.mark.parametrize("name", ["hqa", "ham"])
def test_a_stage_trains_on_the_squares_that_it_keeps(name: str) -> None:
    made = begun(name).train()
    kept, others = squares(6, made.config), squares(6, made.config, seed=5)
    for stage in range(1, len(made.rates)):
        made.begin(stage, squares(100, made.config), seeded())
        made.layer(stage).quantizer.eval()  # without its noise
        errors = {float(made.loss(x, 1.0, seeded())["error"]) for x in kept.split(1)}
        made.keep(kept.split(4))
        seen = set()
        for seed in range(40):
            made.config = replace(made.config, places=1)
            seen.add(float(made.loss(others, 1.0, seeded(seed))["error"]))
            made.config = CONFIGS[name]
        assert len(errors) == len(seen) == 6
        assert sorted(seen) == pytest.approx(sorted(errors), rel=1e-4)
        made.begin(stage, kept, seeded())
        assert made._kept is None


def test_few_latents_still_give_different_codewords() -> None:
    made = HQA(SMALL)
    made.begin(2, squares(1, SMALL), seeded())  # 4 latents for 16 codewords
    assert len(made.layer(2).quantizer.inner.codebook.unique(dim=0)) == 16


def test_the_temperature_falls_in_a_line_to_a_hundredth() -> None:
    made = begun("hqa").train()
    quantizer = made.layer(made.stage).quantizer.inner
    for progress, expected in ((0.0, 0.66), (0.5, 0.335), (1.0, 0.01)):
        made.loss(squares(4, SMALL), progress, seeded())
        assert quantizer.temperature == pytest.approx(expected)


def test_idle_codewords_move_in_the_first_three_quarters_of_a_stage() -> None:
    """One in 20 batches, next to the busiest (appendix C.4), and of the layer in training alone."""
    made = begun("hqa").train()
    made.begin(1, squares(100, SMALL), seeded())
    quantizers = [made.layer(index).quantizer.inner for index in range(3)]
    optimizer = torch.optim.SGD(made.parameters(), 1.0)
    for progress, expected in ((0.74, [[], [2], []]), (0.76, [[], [], []])):
        before = [quantizer.codebook.clone() for quantizer in quantizers]
        for _ in range(20):
            made.loss(squares(2, SMALL), progress, seeded())
            for quantizer in quantizers:
                quantizer.hits.copy_(torch.tensor([100, 4, 2] + 13 * [5]))
            made.after_step(progress, seeded(), optimizer)
        moved = [
            (q.codebook != b).any(1).nonzero() for q, b in zip(quantizers, before, strict=True)
        ]
        assert [which.flatten().tolist() for which in moved] == expected
        assert (quantizers[1].codebook[2] - quantizers[1].codebook[0]).norm() < 0.1


def test_fine_layers_train_on_part_of_the_batch() -> None:
    made = HQA(replace(SMALL, places=128)).train()  # 2 squares of 8x8, 8 of 4x4
    x = squares(16, SMALL)
    for stage, used in ((0, 2), (1, 8), (2, 16)):
        made.stage = stage
        whole = made.loss(x, 0.5, seeded(1))["loss"]
        assert torch.equal(whole, made.loss(x[:used], 0.5, seeded(1))["loss"])


@pytest.mark.parametrize("config", TRAINED, ids=["hqa", "ham", "diveq"])
def test_training_every_layer_beats_the_mean_picture(config: HQAConfig) -> None:
    """And its fruits survive saving, and rounding of the weights to 16 bits."""
    made = fitted(config)
    mean = squares(256, config).mean(0)
    coarse, fine = (psnr_gain(made, rate, mean) for rate in made.rates)
    assert fine > coarse > 1

    x = squares(8, config, seed=5)
    again = type(made)(config)
    again.load_state_dict(made.state_dict())
    for rate in made.rates:
        codes = made.encode(x, rate)
        assert torch.equal(again.encode(x, rate)[0], codes[0])
        assert torch.equal(again.decode(list(codes), rate), made.decode(list(codes), rate))
    again.half().float()
    assert psnr_gain(again, made.rates[0], mean) > coarse - 0.2
    assert psnr_gain(again, made.rates[1], mean) > fine - 0.2


def test_the_mean_of_several_draws_is_better_than_one() -> None:
    """Squared error is convex: equality only if all draws are the same."""
    made = fitted(TRAINED[0])
    x = squares(32, made.config, seed=7)
    rate = made.rates[0]
    (codes,) = made.encode(x, rate)
    generator = seeded()
    draws = torch.stack([made.decode([codes], rate, generator) for _ in range(14)])
    single = (draws - x).square().mean()
    assert F.mse_loss(draws.mean(0), x) < 0.99 * single


# --- What is refused


def test_wrong_squares_codes_and_rates_are_refused() -> None:
    made = HQA(SMALL)
    rate = made.rates[0]
    for bad in (torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 8), torch.zeros(1, 16, 16)):
        with pytest.raises(ValueError, match="squares are"):
            made.encode(bad, rate)
    two = torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    for codes in ([], [None], [two[:, :0]], [two[..., :1]], [two[0]], [two, two]):
        with pytest.raises(ValueError, match="needs one level of codes"):
            made.decode(codes, rate)
    for call in (made.levels, lambda r: made.encode(squares(1, SMALL), r)):
        with pytest.raises(ValueError, match="none of 4bit-2x2"):
            call("8bit-2x2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": (8, 8)}, "differ in length"),
        ({"encoder": (), "decoder": ()}, "no layer"),
        ({"encoder": (8, 8, 1)}, "fewer than 2"),
        ({"side": 20}, "cannot be halved 3 times"),
        ({"codebook": 100}, "not a power of two"),
        ({"codebook": 1}, "not a power of two"),
        ({"quantizer": "vq"}, "'vq' is none of ste"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HQA(replace(SMALL, **change))


def test_a_configuration_survives_its_dictionary() -> None:
    for config in (HQAConfig(), FULL, SMALL_HAM):
        assert type(config).from_dict(config.to_dict()) == config
    assert isinstance(HQA(SMALL).layer(0), Layer)
