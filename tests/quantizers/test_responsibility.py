"""Relaxed responsibilities: a Gaussian mixture's posterior, its KL divergence and its gradients."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec.quantizers.responsibility import MAX_LOG_VARIANCE, Responsibility, kl
from vqcodec.quantizers.vq import VQ


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def mixture(dim: int = 3, size: int = 5, seed: int = 0, **options) -> Responsibility:
    """A codebook with variances of many sizes."""
    quantizer = Responsibility(dim, size, seed=seed, **options).double()
    with torch.no_grad():
        quantizer.means.copy_(latents(size, dim, seed=seed + 1))
        quantizer.raw_log_variances.copy_(latents(size, dim, seed=seed + 2))
    return quantizer


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 9), st.floats(0.01, 5))
def test_responsibilities_are_the_posterior_of_the_mixture(
    seed: int, dim: int, size: int, spread: float
) -> None:
    quantizer = mixture(dim, size, seed)
    e = latents(2, dim, 2, 3, seed=seed + 3) * spread
    log_pi = quantizer.log_responsibilities(e).detach()
    density = np.stack(
        [
            scipy.stats.multivariate_normal(mean, np.diag(np.exp(log_variance))).logpdf(
                e.movedim(1, -1).reshape(-1, dim)
            )
            for mean, log_variance in zip(
                quantizer.means.detach().numpy(),
                quantizer.log_variances().detach().numpy(),
                strict=True,
            )
        ],
        1,
    )
    expected = density - scipy.special.logsumexp(density, 1, keepdims=True)
    assert np.allclose(log_pi.movedim(1, -1).reshape(-1, size), expected, rtol=1e-9, atol=1e-9)
    assert np.allclose(log_pi.exp().sum(1), 1, rtol=0, atol=1e-12)


def test_one_variance_per_codeword_counts_once_per_dimension() -> None:
    # Equation 6 as it has to be read: -|e - mu|^2 / 2s - (d/2) log s, not (1/2) log s.
    quantizer = Responsibility(7, 4).double()
    log_s = latents(4)
    with torch.no_grad():
        quantizer.raw_log_variances.copy_(log_s[:, None].expand(4, 7))
    e = latents(1, 7, 1, 1)
    square = (e[0, :, 0, 0] - quantizer.means).square().sum(1)
    expected = -square / (2 * log_s.exp()) - 7 / 2 * log_s
    torch.testing.assert_close(quantizer.logits(e)[0, :, 0, 0], expected)


@pytest.mark.parametrize("learn_variances", [False, True])
def test_with_variances_of_one_it_is_relaxed_vq(learn_variances: bool) -> None:
    quantizer = Responsibility(3, 16, learn_variances=learn_variances).double()
    assert quantizer.raw_log_variances.requires_grad == learn_variances
    e = latents(2, 3, 8, 8)
    square = torch.cdist(e.movedim(1, -1).reshape(-1, 3), quantizer.means).square()
    expected = (-square / 2).softmax(1)  # equation 2
    pi = quantizer.log_responsibilities(e).exp().movedim(1, -1).reshape(-1, 16)
    torch.testing.assert_close(pi, expected)
    vq = VQ(3, 16).double()
    vq.codebook.data = quantizer.means.data
    assert torch.equal(quantizer.encode(e), vq.encode(e))
    assert torch.equal(quantizer.decode(quantizer.encode(e)), vq.decode(vq.encode(e)))


def test_wide_codewords_take_what_is_far_and_narrow_ones_what_is_near() -> None:
    quantizer = Responsibility(1, 2).double()
    with torch.no_grad():
        quantizer.means.copy_(torch.tensor([[0.0], [0.1]]))
        quantizer.raw_log_variances.copy_(torch.tensor([[4.0], [-4.0]]))
    e = torch.tensor([-9.0, 0.0, 0.2, 9.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    assert quantizer.encode(e).flatten().tolist() == [0, 1, 1, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_forward_gives_what_the_codes_decode_to(seed: int, spread: float) -> None:
    quantizer = mixture(seed=seed).float().eval()
    e = (latents(2, 3, 4, 5, seed=seed) * spread).float()
    result = quantizer(e)
    assert torch.equal(result.codes, quantizer.encode(e))
    assert torch.equal(result.z, quantizer.decode(result.codes))
    assert result.codes.shape == (2, 1, 4, 5) and result.codes.dtype == torch.int64
    assert result.loss == 0 and result.bits is None
    assert torch.equal(quantizer.decode(result.codes, upto=1), result.z)
    assert not quantizer.decode(result.codes, upto=0).any()


def test_gradients_of_the_log_densities_are_the_known_ones() -> None:
    quantizer = mixture()
    e = latents(1, 3, 1, 1, seed=9).requires_grad_(True)
    k = 2
    quantizer.logits(e)[0, k].sum().backward()
    difference = (e[0, :, 0, 0] - quantizer.means[k]).detach()
    s = quantizer.log_variances()[k].detach().exp()
    torch.testing.assert_close(e.grad[0, :, 0, 0], -difference / s)
    torch.testing.assert_close(quantizer.means.grad[k], difference / s)
    by_log_variance = (difference.square() / s - 1) / 2
    torch.testing.assert_close(quantizer.raw_log_variances.grad[k], by_log_variance)
    assert not quantizer.means.grad[:k].abs().gt(1e-12).any()


def test_the_gradient_of_a_training_step_is_that_of_differences() -> None:
    quantizer = mixture(2, 3, temperature=0.7).train()
    e_q, e_p = latents(2, 2, 1, 2).requires_grad_(True), latents(2, 2, 1, 2, seed=8)
    e_p.requires_grad_(True)
    names = [name for name, _ in quantizer.named_parameters()]

    def output(e_q: Tensor, e_p: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        parameters = dict(zip(names, values, strict=True))
        # The prior's embedding goes through the same codebook.
        probe = Responsibility(2, 3).double()
        prior = torch.func.functional_call(_Prior(probe), _inner(parameters), (e_p,))
        result = torch.func.functional_call(quantizer, parameters, (e_q, prior, seeded(5)))
        return result.z, result.bits

    assert torch.autograd.gradcheck(output, (e_q, e_p, *quantizer.parameters()))


class _Prior(torch.nn.Module):
    """``log_responsibilities`` as a forward, for ``functional_call``."""

    def __init__(self, inner: Responsibility) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, e: Tensor) -> Tensor:
        return self.inner.log_responsibilities(e)


def _inner(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"inner.{name}": value for name, value in parameters.items()}


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(2, 12), st.floats(0, 1000), st.sampled_from([0, 1, 30, 1000])
)
def test_kl_is_not_negative(seed: int, size: int, spread_q: float, spread_p: int) -> None:
    log_q = (latents(2, size, 1, 3, seed=seed) * spread_q).log_softmax(1)
    log_p = (latents(2, size, 1, 3, seed=seed + 1) * spread_p).log_softmax(1)
    divergence = kl(log_q, log_p)
    assert divergence.shape == (2, 1, 3)
    # Logarithms of up to 10^4 nats are off by some 10^-12.
    assert (divergence > -1e-10).all() and torch.isfinite(divergence).all()
    assert not kl(log_q, log_q).any()
    if log_p.min() > -700:  # scipy's p does not underflow
        expected = scipy.stats.entropy(log_q.exp().numpy(), log_p.exp().numpy(), axis=1)
        assert np.allclose(divergence, expected, rtol=1e-9, atol=1e-10)


def test_kl_is_the_mean_of_the_log_ratio_over_samples() -> None:
    quantizer = mixture()
    log_q = quantizer.log_responsibilities(latents(1, 3, 1, 1)).detach()
    log_p = quantizer.log_responsibilities(latents(1, 3, 1, 1, seed=8)).detach()
    codes = quantizer.sample(latents(1, 3, 1, 1).expand(1, 3, 1, 40_000), seeded(0)).flatten()
    ratio = (log_q - log_p)[0, :, 0, 0][codes]
    error = ratio.std() / math.sqrt(40_000)
    assert (ratio.mean() - kl(log_q, log_p)).abs() < 4 * error
    assert kl(log_q, log_p) > 20 * error  # so that a zero would have been found out


def test_samples_have_the_frequencies_of_their_responsibilities() -> None:
    quantizer = mixture()
    e = latents(1, 3, 1, 1)
    pi = quantizer.log_responsibilities(e).detach().exp().flatten()
    many = e.expand(1, 3, 1, 40_000)
    for codes in (
        quantizer.sample(many, seeded(1)),
        quantizer.train()(many, None, seeded(2)).codes,
    ):
        counts = torch.bincount(codes.flatten(), minlength=5)
        likely = pi > 1e-3
        test = scipy.stats.chisquare(
            counts[likely], pi[likely] / pi[likely].sum() * counts[likely].sum()
        )
        assert test.pvalue > 1e-4


def test_bits_are_the_kl_in_training_and_the_price_of_the_codes_in_evaluation() -> None:
    quantizer = mixture()
    e_q, e_p = latents(3, 3, 2, 2), latents(3, 3, 2, 2, seed=8)
    log_p = quantizer.log_responsibilities(e_p).detach()
    trained = quantizer.train()(e_q, log_p).bits
    expected = kl(quantizer.log_responsibilities(e_q), log_p).sum((1, 2)).mean() / math.log(2)
    torch.testing.assert_close(trained, expected)
    result = quantizer.eval()(e_q, log_p)
    price = [
        -math.log2(log_p[b, result.codes[b, 0, y, x], y, x].exp())
        for b in range(3)
        for y in range(2)
        for x in range(2)
    ]
    assert result.bits.item() == pytest.approx(sum(price) / 3)


def test_the_uniform_prior_charges_log_k_less_the_entropy() -> None:
    quantizer = mixture()
    e = latents(2, 3, 2, 2)
    log_q = quantizer.log_responsibilities(e).detach()
    entropy = scipy.stats.entropy(log_q.exp().numpy(), axis=1, base=2)
    bits = quantizer.train()(e, quantizer.uniform()).bits
    assert bits.item() == pytest.approx((math.log2(5) - entropy).sum((1, 2)).mean())
    assert quantizer.eval()(e, quantizer.uniform()).bits.item() == pytest.approx(4 * math.log2(5))


def test_the_expected_vector_is_the_mean_of_many_draws() -> None:
    quantizer = mixture()
    e = latents(1, 3, 1, 1)
    draws = quantizer.decode(quantizer.sample(e.expand(4000, -1, -1, -1), seeded(0))).flatten(1)
    error = draws.std(0) / math.sqrt(4000)
    assert ((draws.mean(0) - quantizer.expected(e).flatten()).abs() < 4 * error).all()
    assert error.max() > 0.005  # so that the draws do differ


def test_without_bits_back_the_rate_is_the_cross_entropy() -> None:
    quantizer = mixture().train()
    e_q, e_p = latents(3, 3, 2, 2), latents(3, 3, 2, 2, seed=1)
    log_q, log_p = (quantizer.log_responsibilities(e) for e in (e_q, e_p))
    divergence = kl(log_q, log_p).sum((1, 2)).mean() / math.log(2)
    cross_entropy = -(log_q.exp() * log_p).sum((1, 2, 3)).mean() / math.log(2)
    assert cross_entropy > divergence + 0.1
    for share in (1.0, 0.3, 0.0):
        quantizer.bits_back = share
        expected = share * divergence + (1 - share) * cross_entropy
        assert quantizer(e_q, log_p).bits.item() == pytest.approx(expected.item())
    price = quantizer.eval()(e_q, log_p).bits
    quantizer.bits_back = 1.0
    assert quantizer(e_q, log_p).bits == price  # in a file q is all on its codes


def test_below_the_floor_nothing_pushes_a_posterior_to_be_sharp() -> None:
    """Else it is, on one code for all pictures, before the layer has learned anything."""
    e_q, e_p = latents(2, 3, 2, 2).requires_grad_(True), latents(2, 3, 2, 2, seed=8)
    quantizer = mixture().train()
    quantizer.bits_back = 0.0
    cross_entropy = quantizer(e_q, quantizer.log_responsibilities(e_p)).bits
    assert torch.autograd.grad(cross_entropy, e_q)[0].any()
    quantizer.free_bits = 1.1 * cross_entropy.item() / 4
    floored = quantizer(e_q, quantizer.log_responsibilities(e_p)).bits
    assert floored.item() == pytest.approx(4 * quantizer.free_bits)
    assert not torch.autograd.grad(floored, e_q)[0].any()


def test_free_bits_are_a_floor_without_a_gradient() -> None:
    e_q, e_p = latents(2, 3, 2, 2).requires_grad_(True), latents(2, 3, 2, 2, seed=8)
    plain = mixture().train()
    bits = plain(e_q, plain.log_responsibilities(e_p)).bits
    for free, pushed in ((0.5 * bits.item() / 4, True), (2 * bits.item() / 4, False)):
        quantizer = mixture(free_bits=free).train()
        floored = quantizer(e_q, quantizer.log_responsibilities(e_p)).bits
        assert floored.item() == pytest.approx(max(bits.item(), 4 * free))
        (gradient,) = torch.autograd.grad(floored, e_q)
        assert bool(gradient.any()) == pushed
        quantizer.eval()
        price = quantizer(e_q, quantizer.log_responsibilities(e_p)).bits
        assert price == plain.eval()(e_q, plain.log_responsibilities(e_p)).bits


def test_cold_samples_are_the_means_of_their_codes() -> None:
    quantizer = mixture(temperature=1e-6).train()
    result = quantizer(latents(2, 3, 4, 4))
    torch.testing.assert_close(result.z, quantizer.decode(result.codes), rtol=0, atol=1e-6)


def test_noise_comes_from_seeds_and_only_in_training() -> None:
    e = latents(2, 3, 4, 4)
    first, second = mixture(seed=4).train(), mixture(seed=4).train()
    assert torch.equal(first(e).z, second(e).z)
    assert not torch.equal(first(e).z, first(e).z)
    assert torch.equal(first(e, None, seeded(1)).z, second(e, None, seeded(1)).z)
    state = first.generator.get_state()
    first.eval()
    assert torch.equal(first(e).z, first(e, None, seeded(2)).z)
    assert torch.equal(first.encode(e), first.encode(e))
    assert torch.equal(first.generator.get_state(), state)


@pytest.mark.parametrize("log_variance", [-1e3, 0.0, 1e3])
@pytest.mark.parametrize("spread", [0.0, 1e-20, 1e6])
@pytest.mark.parametrize("training", [True, False])
def test_extremes_stay_finite(log_variance: float, spread: float, training: bool) -> None:
    quantizer = Responsibility(4, 6, temperature=0.01).train(training)
    with torch.no_grad():
        quantizer.raw_log_variances[::2] = log_variance
    assert quantizer.log_variances().abs().max() <= MAX_LOG_VARIANCE
    e_q, e_p = ((latents(2, 4, 3, 3, seed=n) * spread).float().requires_grad_(True) for n in (1, 2))
    result = quantizer(e_q, quantizer.log_responsibilities(e_p))
    (result.z.mean() + result.bits).backward()
    assert torch.isfinite(result.z).all() and torch.isfinite(result.bits)
    for leaf in (e_q, e_p, *quantizer.parameters()):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


def test_a_clamped_variance_finds_back() -> None:
    # Descent on a variance that should be 1 (its logarithm 0), from far outside of the bounds. And
    # a gradient that leads further out is not followed.
    for start in (-9.0, 9.0):
        quantizer = Responsibility(1, 2).double()
        with torch.no_grad():
            quantizer.raw_log_variances.fill_(start)
        optimizer = torch.optim.SGD([quantizer.raw_log_variances], 0.1)
        for _ in range(400):
            optimizer.zero_grad()
            quantizer.log_variances().square().sum().backward()
            optimizer.step()
        assert quantizer.raw_log_variances.abs().max() < 1e-3
        with torch.no_grad():
            quantizer.raw_log_variances.fill_(start)
        optimizer.zero_grad()
        (-math.copysign(1, start) * quantizer.log_variances()).sum().backward()
        assert not quantizer.raw_log_variances.grad.any()


def test_it_fits_four_clusters() -> None:
    # Four clusters of standard deviation 0.1 on the corners of a square of side 2: a mean of all is
    # off by 1 + 0.01 per channel, four codewords by 0.01. A tenth of the start leaves room for the
    # blur of relaxed samples.
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    noise = 0.1 * latents(64, 2).float()
    e = (corners.repeat(16, 1) + noise).reshape(1, 64, 2, 1).movedim(2, 1)
    quantizer = Responsibility(2, 4, temperature=0.5, seed=1).train()
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.03)
    objectives = []
    for _ in range(200):
        result = quantizer(e, quantizer.uniform())
        objectives.append((result.z - e).square().mean() + 1e-3 * result.bits / 64)
        optimizer.zero_grad()
        objectives[-1].backward()
        optimizer.step()
    assert objectives[-1] < 0.1 * objectives[0]
    assert (quantizer.eval()(e).z - e).square().mean() < 0.05
    assert quantizer.log_variances().mean() < 0  # narrower than at the start


def test_mistakes_are_named() -> None:
    for match, arguments in (
        ("2 codewords", {"dim": 3, "size": 1}),
        ("1 channel", {"dim": 0, "size": 8}),
        ("temperature", {"dim": 3, "size": 8, "temperature": 0.0}),
    ):
        with pytest.raises(ValueError, match=match):
            Responsibility(**arguments)


def test_codewords_that_a_batch_leaves_unused_cost() -> None:
    """The cost alone spreads embeddings that are all on one code over the whole codebook."""
    quantizer = mixture().train()
    size = quantizer.sizes[0]
    with torch.no_grad():
        quantizer.raw_log_variances.zero_()
        e = quantizer.means[:1, :, None, None] + 0.1 * latents(64, 3, 1, 1)
    e.requires_grad_(True)
    log_p = quantizer.uniform()
    assert len(quantizer.encode(e).unique()) == 1
    assert quantizer(e, log_p).loss == 0
    quantizer.usage = 0.5
    shares = quantizer.log_responsibilities(e).exp().mean((0, 2, 3))
    entropy = torch.special.entr(shares).sum().item() / math.log(2)
    assert quantizer(e, log_p).loss.item() == pytest.approx(0.5 * (math.log2(size) - entropy))
    for _ in range(200):
        (gradient,) = torch.autograd.grad(quantizer(e, log_p).loss, e)
        with torch.no_grad():
            e -= 20 * gradient
    assert len(quantizer.encode(e).unique()) == size
    assert quantizer(e, log_p).loss.item() < 0.01
    assert quantizer.eval()(e, log_p).loss == 0


def test_what_processes_together_leave_unused_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has half of the batch; their gradients have the mean that the whole batch's is."""
    quantizer = mixture().train()
    quantizer.usage = 0.5
    e = latents(8, 3, 2, 2).requires_grad_(True)
    log_p = quantizer.uniform()
    whole = quantizer(e, log_p).loss
    (expected,) = torch.autograd.grad(whole, e)
    shares = quantizer.log_responsibilities(e).exp().mean((0, 2, 3)).detach()
    monkeypatch.setattr("vqcodec.distributed.mean", lambda x: x.copy_(shares))
    halves = [quantizer(half, log_p).loss for half in e.split(4)]
    assert torch.stack(halves).mean().item() == pytest.approx(whole.item())
    (found,) = torch.autograd.grad(torch.stack(halves).mean(), e)
    torch.testing.assert_close(found, expected)
