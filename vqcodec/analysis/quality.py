"""The parts of an analysis that say how good pictures are, other than by squared error."""

import math

import numpy as np
import torch

from vqcodec.analysis import features, plots
from vqcodec.analysis.subject import PART, LeftOut, Made, Subject, input_of
from vqcodec.autoencoders.dqae import DQAE
from vqcodec.autoencoders.likelihood import Value
from vqcodec.autoencoders.rrvq import RRVQ
from vqcodec.training.systems import grey

ENOUGH = 2 * features.DIM  # squares for a covariance of features


@torch.inference_mode()
def likelihood(subject: Subject) -> Made:
    """What a distribution of the pixels costs: nats and bits a sub-pixel, and the codes' rate.

    Of DQ-AE with 'ce' or 'mix', -log p(x | codes) (DQ, tables 3 and 4), to which the rate of the
    codes is to be added, here at a fixed length. Of RRVQ-VAE, -ELBO with codes drawn from q (table
    G.1), and -log p(x | codes) with what its prior says of the codes of a file.
    """
    model, pixels = subject.codec.model, subject.squares.pixels
    parts = range(0, len(pixels), PART)
    generator = torch.Generator(subject.codec.device).manual_seed(subject.settings.seed)
    sub_pixels = model.config.channels * model.config.side**2
    totals: dict[str, float] = {}
    if isinstance(model, DQAE) and not isinstance(model.pixels, Value):
        for first in subject.track(parts, "likelihood"):
            x = input_of(subject, pixels[first : first + PART])
            nats = float(model.loss(x, 1.0, generator)["pixels"])
            totals["pixels"] = totals.get("pixels", 0.0) + nats * len(x)
        fixed = sum(
            math.prod(level.grid) * sum(map(math.log, level.sizes))
            for level in model.levels(model.rates[-1])
        )
        totals["codes_at_fixed_length"] = len(pixels) * fixed / sub_pixels
    elif isinstance(model, RRVQ):
        for first in subject.track(parts, "likelihood"):
            x = input_of(subject, pixels[first : first + PART])
            loss = model.loss(x, 1.0, generator)
            codes = sum(float(bits) for name, bits in loss.items() if name.startswith("kl."))
            found = {
                "elbo": float(model.bound(x, generator).mean()),
                "file": float(loss["bits"]) + codes / sub_pixels,
            }
            for name, bits in found.items():
                totals[name] = totals.get(name, 0.0) + bits * math.log(2) * len(x)
    else:
        raise LeftOut("no distribution of the pixels is trained")
    means = {name: total / len(pixels) for name, total in totals.items()}
    numbers = {name: {"nats": n, "bits": n / math.log(2)} for name, n in means.items()}
    return {"per": "sub-pixel", **numbers}, {}


def perception(subject: Subject) -> Made:
    """Feature distance and Fréchet distance of each rate point, see ``features``."""
    pixels = subject.squares.pixels
    name = "digits" if subject.codec.model.config.channels == 1 else "photos"
    original = features.of(grey(pixels, subject.codec.model), name)
    enough = len(pixels) >= ENOUGH
    numbers: dict[str, dict[str, float]] = {}
    for index in subject.track(range(len(subject.rates)), "features"):
        codes = subject.at(index)
        decoded = [
            subject.codec.squares([level[first : first + PART] for level in codes], index)
            for first in range(0, len(pixels), PART)
        ]
        seen = features.of(np.concatenate(decoded), name)
        row = {"feature_distance": features.distance(original, seen)}
        if enough:
            row["frechet"] = features.frechet(original, seen)
        numbers[subject.rates[index]] = row
    told = {"network": name, "squares": len(pixels), "rate_points": numbers}
    if not enough:
        told["frechet_left_out"] = f"a covariance of features needs {ENOUGH} squares"
    figure = plots.bars(
        {rate: {"feature distance": row["feature_distance"]} for rate, row in numbers.items()},
        "share of the variance of features",
    )
    return told, {"perception.png": figure}
