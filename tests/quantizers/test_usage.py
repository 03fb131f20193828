"""Usage of codebooks, and codewords that come back to life and stay alive."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vqcodec.quantizers import usage as use
from vqcodec.quantizers.vq import VQ


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 40))
def test_counts_are_those_of_each_column(seed: int, columns: int, size: int) -> None:
    codes = torch.randint(size, (3, columns, 2, 5), generator=seeded(seed))
    counts = use.counts(codes, size)
    assert counts.dtype == torch.int64
    expected = [np.bincount(codes[:, c].flatten(), minlength=size) for c in range(columns)]
    assert np.array_equal(counts, np.stack(expected))


@pytest.mark.parametrize("code", [-1, 4])
def test_a_code_outside_of_the_codebook_is_an_error(code: int) -> None:
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        use.counts(torch.tensor([[[[0, code]], [[1, 2]]]]), 4)


def test_no_codes_give_no_counts() -> None:
    assert not use.counts(torch.zeros(0, 2, 3, 3, dtype=torch.int64), 5).any()


def test_perplexity_of_known_distributions() -> None:
    counts = torch.tensor([[6, 6, 6, 6], [0, 9, 0, 0], [2, 1, 1, 0], [0, 0, 0, 0]])
    expected = torch.tensor([4, 1, 2**1.5, 0], dtype=torch.float64)
    assert torch.allclose(use.perplexity(counts), expected, rtol=1e-14)
    assert use.used(counts).tolist() == [4, 1, 3, 0]


def test_dead_codes_come_least_used_first() -> None:
    usage = torch.tensor([5, 0, 9, 2, 0, 3])
    assert use.dead(usage, 3).tolist() == [1, 4, 3]
    assert use.dead(usage, 3, at_most=1).tolist() == [1]
    assert use.dead(torch.zeros(6), 3).tolist() == []  # nothing has been counted yet


def test_picked_latents_are_different_ones_while_they_last() -> None:
    latents = torch.arange(10.0)[:, None]
    assert len(set(use.pick(latents, 10, seeded()).flatten().tolist())) == 10
    many = use.pick(latents, 25, seeded(), spread=0.01).flatten()
    assert torch.equal(many[:10].sort().values, latents.flatten())
    assert (many[10:20].round().sort().values == latents.flatten()).all()
    assert len(set(many.tolist())) == 25
    with pytest.raises(ValueError, match="no latents"):
        use.pick(latents[:0], 1, seeded())


def test_hqa_moves_the_least_used_code_next_to_the_most_used() -> None:
    codebook = torch.randn(5, 4096, generator=seeded())
    before = codebook.clone()
    usage = torch.tensor([100, 3, 2, 200, 50])
    moved = use.revive(codebook, usage, 0.03 * usage.max().item(), seeded(1), at_most=1)
    assert moved == 1
    offset = codebook[2] - before[3]
    assert abs(offset.mean()) < 5 * 0.01 / 64  # five standard errors
    assert abs(offset.std() / 0.01 - 1) < 5 / (2 * 4096) ** 0.5
    others = [0, 1, 3, 4]
    assert torch.equal(codebook[others], before[others])
    assert use.revive(codebook, usage, 0.01 * usage.max().item(), seeded(1), at_most=1) == 0


def test_the_least_used_codes_move_next_to_different_ones() -> None:
    codebook = 1000.0 * torch.arange(6)[:, None]
    before, usage = codebook.clone(), torch.tensor([0, 90, 1, 100, 0, 80])
    assert use.revive(codebook, usage, 3, seeded(1), at_most=2) == 2
    assert torch.allclose(codebook[[0, 4]], before[[3, 1]], atol=0.1)
    assert torch.equal(codebook[[1, 2, 3, 5]], before[[1, 2, 3, 5]])
    usage = torch.tensor([0, 0, 0, 7, 0, 0])
    assert use.revive(codebook, usage, 1, seeded(1)) == 5  # one is left to copy
    assert torch.allclose(codebook, before[3], atol=0.1)


def test_the_most_used_code_is_never_overwritten_by_its_copies() -> None:
    codebook = torch.randn(4, 2, generator=seeded())
    before = codebook.clone()
    assert use.revive(codebook, torch.tensor([1, 0, 2, 1]), 100, seeded()) == 3
    assert torch.equal(codebook[2], before[2])
    assert ((codebook - before[2]).norm(dim=1) < 0.1).all()


def test_a_seed_decides_what_revived_codes_become() -> None:
    usage, latents = torch.tensor([0, 9, 0, 4]), torch.randn(50, 3, generator=seeded(7))
    for z in (None, latents):
        results = []
        for seed in (1, 1, 2):
            codebook = torch.zeros(4, 3)
            assert use.revive(codebook, usage, 1, seeded(seed), latents=z) == 2
            results.append(codebook)
        assert torch.equal(results[0], results[1])
        assert not torch.equal(results[0], results[2])
    assert (results[0][0] == latents).all(1).any()


def stepped(remember: bool, make: type[torch.optim.Optimizer]) -> tuple[Tensor, Tensor]:
    """A code that had gradients is revived, then gets none: its place before and after a step."""
    codebook = nn.Parameter(torch.randn(6, 3, generator=seeded()))
    options = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make([codebook], lr=0.1, **options)  # type: ignore[call-arg]
    for _ in range(5):
        codebook.grad = torch.ones_like(codebook)
        optimizer.step()
    usage = torch.tensor([9, 9, 0, 9, 0, 9])
    latents = 10 + torch.randn(20, 3, generator=seeded(1))
    memory = optimizer if remember else None
    assert use.revive(codebook, usage, 1, seeded(2), latents=latents, optimizer=memory) == 2
    before = codebook.detach().clone()
    codebook.grad = torch.ones_like(codebook)
    codebook.grad[[2, 4]] = 0
    optimizer.step()
    return before, codebook.detach()


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_a_revival_survives_the_next_optimizer_step(make: type[torch.optim.Optimizer]) -> None:
    before, after = stepped(True, make)
    assert torch.equal(after[[2, 4]], before[[2, 4]])
    assert (after[[0, 1, 3, 5]] != before[[0, 1, 3, 5]]).all()
    before, after = stepped(False, make)
    assert ((after - before)[[2, 4]].abs() > 0.05).all()  # why the optimizer is passed


def test_an_optimizer_without_memory_of_the_codebook_is_left_alone() -> None:
    codebook = nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.Adam([codebook])
    use.revive(codebook, torch.tensor([0, 5, 5]), 1, seeded(), optimizer=optimizer)
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("from_latents", [True, False])
def test_a_revival_survives_the_next_average(from_latents: bool) -> None:
    quantizer = VQ(2, 8, "ema").train()
    # All latents lie near codeword 0 until the averaged counts of the others have faded.
    with torch.no_grad():
        quantizer.codebook[0] = 0
        quantizer.codebook[1:] += 5
        quantizer.ema_sums.copy_(quantizer.codebook)  # type: ignore[union-attr]
    z = 0.1 * torch.randn(1, 2, 8, 8, generator=seeded())
    for _ in range(100):
        quantizer(z)
    far = z + 100  # where nothing is in the next batch
    moved = quantizer.revive(1.0, far if from_latents else None)
    assert moved == 7
    revived = quantizer.codebook[1:].clone()
    quantizer(quantizer.codebook[0].reshape(1, 2, 1, 1))  # which hits none of the revived
    assert torch.allclose(quantizer.codebook[1:], revived, rtol=1e-5, atol=1e-6)
    assert (quantizer.usage >= 1).all()  # and none is dead again at once
    assert quantizer.revive(1.0, far) == 0


def test_averages_of_a_revived_code_move_like_those_of_the_others() -> None:
    """Hand computation: one hit at x turns (n, n c) into (g n + 1 - g, g n c + (1 - g) x)."""
    quantizer = VQ(1, 3, "ema", decay=0.9).double().train()
    assert quantizer.ema_counts is not None and quantizer.ema_sums is not None
    quantizer.codebook.copy_(torch.tensor([[0.0], [10.0], [50.0]]))
    quantizer.ema_counts.copy_(torch.tensor([4.0, 2.0, 0.5]))
    quantizer.ema_sums.copy_(quantizer.codebook * quantizer.ema_counts[:, None])
    assert quantizer.revive(1.0, torch.full((1, 1, 1, 1), 30.0, dtype=torch.float64)) == 1
    assert quantizer.codebook.flatten().tolist() == [0, 10, 30]
    assert quantizer.ema_counts.tolist() == [4, 2, 3]  # the mean of those that stay
    assert quantizer.ema_sums.flatten().tolist() == [0, 20, 90]
    quantizer(torch.full((1, 1, 1, 1), 40.0, dtype=torch.float64))
    counts, sums = torch.tensor([3.6, 1.8, 0.9 * 3 + 0.1]), torch.tensor([0, 18, 0.9 * 90 + 4])
    smooth = (counts + 1e-5) * counts.sum() / (counts.sum() + 3e-5)
    assert torch.allclose(quantizer.codebook.flatten().float(), sums / smooth, rtol=1e-6)
