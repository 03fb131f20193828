"""A float autoregressive network over the codes of a square, to draw pictures with.

The range coder's tables are integers and small, and what they say of a square is little. A network
that may compute in floats, since no file depends on it, says more: a causal transformer (Vaswani et
al. 2017) over all codes of a rate point, level after level, coarse first, inside a level column
after column, inside a column row by row. Each code is drawn given all before it.

PQ-VAE's (section 5.3) has, besides a vector for each position, a linear map for each step of the
sequence, as its progressive quantizer has: ``maps``. Its codes are drawn step by step too, those of
all sub-maps in one step, which is the order of its columns.

It lies beside a codec's weights, in ``sampler.safetensors``, and is no part of the codec: neither
its hash nor any file knows of it.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vqcodec.autoencoders.system import Level, System
from vqcodec.errors import CodecError, reason

FILE = "sampler.safetensors"
HEADS = 4
LARGEST = 1 << 12  # width, and layers times 64, that a file may ask for


def sequence(codes: Sequence[Tensor]) -> Tensor:
    """Codes (B, columns, h, w) of each level -> (B, length), in the order of drawing."""
    return torch.cat([level.flatten(1) for level in codes], 1)


class Block(nn.Module):
    """Causal attention and a network for each position, each normalized first and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, width) -> likewise; a position sees itself and those before."""
        b, length, width = x.shape
        heads = self.mixed(self.before(x)).view(b, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        asked, keys, values = heads.unbind(0)
        seen = F.scaled_dot_product_attention(asked, keys, values, is_causal=True)
        x = x + self.joined(seen.transpose(1, 2).reshape(b, length, width))
        y: Tensor = x + self.inner(self.between(x))
        return y


class Sampler(nn.Module):
    """p(code | codes before it) for the levels of a rate point.

    width, layers: of the transformer; ``width`` is a multiple of ``HEADS``
    maps: a linear map of the code before for each column of a level, besides a vector for each
        position

    Raises ValueError for sizes that contradict each other.
    """

    def __init__(
        self, levels: Sequence[Level], width: int = 128, layers: int = 4, maps: bool = False
    ) -> None:
        super().__init__()
        if width < HEADS or width % HEADS or layers < 1:
            raise ValueError(f"a transformer of width {width} and {layers} layers")
        self.levels, self.width, self.layers = tuple(levels), width, layers
        sizes: list[int] = []  # of each position, as the two that follow
        columns: list[int] = []
        firsts: list[int] = []  # row of the codes that is code 0
        first = 0
        for level in levels:
            cells = level.grid[0] * level.grid[1]
            for size in level.sizes:
                sizes += [size] * cells
                columns += [len(set(columns))] * cells
                firsts += [first] * cells
            first += max(level.sizes)
        self.sizes: tuple[int, ...] = tuple(sizes)  # codewords of each position
        self.codes = nn.Embedding(first, width)  # columns of a level share theirs
        self.start = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(0.02 * torch.randn(len(sizes), width))
        count = columns[-1] + 1 if maps else 0
        self.maps = nn.Parameter(torch.eye(width).expand(count, -1, -1).clone())
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.last = nn.LayerNorm(width)
        self.logits = nn.Linear(width, max(sizes))
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("firsts", torch.tensor(firsts), persistent=False)
        largest = torch.arange(max(sizes)) >= torch.tensor(sizes)[:, None]
        self.register_buffer("impossible", largest, persistent=False)
        nn.init.normal_(self.codes.weight, std=0.02)

    columns: Tensor
    firsts: Tensor
    impossible: Tensor  # (L, K) bool

    def forward(self, known: Tensor) -> Tensor:
        """The first codes (B, n) of a sequence -> logits (B, n + 1, K) of each and the next.

        Of all L codes there is no next: (B, L, K).
        """
        before = known[:, : len(self.sizes) - 1]
        n = before.shape[1]
        x = self.codes(before + self.firsts[:n])
        if len(self.maps):
            x = torch.einsum("bnd,nde->bne", x, self.maps[self.columns[:n]])
        x = torch.cat((self.start.expand(len(x), 1, -1), x), 1) + self.positions[: n + 1]
        logits: Tensor = self.logits(self.last(self.blocks(x)))
        return logits.masked_fill(self.impossible[: n + 1], -torch.inf)

    def nats(self, codes: Tensor) -> Tensor:
        """-log p of whole sequences (B, L), (B,)."""
        return F.cross_entropy(self(codes).mT, codes, reduction="none").sum(1)

    @torch.inference_mode()
    def complete(
        self, known: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """The first codes (B, n) of sequences, n from 0 on -> whole ones (B, L), the rest drawn.

        temperature: below 1 likelier codes are drawn more often than they are likely
        """
        while known.shape[1] < len(self.sizes):
            odds = (self(known)[:, known.shape[1]] / temperature).softmax(1)
            drawn = torch.multinomial(odds.to(generator.device), 1, generator=generator)
            known = torch.cat((known, drawn.to(known)), 1)
        return known

    def continues(self, names: Sequence[str], codes: Sequence[Tensor]) -> bool:
        """Whether codes (B, columns, h, w) of levels of these names are the first of a sequence."""
        levels, columns = self.levels[: len(codes)], [level.shape[1] for level in codes]
        full = [len(level.sizes) for level in levels]
        return (
            len(codes) > 0
            and list(names) == [level.name for level in levels]
            and columns[:-1] == full[:-1]
            and columns[-1] <= full[-1]
        )

    def grids(self, codes: Tensor) -> list[Tensor]:
        """Sequences (B, L) -> codes (B, columns, h, w) of each level."""
        parts = codes.split([len(v.sizes) * v.grid[0] * v.grid[1] for v in self.levels], 1)
        return [
            part.reshape(-1, len(level.sizes), *level.grid)
            for part, level in zip(parts, self.levels, strict=True)
        ]


def save(sampler: Sampler, rate: str, folder: Path) -> None:
    """Write it to a codec's folder, for one of its rate points."""
    weights = {name: value.half().contiguous() for name, value in sampler.state_dict().items()}
    sizes = {"rate": rate, "width": str(sampler.width), "layers": str(sampler.layers)}
    save_file(weights, folder / FILE, sizes | {"maps": str(int(len(sampler.maps) > 0))})


def load(folder: Path, model: System) -> tuple[str, Sampler] | None:
    """The rate point and the sampler of a codec's folder; None where it has none.

    Raises CodecError for a file that is none.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            rate, width, layers = said["rate"], int(said["width"]), int(said["layers"])
            if width > LARGEST or 64 * layers > LARGEST:
                raise ValueError(f"a transformer of width {width} and {layers} layers")
            made = Sampler(model.levels(rate), width, layers, bool(int(said["maps"])))
            made.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except OSError as error:
        raise CodecError(f"{path}: cannot be read: {reason(error)}") from error
    except Exception as error:  # of safetensors, of sizes that do not fit
        why = str(error).partition("\n")[0]
        raise CodecError(f"{path}: not a sampler of this codec: {why}") from error
    return rate, made.eval()
