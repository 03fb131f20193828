"""A draft of the codes of a picture: all of them in floating point, as training makes them.

The exact prior takes much longer, and a draft is made only to see what comes of its codes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vqcodec.autoencoders.ladder.model import Ladder, choose_codes, logistic_bits
from vqcodec.priors.network import CellNet


@dataclass(frozen=True)
class Setting:
    """A rate point, as tensors."""

    condition: Tensor  # (1, k)
    steps: Tensor  # (1, c, 1, 1), of the channels that are coded


class Draft(NamedTuple):
    """Values of (1, c, h, w), in steps."""

    leaves: list[list[Tensor]]  # of each slice, all of it last: see ``draft``
    mean: Tensor
    log2_scale: Tensor

    @property
    def decoded(self) -> Tensor:
        return torch.cat([leaves[-1] for leaves in self.leaves], 1)


def draft(
    model: Ladder, y: Tensor, features: Tensor, setting: Setting, board: Tensor, rdo: Tensor
) -> Draft:
    """Codes for latents y (1, c, h, w), in steps, slice by slice.

    features (1, f, h, w): what the hyper codes say; board (h, w) bool: the anchors; rdo
    (1, c, 1, 1): what a bit is worth in squared steps. Decoded values are leaves of the graph of
    means and scales; of a slice with a checkerboard the anchors alone come first.
    """
    condition, parts = setting.condition, []
    means, scales, seen, start = [], [], features, 0
    for size, first, second in zip(
        model.config.slices, model.anchor_nets, model.other_nets, strict=True
    ):
        part = slice(start, start + size)
        start += size
        if start > y.shape[1]:
            break
        steps, value, worth = setting.steps[:, part], y[:, part], rdo[:, part]
        mean, scale = model.predict(first, seen, condition, part, steps)
        decoded = (mean + chosen(value - mean, scale, worth)).detach()
        leaves = []
        if isinstance(second, CellNet):
            half = torch.where(board, decoded, 0.0).requires_grad_()
            leaves.append(half)
            inputs = torch.cat((seen, model.prior_inputs(half * steps, part, steps)), 1)
            mean2, scale2 = model.predict(second, inputs, condition, part, steps)
            mean = torch.where(board, mean, mean2)
            scale = torch.where(board, scale, scale2)
            decoded = (mean + chosen(value - mean, scale, worth)).detach()
        decoded.requires_grad_()
        leaves.append(decoded)
        parts.append(leaves)
        means.append(mean)
        scales.append(scale)
        seen = torch.cat((seen, model.prior_inputs(decoded * steps, part, steps)), 1)
    return Draft(parts, torch.cat(means, 1), torch.cat(scales, 1))


def chosen(residual: Tensor, log2_scale: Tensor, rdo: Tensor) -> Tensor:
    """``choose_codes``, in less time where most codes are zero. All (1, c, h, w), rdo (1, c, 1, 1).

    Which they are is asked on the CPU alone: a GPU would have to be waited for.
    """
    if residual.device.type == "cuda":
        return choose_codes(residual, log2_scale, rdo)
    codes = residual.round()
    places = codes.nonzero(as_tuple=True)
    near, value, scale = codes[places], residual[places], log2_scale[places]
    lower = near - near.sign()
    bits = logistic_bits(near, scale) - logistic_bits(lower, scale)
    dearer = (value - near).square() - (value - lower).square() + rdo.flatten()[places[1]] * bits
    codes[places] = torch.where(dearer > 0, lower, near)
    return codes
