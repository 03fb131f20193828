"""How much of a codebook is used, and new places for the codewords that are not.

A codeword that no latent is near gets no gradient and no average, so it stays where it is. HQA
(appendix C.4) moves such a codeword next to the most used one; DQ-AE moves it onto a latent. Both
forget the optimizer's or the moving average's memory of the old place, which takes the codeword
back at the next step: here that memory moves with it.
"""

import math

import torch
from torch import Tensor

from vqcodec import distributed


def counts(codes: Tensor, size: int) -> Tensor:
    """codes (B, C, ...) in [0, size) -> how often each occurs in its column, (C, size) int64.

    Raises ValueError if a code is outside of the codebook.
    """
    columns = codes.movedim(1, 0).flatten(1)  # (C, B*H*W)
    if columns.numel() and not 0 <= columns.min() <= columns.max() < size:
        raise ValueError(f"a code is not in [0, {size})")
    first = torch.arange(0, size * len(columns), size, device=codes.device)  # of each column
    flat = (columns + first[:, None]).flatten()
    return torch.bincount(flat, minlength=size * len(columns)).reshape(-1, size)


def perplexity(counts: Tensor) -> Tensor:
    """counts (C, K) -> 2 ** (entropy in bits of the empirical distribution), (C,) float64.

    Between 1 (a single codeword is used) and K (all alike); 0 for a column without codes.
    """
    total = counts.sum(1)
    share = counts.double() / total.clamp_min(1)[:, None]
    bits = torch.special.entr(share).sum(1) / math.log(2)
    return torch.where(total > 0, 2**bits, 0.0)


def used(counts: Tensor) -> Tensor:
    """counts (C, K) -> number of codewords that occur at all, (C,) int64."""
    return (counts > 0).sum(1)


def dead(usage: Tensor, threshold: float, at_most: int | None = None) -> Tensor:
    """usage (K,) -> codes used less than ``threshold``, the least used first, (R,) int64.

    None are dead while nothing has been counted: then nothing is known.
    """
    if not usage.any():
        return torch.zeros(0, dtype=torch.int64, device=usage.device)
    return usage.argsort(stable=True)[: int((usage < threshold).sum())][:at_most]


def pick(latents: Tensor, count: int, generator: torch.Generator, spread: float = 0.01) -> Tensor:
    """``count`` random rows of latents (N, D), each at most once while they last, (count, D).

    Rows that have to be taken again are moved by normal noise of standard deviation ``spread``:
    two equal codewords would never part, as all ties go to the first. Raises ValueError if N is 0.
    """
    n, device = len(latents), generator.device
    if n == 0:
        raise ValueError("there are no latents to pick from")
    rounds = [torch.randperm(n, generator=generator, device=device) for _ in range(0, count, n)]
    order = torch.cat(rounds)[:count] if rounds else torch.zeros(0, dtype=torch.int64)
    rows = latents[order.to(latents.device)]
    rows[n:] += spread * normal(rows[n:], generator)
    return rows


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, type and device of ``like``, drawn on the generator's."""
    noise = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return noise.to(like.device)


@torch.no_grad()
def replace(
    codebook: Tensor,
    which: Tensor,
    rows: Tensor,
    *,
    ema_counts: Tensor | None = None,
    ema_sums: Tensor | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Set ``codebook[which]`` (K, D) to rows (R, D), in place, and what is remembered about them.

    ema_counts (K,), ema_sums (K, D): moving averages, which have to agree with the codebook. The
    new codewords get the mean count of those that stay. So they are not dead at the next step, and
    it is the count that Laplace smoothing leaves as it is.
    optimizer: of which ``codebook`` is a parameter; its moments for ``which`` become zero.

    Of several processes, which agree on ``which``, rank 0 says what the rows are.
    """
    rows = distributed.shared(rows)
    codebook[which] = rows
    if ema_counts is not None and ema_sums is not None:
        stays = torch.ones_like(ema_counts, dtype=torch.bool)
        stays[which] = False
        ema_counts[which] = (ema_counts[stays] if stays.any() else ema_counts).mean()
        ema_sums[which] = rows * ema_counts[which, None]
    if optimizer is not None:
        for moment in optimizer.state.get(codebook, {}).values():
            if isinstance(moment, Tensor) and moment.shape == codebook.shape:
                moment[which] = 0


@torch.no_grad()
def revive(
    codebook: Tensor,
    usage: Tensor,
    threshold: float,
    generator: torch.Generator,
    *,
    latents: Tensor | None = None,
    at_most: int | None = None,
    spread: float = 0.01,
    ema_sums: Tensor | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> int:
    """Move the codewords used less than ``threshold``; returns how many were moved.

    codebook (K, D): changed in place
    usage (K,): hits in the recent past; with ``ema_sums`` the averaged counts that go with them
    latents (N, D): random ones become the new codewords, of several processes those of all.
        Without latents, these are copies of the most used codewords, the least used one of the most
        used, with normal noise of standard deviation ``spread``

    HQA counts over 20 batches and moves one code: ``threshold=0.03 * usage.max(), at_most=1``.
    (Its noise is N(0, 0.01); 0.01 is the standard deviation in the code that is known.)
    DQ-AE: ``threshold=1`` on averaged counts after every batch, with that batch's latents.
    """
    which = dead(usage, threshold, at_most)
    if latents is None:
        order = usage.argsort(descending=True, stable=True)
        donors = order[: max(1, int((usage >= threshold).sum()))]
        which = which[which != donors[0]]  # it may be all there is to copy
        rows = codebook[donors.repeat(-(-len(which) // len(donors)))[: len(which)]]
        rows += spread * normal(rows, generator)
    elif len(which):
        rows = pick(distributed.gathered(latents.to(codebook.dtype)), len(which), generator, spread)
    else:
        return 0
    ema_counts = None if ema_sums is None else usage
    replace(codebook, which, rows, ema_counts=ema_counts, ema_sums=ema_sums, optimizer=optimizer)
    return len(which)
