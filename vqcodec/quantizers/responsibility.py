"""Relaxed-responsibility vector quantization (RRVQ-VAE, section 3.2).

A codebook is a mixture of K Gaussians of equal weight: codeword k has the mean mu_k and the
diagonal variances s_k. The probability of a code, given an embedding e, is its responsibility:

    pi_k(e) = softmax_k logits_k(e)                                            (Eqs. 6 and 7)
    logits_k(e) = -1/2 sum_j [(e_j - mu_kj)^2 / s_kj + log s_kj]

The posterior q(z | x, above) and the prior p(z | above) of a layer are the responsibilities for two
embeddings under the *same* codebook. The paper prints the square root of a scalar variance; it is
the determinant of the covariance that is meant, hence one log s_kj for each of the dimensions. With
all variances 1 this is the relaxed VQ of Eq. 2, ``learn_variances=False``.

Where q is all on one code, as with other quantizers, KL(q || p) is the code's -log p: ``Priced``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import distributed
from vqcodec.quantizers import Listed, Quantized, check_size
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.gradients import clamp
from vqcodec.quantizers.vq import draw, gumbel_softmax, planes_of, rows_of

MAX_LOG_VARIANCE = 6.0  # nats: standard deviations from 1/20 to 20 times that of a latent
SPREAD = 0.5  # standard deviation of an embedding that few codewords are responsible for at first


def kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) in nats, in closed form: log-probabilities (B, K, H, W) -> (B, H, W).

    ``log_p`` may be broadcast along any dimension but K.
    """
    return (log_q.exp() * (log_q - log_p)).sum(1)


class Mixture(nn.Module):
    """Gaussians of equal weight, with means and diagonal variances."""

    dim: int
    sizes: tuple[int, ...]  # (K,)
    means: Tensor  # (K, D)
    raw_log_variances: Tensor  # (K, D) nats, before they are clamped

    def log_variances(self) -> Tensor:
        """(K, D) nats, within +-MAX_LOG_VARIANCE."""
        return clamp(self.raw_log_variances, -MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)

    def logits(self, e: Tensor) -> Tensor:
        """e (B, D, H, W) -> Gaussian log-densities (B, K, H, W), nats; a constant is left out."""
        means = self.means
        dtype = torch.promote_types(e.dtype, means.dtype)
        # Differences of large squares: 16 bits would not leave much of them.
        with torch.autocast(e.device.type, enabled=False):
            log_variances, means = self.log_variances().to(dtype), means.to(dtype)
            precision = torch.exp(-log_variances)
            # The square is multiplied out: two matrix products, and no (B, K, D, H, W) tensor. What
            # cancels is small where e and mu are measured from the middle of the codebook.
            middle = means.detach().mean(0)
            e, means = e.to(dtype).movedim(1, -1) - middle, means - middle
            squares = (e * e) @ precision.T - 2 * (e @ (means * precision).T)  # (B, H, W, K)
            constants = (means * means * precision + log_variances).sum(1)  # (K,)
            return -0.5 * (squares + constants).movedim(-1, 1)

    def log_responsibilities(self, e: Tensor) -> Tensor:
        """e (B, D, H, W) -> log pi (B, K, H, W), nats: of q for e_q, of p for e_p."""
        return self.logits(e).log_softmax(1)

    def price(self, e: Tensor, codes: Tensor) -> Tensor:
        """-log pi of codes (B, 1, H, W) for e (B, D, H, W), nats, (B, H, W)."""
        return -self.log_responsibilities(e).gather(1, codes)[:, 0]

    @torch.no_grad()
    def sample(self, e: Tensor, generator: torch.Generator) -> Tensor:
        """e (B, D, H, W) -> codes (B, 1, H, W) int64, drawn from its responsibilities."""
        return planes_of(draw(rows_of(self.logits(e)), generator), e)

    def expected(self, e: Tensor) -> Tensor:
        """e (B, D, H, W) -> the mean of all means under its responsibilities, likewise."""
        weights = self.log_responsibilities(e).exp().movedim(1, -1)  # (B, H, W, K)
        return (weights @ self.means.to(weights.dtype)).movedim(-1, 1)

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, 1, H, W) -> means (B, D, H, W); zeros with ``upto=0``."""
        z = F.embedding(codes[:, 0], self.means).movedim(-1, 1).contiguous()
        return torch.zeros_like(z) if upto == 0 else z


class Responsibility(Mixture):
    """One codebook of ``size`` means and diagonal variances for embeddings of ``dim`` channels.

    ``temperature`` is that of the relaxed samples in training; a trainer may lower the attribute.
    ``bits_back`` is the share of the posterior's entropy that the rate does not count: 1 makes the
    rate the KL divergence of the ELBO, which only bits-back coding reaches, and 0 the cross-entropy
    -E_q log2 p, which a file pays; a trainer may lower it too, and the posterior gets sharper.
    ``free_bits`` is a number of bits per code below which the rate is not pushed (the floor of
    openai/iaf: of the batch's mean, for the layer as a whole). ``usage`` is the weight, in the
    loss, of each bit by which the entropy of a batch's codes (the mean of q over its cells) stays
    below log2 K; a trainer may lower it. ``seed`` makes the first codebook and, where ``forward``
    is given no generator, the noise.

    ValueError: fewer than 2 codewords, no channels, a temperature that is not positive.
    """

    def __init__(
        self,
        dim: int,
        size: int,
        *,
        learn_variances: bool = True,
        temperature: float = 1.0,
        free_bits: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_size(size)
        if dim < 1:
            raise ValueError(f"a codeword needs at least 1 channel, not {dim}")
        if not temperature > 0:
            raise ValueError(f"the temperature must be positive, not {temperature}")
        self.dim = dim
        self.sizes = (size,)
        self.temperature = temperature
        self.bits_back = 1.0
        self.free_bits = free_bits
        self.usage = 0.0
        self.generator = torch.Generator().manual_seed(seed)
        # Codewords of about unit length: the logits of unit embeddings then differ by about 1, and
        # every codeword gets a gradient from the first step on.
        means = torch.randn(size, dim, generator=self.generator) / math.sqrt(dim)
        self.means = nn.Parameter(means)
        self.raw_log_variances = nn.Parameter(torch.zeros(size, dim), learn_variances)

    def points(self) -> Tensor:
        """All that can be decoded, (K, D)."""
        return self.means

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Make random embeddings of z (B, D, H, W) the means."""
        rows = rows_of(z).to(self.means.dtype)
        rows = use.pick(rows, self.sizes[0], generator or self.generator, SPREAD)
        self.means.copy_(distributed.shared(rows))

    def uniform(self) -> Tensor:
        """(1, K, 1, 1): the log-probabilities of the uniform prior, for the topmost layer."""
        size = self.sizes[0]
        return self.means.new_full((1, size, 1, 1), -math.log(size))

    def forward(
        self, e: Tensor, log_p: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """e (B, D, H, W): the posterior's embedding; log_p (B, K, H, W) nats: the prior.

        In training ``z`` mixes the means by a relaxed sample of q, ``codes`` are the heaviest of
        each mixture, an exact sample, and ``bits`` is KL(q || p) in closed form (the rate term of
        Eq. 5) and what ``bits_back`` leaves of the entropy of q, with free bits. In evaluation q
        is all on the codes of ``encode``, so ``z`` are their means and ``bits`` is their -log2 p,
        what a file pays. ``bits`` is a sum over the grid and a mean over the batch. ``loss`` is the
        term of ``usage``, in training, or else 0.
        """
        nats_to_bits = 1 / (len(e) * math.log(2))  # per image
        bits = None
        if not self.training:
            codes = self.encode(e)
            if log_p is not None:
                log_p = log_p.expand(len(e), self.sizes[0], *e.shape[2:])
                bits = -log_p.gather(1, codes).sum() * nats_to_bits
            return Quantized(self.decode(codes).to(e.dtype), codes, e.new_zeros(()), bits)
        logits = self.logits(e)
        log_q = logits.log_softmax(1)
        weights = gumbel_softmax(rows_of(logits), self.temperature, generator or self.generator)
        codes = planes_of(weights.argmax(1), e)
        with torch.autocast(e.device.type, enabled=False):
            z = planes_of(weights @ self.means.to(weights.dtype), e).to(e.dtype)
        if log_p is not None:
            entropy = (log_q.exp() * -log_q).sum() * nats_to_bits
            divergence = kl(log_q, log_p).sum() * nats_to_bits
            # The floor holds for the whole rate. Of the divergence alone it would leave the entropy
            # as all that there is to lower: q gets sharp on one code, with an embedding far from
            # all codewords, and the layer is dead before anything has been learned from it.
            rate = divergence + (1 - self.bits_back) * entropy
            bits = rate.clamp_min(self.free_bits * codes[0].numel())
        loss = e.new_zeros(())
        if self.usage:
            shares = log_q.exp().mean((0, 2, 3))
            # Of several processes the shares are those of all. That of the logarithm is a constant:
            # its derivative adds up to zero.
            everywhere = distributed.mean(shares.detach().clone()).clamp_min(1e-12)
            loss = self.usage * (math.log2(self.sizes[0]) + (shares * everywhere.log2()).sum())
        return Quantized(z, codes, loss, bits)

    def encode(self, e: Tensor) -> Tensor:
        """e (B, D, H, W) -> its most responsible codes (B, 1, H, W) int64."""
        # In float64, so that what else is in the batch decides only between equals.
        return self.logits(e.double()).argmax(1, keepdim=True)


class Priced(Mixture):
    """Another quantizer, whose points (see ``points``) are the means of a mixture.

    Its codes have probabilities then. There is one column: a code is the number of a point, which
    for SF-DiVeQ is one of (K - 1) * levels. Training is that of ``inner``.
    """

    def __init__(self, inner: Listed, *, learn_variances: bool = True) -> None:
        super().__init__()
        self.inner = inner
        self.dim, self.sizes = inner.dim, (math.prod(inner.sizes),)
        self.raw_log_variances = nn.Parameter(torch.zeros_like(self.means), learn_variances)

    @property
    def means(self) -> Tensor:  # type: ignore[override]
        return self.inner.points()

    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        self.inner.start(z, generator)

    def forward(self, e: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """What ``inner`` makes of e (B, D, H, W), with codes (B, 1, H, W)."""
        made = self.inner(e, generator)
        return made._replace(codes=self._number(made.codes))

    def encode(self, e: Tensor) -> Tensor:
        """e (B, D, H, W) -> codes (B, 1, H, W) int64."""
        return self._number(self.inner.encode(e))

    def _number(self, codes: Tensor) -> Tensor:
        """Codes (B, C, H, W) of ``inner`` -> number of the point (B, 1, H, W)."""
        number = codes[:, :1]
        for column, size in enumerate(self.inner.sizes[1:], 1):
            number = number * size + codes[:, column : column + 1]
        return number
