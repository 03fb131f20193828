"""Depthwise quantization: a tensor in slices, each with a codebook of its own (DQ, section 4).

    DQ(X) = {VQ_m(X_m) : m = 1, ..., M}                                            (eq. 3)

The slices lie along the channels, or along the rows of the grid: the paper's channel-wise and
pixel-wise quantization of table 2, which differ only in which codebook a vector meets.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.quantizers import Quantized, Quantizer, check_parts

AXES = ("channel", "pixel")


class Product(nn.Module):
    """M quantizers of D numbers each, for latents of M * D channels.

    The channels are cut into M vectors of D, in order, and their codes are columns, in order. By
    ``axis`` the quantizer m codes

    channel  vector m of each place
    pixel    all vectors of each place in the m-th of M parts of the rows

    The loss is the sum of theirs (eq. 4); with one quantizer this is that quantizer.

    tied: the paper's comparison "VQ" with M codebooks (figure 2, middle). The latent has D channels
    only, and all quantizers code the same vector.

    Raises ValueError for no quantizers, quantizers of different ``dim``, an unknown axis, or sizes
    that differ along the pixels, where a column has codes of all quantizers, or if these are tied.
    """

    def __init__(
        self, parts: Iterable[Quantizer], *, axis: str = "channel", tied: bool = False
    ) -> None:
        super().__init__()
        slices: list[Any] = list(parts)
        check_parts(slices, "a product", "slice")
        if axis not in AXES:
            raise ValueError(f"axis {axis!r} is none of {', '.join(AXES)}")
        if axis == "pixel" and tied:
            raise ValueError("slices along the pixels cannot be tied")
        if axis == "pixel" and len({part.sizes for part in slices}) > 1:
            raise ValueError(f"rows with different sizes: {[part.sizes for part in slices]}")
        self.parts: Any = nn.ModuleList(slices)
        self.axis, self.tied = axis, tied
        self.dim: int = len(slices) * slices[0].dim  # of what is decoded

    @property
    def sizes(self) -> tuple[int, ...]:
        return sum((tuple(part.sizes) for part in self.parts), ())

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        """(B, M * C, H, W) -> for each quantizer (B, C, H, W), or (B * M, C, rows, W)."""
        m = len(self.parts)
        if self.tied:
            return (z,) * m
        if z.shape[1] % m or (self.axis == "pixel" and z.shape[2] < m):
            raise ValueError(f"{m} slices cannot be cut from {tuple(z.shape)}")
        if self.axis == "channel":
            return z.chunk(m, 1)
        return z.unflatten(1, (m, -1)).flatten(0, 1).tensor_split(m, 2)

    def _join(self, slices: list[Tensor]) -> Tensor:
        """The inverse of ``_split``, where nothing is tied."""
        if self.axis == "channel":
            return torch.cat(slices, 1)
        return torch.cat(slices, 2).unflatten(0, (-1, len(self.parts))).flatten(1, 2)

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """z (B, M * D, H, W), tied (B, D, H, W) -> slices quantized, all codes, the sum of losses.

        ValueError: another number of channels, or fewer rows than there are slices along them.
        """
        slices = zip(self.parts, self._split(z), strict=True)
        made = [part(x, generator) for part, x in slices]
        codes = self._join([q.codes for q in made])
        loss = torch.stack([q.loss for q in made]).sum()
        return Quantized(self._join([q.z for q in made]), codes, loss, None)

    def encode(self, z: Tensor) -> Tensor:
        """z as for ``forward`` -> codes (B, M * C, H, W) int64, C columns of each vector."""
        slices = zip(self.parts, self._split(z), strict=True)
        return self._join([part.encode(x) for part, x in slices])

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Start every quantizer with its slices of z (B, M * D, H, W)."""
        for part, x in zip(self.parts, self._split(z), strict=True):
            part.start(x, generator)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """z as for ``forward`` -> codes (B, M * C, H, W) that every quantizer draws."""
        slices = zip(self.parts, self._split(z), strict=True)
        return self._join([part.sample(x, generator) for part, x in slices])

    def price(self, e: Tensor, codes: Tensor) -> Tensor:
        """-log p of codes (B, M * C, H, W) for e (B, M * D, H, W), nats, (B, H, W).

        The slices are ``responsibility.Priced``, along the channels, and independent given e.
        """
        slices = zip(self.parts, self._split(e), self._split(codes), strict=True)
        return torch.stack([part.price(x, c) for part, x, c in slices]).sum(0)

    def expected(self, e: Tensor) -> Tensor:
        """e (B, M * D, H, W) -> what every quantizer expects of its slice, likewise."""
        slices = zip(self.parts, self._split(e), strict=True)
        return self._join([part.expected(x) for part, x in slices])

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        """codes (B, M * C, H, W) -> (B, M * D, H, W); vectors whose columns are left out are 0."""
        vectors = []
        for number, vector in enumerate(codes.chunk(len(self.parts), 1)):
            left = None if upto is None else max(0, upto - number * vector.shape[1])
            if self.axis == "channel":
                vectors.append(self.parts[number].decode(vector, left))
            else:
                rows = zip(self.parts, vector.tensor_split(len(self.parts), 2), strict=True)
                vectors.append(torch.cat([part.decode(x, left) for part, x in rows], 2))
        return torch.cat(vectors, 1)
