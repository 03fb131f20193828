"""Progressive quantization (PQ-VAE, sections 4.1 to 4.3 and algorithm 1).

A feature map is cut into sub-maps of side x side cells by strided sampling, so that every sub-map
spans the whole picture. A sub-map F, seen as a matrix (cells x channels), is quantized in L steps
that share one codebook. Each step looks at F through maps of its own, in space and in channels:

    e_l = vec(S_l^T F_l C_l)                       S_l (cells x r), C_l (channels x s)
    (z_l, c_l) = VQ(e_l)                           one codebook of K codewords of r*s values
    Q_l = (S_l^+)^T mat(c_l) C_l^+                 pseudo-inverses, so T_l(T_l^-1(c)) = c
    F_(l+1) = F_l - Q_l                            and the decoder sees Q_1 + ... + Q_L

The codes of step l are column l, so the first n columns are a description of their own.

The auxiliary loss is minus the weighted mutual information of picture and codes (Eqs. 3 and 5):

    -weight * sum_l I_l,    I_l = H(mean_x q(z_l | x)) - mean_x H(q(z_l | x))      (nats)

Codes that are sure given the picture and evenly used over the pictures are rewarded. The pictures
are all sub-maps of the batch, and the codes of a step are counted without regard to those before,
H(q(z_l | x)) for H(q(z_l | x, z_<l)), as in the paper. Eq. 5 has this sign; the reconstruction term
that it prints beside it, +E log p, has to be -E log p in a loss.
"""

import math

import torch
from torch import Tensor, nn

from vqcodec.quantizers import Quantized
from vqcodec.quantizers.residual import prefix_lengths
from vqcodec.quantizers.vq import distances, gumbel_softmax, nearest


def mutual_information(log_q: Tensor) -> Tensor:
    """Log-probabilities (N, K, ...) of N pictures -> nats (...), from 0 to log min(N, K)."""
    # In the log domain, since the derivative of m log m at m = 0 is infinite.
    log_mean = log_q.logsumexp(0) - math.log(len(log_q))  # (K, ...)
    marginal = -(log_mean.exp() * log_mean).sum(0)
    conditional = -(log_q.exp() * log_q).sum(1).mean(0)
    return marginal - conditional


def _columns(codes: list[Tensor], h: int, w: int) -> Tensor:
    """L times the codes of all sub-maps (B*h*w,) -> (B, L, h, w)."""
    return torch.stack(codes, 1).unflatten(0, (-1, h, w)).movedim(-1, 1)


def _orthonormal(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """(L, n, r): L times r random directions of n, perpendicular and of unit length."""
    return torch.linalg.qr(torch.randn(shape, generator=generator))[0]


class Progressive(nn.Module):
    """``steps`` codes for every sub-map of ``side`` x ``side`` cells of a map of ``dim`` channels.

    The numbers of the paper are the defaults. ``rank`` is (r, s), the columns of S_l and C_l, so a
    codeword has r*s values. The regulariser's ``weight`` and the ``temperature`` of the relaxed
    samples are not in the paper; a trainer may change both attributes. ``dropout`` is the
    probability that an image of a training batch is decoded from a random prefix of its codes,
    without which plain truncation is something the decoder has not seen. ``seed`` makes the first
    parameters and, where ``forward`` is given no generator, the noise.

    ValueError: fewer than 2 codewords, no steps, a rank larger than what it maps from, a
    temperature that is not positive, a dropout outside of 0..1.
    """

    def __init__(
        self,
        dim: int = 512,
        size: int = 256,
        steps: int = 64,
        *,
        side: int = 8,
        rank: tuple[int, int] = (16, 4),
        weight: float = 1e-3,
        temperature: float = 0.66,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(f"a codebook needs at least 2 codewords, not {size}")
        if steps < 1:
            raise ValueError(f"a progressive quantizer needs at least 1 step, not {steps}")
        if not (1 <= rank[0] <= side * side and 1 <= rank[1] <= dim):
            raise ValueError(f"maps of rank {rank} from {side * side} cells and {dim} channels")
        if not temperature > 0:
            raise ValueError(f"the temperature must be positive, not {temperature}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, not {dropout}")
        self.dim = dim
        self.sizes = (size,) * steps
        self.side = side
        self.rank = rank
        self.weight = weight
        self.temperature = temperature
        self.dropout = dropout
        self.generator = torch.Generator().manual_seed(seed)
        self.space = nn.Parameter(_orthonormal((steps, side * side, rank[0]), self.generator))
        self.channel = nn.Parameter(_orthonormal((steps, dim, rank[1]), self.generator))
        # Codewords of about unit length: soft choices, and so gradients for all, at the start.
        codebook = torch.randn(size, math.prod(rank), generator=self.generator)
        self.codebook = nn.Parameter(codebook / math.sqrt(math.prod(rank)))  # (K, r*s)

    def grid(self, h: int, w: int) -> tuple[int, int]:
        """The grid of the codes of a map of h x w cells. ValueError: not multiples of ``side``."""
        if h < 1 or w < 1 or h % self.side or w % self.side:
            raise ValueError(f"a map of {h}x{w} cells does not divide into sides of {self.side}")
        return h // self.side, w // self.side

    def partition(self, z: Tensor) -> Tensor:
        """z (B, D, H, W) -> sub-maps (B*h*w, cells, D); that of code (i, j) is z[i::h, j::w]."""
        h, w = self.grid(*z.shape[2:])
        z = z.reshape(len(z), self.dim, self.side, h, self.side, w)
        return z.permute(0, 3, 5, 2, 4, 1).reshape(-1, self.side**2, self.dim)

    def join(self, maps: Tensor, h: int, w: int) -> Tensor:
        """The inverse of ``partition``, for a grid of h x w sub-maps."""
        maps = maps.reshape(-1, h, w, self.side, self.side, self.dim)
        return maps.permute(0, 5, 3, 1, 4, 2).reshape(-1, self.dim, h * self.side, w * self.side)

    def inverses(self) -> tuple[Tensor, Tensor]:
        """The pseudo-inverses of all steps: S^+ (L, r, cells) and C^+ (L, s, D)."""
        return torch.linalg.pinv(self.space), torch.linalg.pinv(self.channel)

    def project(self, step: int, maps: Tensor) -> Tensor:
        """T_l: sub-maps (N, cells, D) -> vectors (N, r*s)."""
        return (self.space[step].T @ (maps @ self.channel[step])).flatten(1)

    def lift(self, step: int, e: Tensor, inverses: tuple[Tensor, Tensor]) -> Tensor:
        """T_l^-1: vectors (N, r*s) -> sub-maps (N, cells, D), given ``inverses()``."""
        space, channel = inverses
        return (space[step].T @ e.reshape(-1, *self.rank)) @ channel[step]

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, D, H, W) with sides that are multiples of ``side``, else ValueError.

        In training every step mixes the codewords by a relaxed sample of q, the softmax of minus
        the squared distances, and ``codes`` are the heaviest of each mixture. In evaluation ``z``
        is what the codes of ``encode`` decode to. ``loss`` is that of the steps as they were made.
        """
        h, w = self.grid(*z.shape[2:])
        draw = generator or self.generator
        kept = None
        if self.training and self.dropout > 0:
            kept = prefix_lengths(len(z), len(self.sizes), self.dropout, draw).to(z.device)
            kept = kept.repeat_interleave(h * w)[:, None, None]  # (N, 1, 1)
        with torch.autocast(z.device.type, enabled=False):  # 16 bits leave little of a residual
            inverses = self.inverses()
            rest = self.partition(z.to(self.codebook.dtype))
            total = torch.zeros_like(rest)
            codes, log_q = [], []
            for step in range(len(self.sizes)):
                e = self.project(step, rest)
                logits = -distances(e, self.codebook)
                if self.training:
                    weights = gumbel_softmax(logits, self.temperature, draw)
                    chosen, index = weights @ self.codebook, weights.argmax(1)
                else:
                    index = nearest(e, self.codebook)
                    chosen = self.codebook[index]
                q = self.lift(step, chosen, inverses)
                rest = rest - q
                total = total + (q if kept is None else torch.where(step < kept, q, 0.0))
                codes.append(index)
                log_q.append(logits.log_softmax(1))
            loss = -self.weight * mutual_information(torch.stack(log_q, 2)).sum()
        return Quantized(self.join(total, h, w).to(z.dtype), _columns(codes, h, w), loss, None)

    def encode(self, z: Tensor) -> Tensor:
        """z (B, D, H, W) -> codes (B, L, H/side, W/side) int64. ValueError: see ``forward``."""
        h, w = self.grid(*z.shape[2:])
        with torch.autocast(z.device.type, enabled=False):
            inverses = self.inverses()
            rest = self.partition(z.to(self.codebook.dtype))
            codes = []
            for step in range(len(self.sizes)):
                codes.append(nearest(self.project(step, rest), self.codebook))
                rest = rest - self.lift(step, self.codebook[codes[-1]], inverses)
        return _columns(codes, h, w)

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, L, h, w) -> (B, D, h*side, w*side), from the first ``upto`` steps."""
        h, w = codes.shape[2:]
        with torch.autocast(codes.device.type, enabled=False):
            inverses = self.inverses()
            total = self.codebook.new_zeros(len(codes) * h * w, self.side**2, self.dim)
            for step, column in enumerate(codes.unbind(1)[:upto]):
                total = total + self.lift(step, self.codebook[column.flatten()], inverses)
        return self.join(total, h, w)
