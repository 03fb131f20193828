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

Any other quantizer of vectors can take the place of the codebook, for all steps too. Where it has
several columns, those of step 1 come before those of step 2. Where it draws codes, with
probabilities that are known, the information is rewarded too.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import distributed
from vqcodec.quantizers import Quantized, Quantizer, check_size
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.residual import prefix_lengths
from vqcodec.quantizers.responsibility import Responsibility
from vqcodec.quantizers.vq import distances, gumbel_softmax, nearest


def mutual_information(logits: Tensor) -> Tensor:
    """Logits (N, K) of q(z | x) for N pictures -> nats (), from 0 to log min(N, K).

    It is the mean over x of sum_z q(z | x) log [q(z | x) / q(z)]. The derivative of the logarithm
    adds up to zero, over z for its numerator and over x for its denominator, so it is a constant.
    Of several processes, q(z) is the mean over the pictures of all.
    """
    q = logits.softmax(1)
    with torch.no_grad():
        tiny = torch.finfo(q.dtype).tiny
        everywhere = distributed.mean(q.mean(0))
        log_ratio = (q / everywhere.clamp_min(tiny)).clamp_min(tiny).log()
    return (q * log_ratio).sum() / len(q)


def _columns(codes: list[Tensor], h: int, w: int) -> Tensor:
    """L times the codes of all sub-maps (B*h*w, C) -> (B, L*C, h, w)."""
    return torch.cat(codes, 1).unflatten(0, (-1, h, w)).movedim(-1, 1)


def _orthonormal(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """(L, n, r): L times r random directions of n, perpendicular and of unit length."""
    return torch.linalg.qr(torch.randn(shape, generator=generator))[0]


class Progressive(nn.Module):
    """``steps`` codes for every sub-map of ``side`` x ``side`` cells of a map of ``dim`` channels.

    The numbers of the paper are the defaults. ``rank`` is (r, s), the columns of S_l and C_l, so a
    codeword has r*s values. The regulariser's ``weight`` and the ``temperature`` of the relaxed
    samples are not in the paper; a trainer may change both attributes. ``dropout`` is the
    probability that an image of a training batch is decoded from a random prefix of its codes,
    without which plain truncation is something the decoder has not seen. Short prefixes are as
    likely as long ones: a doubling of the length counts alike wherever it is. ``seed`` makes the
    first parameters and, where ``forward`` is given no generator, the noise.

    ``shared`` quantizes vectors of r*s numbers in place of a codebook of ``size``.

    hits (K,) int64: how often each code was chosen in training since the last revival; not saved.
        They and ``codebook`` (K, r*s) are there without ``shared``

    ValueError: fewer than 2 codewords, no steps, a rank larger than what it maps from, a
    temperature that is not positive, a dropout outside of 0..1.
    """

    hits: Tensor
    codebook: Tensor

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
        shared: Quantizer | None = None,
    ) -> None:
        super().__init__()
        check_size(size)
        if steps < 1:
            raise ValueError(f"a progressive quantizer needs at least 1 step, not {steps}")
        if not (1 <= rank[0] <= side * side and 1 <= rank[1] <= dim):
            raise ValueError(f"maps of rank {rank} from {side * side} cells and {dim} channels")
        if not temperature > 0:
            raise ValueError(f"the temperature must be positive, not {temperature}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, not {dropout}")
        self.dim = dim
        self.steps = steps
        self.columns = 1 if shared is None else len(shared.sizes)  # of a step
        self.side = side
        self.rank = rank
        self.weight = weight
        self.temperature = temperature
        self.dropout = dropout
        self.generator = torch.Generator().manual_seed(seed)
        self.space = nn.Parameter(_orthonormal((steps, side * side, rank[0]), self.generator))
        self.channel = nn.Parameter(_orthonormal((steps, dim, rank[1]), self.generator))
        self.shared = shared
        self.sizes: tuple[int, ...] = ((size,) if shared is None else shared.sizes) * steps
        if shared is None:
            self.register_buffer("hits", torch.zeros(size, dtype=torch.int64), persistent=False)
            # Codewords of about unit length: soft choices, and so gradients for all, at the start.
            codebook = torch.randn(size, math.prod(rank), generator=self.generator)
            self.codebook = nn.Parameter(codebook / math.sqrt(math.prod(rank)))

    def grid(self, h: int, w: int) -> tuple[int, int]:
        """The grid of the codes of a map of h x w cells. ValueError: not multiples of ``side``."""
        if h < 1 or w < 1 or h % self.side or w % self.side:
            raise ValueError(f"a map of {h}x{w} cells does not divide into sides of {self.side}")
        return h // self.side, w // self.side

    def partition(self, z: Tensor) -> Tensor:
        """z (B, D, H, W) -> sub-maps (D, cells, B*h*w); that of code (i, j) is z[i::h, j::w].

        Sub-maps come last, so that the maps of a step are few matrix products for all of them.
        """
        h, w = self.grid(*z.shape[2:])
        z = z.reshape(len(z), self.dim, self.side, h, self.side, w)
        return z.permute(1, 2, 4, 0, 3, 5).reshape(self.dim, self.side**2, -1)

    def join(self, maps: Tensor, h: int, w: int) -> Tensor:
        """The inverse of ``partition``, for a grid of h x w sub-maps."""
        maps = maps.reshape(self.dim, self.side, self.side, -1, h, w)
        return maps.permute(3, 0, 1, 4, 2, 5).reshape(-1, self.dim, h * self.side, w * self.side)

    def inverses(self) -> tuple[Tensor, Tensor]:
        """The pseudo-inverses of all steps: S^+ (L, r, cells) and C^+ (L, s, D)."""
        return torch.linalg.pinv(self.space), torch.linalg.pinv(self.channel)

    def project(self, step: int, maps: Tensor) -> Tensor:
        """T_l: sub-maps (D, cells, N) -> vectors (r*s, N)."""
        narrow = self.channel[step].T @ maps.flatten(1)  # (s, cells * N)
        return (self.space[step].T @ narrow.unflatten(1, maps.shape[1:])).flatten(0, 1)

    def subtract(
        self, maps: Tensor, step: int, e: Tensor, inverses: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Sub-maps (D, cells, N) less T_l^-1 of vectors (r*s, N), given ``inverses()``."""
        narrow = inverses[0][step].T @ e.unflatten(0, (-1, self.rank[0]))  # (s, cells, N)
        channel = inverses[1][step].T
        return torch.addmm(maps.flatten(1), channel, narrow.flatten(1), alpha=-1).view_as(maps)

    def lift(self, e: Tensor, inverses: tuple[Tensor, Tensor]) -> Tensor:
        """The sum of T_l^-1 of the first steps: their vectors (l, r*s, N) -> (D, cells, N)."""
        steps = len(e)
        space, channel = inverses[0][:steps, None].mT, inverses[1][:steps]
        narrow = space @ e.unflatten(1, (-1, self.rank[0]))  # (l, s, cells, N)
        maps = channel.flatten(0, 1).T @ narrow.flatten(0, 1).flatten(1)
        return maps.unflatten(1, narrow.shape[2:])

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, D, H, W) with sides that are multiples of ``side``, else ValueError.

        In training every step mixes the codewords by a relaxed sample of q, the softmax of minus
        the squared distances, and ``codes`` are the heaviest of each mixture; or they are what
        ``shared`` makes. In evaluation ``z`` is what the codes of ``encode`` decode to. ``loss`` is
        that of the steps as they were made, and the mean of the losses of ``shared``.
        """
        h, w = self.grid(*z.shape[2:])
        draw = generator or self.generator
        with torch.autocast(z.device.type, enabled=False):  # 16 bits leave little of a residual
            inverses = self.inverses()
            rest = self.partition(z.to(self.space.dtype))
            columns, vectors, losses = [], [], []
            for step in range(self.steps):
                e = self.project(step, rest)  # (r*s, N)
                made = self._relaxed(e, draw) if self.shared is None else self._shared(e, draw)
                rest = self.subtract(rest, step, made.z, inverses)
                columns.append(made.codes)
                vectors.append(made.z)
                losses.append(made.loss)
            loss = torch.stack(losses).sum()
            codes = _columns(columns, h, w)
            if not self.training:
                return Quantized(self.decode(codes).to(z.dtype), codes, loss, None)
            if self.shared is None:
                hits = torch.bincount(torch.cat(columns).flatten(), minlength=self.sizes[0])
                self.hits += distributed.total(hits)
            mixed = torch.stack(vectors)  # (L, r*s, N)
            if self.dropout > 0:
                kept = self._prefixes(len(z), draw).repeat_interleave(h * w, -1)
                mixed = mixed * kept.to(mixed)
            total = self.lift(mixed, inverses)
        return Quantized(self.join(total, h, w).to(z.dtype), codes, loss, None)

    def _relaxed(self, e: Tensor, generator: torch.Generator) -> Quantized:
        """e (r*s, N) -> mixtures of codewords, likewise, and their heaviest codes (N, 1)."""
        # Logits are minus the squared distances, less |e|^2, which all codewords share.
        logits = torch.addmm(-self.codebook.square().sum(1), e.T, 2 * self.codebook.T)  # (N, K)
        if self.training:
            weights = gumbel_softmax(logits, self.temperature, generator)
            index, chosen = weights.argmax(1), self.codebook.T @ weights.T
        else:
            index = nearest(e.T, self.codebook)
            chosen = self.codebook[index].T
        return Quantized(chosen, index[:, None], -self.weight * mutual_information(logits), None)

    def _shared(self, e: Tensor, generator: torch.Generator) -> Quantized:
        """e (r*s, N) -> what ``shared`` makes of it, likewise, and its codes (N, C)."""
        assert self.shared is not None
        made = self.shared(e.T[:, :, None, None], generator)
        loss, logits = made.loss / self.steps, self._logits(e.T)
        if logits is not None:
            loss = loss - self.weight * mutual_information(logits)
        return Quantized(made.z[:, :, 0, 0].T, made.codes[:, :, 0, 0], loss, None)

    def _logits(self, e: Tensor) -> Tensor | None:
        """Of q(z | e) for e (N, r*s), (N, K); None where q is all on one code."""
        if self.shared is None:
            return -distances(e, self.codebook)
        inner = getattr(self.shared, "inner", None)  # of ``choice.Tended``
        if isinstance(inner, Responsibility):
            return inner.logits(e[:, :, None, None])[:, :, 0, 0]
        return None

    def _prefixes(self, batch: int, generator: torch.Generator) -> Tensor:
        """(L, 1, batch) bool: which codes of each image are in the prefix drawn for it."""
        lengths = prefix_lengths(batch, self.steps, self.dropout, generator, early=True)
        return torch.arange(self.steps, device=lengths.device)[:, None, None] < lengths

    def revive(
        self, generator: torch.Generator, optimizer: torch.optim.Optimizer | None = None
    ) -> int:
        """Move the least used codeword beside the most used one if its hits are under 3 % of those.

        HQA's rule (appendix C.4), since the last call; returns how many codewords were moved.
        """
        most = int(self.hits.max())
        moved = use.revive(
            self.codebook, self.hits, 0.03 * most, generator, at_most=1, optimizer=optimizer
        )
        self.hits.zero_()
        return moved

    def encode(self, z: Tensor, upto: int | None = None) -> Tensor:
        """z (B, D, H, W) -> codes (B, L*C, H/side, W/side) int64, of the first ``upto`` steps.

        ValueError: see ``forward``.
        """
        h, w = self.grid(*z.shape[2:])
        with torch.autocast(z.device.type, enabled=False):
            return _columns([codes for _, codes in self._steps(z, upto)], h, w)

    @torch.no_grad()
    def entropies(self, z: Tensor) -> Tensor:
        """H(q(z_l | x, z_<l)) of z (B, D, H, W), along the codes of ``encode``, nats.

        (L*C, B*h*w); zeros where q is all on one code.
        """
        with torch.autocast(z.device.type, enabled=False):
            found = []
            for e, codes in self._steps(z):
                logits = self._logits(e)
                if logits is None:
                    found.append(e.new_zeros(codes.T.shape))
                else:
                    found.append(torch.special.entr(logits.softmax(1)).sum(1)[None])
            return torch.cat(found)

    def _steps(self, z: Tensor, upto: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """For each step its vectors (N, r*s) and the codes (N, C) nearest to them."""
        inverses = self.inverses()
        rest = self.partition(z.to(self.space.dtype))
        for step in range(self.steps)[:upto]:
            e = self.project(step, rest).T
            if self.shared is None:
                codes = nearest(e, self.codebook)[:, None]
            else:
                codes = self.shared.encode(e[:, :, None, None])[:, :, 0, 0]
            yield e, codes
            rest = self.subtract(rest, step, self._vectors(codes).T, inverses)

    def _vectors(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (N, C) -> vectors (N, r*s), from the first ``upto`` columns."""
        if self.shared is None:
            return F.embedding(codes[:, 0], self.codebook)
        return self.shared.decode(codes[:, :, None, None], upto)[:, :, 0, 0]

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, L*C, h, w) -> (B, D, h*side, w*side), from the first ``upto`` columns."""
        h, w = codes.shape[2:]
        columns = codes[:, :upto].movedim(1, -1).flatten(0, -2)  # (N, l*C)
        whole, rest = divmod(columns.shape[1], self.columns)
        with torch.autocast(codes.device.type, enabled=False):
            parts = columns.split([whole * self.columns, rest], 1)
            steps = parts[0].unflatten(1, (whole, self.columns)).transpose(0, 1)  # (l, N, C)
            shape = (whole, len(columns), math.prod(self.rank))
            vectors = self._vectors(steps.flatten(0, 1)).reshape(shape)
            if rest:
                last = F.pad(parts[1], (0, self.columns - rest))
                vectors = torch.cat((vectors, self._vectors(last, rest)[None]))
            total = self.lift(vectors.mT, self.inverses())
        return self.join(total, h, w)
