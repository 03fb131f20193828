"""Residual quantization: codes that add up, previews, and gradients for every stage."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec.quantizers.depthwise import Depthwise
from vqcodec.quantizers.residual import Residual, prefix_lengths
from vqcodec.quantizers.vq import ESTIMATORS, VQ


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def chain(estimator: str, stages: int = 3, dim: int = 4, size: int = 8, **options) -> Residual:
    vqs = [VQ(dim, size, estimator, seed=number) for number in range(stages)]
    return Residual(vqs, **options).double()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ESTIMATORS), st.floats(0.01, 100))
def test_forward_gives_what_the_codes_decode_to(seed: int, estimator: str, spread: float) -> None:
    z = latents(2, 4, 3, 5, seed=seed) * spread
    quantizer = chain(estimator).eval()
    result = quantizer(z)
    assert torch.equal(result.codes, quantizer.encode(z))
    assert torch.equal(result.z, quantizer.decode(result.codes))
    assert result.codes.shape == (2, 3, 3, 5) and result.codes.dtype == torch.int64
    assert result.bits is None


def test_codes_are_chosen_stage_by_stage_and_decode_to_a_sum() -> None:
    quantizer = chain("ste")
    z = latents(2, 4, 3, 5)
    codes = quantizer.encode(z)
    rest = z.movedim(1, -1)
    total = torch.zeros_like(rest)
    for column, stage in enumerate(quantizer.stages):
        distance = (rest[..., None, :] - stage.codebook).square().sum(-1)
        assert torch.equal(codes[:, column], distance.argmin(-1))
        total = total + stage.codebook[codes[:, column]]
        rest = rest - stage.codebook[codes[:, column]]
        preview = quantizer.decode(codes, upto=column + 1).movedim(1, -1)
        torch.testing.assert_close(preview, total, rtol=0, atol=1e-14)
    assert not quantizer.decode(codes, upto=0).any()


def test_each_stage_of_centroids_takes_its_own_energy_off_the_distortion() -> None:
    # A codeword that is the mean of its vectors: E|r|^2 = E|c|^2 + E|r - c|^2.
    rest = latents(300, 2, 1, 1)
    stages = []
    for number in range(3):
        stage = VQ(2, 5, seed=number).double()
        points = rest[:, :, 0, 0]
        stage.codebook.data = points[:5].clone()
        for _ in range(100):
            codes = stage.encode(rest).flatten()
            means = torch.stack([points[codes == k].mean(0) for k in range(5)])
            if torch.equal(means, stage.codebook):
                break
            stage.codebook.data = means
        else:
            pytest.fail("the codebook does not settle")
        stages.append(stage)
        rest = rest - stage.decode(stage.encode(rest))
    quantizer, z = Residual(stages), latents(300, 2, 1, 1)
    codes = quantizer.encode(z)
    distortion = z.square().sum(1).mean()
    for n, stage in enumerate(stages):
        energy = stage.codebook[codes[:, n]].square().sum(-1).mean()
        after = (z - quantizer.decode(codes, upto=n + 1)).square().sum(1).mean()
        torch.testing.assert_close(after, distortion - energy)
        assert after < 0.7 * distortion
        distortion = after


def test_columns_of_all_stages_stand_side_by_side() -> None:
    quantizer = Residual([VQ(3, 16), Depthwise(3, 8)]).eval()
    assert quantizer.dim == 3 and quantizer.sizes == (16, 8, 8, 8)
    z = latents(2, 3, 4, 4).float() * 3
    codes = quantizer.encode(z)
    assert codes.shape == (2, 4, 4, 4)
    coarse = quantizer.stages[0].decode(codes[:, :1])
    fine = quantizer.stages[1].decode(codes[:, 1:])
    assert torch.equal(quantizer.decode(codes, upto=1), coarse)
    half = quantizer.decode(codes, upto=3)  # two of the three columns of the second stage
    assert torch.equal(half[:, :2], (coarse + fine)[:, :2])
    assert torch.equal(half[:, 2:], coarse[:, 2:])
    assert torch.equal(quantizer.decode(codes), coarse + fine)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_stage_learns(estimator: str) -> None:
    quantizer = chain(estimator).train()
    before = [stage.codebook.clone() for stage in quantizer.stages]
    z = latents(4, 4, 5, 5).requires_grad_(True)
    result = quantizer(z)
    (result.loss + (result.z - z.detach()).square().mean()).backward()
    assert z.grad is not None and torch.isfinite(z.grad).all() and z.grad.any()
    for stage, old in zip(quantizer.stages, before, strict=True):
        if estimator == "ema":
            assert not torch.equal(stage.codebook, old)
        else:
            assert torch.isfinite(stage.codebook.grad).all() and stage.codebook.grad.any()


@pytest.mark.parametrize("straight_through", [True, False])
def test_the_gradient_of_straight_through_stages_is_the_identity(straight_through: bool) -> None:
    quantizer = chain("ste", straight_through=straight_through).train()
    z = latents(2, 4, 3, 3).requires_grad_(True)
    weight = latents(2, 4, 3, 3, seed=1)
    result = quantizer(z)
    assert torch.equal(result.z, quantizer.decode(result.codes))
    (result.z * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)


def test_commitment_of_every_stage_reaches_the_encoder() -> None:
    # d/dz of beta mean_c |r_c - c_c|^2, with r_c = z - constants.
    assert chain("ste").straight_through and chain("ema").straight_through
    assert not chain("gumbel").straight_through
    for straight_through, stages in ((True, 3), (False, 1)):
        quantizer = chain("ste", straight_through=straight_through).train()
        z = latents(2, 4, 3, 3).requires_grad_(True)
        result = quantizer(z)
        result.loss.backward()
        error = [z - quantizer.decode(result.codes, upto=n + 1) for n in range(stages)]
        expected = 2 * 0.25 * sum(error) / z.numel()
        torch.testing.assert_close(z.grad, expected.detach())


def test_the_gradient_of_relaxed_stages_is_that_of_the_chain() -> None:
    quantizer = chain("gumbel", stages=2, dim=2, size=3).train()
    z = latents(1, 2, 2, 2).requires_grad_(True)

    def output(z: Tensor, *codebooks: Tensor) -> tuple[Tensor, Tensor]:
        names = [name for name, _ in quantizer.named_parameters()]
        parameters = dict(zip(names, codebooks, strict=True))
        result = torch.func.functional_call(quantizer, parameters, (z, seeded(5)))
        return result.z, result.loss

    assert torch.autograd.gradcheck(output, (z, *quantizer.parameters()))


def test_dropout_decodes_images_from_prefixes_and_only_in_training() -> None:
    quantizer = chain("ste", dropout=1.0, seed=7).train()
    z = latents(30, 4, 2, 2)
    result = quantizer(z)
    previews = [quantizer.decode(result.codes, upto=n) for n in (1, 2, 3)]
    kept = [[n for n in range(3) if torch.equal(result.z[i], previews[n][i])] for i in range(30)]
    assert all(len(n) == 1 for n in kept)
    assert {n[0] for n in kept} == {0, 1, 2}
    assert torch.equal(result.codes, quantizer.encode(z))
    again = chain("ste", dropout=1.0, seed=7).train()
    assert torch.equal(again(z).z, result.z)
    assert not torch.equal(again(z).z, result.z)  # the draws go on
    assert torch.equal(quantizer(z, seeded(1)).z, quantizer(z, seeded(1)).z)
    quantizer.eval()
    assert torch.equal(quantizer(z).z, previews[2])


def test_prefix_lengths_are_uniform_among_the_dropped() -> None:
    lengths = prefix_lengths(20_000, 4, 0.5, seeded(0))
    share = torch.bincount(lengths, minlength=5) / 20_000
    expected = torch.tensor([0, 0.125, 0.125, 0.125, 0.625])
    torch.testing.assert_close(share, expected, rtol=0, atol=0.02)  # 6 standard deviations
    assert (prefix_lengths(100, 4, 0.0, seeded(0)) == 4).all()


def test_early_prefix_lengths_are_as_likely_in_each_doubling() -> None:
    lengths = prefix_lengths(40_000, 7, 1.0, seeded(0), early=True)
    share = torch.bincount(lengths, minlength=8) / 40_000
    # 1, then 2 and 3, then 4 to 7: a third each.
    groups = torch.stack([share[1], share[2:4].sum(), share[4:].sum()])
    torch.testing.assert_close(groups, torch.full((3,), 1 / 3), rtol=0, atol=0.015)  # 6 sd
    assert share[0] == 0 and share[1] > share[2] > share[3] > share[7] > 0


def test_residuals_of_16_bit_latents_are_kept_in_32() -> None:
    quantizer = Residual([VQ(4, 8, seed=n) for n in range(3)]).eval()
    z = latents(2, 4, 3, 3).bfloat16()
    result = quantizer(z)
    assert result.z.dtype == torch.bfloat16
    assert torch.equal(result.codes, quantizer.encode(z))
    assert torch.equal(result.z, quantizer.decode(result.codes).bfloat16())


def test_two_stages_of_4_codewords_fit_a_uniform_source_as_16_would() -> None:
    # 16 even cells of [0, 1] are off by 1/12/16^2 on average, 4 cells, the best of a single stage,
    # by 1/12/4^2. The fit must go below a quarter of that, half of the way in decibels.
    z = torch.rand(512, 1, 1, 1, generator=seeded(0))
    quantizer = Residual([VQ(1, 4, "ste", seed=n) for n in range(2)]).train()
    quantizer.stages[0].start(z, seeded(1))
    quantizer.stages[1].start(z - quantizer.stages[0](z).z.detach(), seeded(2))
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        quantizer(z).loss.backward()
        optimizer.step()
    mse = (quantizer.eval()(z).z - z).square().mean()
    assert mse < 1 / 12 / 4**2 / 4


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at least 1 stage"):
        Residual([])
    with pytest.raises(ValueError, match=r"different dim: \[3, 4\]"):
        Residual([VQ(3, 8), VQ(4, 8)])
    with pytest.raises(ValueError, match="probability"):
        Residual([VQ(3, 8)], dropout=1.5)
