"""DiVeQ: a quantization error of the right length in almost the right direction (Vali et al.).

The noise model needs no loss of its own: the reconstruction error reaches latent and codebook.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import distributed
from vqcodec.quantizers import Quantized, check_size
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.vq import Codebook, draw_near, nearest, planes_of, rows_of


def simulated_error(z: Tensor, near: Tensor, noise: Tensor | None) -> Tensor:
    """z, near, noise (N, D) -> |c - z| sg[v / |v|] with v = c - z + noise, (N, D).

    The length carries the gradient, the direction is a constant: with u = (c - z) / |c - z| and no
    noise, d(z + error)/dz = I - u u^T and d(z + error)/dc = u u^T.
    """
    gap = near - z
    v = gap.detach() if noise is None else gap.detach() + noise
    v = v / v.norm(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
    return gap.norm(dim=1, keepdim=True) * v


class DiVeQ(Codebook):
    """Nearest of ``size`` codewords; in training z + |c - z| sg[v / |v|], v ~ N(c - z, sigma^2 I).

    sigma: standard deviation in the units of the latent (the authors' ``noise_var`` is one too)
    detached: the authors' variant without noise: exact codewords in training
    """

    def __init__(
        self, dim: int, size: int, *, sigma: float = 1e-3, detached: bool = False, seed: int = 0
    ) -> None:
        super().__init__(dim, size, seed=seed)
        self.sigma = 0.0 if detached else sigma

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, D, H, W) -> codewords, in training off by about ``sigma``; no loss."""
        with torch.autocast(z.device.type, enabled=False):
            rows = rows_of(z).to(torch.promote_types(z.dtype, self.codebook.dtype))
            index = nearest(rows, self.codebook)
            out = F.embedding(index, self.codebook).to(rows.dtype)
            if self.training:
                draw = generator or self.generator
                noise = self.sigma * use.normal(rows, draw) if self.sigma else None
                out = rows + simulated_error(rows, out, noise)
                self._hit(index)
        codes = planes_of(index, z)
        return Quantized(planes_of(out, z).to(z.dtype), codes, z.new_zeros(()), None)

    @torch.no_grad()
    def revive(
        self,
        threshold: float = 1,
        z: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        at_most: int | None = None,
        spread: float = 0.01,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> int:
        """Move codes hit less than ``threshold`` times; without latents z, next to used codes.

        The authors call it every 100 steps. Used codes are drawn by their hits; the others become
        copies with normal noise of standard deviation ``spread``. Theirs is 1e-9, which float32
        rounds away, and of equal codewords only the first is ever chosen. Returns how many moved.
        """
        draw = generator or self.generator
        which = use.dead(self.hits, threshold, at_most)
        share = self.hits.double()
        share[which] = 0
        if z is not None or not len(which) or not share.any():
            return super().revive(
                threshold, z, generator=draw, at_most=at_most, spread=spread, optimizer=optimizer
            )
        donors = torch.multinomial(share.to(draw.device), len(which), True, generator=draw)
        rows = self.codebook[donors.to(which.device)]
        rows += spread * use.normal(rows, draw)
        use.replace(self.codebook, which, rows, optimizer=optimizer)
        self.hits.zero_()
        return len(which)


class SFDiVeQ(nn.Module):
    """Quantizes to the line through the codewords in their order, at ``levels`` places a segment.

    codes (B, 2, H, W): segment i in [0, size - 1) and position j in [0, levels), which stand for
    (1 - t) c_i + t c_{i+1} with t = (j + 1/2) / levels

    The authors' own inference projects onto the line without rounding: their decoder sees a point
    that no code tells. Training knows no ``levels``, so that they may be changed at any time.

    sigma: standard deviation of the noise in training, as in DiVeQ
    Raises ValueError for fewer than two codewords or no level.
    """

    def __init__(
        self, dim: int, size: int, *, levels: int = 4, sigma: float = 1e-3, seed: int = 0
    ) -> None:
        super().__init__()
        check_size(size)
        if levels < 1:
            raise ValueError(f"a segment needs at least 1 level, not {levels}")
        self.dim, self.levels, self.sigma = dim, levels, sigma
        self.generator = torch.Generator().manual_seed(seed)
        self.codebook = nn.Parameter(torch.randn(size, dim, generator=self.generator))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of segments, number of levels."""
        return len(self.codebook) - 1, self.levels

    def points(self, levels: int | None = None) -> Tensor:
        """All that can be decoded, ((K - 1) * levels, D), segment by segment."""
        levels = self.levels if levels is None else levels
        first, second = self.codebook[:-1, None], self.codebook[1:, None]
        t = (torch.arange(levels, dtype=first.dtype, device=first.device)[:, None] + 0.5) / levels
        return ((1 - t) * first + t * second).flatten(0, 1)

    def encode(self, z: Tensor) -> Tensor:
        """z (B, D, H, W) -> codes (B, 2, H, W) int64 of the nearest point; ties to the lowest."""
        return self._planes(nearest(rows_of(z), self.points()), z)

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """z (B, D, H, W) -> codes (B, 2, H, W) int64 of points drawn as ``draw_near`` does."""
        return self._planes(draw_near(rows_of(z), self.points(), generator), z)

    def _planes(self, index: Tensor, z: Tensor) -> Tensor:
        """Which of the points, (B*H*W,) -> codes (B, 2, H, W) for z (B, D, H, W)."""
        return planes_of(torch.stack([index // self.levels, index % self.levels], 1), z)

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, 2, H, W) -> points (B, D, H, W); for ``upto=1`` the middles of the segments."""
        segment, position = codes.unbind(1)
        if upto is None or upto > 1:
            out = F.embedding(segment * self.levels + position, self.points())
        else:
            out = F.embedding(segment, self.points(1))
        out = out.movedim(-1, 1).contiguous()
        return torch.zeros_like(out) if upto == 0 else out

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, D, H, W) -> nearest points; in training points at random places on the segments.

        One place per segment is drawn for the whole batch, and z takes the nearest of them, with
        an error towards both ends of the segment: both codewords get a gradient. No loss.
        """
        if not self.training:
            codes = self.encode(z)
            return Quantized(self.decode(codes).to(z.dtype), codes, z.new_zeros(()), None)
        with torch.autocast(z.device.type, enabled=False):
            rows = rows_of(z).to(torch.promote_types(z.dtype, self.codebook.dtype))
            draw = generator or self.generator
            codebook = self.codebook.to(rows.dtype)
            t = torch.rand(
                len(codebook) - 1, 1, generator=draw, device=draw.device, dtype=rows.dtype
            ).to(rows.device)
            index = nearest(rows, (1 - t) * codebook[:-1] + t * codebook[1:])
            place, out = t[index], rows
            for near, weight in ((codebook[index], 1 - place), (codebook[index + 1], place)):
                noise = self.sigma * use.normal(rows, draw) if self.sigma else None
                out = out + weight * simulated_error(rows, near, noise)
        level = (place[:, 0] * self.levels).long().clamp_max(self.levels - 1)
        codes = planes_of(torch.stack([index, level], 1), z)
        return Quantized(planes_of(out, z).to(z.dtype), codes, z.new_zeros(()), None)

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Make the means of K consecutive runs of latents z (B, D, H, W) the codewords.

        As the authors do with 50 batches, after training the net without a quantizer for a while.
        Of fewer latents than codewords they become random ones, as ``usage.pick`` has them.
        """
        rows = rows_of(z).to(self.codebook.dtype)
        size = len(self.codebook)
        if len(rows) < size:
            rows = use.pick(rows, size, generator or self.generator)
        runs = torch.stack([run.mean(0) for run in rows.tensor_split(size)])
        self.codebook.copy_(distributed.shared(runs))
