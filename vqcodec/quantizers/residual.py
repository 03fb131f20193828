"""Residual vector quantization: every stage quantizes what the stages before it left.

    r_1 = z,   q_c = Q_c(r_c),   r_(c+1) = r_c - q_c,   z_hat = q_1 + ... + q_C

The first n columns of the codes are a description of their own: the sum of the first stages.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.quantizers import Quantized, Quantizer, check_parts
from vqcodec.quantizers.depthwise import straight_through


def prefix_lengths(
    batch: int, columns: int, dropout: float, generator: torch.Generator, *, early: bool = False
) -> Tensor:
    """(batch,) int64 on the generator's device: how many columns each image keeps in training.

    All of them, or, with probability ``dropout``, a number drawn from 1 to ``columns``: evenly, or
    if ``early`` evenly on a logarithmic scale, so that each doubling is as likely as the last.
    """
    device = generator.device
    if early:
        u = torch.rand(batch, generator=generator, device=device)
        lengths = ((columns + 1) ** u).long().clamp(1, columns)
    else:
        lengths = torch.randint(1, columns + 1, (batch,), generator=generator, device=device)
    dropped = torch.rand(batch, generator=generator, device=device) < dropout
    return torch.where(dropped, lengths, columns)


def _widened(z: Tensor) -> Tensor:
    """At least 32 bits: of a small residual, 16-bit differences leave little."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


class Residual(nn.Module):
    """A chain of quantizers of one ``dim``, with the codes of all of them as columns.

    ``dropout`` is the probability that an image of a training batch is decoded from a random number
    of stages, so that previews are what the decoder has seen. Every stage still learns from every
    image. ``seed`` is that of these draws.

    ``straight_through`` says how the gradient goes. False: that of the chain as written, which is
    right for stages whose ``z`` is a function of input and codewords (Gumbel, DiVeQ, NSVQ,
    rotation). True: the identity from ``z_hat`` to ``z``, and every stage sees its input as ``z``
    minus constants. Straight-through stages need this: in the chain as written their residuals are
    constants, and the commitment losses of all stages but the first would never reach the encoder.
    None: True where every stage is a VQ whose estimator is "ste" or "ema".

    ValueError: no stages, or stages of different ``dim``; a dropout outside of 0..1.
    """

    def __init__(
        self,
        stages: Iterable[Quantizer],
        *,
        dropout: float = 0.0,
        straight_through: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        chain: list[Any] = list(stages)
        check_parts(chain, "a residual quantizer", "stage")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, not {dropout}")
        if straight_through is None:
            straight_through = all(
                getattr(stage, "estimator", None) in ("ste", "ema") for stage in chain
            )
        self.stages: Any = nn.ModuleList(chain)
        self.dim: int = chain[0].dim
        self.sizes: tuple[int, ...] = sum((tuple(stage.sizes) for stage in chain), ())
        self.dropout = dropout
        self.straight_through = straight_through
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, dim, H, W) -> the sum of the stages, the sum of their losses, all codes.

        ``generator`` is for this quantizer's draws and for its stages', which must then take one;
        without it each draws from its own.
        """
        kept = None
        if self.training and self.dropout > 0:
            draw = generator or self.generator
            kept = prefix_lengths(len(z), len(self.stages), self.dropout, draw)
            kept = kept.to(z.device)[:, None, None, None]
        wide = _widened(z)
        # In the memory format of ``decode``: in that of a slice, convolutions round otherwise.
        rest, total, loss = wide, wide.new_zeros(wide.shape), wide.new_zeros(())
        codes = []
        for number, stage in enumerate(self.stages):
            part = stage(rest) if generator is None else stage(rest, generator=generator)
            q = part.z.detach() if self.straight_through else part.z
            rest = rest - q
            total = total + (q if kept is None else torch.where(number < kept, q, 0.0))
            loss = loss + part.loss
            codes.append(part.codes)
        if self.training and self.straight_through:
            total = straight_through(wide, total)
        return Quantized(total.to(z.dtype), torch.cat(codes, 1), loss, None)

    def encode(self, z: Tensor) -> Tensor:
        """z (B, dim, H, W) -> codes (B, C, H, W) int64, the first stage's first."""
        rest = _widened(z)
        columns = []
        for stage in self.stages:
            columns.append(stage.encode(rest))
            rest = rest - stage.decode(columns[-1])
        return torch.cat(columns, 1)

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Start every stage with what those before it leave of z (B, dim, H, W)."""
        rest = _widened(z)
        for stage in self.stages:
            stage.start(rest, generator)
            rest = rest - stage.decode(stage.encode(rest))

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """z (B, dim, H, W) -> codes (B, C, H, W) that every stage draws for what is left."""
        rest, columns = _widened(z), []
        for stage in self.stages:
            columns.append(stage.sample(rest, generator))
            rest = rest - stage.decode(columns[-1])
        return torch.cat(columns, 1)

    def price(self, e: Tensor, codes: Tensor) -> Tensor:
        """-log p of codes (B, C, H, W) for e (B, dim, H, W), nats, (B, H, W).

        Stages are ``responsibility.Priced``: p(codes | e) = prod_c p_c(code_c | e - q_1 - ...).
        """
        rest, nats = _widened(e), e.new_zeros(())
        for stage, column in zip(self.stages, self._columns(codes), strict=True):
            nats = nats + stage.price(rest, column)
            rest = rest - stage.decode(column)
        return nats

    def expected(self, e: Tensor) -> Tensor:
        """e (B, dim, H, W) -> the sum of what every stage expects of what is left, likewise."""
        total = torch.zeros_like(_widened(e))
        for stage in self.stages:
            total = total + stage.expected(e - total)
        return total

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, C, H, W) -> (B, dim, H, W), from the first ``upto`` columns (0: zeros)."""
        left = len(self.sizes) if upto is None else upto
        parts = self._columns(codes)
        z = self.stages[0].decode(parts[0], upto=left)
        for number in range(1, len(parts)):
            left -= len(self.stages[number - 1].sizes)
            if left <= 0:
                break
            z = z + self.stages[number].decode(parts[number], upto=left)
        return z

    def _columns(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Codes (B, C, H, W) -> those of each stage."""
        return codes.split([len(stage.sizes) for stage in self.stages], 1)
