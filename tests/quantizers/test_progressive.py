"""Progressive quantization: algorithm 1 by hand, prefixes, and the sign of its regulariser."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec.quantizers.progressive import Progressive, mutual_information


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def small(**options) -> Progressive:
    options = {"side": 2, "rank": (2, 2), **options}
    return Progressive(3, 5, 4, **options).double()


def skewed(**options) -> Progressive:
    """Maps that are neither orthogonal nor of unit length."""
    quantizer = small(**options)
    with torch.no_grad():
        quantizer.space.copy_(latents(*quantizer.space.shape, seed=1))
        quantizer.channel.copy_(latents(*quantizer.channel.shape, seed=2))
        quantizer.codebook.copy_(latents(*quantizer.codebook.shape, seed=3))
    return quantizer


def test_shapes_and_bits_are_the_papers() -> None:
    quantizer = Progressive().eval()
    assert quantizer.space.shape == (64, 64, 16) and quantizer.channel.shape == (64, 512, 4)
    assert quantizer.codebook.shape == (256, 64)  # one for all steps
    assert sum(math.log2(size) for size in quantizer.sizes) == 512  # bits of MNIST and CIFAR-10
    codes = quantizer.encode(latents(1, 512, 16, 16).float())
    assert codes.shape == (1, 64, 2, 2) and codes.dtype == torch.int64  # 256 codes of CelebA
    assert quantizer.decode(codes, upto=3).shape == (1, 512, 16, 16)
    assert quantizer.grid(32, 32) == (4, 4)  # 1024 codes of LSUN
    with pytest.raises(ValueError, match="12x16 cells"):
        quantizer.encode(torch.zeros(1, 512, 12, 16))


def test_sub_maps_are_strided_samples_of_the_whole() -> None:
    quantizer = small()
    z = latents(2, 3, 6, 4)
    maps = quantizer.partition(z).reshape(3, 4, 2, 3, 2)  # channel, cell, image, i, j
    for i in range(3):
        for j in range(2):
            sub = z[:, :, i::3, j::2].reshape(2, 3, 4)
            assert torch.equal(maps[..., i, j], sub.movedim(0, 2))
    assert torch.equal(quantizer.join(quantizer.partition(z), 3, 2), z)


def test_pseudo_inverses_undo_the_maps() -> None:
    quantizer = skewed()
    inverses = quantizer.inverses()
    e, maps = latents(4, 6), latents(3, 4, 6, seed=4)
    nothing = torch.zeros_like(maps)
    for step in range(4):
        assert np.allclose(
            inverses[0][step].detach(), np.linalg.pinv(quantizer.space[step].detach().numpy())
        )
        lifted = -quantizer.subtract(nothing, step, e, inverses)
        torch.testing.assert_close(quantizer.project(step, lifted), e, rtol=0, atol=1e-12)
        # The other way round it is a projection: once is enough.
        once = quantizer.subtract(maps, step, quantizer.project(step, maps), inverses)
        twice = quantizer.subtract(once, step, quantizer.project(step, once), inverses)
        torch.testing.assert_close(once, twice, rtol=0, atol=1e-12)


def test_lifting_adds_up_what_the_steps_subtract() -> None:
    quantizer = skewed()
    inverses = quantizer.inverses()
    e = latents(3, 4, 6)
    rest = torch.zeros(3, 4, 6, dtype=torch.float64)
    for step in range(3):
        rest = quantizer.subtract(rest, step, e[step], inverses)
    torch.testing.assert_close(quantizer.lift(e, inverses), -rest, rtol=0, atol=1e-12)


def test_maps_start_orthonormal() -> None:
    quantizer = small()
    for maps in (quantizer.space, quantizer.channel):
        gram = maps.mT @ maps
        torch.testing.assert_close(gram, torch.eye(2).double().expand(4, 2, 2))


def test_algorithm_1_by_hand() -> None:
    quantizer = skewed()
    z = latents(2, 3, 4, 6)
    codes = quantizer.encode(z)
    codebook = quantizer.codebook.detach().numpy()
    for image in range(2):
        for i in range(2):
            for j in range(3):
                # vec(S^T F C) = (C kron S)^T vec(F), where vec stacks the columns.
                rest = z[image, :, i::2, j::3].reshape(-1).numpy()
                total = np.zeros(12)
                for step in range(4):
                    matrix = np.kron(
                        quantizer.channel[step].detach(), quantizer.space[step].detach()
                    )
                    distance = ((matrix.T @ rest - codebook) ** 2).sum(1)
                    code = int(distance.argmin())
                    assert codes[image, step, i, j] == code
                    part = np.linalg.pinv(matrix).T @ codebook[code]
                    rest, total = rest - part, total + part
                    preview = quantizer.decode(codes, upto=step + 1)
                    sub = preview[image, :, i::2, j::3].detach().reshape(-1)
                    assert np.allclose(sub, total, rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_forward_gives_what_the_codes_decode_to(seed: int, spread: float) -> None:
    quantizer = skewed(seed=seed).eval()
    z = latents(2, 3, 4, 6, seed=seed) * spread
    result = quantizer(z)
    assert torch.equal(result.codes, quantizer.encode(z))
    assert torch.equal(result.z, quantizer.decode(result.codes))
    assert result.codes.shape == (2, 4, 2, 3) and result.codes.max() < 5
    assert result.bits is None


def test_any_prefix_decodes_whatever_comes_after_it() -> None:
    quantizer = skewed()
    codes = torch.randint(5, (2, 4, 2, 3), generator=seeded(0))
    for n in range(5):
        later = codes.clone()
        later[:, n:] = torch.randint(5, later[:, n:].shape, generator=seeded(1))
        prefix = quantizer.decode(codes, upto=n)
        assert torch.equal(prefix, quantizer.decode(later, upto=n))
        assert torch.equal(prefix, quantizer.decode(codes[:, :n]))
    assert torch.equal(prefix, quantizer.decode(codes))
    assert not quantizer.decode(codes, upto=0).any()


def test_the_first_codes_do_not_depend_on_how_many_follow() -> None:
    quantizer = skewed()
    z = latents(2, 3, 4, 6)
    for n in range(1, 5):
        assert torch.equal(quantizer.encode(z, upto=n), quantizer.encode(z)[:, :n])


def test_the_least_used_codeword_moves_beside_the_most_used_one() -> None:
    quantizer = small().train()
    z = latents(8, 3, 4, 4)
    codes = quantizer(z, seeded(0)).codes
    codes = torch.cat([codes, quantizer(z, seeded(1)).codes])
    assert torch.equal(quantizer.hits, codes.flatten().bincount(minlength=5))
    quantizer.hits.copy_(torch.tensor([100, 3, 90, 2, 1]))
    before = quantizer.codebook.detach().clone()
    assert quantizer.revive(seeded(0)) == 1 and not quantizer.hits.any()
    moved = (quantizer.codebook.detach() - before).abs().sum(1)
    assert torch.equal(moved > 0, torch.tensor([False, False, False, False, True]))
    assert (quantizer.codebook[4] - before[0]).norm() < 0.01 * 5 * 2  # 5 standard deviations of 4
    quantizer.hits.copy_(torch.tensor([100, 3, 90, 3, 3]))
    assert quantizer.revive(seeded(0)) == 0


def test_a_code_touches_the_cells_of_its_sub_map_alone() -> None:
    quantizer = skewed()
    codes = torch.zeros(1, 4, 2, 3, dtype=torch.int64)
    before = quantizer.decode(codes)
    codes[0, 2, 1, 0] = 3
    changed = (quantizer.decode(codes) != before).any(1)[0]
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[1::2, 0::3] = True
    assert torch.equal(changed, expected)


def test_distortion_falls_by_what_each_step_explains() -> None:
    # With orthonormal maps |F - Q|^2 = |F|^2 - |e|^2 + |e - c|^2, and a codeword of zeros makes
    # sure that the step does not do harm.
    quantizer = small(seed=3)
    with torch.no_grad():
        quantizer.codebook[0] = 0
    z = latents(4, 3, 2, 2)
    codes = quantizer.encode(z)
    distortion = z.square().sum()
    for step in range(4):
        rest = quantizer.partition(z - quantizer.decode(codes, upto=step))
        e = quantizer.project(step, rest)
        c = quantizer.codebook[codes[:, step].flatten()].T
        after = (z - quantizer.decode(codes, upto=step + 1)).square().sum()
        gain = e.square().sum() - (e - c).square().sum()
        assert gain > 0
        torch.testing.assert_close(after, distortion - gain)
        distortion = after


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(2, 9), st.floats(0, 50))
def test_mutual_information_is_what_scipy_says(seed: int, n: int, k: int, spread: float) -> None:
    logits = latents(n, k, seed=seed) * spread
    q = logits.softmax(1).numpy()
    expected = scipy.stats.entropy(q.mean(0)) - scipy.stats.entropy(q, axis=1).mean(0)
    information = mutual_information(logits)
    assert np.allclose(information, expected, rtol=0, atol=1e-10)
    assert -1e-10 < information < math.log(min(n, k)) + 1e-10


def test_the_gradient_of_the_information_is_that_of_differences() -> None:
    logits = (latents(5, 4) * 2).requires_grad_(True)
    assert torch.autograd.gradcheck(mutual_information, logits)


def test_sure_and_even_codes_are_the_best() -> None:
    sure = 1e4 * torch.eye(4, dtype=torch.float64)
    even = mutual_information(sure)
    collapsed = mutual_information(sure[[1, 1, 1, 1]])
    undecided = mutual_information(torch.zeros(4, 4, dtype=torch.float64))
    assert even == pytest.approx(math.log(4))
    assert collapsed == pytest.approx(0) and undecided == pytest.approx(0)


def test_the_loss_rewards_even_codes_over_collapsed_ones() -> None:
    # Four pictures, each on a codeword of its own, or all on one.
    quantizer = Progressive(1, 4, 1, side=2, rank=(4, 1), weight=0.5).double().train()
    with torch.no_grad():
        quantizer.codebook.copy_(100 * torch.eye(4))
    own = quantizer.lift(quantizer.codebook.T[None], quantizer.inverses())
    even = quantizer(quantizer.join(own, 1, 1)).loss
    collapsed = quantizer(quantizer.join(own[..., [2, 2, 2, 2]], 1, 1)).loss
    assert even.item() == pytest.approx(-0.5 * math.log(4))
    assert collapsed.item() == pytest.approx(0)


def test_the_loss_alone_raises_the_information() -> None:
    quantizer = small(weight=1.0).train()
    z = latents(32, 3, 2, 2)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.02)
    losses = []
    for _ in range(100):
        losses.append(quantizer(z, seeded(0)).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    # At most log 5 nats for each of the four steps: nearly all of it, from a third at the start.
    assert losses[0] > -0.35 * 4 * math.log(5)
    assert losses[-1] < -0.8 * 4 * math.log(5)


def test_the_gradient_is_that_of_differences() -> None:
    quantizer = Progressive(3, 3, 2, side=2, rank=(2, 2), weight=0.3).double().train()
    z = latents(2, 3, 2, 2).requires_grad_(True)
    names = [name for name, _ in quantizer.named_parameters()]

    def output(z: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        parameters = dict(zip(names, values, strict=True))
        result = torch.func.functional_call(quantizer, parameters, (z, seeded(5)))
        return result.z, result.loss

    assert torch.autograd.gradcheck(output, (z, *quantizer.parameters()))


@pytest.mark.parametrize("spread", [0.0, 1e-20, 1e4])
def test_extreme_latents_have_finite_gradients(spread: float) -> None:
    quantizer = Progressive(3, 5, 4, side=2, rank=(2, 2), temperature=0.01).train()
    z = (latents(4, 3, 2, 2) * spread).float().requires_grad_(True)
    result = quantizer(z)
    (result.loss + result.z.mean()).backward()
    assert torch.isfinite(result.z).all() and torch.isfinite(result.loss)
    for leaf in (z, *quantizer.parameters()):
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_noise_comes_from_seeds_and_only_in_training() -> None:
    z = latents(2, 3, 4, 4)
    first, second = small(seed=4).train(), small(seed=4).train()
    assert torch.equal(first(z).z, second(z).z)
    assert not torch.equal(first(z).z, first(z).z)
    assert torch.equal(first(z, seeded(1)).z, second(z, seeded(1)).z)
    assert not torch.equal(first(z, seeded(1)).z, first(z, seeded(2)).z)
    state = first.generator.get_state()
    first.eval()
    assert torch.equal(first(z).z, first(z, seeded(2)).z)
    assert torch.equal(first.generator.get_state(), state)


def test_cold_samples_are_codewords_and_dropout_leaves_prefixes_of_them() -> None:
    quantizer = skewed(temperature=1e-6, dropout=1.0).train()
    result = quantizer(latents(40, 3, 2, 4))
    kept = set()
    for image in range(40):
        codes = result.codes[image : image + 1]
        error = [
            (result.z[image] - quantizer.decode(codes, upto=n)[0]).abs().max().item()
            for n in range(1, 5)
        ]
        assert min(error) < 1e-6
        kept.add(error.index(min(error)))
    assert kept == {0, 1, 2, 3}  # all lengths, one for both sub-maps of an image


def test_the_regulariser_keeps_more_codewords_in_use() -> None:
    # Four pictures and four codewords, from four starts each.
    pictures = latents(4, 2, 2, 2).float() * 2
    z = pictures.repeat(8, 1, 1, 1)
    used = {0.0: 0, 3.0: 0}
    for weight in used:
        for seed in range(4):
            quantizer = Progressive(2, 4, 1, side=2, rank=(4, 2), weight=weight, seed=seed).train()
            optimizer = torch.optim.Adam(quantizer.parameters(), 0.05)
            for _ in range(150):
                optimizer.zero_grad()
                result = quantizer(z)
                ((result.z - z).square().mean() + result.loss).backward()
                optimizer.step()
            used[weight] += len(quantizer.encode(pictures).unique())
    assert used[3.0] > used[0.0]


def test_mistakes_are_named() -> None:
    for match, arguments in (
        ("2 codewords", {"size": 1}),
        ("1 step", {"steps": 0}),
        ("rank", {"rank": (65, 4)}),
        ("rank", {"rank": (16, 513)}),
        ("temperature", {"temperature": 0.0}),
        ("probability", {"dropout": -0.1}),
    ):
        with pytest.raises(ValueError, match=match):
            Progressive(**arguments)
