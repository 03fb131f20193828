"""Vector quantization with a choice of ways to train it.

An estimator is a stand-in for the derivative that choosing the nearest codeword does not have:

ste       straight-through, with codebook and commitment loss (van den Oord et al. 2017, eq. 3)
ema       the same, with codewords that are moving averages of their latents (ibid., appendix A.1)
gumbel    a random mixture of the codewords, likelier the nearer (rVQ-VAE; HQA, eq. 6)
st-gumbel the heaviest codeword of such a mixture, with the mixture's gradient (ST-GS, Jang et al.)
rotation  the latent turned and scaled onto its codeword (Fifty et al. 2024)
nsvq      noise as long as the error takes the error's place (Vali and Bäckström 2022)

They differ in training mode alone. In evaluation mode all give the nearest codeword.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import distributed
from vqcodec.quantizers import Quantized, check_size
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.depthwise import straight_through

ESTIMATORS = ("ste", "ema", "gumbel", "st-gumbel", "rotation", "nsvq")
_CELLS = 2**20  # distances at once: what fits a cache


def rows_of(z: Tensor) -> Tensor:
    """z (B, D, H, W) -> its vectors (B*H*W, D)."""
    return z.movedim(1, -1).flatten(0, -2)


def planes_of(rows: Tensor, like: Tensor) -> Tensor:
    """rows (B*H*W, C) -> (B, C, H, W) for ``like`` (B, D, H, W): the inverse of ``rows_of``."""
    b, _, h, w = like.shape
    return rows.reshape(b, h, w, -1).movedim(-1, 1).contiguous()


def _exact_distances(z: Tensor, codebook: Tensor) -> Tensor:
    """z (N, D), codebook (K, D) -> squared distances (N, K), summed in one order, whatever N is."""
    total = z.new_zeros(len(z), len(codebook))
    for a, b in zip(z.unbind(1), codebook.unbind(1), strict=True):
        total += (a[:, None] - b).square_()
    return total


@torch.no_grad()
def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """z (N, D), codebook (K, D) -> index of the nearest codeword, (N,) int64; ties to the lowest.

    The result for a vector does not depend on the others, the device or the matrix library: a
    matrix product finds all codewords that may be nearest within its rounding errors, and where
    these are several, distances summed in a fixed order decide. A vector with a NaN gets some code.
    """
    z, codebook = z.detach().double(), codebook.detach().double()
    size, dim = codebook.shape
    squares = codebook.square().sum(1)
    # Each of the two ways to compute a distance is off by less than (D + 2) eps / 2 (|z| + |c|)^2.
    # Both codewords of a comparison are off, in both ways: four times that, doubled for safety.
    slack = 4 * (dim + 4) * torch.finfo(torch.float64).eps
    result = []
    for part in z.split(max(1, _CELLS // size)):
        # (n, K): squared distances less |z|^2
        rough = torch.addmm(squares, part, codebook.T, alpha=-2)
        least, index = rough.min(1)
        reach = part.square().sum(1).sqrt() + squares.max().sqrt()
        close = rough <= (least + slack * reach.square())[:, None]
        open_ = close.sum(1, dtype=torch.int32) != 1
        if open_.any():
            index[open_] = _exact_distances(part[open_], codebook).argmin(1)
        result.append(index)
    return torch.cat(result)


def distances(z: Tensor, codebook: Tensor) -> Tensor:
    """z (N, D), codebook (K, D) -> squared distances (N, K), with gradients."""
    return z.square().sum(1, keepdim=True) - 2 * z @ codebook.T + codebook.square().sum(1)


def rotate(z: Tensor, near: Tensor) -> Tensor:
    """The rotation trick. z, near (N, D) -> ``near``, with a gradient to ``z`` alone.

    z' = [z - 2 (z.w) w + 2 (z.u) q] |c| / |z| with u = z/|z|, q = c/|c|, w = (u+q)/|u+q|, where u,
    q, w and the ratio are constants: the Householder form of the rotation that takes u to q. Where
    u = -q there are many such rotations; w = 0 makes it the reflection z - 2 (z.u) u. Where z is
    zero beside c there is none, and the gradient is the identity.
    """
    with torch.no_grad():
        tiny, eps = torch.finfo(z.dtype).tiny, torch.finfo(z.dtype).eps
        z_norm, c_norm = z.norm(dim=1, keepdim=True), near.norm(dim=1, keepdim=True)
        u, q = z / z_norm.clamp_min(tiny), near / c_norm.clamp_min(tiny)
        between = (u + q).norm(dim=1, keepdim=True)
        # Nearly opposite, u + q is all rounding error, and so is its direction.
        w = torch.where(between < 100 * eps, 0, (u + q) / between.clamp_min(tiny))
        # Not torch.where on the result: an infinite ratio would still make its gradient NaN.
        zero = z_norm <= eps * c_norm
        u, w = torch.where(zero, 0, u), torch.where(zero, 0, w)
        scale = torch.where(zero, 1, c_norm / z_norm.clamp_min(tiny))
    along_w, along_u = ((z * v).sum(1, keepdim=True) for v in (w, u))
    return straight_through((z - 2 * along_w * w + 2 * along_u * q) * scale, near)


def substitute_noise(z: Tensor, near: Tensor, generator: torch.Generator) -> Tensor:
    """NSVQ. z, near (N, D) -> z + |z - c| v / |v| with v ~ N(0, I); both get a gradient."""
    v = use.normal(z, generator)
    v /= v.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    return z + (z - near).norm(dim=1, keepdim=True) * v


def gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """logits (N, K) -> one sample of the relaxed one-hot distribution per row, (N, K), sums 1."""
    u = torch.rand(logits.shape, generator=generator, dtype=logits.dtype, device=generator.device)
    noise = -u.log_().neg_().log_().to(logits.device)  # at u = 0 a weight of zero
    return ((logits + noise) / temperature).softmax(1)


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """logits (N, K) -> codes (N,) int64 drawn from their softmax."""
    # The largest of logits with Gumbel noise is an exact draw.
    return gumbel_softmax(logits, 1.0, generator).argmax(1)


def draw_near(z: Tensor, points: Tensor, generator: torch.Generator) -> Tensor:
    """z (N, D), points (K, D) -> codes (N,) drawn from softmax_k(-|z - p_k|^2) (HQA, eq. 6)."""
    return draw(-distances(z.double(), points.double()), generator)


class Codebook(nn.Module):
    """``size`` codewords of ``dim`` numbers: what quantizers with one code per place share.

    codebook (K, D): standard normal at first; a parameter, or with ``ema`` a buffer
    hits (K,) int64: how often each code was chosen in training since the last revival; not saved
    ema_counts (K,), ema_sums (K, D): moving averages per batch, with ``ema`` only
    generator: of all noise, where the caller does not bring another

    Raises ValueError for fewer than two codewords.
    """

    codebook: Tensor
    hits: Tensor
    ema_counts: Tensor | None
    ema_sums: Tensor | None

    def __init__(self, dim: int, size: int, *, ema: bool = False, seed: int = 0) -> None:
        super().__init__()
        check_size(size)
        self.dim = dim
        self.sizes: tuple[int, ...] = (size,)
        self.generator = torch.Generator().manual_seed(seed)
        codebook = torch.randn(size, dim, generator=self.generator)
        self.register_buffer("hits", torch.zeros(size, dtype=torch.int64), persistent=False)
        if ema:
            self.register_buffer("codebook", codebook)
            # As if each codeword had been hit once by a latent equal to it.
            self.register_buffer("ema_counts", torch.ones(size))
            self.register_buffer("ema_sums", codebook.clone())
        else:
            self.codebook = nn.Parameter(codebook)
            self.ema_counts = self.ema_sums = None

    def encode(self, z: Tensor) -> Tensor:
        """z (B, D, H, W) -> codes (B, 1, H, W) int64 of the nearest codewords."""
        return planes_of(nearest(rows_of(z), self.codebook), z)

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, 1, H, W) -> codewords (B, D, H, W); zeros for ``upto=0``."""
        near = F.embedding(codes[:, 0], self.codebook).movedim(-1, 1).contiguous()
        return torch.zeros_like(near) if upto == 0 else near

    def points(self) -> Tensor:
        """All that can be decoded, (K, D)."""
        return self.codebook

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """z (B, D, H, W) -> codes (B, 1, H, W) int64, drawn as ``draw_near`` does."""
        return planes_of(draw_near(rows_of(z), self.codebook, generator), z)

    @property
    def usage(self) -> Tensor:
        """How much each codeword is used, (K,): averaged counts if there are any, else the hits."""
        return self.hits if self.ema_counts is None else self.ema_counts

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Make random latents of z (B, D, H, W) the codewords."""
        rows = rows_of(z).to(self.codebook.dtype)
        everywhere = torch.arange(self.sizes[0], device=self.codebook.device)
        use.replace(
            self.codebook,
            everywhere,
            use.pick(rows, self.sizes[0], generator or self.generator),
            ema_counts=self.ema_counts,
            ema_sums=self.ema_sums,
        )

    def revive(
        self,
        threshold: float,
        z: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        at_most: int | None = None,
        spread: float = 0.01,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> int:
        """``usage.revive`` on this codebook, with latents z (B, D, H, W); then counts hits anew."""
        moved = use.revive(
            self.codebook,
            self.usage,
            threshold,
            generator or self.generator,
            latents=None if z is None else rows_of(z),
            at_most=at_most,
            spread=spread,
            ema_sums=self.ema_sums,
            optimizer=optimizer,
        )
        self.hits.zero_()
        return moved

    def _hit(self, index: Tensor) -> Tensor:
        """Count the codes index (N,) as hits; returns how often each is there, (K,) int64.

        With several processes: in the parts of all.
        """
        hits = distributed.total(use.counts(index[None, None], self.sizes[0])[0])
        self.hits += hits
        return hits


class VQ(Codebook):
    """Nearest of ``size`` codewords, trained with one of ``ESTIMATORS``.

    beta: weight of the commitment loss, a mean over all elements of the latent. For relaxed codes
        it is HQA's (eq. 5), the mean of sum_k q_k (z - c_k)^2, which moves the codewords too
    decay, epsilon: of ``ema``, its moving averages and their Laplace smoothing. A codeword that is
        never hit goes to zero once its count is as small as epsilon: revive it before
    temperature: of relaxed codes; may be changed between steps
    negentropy: weight of the mean per place of sum_k q_k ln q_k, in nats, for those; positive
        keeps the codes random (KL divergence from uniform codes, less ln K)

    Raises ValueError for an unknown estimator.
    """

    def __init__(
        self,
        dim: int,
        size: int,
        estimator: str = "ste",
        *,
        beta: float = 0.25,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        temperature: float = 1.0,
        negentropy: float = 0.0,
        seed: int = 0,
    ) -> None:
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator {estimator!r} is none of {', '.join(ESTIMATORS)}")
        super().__init__(dim, size, ema=estimator == "ema", seed=seed)
        self.estimator = estimator
        self.beta, self.decay, self.epsilon = beta, decay, epsilon
        self.temperature, self.negentropy = temperature, negentropy

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, D, H, W) -> codewords; in training what the estimator makes of them.

        The loss is the same in both modes. Random numbers come from ``generator``, or else from
        the quantizer's own. Of relaxed codes in training, those returned are the heaviest.
        """
        # Distances in 16 bits would choose other codewords than ``encode``.
        with torch.autocast(z.device.type, enabled=False):
            rows = rows_of(z).to(torch.promote_types(z.dtype, self.codebook.dtype))
            draw = generator or self.generator
            if self.estimator in ("gumbel", "st-gumbel"):
                out, index, loss = self._mix(rows, draw)
            else:
                index = nearest(rows, self.codebook)
                near = F.embedding(index, self.codebook).to(rows.dtype)
                out, loss = self._estimate(rows, near, draw), self._loss(rows, near)
            if self.training:
                hits = self._hit(index)
                if self.estimator == "ema":
                    self._average(rows, index, hits)
        return Quantized(planes_of(out, z).to(z.dtype), planes_of(index, z), loss, None)

    def _estimate(self, z: Tensor, near: Tensor, generator: torch.Generator) -> Tensor:
        """z and its codewords (N, D) -> codewords, exact or noisy, with a gradient."""
        if not self.training:
            return near
        if self.estimator == "rotation":
            return rotate(z, near)
        if self.estimator == "nsvq":
            return substitute_noise(z, near, generator)
        return straight_through(z, near)

    def _loss(self, z: Tensor, near: Tensor) -> Tensor:
        """z, its codewords (N, D) -> commitment loss and, without averages, codebook loss, ()."""
        if self.estimator == "nsvq":
            return z.new_zeros(())  # the reconstruction error is enough
        loss = self.beta * F.mse_loss(z, near.detach())
        if self.estimator == "ema":
            return loss
        return loss + F.mse_loss(near, z.detach())

    def _mix(self, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """z (N, D) -> mixtures of codewords, or codewords (N, D), heaviest codes (N,), loss ()."""
        codebook = self.codebook.to(z.dtype)
        square = distances(z, codebook)  # (N, K)
        # Not exp(log q) for q: where it underflows it takes ten times as long.
        log_q, q = (-square).log_softmax(1), (-square).softmax(1)
        # HQA's algorithms halve the square, its eq. 6 and its code do not.
        loss = self.beta * (q * square).sum() / z.numel()
        loss = loss + self.negentropy * (q * log_q).sum() / len(z)
        if not self.training:
            index = nearest(z, codebook)
            return codebook[index], index, loss
        weights = gumbel_softmax(-square, self.temperature, generator)
        index = weights.argmax(1)
        if self.estimator == "st-gumbel":
            weights = straight_through(weights, F.one_hot(index, len(codebook)).to(weights.dtype))
        return weights @ codebook, index, loss

    @torch.no_grad()
    def _average(self, z: Tensor, index: Tensor, hits: Tensor) -> None:
        """A step of the moving averages: z (N, D) have the codes index (N,), hits (K,) of all."""
        assert self.ema_counts is not None and self.ema_sums is not None
        sums = torch.zeros_like(self.ema_sums).index_add_(0, index, z.to(self.ema_sums.dtype))
        distributed.total(sums)
        self.ema_counts.lerp_(hits.to(self.ema_counts.dtype), 1 - self.decay)
        self.ema_sums.lerp_(sums, 1 - self.decay)
        total = self.ema_counts.sum()
        smooth = (self.ema_counts + self.epsilon) * total
        smooth /= total + self.sizes[0] * self.epsilon
        self.codebook.copy_(self.ema_sums / smooth[:, None])
