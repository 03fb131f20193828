"""Search at encoding: latents whose codes cost less than those that the analysis makes.

The cost of a picture is what training lowers: n * lambda * distortion + bits, for n pixels. The
encoder's first codes are chosen one by one, as if the pixels' error were that of the latent, and as
if a code told the prior nothing of those after it. Here the gradient of the whole cost, through the
synthesis and through the networks of the prior, says of each decoded value where it should rather
be; the latent moves a part of the way, and codes are chosen anew. Of all rounds the cheapest stays.

Near a decoded value y another, v, costs g (v - y) + h/2 (v - y)^2 + bits(v) more. So y - g / h is
what a code is to come near to, and 2 / h is what a bit is worth in squared steps. The curvature h
is measured once for each channel: by how much the gradient changes where some values do.

The networks of the prior are those of training, in floating point. The exact ones then give the
means that are coded against, nearly the same ones.

In the first half of the rounds targets are moved about at random, so that codes are tried that the
gradient does not ask for. At last each place takes its target from the round in which its
neighbourhood cost least. By how much the distortion differs between two rounds, place by place,
both their gradients tell.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.autoencoders.ladder.decoder import Span
from vqcodec.autoencoders.ladder.draft import Draft, Setting, draft
from vqcodec.autoencoders.ladder.model import LAMBDA, Ladder, anchors, logistic_bits
from vqcodec.processor import fast_dtype

ROUNDS = (0, 1, 2, 3, 4, 6, 8, 12, 20)  # of --effort 1 to 9
MOST = 48  # cells along each side of what is searched at once, without its halo
HALO = 6  # cells around it, whose codes are searched with it and then dropped
FARTHEST = 1.0  # steps from its last place that a value is sent in a round
PRIOR_SHARE = 0.7  # of the gradient that other codes' bits have: it holds for small changes alone
BIT = 0.9  # of 2 / h: how much a bit counts in the choice of a code
NOISE = 0.5  # steps: moves targets about at first, and no more from the middle of the rounds on
PROBED, PROBE = 0.1, 0.5  # share of values that are changed to measure curvatures, and steps
TRUST = 8.0  # in the curvature of the linear part, as squared steps of a channel's own probe

Distortion = Callable[[Tensor, Tensor], Tensor]  # (x_hat, x) (1, 3, H, W) -> squared error, (1,)


@dataclass(frozen=True)
class Point(Setting):
    """A rate point, and how to search there."""

    step: float
    worth: float  # of a bit, in place of 1
    part: float  # of the way to where a value should be, in the first round; less in later ones


class _Round(NamedTuple):
    """What a round finds."""

    cost: Tensor  # ()
    decoded: Tensor  # (1, c, h, w), in steps
    bits: Tensor  # (1, h, w), of the codes around their means
    of_pixels: Tensor  # gradients of the distortion and of the bits, of the shape of ``decoded``
    of_bits: Tensor


def search(
    model: Ladder,
    y: Tensor,
    features: Tensor,
    x: Tensor,
    distortion: Distortion,
    point: Point,
    rounds: int,
    progress: Callable[[float], None],
) -> Tensor:
    """Better latents (1, c, h, w), in steps: decoded values, to be coded without any more choice.

    y (1, c, h, w): latents in steps; features (1, f, h, w): what the hyper codes say;
    x (1, 3, H, W) uint8: the picture, H and W at most 16 times h and w.
    """
    h, w = y.shape[2:]
    found = torch.empty_like(y)
    tiles = [(row, column) for row in _tiles(h) for column in _tiles(w)]
    for done, (row, column) in enumerate(tiles, 1):
        part = (slice(None), slice(None), row.outer, column.outer)
        pixels = tuple(slice(16 * s.outer.start, 16 * s.outer.stop) for s in (row, column))
        odd = (row.outer.start + column.outer.start) % 2
        tile = _Searched(
            model, features[part], x[..., pixels[0], pixels[1]], distortion, point, odd
        )
        best = tile.best(y[part], rounds)
        found[:, :, row.inner, column.inner] = best[:, :, row.crop, column.crop]
        progress(done / len(tiles))
    return found


def _tiles(n: int) -> Iterator[Span]:
    """``n`` cells in parts of about equal size."""
    count = math.ceil(n / MOST)
    edges = [n * i // count for i in range(count + 1)]
    for start, stop in pairwise(edges):
        low, high = max(0, start - HALO), min(n, stop + HALO)
        yield Span(slice(start, stop), slice(low, high), slice(start - low, stop - low))


class _Places:
    """For each place the round in which its neighbourhood, of 3x3 cells, cost least."""

    def __init__(self, target: Tensor, first: _Round, worth: float) -> None:
        self.target, self._worth = target, worth
        self._decoded, self._gradient, self._bits = first.decoded, first.of_pixels, first.bits

    def see(self, target: Tensor, now: _Round) -> None:
        # Exact where the distortion is quadratic
        gradient = (self._gradient + now.of_pixels) / 2
        change = (gradient * (now.decoded - self._decoded)).sum(1)
        change = change + self._worth * (now.bits - self._bits)
        better = F.avg_pool2d(change, 3, 1, 1) < 0
        self._bits = torch.where(better, now.bits, self._bits)
        better = better[:, None]
        self._decoded = torch.where(better, now.decoded, self._decoded)
        self._gradient = torch.where(better, now.of_pixels, self._gradient)
        self.target = torch.where(better, target, self.target)


class _Searched:
    """One part of a picture in search."""

    def __init__(
        self,
        model: Ladder,
        features: Tensor,
        x: Tensor,
        distortion: Distortion,
        point: Point,
        odd: int,
    ) -> None:
        self.model, self.features, self.x = model, features, x.float()
        self.distortion, self.point = distortion, point
        h, w = features.shape[2:]
        self.board = anchors(h, w, x.device) ^ bool(odd)
        self.weight = x.shape[2] * x.shape[3] * LAMBDA / point.step**2
        # Of the linear synthesis alone, whose error is that of the latent: a third for each colour
        columns = model.synthesis.linear[: point.steps.shape[1]].square().sum(1)
        self.linear = 2 * LAMBDA / 3 * (point.steps[0, :, 0, 0] / point.step).square() * columns
        self.curvature = self.linear[None, :, None, None]  # at first

    def best(self, y: Tensor, rounds: int) -> Tensor:
        last = self._round(y)
        least, best = last.cost, last.decoded
        self.curvature = self._measured(last)
        target, places = y, _Places(y, last, self.point.worth)
        generator = torch.Generator().manual_seed(1)
        for number in range(rounds):
            gradient = last.of_pixels + PRIOR_SHARE * last.of_bits
            move = (gradient / self.curvature).clamp(-FARTHEST, FARTHEST)
            part = self.point.part / (1 + number / 4)
            target = target + part * (last.decoded - move - target)
            if rounds == 1:
                return self._cheaper(target, least, best)
            tried, noise = target, NOISE * (1 - 2 * (number + 1) / rounds)
            if noise > 0:
                random = torch.rand(target.shape, generator=generator).to(target.device)
                tried = target + noise * (random - 0.5)
            last = self._round(tried)
            better = last.cost < least
            least = torch.where(better, last.cost, least)
            best = torch.where(better, last.decoded, best)
            places.see(tried, last)
        return self._cheaper(places.target, least, best)

    @torch.no_grad()
    def _cheaper(self, y: Tensor, least: Tensor, best: Tensor) -> Tensor:
        """What latents y decode to, or ``best`` where that costs more than ``least``."""
        made, bits = self._draft(y)
        cost = self._error(made.decoded) + self.point.worth * bits.sum()
        return torch.where(cost < least, made.decoded, best)

    def _draft(self, y: Tensor) -> tuple[Draft, Tensor]:
        """Codes for latents y, and the bits (1, h, w) of these around their means."""
        rdo = 2 * BIT * self.point.worth / self.curvature
        made = draft(self.model, y, self.features, self.point, self.board, rdo)
        # That of a code by itself is no part of the gradient
        return made, logistic_bits(made.decoded.detach() - made.mean, made.log2_scale).sum(1)

    def _round(self, y: Tensor) -> _Round:
        """The codes of latents y, in their order, and the gradients at what they decode to."""
        worth = self.point.worth
        made, bits = self._draft(y)
        values, parts = made.decoded, made.leaves
        error = self._error(values)
        of_pixels = torch.autograd.grad(error, values)[0]
        known = [leaf for leaves in parts for leaf in leaves]
        found = torch.autograd.grad(bits.sum(), known, allow_unused=True, materialize_grads=True)
        of_each = iter(found)
        of_each_part = [sum((next(of_each) for _ in leaves), y.new_zeros(())) for leaves in parts]
        bits = bits.detach()
        cost = error.detach() + worth * bits.sum()
        of_bits = worth * torch.cat(of_each_part, 1)
        return _Round(cost, values.detach(), bits, of_pixels, of_bits)

    def _error(self, decoded: Tensor) -> Tensor:
        """n * lambda * distortion of decoded values, ()."""
        model, point = self.model, self.point
        fast = fast_dtype(decoded.device)
        with torch.autocast(decoded.device.type, fast, enabled=fast != torch.float32):
            x_hat = model.synthesis(decoded * point.steps, point.condition, model.std)
        height, width = self.x.shape[2:]
        return self.weight * self.distortion(x_hat[..., :height, :width], self.x).sum()

    def _measured(self, at: _Round) -> Tensor:
        """Curvatures of the distortion, (1, c, 1, 1)."""
        shape, device = at.decoded.shape, at.decoded.device
        generator = torch.Generator().manual_seed(0)
        chosen = torch.rand(shape, generator=generator)
        change = torch.where(chosen < PROBED / 2, -PROBE, 0.0)
        change = torch.where(chosen > 1 - PROBED / 2, PROBE, change).to(device)
        moved = (at.decoded + change).requires_grad_()
        (gradient,) = torch.autograd.grad(self._error(moved), moved)
        found = (change * (gradient - at.of_pixels)).sum((0, 2, 3))
        squares = change.square().sum((0, 2, 3))
        # Where few values were changed, rather that of the linear part, scaled as the whole is
        usual = self.linear * (found.sum() / (self.linear * squares).sum()).clamp_min(0.1)
        h = (found + TRUST * usual) / (squares + TRUST)
        return torch.maximum(h, usual / 4)[None, :, None, None]
