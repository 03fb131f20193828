"""Vector quantization: the nearest codeword, and the gradients of five estimators."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec.quantizers import usage as use
from vqcodec.quantizers.vq import (
    ESTIMATORS,
    VQ,
    distances,
    gumbel_softmax,
    nearest,
    planes_of,
    rotate,
    rows_of,
    substitute_noise,
)

NOISY = ("gumbel", "st-gumbel", "nsvq")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(b: int = 2, d: int = 3, h: int = 4, w: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(b, d, h, w, generator=seeded(seed), dtype=torch.float64)


# --- The nearest codeword


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(2, 40),
    st.integers(1, 3),
    st.sampled_from([0.0, 1e3, 1e6]),
)
def test_nearest_is_nearest_and_ties_go_to_the_lowest(
    seed: int, dim: int, size: int, reach: int, offset: float
) -> None:
    """Integers, so that the brute force is exact; few of them, so that there are many ties."""
    generator = seeded(seed)
    z = torch.randint(-reach, reach + 1, (30, dim), generator=generator)
    codebook = torch.randint(-reach, reach + 1, (size, dim), generator=generator)
    square = (z[:, None] - codebook).square().sum(2)  # (N, K) int64
    is_least = square == square.min(1, keepdim=True).values
    expected = is_least.int().argmax(1)  # of equal ones, the first
    assert all(not is_least[n, :k].any() for n, k in enumerate(expected))
    assert torch.equal(nearest(z.float() + offset, codebook.float() + offset), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(2, 100))
def test_the_code_of_a_vector_does_not_depend_on_its_batch(seed: int, dim: int, size: int) -> None:
    generator = seeded(seed)
    codebook = torch.randn(size, dim, generator=generator)
    # Half of the vectors lie halfway between two codewords, up to rounding.
    ends = codebook[torch.randint(size, (2, 9), generator=generator)]
    z = torch.cat([torch.randn(9, dim, generator=generator), ends.mean(0)])
    together = nearest(z, codebook)
    alone = torch.cat([nearest(row[None], codebook) for row in z])
    assert torch.equal(together, alone)
    assert torch.equal(nearest(z.flip(0), codebook).flip(0), together)
    exact = (z.double()[:, None] - codebook.double()).square().sum(2)
    chosen = exact.gather(1, together[:, None])[:, 0]
    assert (chosen <= exact.min(1).values * (1 + 1e-14)).all()


def test_rounding_alone_decides_by_the_fixed_order() -> None:
    """All codewords are equally far but for rounding: that of a sum from the first to the last."""
    generator, dim = seeded(), 30
    one = torch.randn(dim, generator=generator, dtype=torch.float64)
    for _ in range(10):
        orders = [torch.randperm(dim, generator=generator) for _ in range(20)]
        codebook = torch.stack([one[order] for order in orders])
        z = torch.full((1, dim), 1000 / 3, dtype=torch.float64)
        codebook = codebook + z
        sums = []
        for c in codebook.tolist():
            total = 0.0
            for a, b in zip(z[0].tolist(), c, strict=True):
                total += (a - b) * (a - b)
            sums.append(total)
        assert nearest(z, codebook).item() == sums.index(min(sums))


def test_equal_codewords_and_bad_numbers_still_give_codes() -> None:
    assert nearest(torch.randn(50, 4), torch.ones(7, 4)).tolist() == [0] * 50
    z = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [1e30, -1e30]])
    index = nearest(z, torch.randn(7, 2, generator=seeded()))
    assert ((index >= 0) & (index < 7)).all()
    assert nearest(z[:0], torch.ones(7, 2)).shape == (0,)


def test_rows_and_planes_are_inverse() -> None:
    z = latents()
    assert torch.equal(planes_of(rows_of(z), z), z)
    assert torch.equal(rows_of(z)[1 * 20 + 2 * 5 + 3], z[1, :, 2, 3])


# --- What every estimator shares


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_evaluation_gives_what_the_codes_decode_to(estimator: str) -> None:
    quantizer = VQ(3, 16, estimator).eval()
    z = latents().float()
    before = quantizer.generator.get_state()
    result = quantizer(z)
    codes = quantizer.encode(z)
    assert codes.shape == (2, 1, 4, 5) and codes.dtype == torch.int64
    assert quantizer.sizes == (16,) and quantizer.dim == 3
    assert torch.equal(result.codes, codes)
    assert torch.equal(result.z, quantizer.decode(codes))
    assert result.bits is None
    assert torch.equal(quantizer.generator.get_state(), before)  # nothing is random
    assert not quantizer.hits.any()
    square = (rows_of(z)[:, None] - quantizer.codebook).square().sum(2)
    assert torch.equal(codes.flatten(), square.argmin(1))
    assert not quantizer.decode(codes, upto=0).any()
    assert torch.equal(quantizer.decode(codes, upto=1), result.z)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_codewords_decode_to_themselves(estimator: str) -> None:
    quantizer = VQ(5, 12, estimator)
    codes = torch.arange(12).reshape(1, 1, 3, 4)
    z = quantizer.decode(codes)
    assert torch.equal(quantizer.encode(z), codes)
    assert torch.equal(quantizer.decode(quantizer.encode(z)), z)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_training_differs_only_by_the_noise(estimator: str) -> None:
    quantizer = VQ(3, 16, estimator, negentropy=0.1).double()
    z = latents()
    still = quantizer.eval()(z)
    moving = quantizer.train()(z)
    assert torch.equal(still.loss, moving.loss)
    assert torch.equal(still.z, moving.z) == (estimator not in NOISY)
    if "gumbel" not in estimator:  # whose codes are drawn
        assert torch.equal(still.codes, moving.codes)
    assert torch.equal(quantizer.hits[None], use.counts(moving.codes, 16))


@pytest.mark.parametrize("estimator", NOISY)
def test_a_seed_decides_the_noise(estimator: str) -> None:
    z = latents()
    first, second = VQ(3, 16, estimator, seed=5).double(), VQ(3, 16, estimator, seed=5).double()
    one, two = first(z), second(z)
    assert torch.equal(one.z, two.z) and torch.equal(one.codes, two.codes)
    assert not torch.equal(first(z).z, one.z)  # the generator moves on
    state = first.generator.get_state()
    assert torch.equal(first(z, seeded(9)).z, second(z, seeded(9)).z)
    assert torch.equal(first.generator.get_state(), state)  # the other one was used


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_more_codewords_than_latents_and_latents_on_codewords(estimator: str) -> None:
    quantizer = VQ(3, 300, estimator).double().train()
    quantizer.start(latents(1, 3, 2, 2))
    on = quantizer.codebook.detach()[:4].T.reshape(1, 3, 2, 2).clone()
    on[..., 0, 0] = 0  # and one at the origin
    on.requires_grad_(True)
    result = quantizer(on)
    (result.z.square().sum() + result.loss).backward()
    assert on.grad is not None and on.grad.isfinite().all() and result.z.isfinite().all()
    if estimator != "ema":
        assert quantizer.codebook.grad is not None and quantizer.codebook.grad.isfinite().all()
    assert quantizer.codebook.isfinite().all()


def test_starting_codewords_are_latents() -> None:
    z = latents(d=2)
    for estimator in ("ste", "ema"):
        quantizer = VQ(2, 10, estimator).double()
        quantizer.start(z)
        assert ((quantizer.codebook[:, None] - rows_of(z)).norm(dim=2).min(1).values == 0).all()
        assert (quantizer.eval()(planes_of(quantizer.codebook, z[:1, :, :2, :])).loss == 0).all()


def test_sixteen_bit_latents_keep_their_codes() -> None:
    quantizer = VQ(3, 64).train()
    z = (100 + latents()).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = quantizer(z)
    assert result.z.dtype == torch.bfloat16
    assert torch.equal(result.codes, quantizer.encode(z))


def test_what_is_saved_and_copied() -> None:
    assert set(VQ(3, 8).state_dict()) == {"codebook"}
    assert set(VQ(3, 8, "ema").state_dict()) == {"codebook", "ema_counts", "ema_sums"}
    assert [name for name, _ in VQ(3, 8, "ema").named_parameters()] == []
    quantizer = VQ(3, 8, "nsvq")
    z = latents().float()
    assert torch.equal(copy.deepcopy(quantizer)(z).z, quantizer(z).z)


def test_what_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        VQ(3, 1)
    with pytest.raises(ValueError, match="'stu' is none of ste, ema"):
        VQ(3, 4, "stu")


# --- Gradients against the closed forms, for the objective sum(g * z_q) + loss


def gradients(quantizer: VQ, z: Tensor, g: Tensor, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Derivatives with respect to the latent, as rows (N, D), and to the codebook (K, D)."""
    z = z.clone().requires_grad_(True)
    result = quantizer.train()(z, seeded(seed))
    ((result.z * g).sum() + result.loss).backward()
    assert z.grad is not None
    return rows_of(z.grad), quantizer.codebook.grad


def scatter(rows: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum of the rows (N, D) of each code, (size, D)."""
    return torch.stack([rows[index == k].sum(0) for k in range(size)])


@pytest.mark.parametrize("estimator", ["ste", "ema", "rotation"])
def test_gradients_with_a_commitment_loss(estimator: str) -> None:
    z, g = latents(), latents(seed=1)
    quantizer = VQ(3, 7, estimator, beta=0.3).double()
    index = quantizer.encode(z).flatten()
    rows, weight = rows_of(z), rows_of(g)
    near = quantizer.codebook.detach()[index].clone()
    dz, dc = gradients(quantizer, z, g)
    through = weight
    if estimator == "rotation":
        u = rows / rows.norm(dim=1, keepdim=True)
        q = near / near.norm(dim=1, keepdim=True)
        w = (u + q) / (u + q).norm(dim=1, keepdim=True)
        ratio = near.norm(dim=1) / rows.norm(dim=1)
        # z_q = ratio (I - 2 w w^T + 2 q u^T) z, so the gradient is the transpose times g.
        turn = torch.eye(3) - 2 * w[:, :, None] * w[:, None] + 2 * q[:, :, None] * u[:, None]
        assert torch.allclose(ratio[:, None] * (turn @ rows[..., None])[..., 0], near)
        through = ratio[:, None] * (turn.mT @ weight[..., None])[..., 0]
    assert torch.allclose(dz, through + 0.3 * 2 * (rows - near) / z.numel(), rtol=1e-10)
    if estimator == "ema":
        assert dc is None
    else:
        assert dc is not None
        assert torch.allclose(dc, scatter(2 * (near - rows) / z.numel(), index, 7), rtol=1e-10)


def test_gradients_of_noise_substitution() -> None:
    z, g = latents(), latents(seed=1)
    quantizer = VQ(3, 7, "nsvq").double()
    index = quantizer.encode(z).flatten()
    rows, weight = rows_of(z), rows_of(g)
    gap = rows - quantizer.codebook.detach()[index]
    length = gap.norm(dim=1, keepdim=True)
    result = quantizer(z, seeded(3))
    v = ((rows_of(result.z) - rows) / length).detach()
    assert torch.allclose(v.norm(dim=1), torch.ones(len(v), dtype=v.dtype))
    assert result.loss == 0
    dz, dc = gradients(quantizer, z, g, seed=3)
    pull = (weight * v).sum(1, keepdim=True) * gap / length
    assert dc is not None
    assert torch.allclose(dz, weight + pull, rtol=1e-10)
    assert torch.allclose(dc, scatter(-pull, index, 7), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_gradients_of_the_gumbel_softmax(temperature: float) -> None:
    z, g = latents(), latents(seed=1)
    beta, negentropy, size = 0.3, 0.2, 7
    quantizer = VQ(
        3, size, "gumbel", temperature=temperature, beta=beta, negentropy=negentropy
    ).double()
    rows, weight, c = rows_of(z), rows_of(g), quantizer.codebook.detach().clone()
    gap = rows[:, None] - c  # (N, K, D)
    square = gap.square().sum(2)
    wait = -torch.rand(40, size, dtype=torch.float64, generator=seeded(3)).log()
    y = ((-square - wait.log()) / temperature).softmax(1)
    q = (-square).softmax(1)
    result = quantizer(z, seeded(3))
    assert torch.allclose(rows_of(result.z), y @ c)
    assert torch.equal(result.codes.flatten(), y.argmax(1))
    commitment, information = (q * square).sum(1), (q * q.log()).sum(1)
    expected = beta * commitment.mean() / 3 + negentropy * information.mean()
    assert torch.allclose(result.loss, expected)
    # Derivatives with respect to the squared distances, which are minus the logits.
    value = weight @ c.T  # (N, K), of the mixture's value
    slope = -y * (value - (y * value).sum(1, keepdim=True)) / temperature
    slope += beta / (40 * 3) * (q - q * (square - commitment[:, None]))
    slope -= negentropy / 40 * q * (q.log() - information[:, None])
    dz, dc = gradients(quantizer, z, g, seed=3)
    assert dc is not None
    assert torch.allclose(dz, (slope[..., None] * 2 * gap).sum(1), rtol=1e-9, atol=1e-12)
    direct = y.T @ weight - (slope[..., None] * 2 * gap).sum(0)
    assert torch.allclose(dc, direct, rtol=1e-9, atol=1e-12)


# --- One estimator at a time


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_the_rotation_keeps_angles_and_scales_by_the_ratio(seed: int, dim: int) -> None:
    """The gradient is as long as |c|/|z| says, and at the angle to z that g had to c."""
    generator = seeded(seed)
    z, c, g = (torch.randn(4, dim, generator=generator, dtype=torch.float64) for _ in range(3))
    z.requires_grad_(True)
    rotate(z, c).backward(g)
    assert z.grad is not None
    ratio = c.norm(dim=1) / z.detach().norm(dim=1)
    assert torch.allclose(z.grad.norm(dim=1), ratio * g.norm(dim=1))
    along = (z.grad * z.detach()).sum(1) / z.detach().norm(dim=1) / ratio
    assert torch.allclose(along, (g * c).sum(1) / c.norm(dim=1), atol=1e-9)


def test_rotations_that_do_not_exist() -> None:
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [1e-40, 0.0]])
    c = torch.tensor([[1.0, 2.0], [-3.0, -4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    z = z.double().requires_grad_(True)
    out = rotate(z, c.double())
    assert torch.equal(out, c.double())
    g = torch.tensor([[1.0, -2.0]] * 5, dtype=torch.float64)
    out.backward(g)
    assert z.grad is not None
    assert torch.equal(z.grad[0], g[0])  # from the origin: straight through
    u = torch.tensor([0.6, 0.8], dtype=torch.float64)
    assert torch.allclose(z.grad[1], g[1] - 2 * u * (u @ g[1]))  # to the opposite: a reflection
    assert torch.equal(z.grad[2], torch.zeros(2, dtype=torch.float64))  # to the origin: ratio 0
    assert torch.equal(z.grad[3:], g[3:])


def test_substituted_noise_is_as_long_as_the_error_and_has_no_direction() -> None:
    """E v = 0 and E v v^T = I / D for a unit vector; the gap between modes is sqrt(2) |z - c|."""
    n, d = 40_000, 3
    z = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64).repeat(n, 1)
    c = torch.tensor([[1.5, 1.0, 3.0]], dtype=torch.float64)
    error = substitute_noise(z, c.expand(n, d), seeded()) - z
    length = (z[0] - c[0]).norm()
    assert torch.allclose(error.norm(dim=1), length.expand(n))
    assert ((error.mean(0) / length).abs() < 5 / (d * n) ** 0.5).all()
    second = error.T @ error / n / length**2
    assert torch.allclose(second, torch.eye(d, dtype=torch.float64) / d, atol=5 / n**0.5)
    gap = (z + error - c).square().sum(1).mean()
    assert abs(gap / (2 * length**2) - 1) < 5 / n**0.5


def test_straight_through_gumbel_is_hard_forward_and_soft_backward() -> None:
    """ST-GS (Jang et al. 2017): the codeword drawn, with the gradient of the mixture."""
    hard, soft = (VQ(3, 7, name, temperature=0.7).double() for name in ("st-gumbel", "gumbel"))
    z, g = latents().requires_grad_(), latents(seed=1)
    made, mixed = hard(z, seeded(3)), soft(z, seeded(3))
    assert torch.equal(made.codes, mixed.codes) and torch.equal(made.loss, mixed.loss)
    assert torch.equal(made.z, hard.decode(made.codes))  # what a file decodes to
    assert not torch.allclose(made.z, mixed.z)
    slope, expected = (torch.autograd.grad(part.z, z, g)[0] for part in (made, mixed))
    assert torch.allclose(slope, expected) and slope.any()
    weights = gumbel_softmax(-distances(rows_of(z), hard.codebook), 0.7, seeded(3))
    chosen = F.one_hot(made.codes.flatten(), 7).double()
    slope, expected = (
        torch.autograd.grad(part(z, seeded(3)).z, part.codebook, g)[0] for part in (hard, soft)
    )
    assert torch.allclose(slope - expected, (chosen - weights).T @ rows_of(g))


def test_gumbel_codes_are_drawn_from_the_responsibilities() -> None:
    """The heaviest weight of a relaxed sample is a sample of softmax(-distance^2) itself."""
    n = 40_000
    quantizer = VQ(2, 4, "gumbel", temperature=0.5).double().train()
    z = latents(1, 2, 1, 1).expand(n, 2, 1, 1)
    drawn = use.counts(quantizer(z).codes, 4)[0] / n
    q = (-(z[0].flatten() - quantizer.codebook.detach()).square().sum(1)).softmax(0)
    assert ((drawn - q).abs() < 5 * (q * (1 - q) / n).sqrt()).all()


def test_a_cold_gumbel_sample_is_a_codeword() -> None:
    logits = -distances(rows_of(latents()), latents(1, 3, 1, 9).reshape(9, 3))
    warm, cold = (gumbel_softmax(logits, t, seeded(2)) for t in (1.0, 1e-3))
    assert torch.allclose(warm.sum(1), torch.ones(40, dtype=torch.float64))
    assert torch.allclose(cold.max(1).values, torch.ones(40, dtype=torch.float64), atol=0.01)
    assert torch.equal(warm.argmax(1), cold.argmax(1))


@pytest.mark.parametrize("size", [5, 100])
def test_moving_averages_after_a_step(size: int) -> None:
    quantizer = VQ(3, size, "ema", decay=0.9, epsilon=1e-3).double().train()
    z = latents()
    counts, sums, old = [1.0] * size, quantizer.codebook.clone(), quantizer.codebook.clone()
    for _ in range(2):
        index = nearest(rows_of(z), quantizer.codebook)
        result = quantizer(z)
        assert torch.equal(result.z, planes_of(old[index], z))  # of before the step
        for k in range(size):
            own = rows_of(z)[index == k]
            counts[k] = 0.9 * counts[k] + 0.1 * len(own)
            sums[k] = 0.9 * sums[k] + 0.1 * own.sum(0)
        total = sum(counts)
        smooth = [(n + 1e-3) / (total + size * 1e-3) * total for n in counts]
        expected = torch.stack([s / n for s, n in zip(sums, smooth, strict=True)])
        assert torch.allclose(quantizer.codebook, expected, rtol=1e-12)
        old = quantizer.codebook.clone()
    quantizer.eval()(z)
    assert torch.equal(quantizer.codebook, old)  # evaluation does not move it


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_fit_reaches_the_means_of_its_clusters(estimator: str) -> None:
    """Theory: a codeword that is a random member of its cluster costs twice what the mean costs.

    So the distortion, which starts near 2 (16 clusters: between 1.5 and 2.5) times that of the
    cluster means, Lloyd's optimum for clusters this far apart, has to come within 5 % of it. The
    clusters are wide because the responsibilities exp(-distance^2) of ``gumbel`` have a unit.
    """
    side = 10 * torch.arange(4.0)
    centres = torch.cartesian_prod(side, side)  # (16, 2), ten standard deviations apart
    z = centres[:, None] + torch.randn(16, 32, 2, generator=seeded())
    optimum = (z - z.mean(1, keepdim=True)).square().mean()
    quantizer = VQ(2, 16, estimator, decay=0.97)
    with torch.no_grad():
        quantizer.codebook.copy_(z[:, 0])
        if quantizer.ema_sums is not None:
            quantizer.ema_sums.copy_(z[:, 0])
    batch = planes_of(z.flatten(0, 1), torch.empty(1, 2, 16, 32))

    def distortion() -> Tensor:
        return (quantizer.eval()(batch).z - batch).square().mean()

    assert 1.5 * optimum < distortion() < 2.5 * optimum
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1) if estimator != "ema" else None
    for _ in range(200):
        result = quantizer.train()(batch)
        if optimizer is not None:
            optimizer.zero_grad()
            ((result.z - batch).square().mean() + result.loss).backward()
            optimizer.step()
    assert distortion() < 1.05 * optimum
