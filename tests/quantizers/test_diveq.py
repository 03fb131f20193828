"""DiVeQ and SF-DiVeQ: gradients, noise, and a space-filling codec that is what its codes say."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec.quantizers import usage as use
from vqcodec.quantizers.diveq import DiVeQ, SFDiVeQ
from vqcodec.quantizers.vq import VQ, planes_of, rows_of


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(b: int = 2, d: int = 3, h: int = 4, w: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(b, d, h, w, generator=seeded(seed), dtype=torch.float64)


def scatter(rows: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum of the rows (N, D) of each code, (size, D)."""
    return torch.stack([rows[index == k].sum(0) for k in range(size)])


def unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True)


def along(u: Tensor, g: Tensor) -> Tensor:
    """u u^T g for every row (N, D)."""
    return u * (u * g).sum(1, keepdim=True)


# --- DiVeQ


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_gradients_of_diveq(sigma: float) -> None:
    """dz_q/dz = I - v u^T and dz_q/dc = v u^T, transposed; v = u where there is no noise."""
    z, g = latents().requires_grad_(True), latents(seed=1)
    quantizer = DiVeQ(3, 7, sigma=sigma, detached=sigma == 0).double().train()
    index = quantizer.encode(z).flatten()
    rows, weight = rows_of(z.detach()), rows_of(g)
    near = quantizer.codebook.detach()[index].clone()
    noise = torch.randn(40, 3, generator=seeded(3), dtype=torch.float64)
    u, v = unit(near - rows), unit(near - rows + sigma * noise)
    result = quantizer(z, seeded(3))
    length = (near - rows).norm(dim=1, keepdim=True)
    assert torch.allclose(rows_of(result.z), rows + length * v)
    assert result.loss == 0 and result.bits is None
    assert torch.equal(result.codes.flatten(), index)
    (result.z * g).sum().backward()
    pull = u * (v * weight).sum(1, keepdim=True)
    if sigma == 0:
        assert torch.equal(pull, along(u, weight))
    assert z.grad is not None and quantizer.codebook.grad is not None
    assert torch.allclose(rows_of(z.grad), weight - pull, rtol=1e-10)
    assert torch.allclose(quantizer.codebook.grad, scatter(pull, index, 7), rtol=1e-10, atol=1e-14)


def test_the_noise_has_the_variance_and_mean_direction_it_should() -> None:
    """v ~ N(c - z, sigma^2 I). Across u, z_q - c has variance sigma^2, and along u far less.

    To the second order in s = sigma / |c - z|, E v/|v| = u (1 - (D - 1) s^2 / 2).
    """
    n, d, sigma, length = 100_000, 4, 0.02, 2.0
    quantizer = DiVeQ(d, 2, sigma=sigma).double().train()
    u = unit(latents(1, d, 1, 1).flatten())
    with torch.no_grad():
        quantizer.codebook[0] = length * u
        quantizer.codebook[1] = -100 * u
    z = torch.zeros(1, d, n, 1, dtype=torch.float64)
    with torch.no_grad():
        out = rows_of(quantizer(z).z)
    assert torch.allclose(out.norm(dim=1), torch.full((n,), length, dtype=torch.float64))
    off = out - length * u
    across = torch.eye(d, dtype=torch.float64) - u[:, None] * u
    covariance = off.T @ off / n / sigma**2
    assert torch.allclose(covariance, across, atol=5 * (2 / n) ** 0.5 + (sigma / length) ** 2 * 3)
    shortfall = 1 - (out @ u / length).mean()
    expected = (d - 1) / 2 * (sigma / length) ** 2
    assert abs(shortfall / expected - 1) < 5 * (2 / (d - 1) / n) ** 0.5 + 0.01


def test_training_sees_what_decoding_gives_up_to_sigma() -> None:
    """The mismatch is sigma sqrt(D - 1) for DiVeQ and sqrt(2) |z - c| for noise substitution."""
    z = latents(4, 8, 16, 16)
    for sigma in (1e-3, 1e-2):
        quantizer = DiVeQ(8, 32, sigma=sigma).double()
        still, moving = quantizer.eval()(z).z, quantizer.train()(z).z
        gap = (still - moving).square().sum(1).mean().sqrt()
        assert abs(gap / (sigma * 7**0.5) - 1) < 0.05
    exact = DiVeQ(8, 32, detached=True).double()
    assert torch.allclose(exact.train()(z).z, exact.eval()(z).z, rtol=1e-13)
    other = VQ(8, 32, "nsvq").double()
    still, moving = other.eval()(z).z, other.train()(z).z
    gap = (still - moving).square().sum(1).mean()
    assert abs(gap / (2 * (still - z).square().sum(1).mean()) - 1) < 0.05


@pytest.mark.parametrize("detached", [True, False])
def test_a_latent_on_its_codeword_stays_there(detached: bool) -> None:
    quantizer = DiVeQ(3, 6, detached=detached).double().train()
    z = quantizer.codebook.detach().T.reshape(1, 3, 2, 3).clone().requires_grad_(True)
    result = quantizer(z)
    assert torch.equal(result.z, z)
    result.z.square().sum().backward()
    assert z.grad is not None and torch.equal(z.grad, 2 * z.detach())
    assert quantizer.codebook.grad is not None and not quantizer.codebook.grad.any()


def test_evaluation_of_diveq_gives_what_the_codes_decode_to() -> None:
    quantizer, z = DiVeQ(3, 6).eval(), latents().float()
    result, before = quantizer(z), quantizer.generator.get_state()
    assert torch.equal(result.z, quantizer.decode(quantizer.encode(z)))
    assert torch.equal(quantizer.generator.get_state(), before)
    assert not quantizer.hits.any()
    twice = [DiVeQ(3, 6, seed=4).train()(z).z for _ in range(2)]
    assert torch.equal(*twice)
    assert torch.equal(quantizer.train()(z, seeded(2)).z, quantizer(z, seeded(2)).z)


def test_dead_codes_of_diveq_become_used_ones() -> None:
    quantizer = DiVeQ(2, 200).train()
    z = latents(1, 2, 5, 5).float()
    quantizer(z)
    hit = quantizer.hits > 0
    before = quantizer.codebook.detach().clone()
    moved = quantizer.revive(spread=1e-4)
    assert moved == int((~hit).sum()) > 100
    assert torch.equal(quantizer.codebook[hit], before[hit])
    gap = (quantizer.codebook[~hit][:, None] - before[hit]).norm(dim=2)  # (dead, used)
    assert (gap.min(1).values < 1e-3).all()
    assert use.used(torch.bincount(gap.argmin(1))[None]) > 5  # not all the same one
    assert not quantizer.hits.any()
    assert quantizer.revive() == 0  # nothing has been counted since
    quantizer(z)
    assert quantizer.revive(z=z + 50) > 0 and quantizer.codebook.max() > 40


def test_diveq_fits_without_a_loss_of_its_own() -> None:
    """As in test_vq: random members of 16 far clusters cost about twice what their means cost."""
    side = 10 * torch.arange(4.0)
    z = torch.cartesian_prod(side, side)[:, None] + torch.randn(16, 32, 2, generator=seeded())
    optimum = (z - z.mean(1, keepdim=True)).square().mean()
    batch = planes_of(z.flatten(0, 1), torch.empty(1, 2, 16, 32))
    for quantizer in (DiVeQ(2, 16), DiVeQ(2, 16, detached=True)):
        with torch.no_grad():
            quantizer.codebook.copy_(z[:, 0])
        assert (quantizer.eval()(batch).z - batch).square().mean() > 1.5 * optimum
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            (quantizer.train()(batch).z - batch).square().mean().backward()
            optimizer.step()
        assert (quantizer.eval()(batch).z - batch).square().mean() < 1.05 * optimum


# --- SF-DiVeQ


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 12), st.sampled_from([1, 2, 4, 7])
)
def test_segment_and_position_are_the_best_pair(
    seed: int, dim: int, size: int, levels: int
) -> None:
    generator = seeded(seed)
    quantizer = SFDiVeQ(dim, size, levels=levels, seed=seed).double()
    z = 2 * torch.randn(1, dim, 4, 5, generator=generator, dtype=torch.float64)
    codes = quantizer.encode(z)
    assert codes.shape == (1, 2, 4, 5) and codes.dtype == torch.int64
    assert quantizer.sizes == (size - 1, levels)
    out, c = quantizer.decode(codes), quantizer.codebook.detach()
    for y in range(4):
        for x in range(5):
            costs = {}
            for i in range(size - 1):
                for j in range(levels):
                    point = c[i] + (2 * j + 1) / (2 * levels) * (c[i + 1] - c[i])
                    costs[i, j] = (z[0, :, y, x] - point).square().sum().item()
            i, j = codes[0, :, y, x].tolist()
            assert costs[i, j] <= min(costs.values()) + 1e-12
            assert (out[0, :, y, x] - z[0, :, y, x]).square().sum().item() == pytest.approx(
                costs[i, j], rel=1e-9
            )


def test_the_line_is_a_function_of_its_codes() -> None:
    quantizer, z = SFDiVeQ(3, 9, levels=4).eval(), latents(2, 3, 30, 30).float()
    result, before = quantizer(z), quantizer.generator.get_state()
    assert torch.equal(result.z, quantizer.decode(quantizer.encode(z)))
    assert torch.equal(result.codes, quantizer.encode(z))
    assert result.loss == 0 and result.bits is None
    assert torch.equal(quantizer.generator.get_state(), before)
    assert len(rows_of(result.z).unique(dim=0)) == len(rows_of(result.codes).unique(dim=0)) <= 32


def test_every_point_decodes_to_itself_and_the_first_column_to_the_middle() -> None:
    quantizer = SFDiVeQ(3, 5, levels=3)
    codes = torch.cartesian_prod(torch.arange(4), torch.arange(3)).T.reshape(1, 2, 4, 3)
    z = quantizer.decode(codes)
    c = quantizer.codebook.detach()
    assert torch.allclose(z[0, :, 2, 0], c[2] * 5 / 6 + c[3] / 6)
    assert torch.equal(quantizer.encode(z), codes)
    assert torch.equal(quantizer.decode(codes, upto=2), z)
    half = quantizer.decode(codes, upto=1)
    assert torch.allclose(half[0, :, 2], ((c[2] + c[3]) / 2)[:, None].expand(3, 3))
    assert not quantizer.decode(codes, upto=0).any()


def test_equal_points_go_to_the_lowest_codes() -> None:
    quantizer = SFDiVeQ(2, 4, levels=2)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 0.0], [4.0, 0.0]]))
    z = torch.tensor([1.0, 2.0, 2.5, 3.0]).reshape(1, 1, 2, 2).repeat(1, 2, 1, 1)
    z[:, 1] = 7
    assert rows_of(quantizer.encode(z)).tolist() == [[0, 0], [0, 0], [0, 1], [0, 1]]


def test_three_times_the_levels_never_cost_distortion() -> None:
    """The middles of thirds hold the middle of the whole. Latents change hands for the better."""
    quantizer, z = SFDiVeQ(4, 10, levels=1).double().eval(), latents(2, 4, 10, 10)
    errors = []
    for levels in (1, 3, 9, 27):
        quantizer.levels = levels  # at any time: training knows none
        errors.append((quantizer(z).z - z).square().sum(1))
    assert all((fine <= coarse + 1e-12).all() for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_gradients_of_the_space_filling_line(sigma: float) -> None:
    z, g = latents().requires_grad_(True), latents(seed=1)
    quantizer = SFDiVeQ(3, 6, sigma=sigma).double().train()
    rows, weight, c = rows_of(z.detach()), rows_of(g), quantizer.codebook.detach().clone()
    # The same draws: a place for each segment, then the noise towards both of its ends.
    generator = seeded(3)
    t = torch.rand(5, 1, generator=generator, dtype=torch.float64)
    points = (1 - t) * c[:-1] + t * c[1:]
    index = (rows[:, None] - points).square().sum(2).argmin(1)
    place = t[index]
    result = quantizer(z, seeded(3))
    assert torch.equal(result.codes[:, 0].flatten(), index)
    assert torch.equal(result.codes[:, 1].flatten(), (place * 4).long().flatten())
    assert len(place.unique()) <= 5  # shared by the whole batch
    (result.z * g).sum().backward()
    expected, dz, dc = rows.clone(), weight.clone(), torch.zeros_like(c)
    for end, share in ((index, 1 - place), (index + 1, place)):
        gap = c[end] - rows
        noise = torch.randn(40, 3, generator=generator, dtype=torch.float64) if sigma else 0
        v = unit(gap + sigma * noise)
        expected += share * gap.norm(dim=1, keepdim=True) * v
        pull = share * unit(gap) * (v * weight).sum(1, keepdim=True)
        dz -= pull
        dc += scatter(pull, end, 6)
    assert torch.allclose(rows_of(result.z), expected)
    if sigma == 0:
        assert torch.allclose(expected, points[index])  # the dithered point itself
    assert z.grad is not None and quantizer.codebook.grad is not None
    assert torch.allclose(rows_of(z.grad), dz, rtol=1e-9, atol=1e-12)
    assert torch.allclose(quantizer.codebook.grad, dc, rtol=1e-9, atol=1e-12)


def test_space_filling_noise_comes_from_a_seed() -> None:
    z = latents().float()
    first, second = SFDiVeQ(3, 6, seed=2).train(), SFDiVeQ(3, 6, seed=2).train()
    one = first(z)
    assert torch.equal(one.z, second(z).z)
    assert not torch.equal(one.z, first(z).z)
    assert torch.equal(first(z, seeded(9)).z, second(z, seeded(9)).z)


def test_the_line_starts_as_means_of_runs() -> None:
    quantizer = SFDiVeQ(1, 4)
    quantizer.start(torch.arange(8.0).reshape(1, 1, 2, 4))
    assert quantizer.codebook.flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    few = torch.tensor([1.0, 2, 3])
    quantizer.start(few.reshape(1, 1, 1, 3), seeded(0))  # each of them, and one of them twice
    line = quantizer.codebook.detach().flatten()
    assert torch.equal(line[:3].sort().values, few) and line[3] not in few
    assert (line[3] - few).abs().min() < 0.05


def test_lines_that_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least 2 codewords"):
        SFDiVeQ(3, 1)
    with pytest.raises(ValueError, match="at least 1 level"):
        SFDiVeQ(3, 4, levels=0)


def test_a_fitted_line_uses_all_segments_and_beats_as_many_codewords() -> None:
    """Latents on a straight line of length L: K codewords cost L^2 / (12 K^2) at the very best.

    The 4 (K - 1) points of an even chain cost L^2 / (12 * 16 (K - 1)^2), 12.6 times less for K = 9.
    The chain starts bent and unevenly spaced, above the bound; it must end below a third of it.
    """
    size, length = 9, 16.0
    x = torch.linspace(0, length, 1024)
    batch = torch.stack([x, torch.zeros(1024)]).reshape(1, 2, 32, 32)
    quantizer = SFDiVeQ(2, size)
    with torch.no_grad():
        start = torch.stack([torch.linspace(0, length, size), torch.zeros(size)], 1)
        quantizer.codebook.copy_(start + torch.randn(size, 2, generator=seeded(1)))
    bound = length**2 / 12 / size**2

    def distortion() -> Tensor:
        return (quantizer.eval()(batch).z - batch).square().sum(1).mean()

    assert distortion() > bound
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        (quantizer.train()(batch).z - batch).square().sum(1).mean().backward()
        optimizer.step()
    assert distortion() < bound / 3
    segments = use.counts(quantizer.encode(batch)[:, :1], size - 1)
    assert use.used(segments).item() == size - 1
    assert use.perplexity(segments).item() > 0.9 * (size - 1)


def test_random_lines_cost_what_was_measured_before() -> None:
    """Normal latents and codewords, D = 8, K = 16: squared errors from the design notes.

    Nearest codeword 6.25; on the line with 1, 2, 4 and 8 levels 5.92, 5.43, 5.14 and 5.06.
    """
    z = latents(1, 8, 32, 32)
    errors = dict.fromkeys((0, 1, 2, 4, 8), 0.0)
    for seed in range(25):
        line = SFDiVeQ(8, 16, seed=seed).double().eval()
        point = VQ(8, 16, seed=seed).double().eval()
        errors[0] += (point(z).z - z).square().sum(1).mean().item() / 25
        for levels in (1, 2, 4, 8):
            line.levels = levels
            errors[levels] += (line(z).z - z).square().sum(1).mean().item() / 25
    for levels, expected in ((0, 6.25), (1, 5.92), (2, 5.43), (4, 5.14), (8, 5.06)):
        assert errors[levels] == pytest.approx(expected, rel=0.05)
