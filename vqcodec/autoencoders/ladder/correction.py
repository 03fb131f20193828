"""Latents corrected by the error of the picture that their codes decode to.

The analysis makes latents for all pictures alike. It does not see how they are going to be rounded,
nor what the residual network of the synthesis makes of values that are. So the encoder decodes a
draft of its codes as the decoder will, has the linear part of the analysis see the error, and moves
each latent a part of the way to where it would cancel that. Codes are then chosen anew.

For the eye it is the error of luma that counts: three grey planes of it.

This is a search (see ``search``) without gradients, in which a round costs as much as decoding the
picture once. The networks of the prior are asked once: codes that change change little of what
they say.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vqcodec.autoencoders.ladder.analysis import FoldedAnalysis
from vqcodec.autoencoders.ladder.draft import Setting, chosen, draft
from vqcodec.autoencoders.ladder.model import Ladder, anchors
from vqcodec.metrics.psnr import LUMA

ROUNDS = 2
# Of the way that a latent is moved in the first round, by slice; in the second 2/3 of that
PARTS = {False: (1.0, 0.9, 0.6, 0.4), True: (0.6, 0.55, 0.4, 0.25)}  # for PSNR, for the eye
GAIN = 1.15  # of the linear part's answer to an error
FARTHEST = 1.0  # steps that this answer is at most
BIT = 9 / 8  # how much a bit counts in the choice of codes after a correction, against before

Decode = Callable[[Tensor], Tensor]  # (h, w, c) in steps -> (16h, 16w, 3) uint8


def correct(
    model: Ladder,
    y: Tensor,
    features: Tensor,
    x: Tensor,
    visual: bool,
    setting: Setting,
    analysis: FoldedAnalysis,
    decode: Decode,
    rdo: float,
    odd: int,
) -> Tensor:
    """Latents y (1, c, h, w), in steps, corrected.

    features (1, f, h, w): what the hyper codes say; x (H, W, 3) uint8: the picture, H and W at most
    16 times h and w; rdo: squared steps that a bit is worth; odd: 1 where the first cell is no
    anchor.
    """
    h, w = y.shape[2:]
    height, width, _ = x.shape
    worth = torch.full_like(setting.steps, rdo)
    board = anchors(h, w, y.device) ^ bool(odd)
    made = draft(model, y, features, setting, board, worth)
    decoded, slices = made.decoded, model.config.slices
    sizes = torch.tensor(slices[: len(made.leaves)], device=y.device)
    parts = [PARTS[visual][min(i, len(PARTS[visual]) - 1)] for i in range(len(made.leaves))]
    part = y.new_tensor(parts).repeat_interleave(sizes)[:, None, None]
    luma = y.new_tensor(LUMA)
    error = x.new_zeros(16 * h, 16 * w, 3, dtype=torch.float32)  # none outside of the picture
    for number in range(ROUNDS):
        if number:
            decoded = made.mean + chosen(y - made.mean, made.log2_scale, BIT * worth)
        pixels = decode(decoded[0].permute(1, 2, 0))[:height, :width]
        difference = x.float() - pixels
        error[:height, :width] = (difference @ luma)[..., None] if visual else difference
        answer = analysis.linearly(error[None]).permute(0, 3, 1, 2).clamp_(-FARTHEST, FARTHEST)
        y = y + part / (1 + number / 2) * (decoded + GAIN * answer - y)
    return y
