"""Quantizers by name, and what a trainer does to them between its steps.

The seven estimators of the DiVeQ poster and its variant without noise, relaxed codes (``gumbel``;
the poster has ``st-gumbel``), relaxed responsibilities, and two combinations of EMA's codebooks,
``residual`` and ``product``, with two codes for a vector: every system takes ``quantizer =
"diveq"`` in its configuration. What each needs besides gradients stands here alone: first
codewords, and unused codewords that move.

As SF-DiVeQ does, all of them let the latents pass for a while and then make latents codewords. At
the start all latents move together, and by the time they differ a few codewords have all of them.
A system that makes latents codewords before the first step has no need of that, and keeps them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec import distributed
from vqcodec.quantizers import Listed, Quantized, check_size
from vqcodec.quantizers.diveq import DiVeQ, SFDiVeQ
from vqcodec.quantizers.product import Product
from vqcodec.quantizers.residual import Residual
from vqcodec.quantizers.responsibility import Responsibility
from vqcodec.quantizers.vq import VQ, rows_of

CODEBOOKS: dict[str, Callable[..., Listed]] = {
    "ste": partial(VQ, estimator="ste"),
    "ema": partial(VQ, estimator="ema"),
    "gumbel": partial(VQ, estimator="gumbel", negentropy=5e-4),
    "st-gumbel": partial(VQ, estimator="st-gumbel", negentropy=5e-4),  # DiVeQ's baseline, ST-GS
    "rotation": partial(VQ, estimator="rotation"),
    "nsvq": partial(VQ, estimator="nsvq"),
    "diveq": DiVeQ,
    "diveq-detached": partial(DiVeQ, detached=True),
    "sfdiveq": SFDiVeQ,
    "responsibility": Responsibility,
}
QUANTIZERS = (*CODEBOOKS, "residual", "product")
COMMITTED = ("ste", "ema", "gumbel", "st-gumbel", "rotation")  # with a commitment loss

COLDEST = 0.1  # temperature at the end; 1 at the start (DiVeQ's baseline)
UNQUANTIZED = 0.05  # share of a stage that passes before; with SF-DiVeQ's authors 1000 steps
SEVERAL = 4  # latents for each of the first codewords, from as many steps as that takes
SETTLED = 0.75  # share of a stage after which codewords stay where they are (HQA, C.4)
WINDOW = 100  # steps in which a codeword must be hit (DiVeQ)
HQA_WINDOW, HQA_SHARE = 20, 0.03  # the same, and how often compared with the most used


def check(name: str, dim: int, size: int) -> None:
    """Raises ValueError, of one line, where ``make`` cannot make it."""
    if name not in QUANTIZERS:
        raise ValueError(f"quantizer {name!r} is none of {', '.join(QUANTIZERS)}")
    check_size(size)
    if name == "product" and dim % 2:
        raise ValueError(f"a product halves its vectors, which have {dim} numbers")


def make(
    name: str, dim: int, size: int, *, beta: float = 0.25, seed: int = 0
) -> "Tended | Residual | Product":
    """A quantizer of vectors of ``dim`` numbers with ``size`` codewords, in each codebook.

    beta: weight of the commitment loss, where there is one
    seed: of the codewords and of noise drawn without a generator

    Raises ValueError: see ``check``.
    """
    check(name, dim, size)
    if name == "residual":
        return Residual([make("ema", dim, size, beta=beta, seed=2 * seed + n) for n in range(2)])
    if name == "product":
        half = dim // 2
        return Product([make("ema", half, size, beta=beta, seed=2 * seed + n) for n in range(2)])
    options = {"beta": beta} if name in COMMITTED else {}
    return Tended(name, CODEBOOKS[name](dim, size, seed=seed, **options))


class Tended(nn.Module):
    """The quantizer ``name``, with what its training needs between steps.

    A system calls ``begin``, ``before_step`` and ``after_step`` of this module on itself; they find
    all of its quantizers, however deep.

    state: what one step tells the next, so that a checkpoint has it, as it has all buffers; it does
        not ship. It stays on the CPU, where looking at it does not wait for a GPU
    gathered (SEVERAL * K, D): latents for the first codewords, likewise
    moved: how many codewords of a relaxed codebook move in 20 steps at most; HQA has one
    """

    state: Tensor
    gathered: Tensor

    def __init__(self, name: str, quantizer: Listed, moved: int = 1) -> None:
        super().__init__()
        self.name = name
        self.moved = moved
        self.inner = quantizer  # which is a module, too
        self.dim: int = quantizer.dim
        self.estimator = name  # by which ``Residual`` knows straight-through stages
        self.register_buffer("state", torch.zeros(4, dtype=torch.int64), persistent=False)
        room = torch.zeros(SEVERAL * quantizer.sizes[0], quantizer.dim)
        self.register_buffer("gathered", room, persistent=False)
        self.latents: list[Tensor] = []  # of the forward passes since the last step, (B, D, H, W)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Tended":
        state = self.state
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.state = state
        return self

    @property
    def steps(self) -> int:
        """Since the first codewords."""
        return int(self.state[0])

    @property
    def bypassed(self) -> bool:
        """Latents pass as they are."""
        return bool(self.state[1])

    @property
    def waiting(self) -> bool:
        """For the latents that become the first codewords; until then all pass."""
        return bool(self.state[2])

    def _set(
        self, steps: int, bypassed: bool = False, waiting: bool = False, gathered: int = 0
    ) -> None:
        self.state.copy_(torch.tensor([steps, bypassed, waiting, gathered]))

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.inner.sizes

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """What the quantizer makes of z (B, D, H, W)."""
        if self.training:
            if self.waiting:  # here, as what comes later depends on what this makes of z
                self._gather(distributed.gathered(z.detach()), generator)
            if self.bypassed:
                return Quantized(z, self.inner.encode(z), z.new_zeros(()), None)
            self.latents.append(z.detach())
        return self.inner(z, generator=generator)

    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Make latents of z (B, D, H, W) the codewords, and quantize from now on."""
        self.inner.start(z, generator)
        self._set(0)

    def _gather(self, z: Tensor, generator: torch.Generator | None) -> None:
        """Start once there are several latents for each codeword, with those of z (B, D, H, W)."""
        rows, count = rows_of(z).to(self.gathered.dtype), int(self.state[3])
        rows = rows[rows.any(1)]  # zero is what a quantizer before this one leaves if it waits too
        if count + len(rows) >= len(self.gathered):
            self.start(torch.cat((self.gathered[:count], rows))[:, :, None, None], generator)
            return
        self.gathered[count : count + len(rows)] = rows
        self._set(self.steps, bypassed=True, waiting=True, gathered=count + len(rows))

    def points(self) -> Tensor:
        """All that can be decoded, (N, D), where the last column of the codes changes fastest."""
        return self.inner.points()

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """z (B, D, H, W) -> codes (B, C, H, W) int64, drawn, the likelier the nearer."""
        return self.inner.sample(z, generator)

    def encode(self, z: Tensor) -> Tensor:
        return self.inner.encode(z)

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        return self.inner.decode(codes, upto)

    def _after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        quantizer: Any = self.inner
        latents, self.latents = self.latents, []
        if self.bypassed:
            if progress >= UNQUANTIZED:
                self._set(self.steps, bypassed=True, waiting=True, gathered=int(self.state[3]))
            return
        self._set(self.steps + 1)
        if self.name in ("sfdiveq", "responsibility") or progress >= SETTLED or not latents:
            return
        z = torch.cat(latents)
        if self.name == "ema":
            # DQ-AE: averaged counts below 1, after each step. With few latents to a codeword half
            # of them are below 1 by chance.
            threshold = min(1.0, float(quantizer.usage.mean()) / 10)
            quantizer.revive(threshold, z, generator=generator)
        elif self.name in ("gumbel", "st-gumbel"):
            if self.steps % HQA_WINDOW == 0:
                least = HQA_SHARE * float(quantizer.usage.max())
                quantizer.revive(
                    least, generator=generator, at_most=self.moved, optimizer=optimizer
                )
        elif self.steps % WINDOW == 0:
            near = None if self.name.startswith("diveq") else z  # DiVeQ: next to used codewords
            quantizer.revive(1, near, generator=generator, optimizer=optimizer)


def tended(module: nn.Module) -> Iterator[Tended]:
    """All quantizers made here that ``module`` holds."""
    return (part for part in module.modules() if isinstance(part, Tended))


def begin(module: nn.Module) -> None:
    """Let latents pass the quantizers in ``module`` from the first step on, for a while."""
    for quantizer in tended(module):
        quantizer._set(0, bypassed=True)


def before_step(module: nn.Module, temperature: float) -> None:
    """Make ready for a step, in which relaxed samples have that temperature."""
    for quantizer in tended(module):
        quantizer.latents = []  # of a step that was skipped
    part: Any
    for part in module.modules():
        if hasattr(part, "temperature"):
            part.temperature = temperature


def after_step(
    module: nn.Module,
    progress: float,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Care for the quantizers in ``module`` after a step, at ``progress`` in [0, 1] of a stage."""
    for quantizer in tended(module):
        quantizer._after_step(progress, generator, optimizer)
