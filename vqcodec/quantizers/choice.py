"""Quantizers by name, and what a trainer does to them between its steps.

The seven estimators of the DiVeQ poster and its variant without noise, so that a system takes
``quantizer = "diveq"`` in its configuration. What each needs besides gradients stands here alone:
first codewords, unused codewords that move, a temperature that falls.

As SF-DiVeQ does, all of them let the latents pass for a while and then make latents codewords. At
the start all latents move together, and by the time they differ a few codewords have all of them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec import distributed
from vqcodec.quantizers import Quantized
from vqcodec.quantizers.diveq import DiVeQ, SFDiVeQ
from vqcodec.quantizers.vq import VQ

QUANTIZERS: dict[str, Callable[..., Any]] = {
    "ste": partial(VQ, estimator="ste"),
    "ema": partial(VQ, estimator="ema"),
    "gumbel": partial(VQ, estimator="gumbel", negentropy=5e-4),  # DiVeQ's baseline
    "rotation": partial(VQ, estimator="rotation"),
    "nsvq": partial(VQ, estimator="nsvq"),
    "diveq": DiVeQ,
    "diveq-detached": partial(DiVeQ, detached=True),
    "sfdiveq": SFDiVeQ,
}

COLDEST = 0.1  # temperature of gumbel at the end; 1 at the start (DiVeQ's baseline)
UNQUANTIZED = 0.05  # share of a stage that passes before; with SF-DiVeQ's authors 1000 steps
SETTLED = 0.75  # share of a stage after which codewords stay where they are (HQA, C.4)
WINDOW = 100  # steps in which a codeword must be hit (DiVeQ)
HQA_WINDOW, HQA_SHARE = 20, 0.03  # the same, and how often compared with the most used


def make(name: str, dim: int, size: int, *, beta: float = 0.25, seed: int = 0) -> "Tended":
    """A quantizer of vectors of ``dim`` numbers with ``size`` codewords.

    beta: weight of the commitment loss, where there is one
    seed: of the codewords and of noise drawn without a generator

    Raises ValueError for a name that is not one of ``QUANTIZERS``.
    """
    if name not in QUANTIZERS:
        raise ValueError(f"quantizer {name!r} is none of {', '.join(QUANTIZERS)}")
    options = {"beta": beta} if name in ("ste", "ema", "gumbel", "rotation") else {}
    return Tended(name, QUANTIZERS[name](dim, size, seed=seed, **options))


class Tended(nn.Module):
    """The quantizer ``name``, with what its training needs between steps.

    A system calls ``begin`` and ``after_step`` of this module on itself; they find all of its
    quantizers, however deep.
    """

    def __init__(self, name: str, quantizer: Any) -> None:
        super().__init__()
        self.name = name
        self.inner = quantizer
        self.dim: int = quantizer.dim
        self.estimator = name  # by which ``Residual`` knows straight-through stages
        self.steps = 0  # since the first codewords
        self.latents: Tensor | None = None  # of the last forward pass in training, (B, D, H, W)
        self.bypassed = False  # latents pass as they are
        self.waiting = False  # for the latents that become the first codewords

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.inner.sizes)

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """What the quantizer makes of z (B, D, H, W)."""
        if self.training:
            self.latents = z.detach()
            if self.bypassed:
                return Quantized(z, self.inner.encode(z), z.new_zeros(()), None)
            if self.waiting:  # here, as what comes later depends on what this makes of z
                self.waiting = False
                more = {} if self.name == "sfdiveq" else {"generator": generator}
                self.inner.start(distributed.gathered(self.latents), **more)
        result: Quantized = self.inner(z, generator)
        return result

    def encode(self, z: Tensor) -> Tensor:
        codes: Tensor = self.inner.encode(z)
        return codes

    def decode(self, codes: Tensor, upto: int | None = None) -> Tensor:
        z: Tensor = self.inner.decode(codes, upto)
        return z

    def _after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        quantizer, z, self.latents = self.inner, self.latents, None
        before, self.bypassed = self.bypassed, progress < UNQUANTIZED
        if self.bypassed or before:
            self.waiting = not self.bypassed
            return
        self.steps += 1
        if self.name == "gumbel":
            quantizer.temperature = COLDEST**progress
        if self.name == "sfdiveq" or progress >= SETTLED or z is None:
            return
        if self.name == "ema":
            # DQ-AE: averaged counts below 1, after each step. With few latents to a codeword half
            # of them are below 1 by chance.
            threshold = min(1.0, float(quantizer.usage.mean()) / 10)
            quantizer.revive(threshold, z, generator=generator)
        elif self.name == "gumbel":
            if self.steps % HQA_WINDOW == 0:
                least = HQA_SHARE * float(quantizer.usage.max())
                quantizer.revive(least, generator=generator, at_most=1, optimizer=optimizer)
        elif self.steps % WINDOW == 0:
            near = None if self.name.startswith("diveq") else z  # DiVeQ: next to used codewords
            quantizer.revive(1, near, generator=generator, optimizer=optimizer)


def tended(module: nn.Module) -> Iterator[Tended]:
    """All quantizers made here that ``module`` holds."""
    return (part for part in module.modules() if isinstance(part, Tended))


def begin(module: nn.Module) -> None:
    """Let latents pass the quantizers in ``module`` from the first step on."""
    for quantizer in tended(module):
        quantizer.bypassed, quantizer.waiting, quantizer.steps = True, False, 0


def after_step(
    module: nn.Module,
    progress: float,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Care for the quantizers in ``module`` after a step, at ``progress`` in [0, 1] of a stage."""
    for quantizer in tended(module):
        quantizer._after_step(progress, generator, optimizer)
