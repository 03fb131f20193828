"""Optimizers by name: AdamW, and two that know more of a layer's weights than their sizes.

adamw  Loshchilov and Hutter 2019
soap   AdamW in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024)
muon   momentum with its singular values set to one (Jordan et al. 2024), scaled as AdamW's steps
       are (Liu et al. 2025), so that learning rates keep their meaning

The latter two are for the weights of convolutions and linear layers. All else (biases, codebooks,
transforms that start as a DCT) has AdamW in their place too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.errors import UsageError
from vqcodec.processor import fast_dtype

BETAS = (0.9, 0.99)
LARGEST = 512  # rows or columns that SOAP preconditions: more cost more than they help

Group = dict[str, Any]  # 'params' and options


def make(
    name: str, model: nn.Module, groups: Sequence[Group], weight_decay: float
) -> torch.optim.Optimizer:
    """groups: parameters of ``model`` in 'params', and what else belongs to a group.

    Raises UsageError where the package for it is not installed.
    """
    groups = [dict(group) for group in groups]
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=BETAS, weight_decay=weight_decay)
    try:
        import pytorch_optimizer
    except ImportError:
        raise UsageError(
            f"optimizer {name!r} needs pytorch_optimizer: pip install pytorch-optimizer"
        ) from None
    layers = (part for part in model.modules() if isinstance(part, _LAYERS))
    matrices = {id(layer.weight) for layer in layers}
    two: list[Group] = []
    for group in groups:
        for chosen in (True, False):
            params = [p for p in group["params"] if (id(p) in matrices) == chosen]
            if params:
                options = _MATRICES[name] if chosen else _OTHERS[name]
                two.append(group | options | {"params": params, "weight_decay": weight_decay})
    if name == "soap":
        return pytorch_optimizer.SOAP(two, betas=(0.95, 0.95))
    return _muon()(two)


def _muon() -> Callable[[list[Group]], torch.optim.Optimizer]:
    """The package's Muon, which iterates in bfloat16, but in float32 on processors without it.

    There a product of matrices in bfloat16 is a plain loop, and most of a step's time.
    """
    from pytorch_optimizer import Muon
    from pytorch_optimizer.optimizer.utils import zero_power_via_newton_schulz_5

    class PortableMuon(Muon):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def _orthogonalize(group: Group, updates: list[Tensor]) -> list[Tensor]:
            device = updates[0].device
            if device.type != "cpu" or fast_dtype(device) == torch.bfloat16:
                return Muon._orthogonalize(group, updates)
            return [
                zero_power_via_newton_schulz_5(
                    update.flatten(1),
                    group["ns_steps"],
                    weights=group["ns_coeffs"],
                    dtype=torch.float32,
                )
                for update in updates
            ]

    return PortableMuon


_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_MATRICES: dict[str, Group] = {
    "soap": {"max_precondition_dim": LARGEST},
    "muon": {"use_muon": True, "use_adjusted_lr": True},
}
_OTHERS: dict[str, Group] = {
    "soap": {"max_precondition_dim": 0},  # in no basis but its own: AdamW
    "muon": {"use_muon": False, "betas": BETAS, "eps": 1e-8},
}
