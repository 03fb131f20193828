"""The parts of an analysis: each gives numbers, for JSON, and PNG files by name.

Squared errors are those of 8-bit pixels, grey ones for a grey system, in units of [0, 1]^2.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vqcodec.analysis import bayes, information, plots
from vqcodec.analysis.quality import likelihood, perception
from vqcodec.analysis.subject import PART, LeftOut, Made, Subject, input_of
from vqcodec.autoencoders.grid_codec import to_pixels
from vqcodec.autoencoders.hqa import HQA
from vqcodec.autoencoders.pqvae import PQVAE
from vqcodec.autoencoders.rrvq import RRVQ
from vqcodec.metrics import psnr
from vqcodec.priors.embedding import Remembering
from vqcodec.priors.histogram import Histogram
from vqcodec.priors.tables import Tables
from vqcodec.quantizers import usage as use
from vqcodec.rangecoder import RangeEncoder
from vqcodec.training.systems import grey

SHOWN = 8  # pictures of a sheet
DECODED = 64  # squares, where each is decoded many times
AVERAGES = (1, 2, 4, 8, 14)  # decodes whose mean is compared with the picture
STEPS = 9  # of an interpolation, with both ends


def mse_of(subject: Subject, decoded: np.ndarray) -> float:
    """Mean squared error of the first squares, decoded (n, side, side, 3)."""
    original = grey(subject.squares.pixels[: len(decoded)], subject.codec.model)
    difference = decoded.astype(np.float32) - original
    return float(np.square(difference).mean(dtype=np.float64)) / 255**2


def quality(mse: float) -> dict[str, float | None]:
    """'mse' and 'psnr_db', none where pictures are equal."""
    return {"mse": mse, "psnr_db": psnr.db(mse, 1) if mse else None}


def both(nats: float) -> dict[str, float]:
    return {"nats": nats, "bits": information.bits(nats)}


# --- codes ----------------------------------------------------------------------------------------


def usage(subject: Subject) -> Made:
    """How many codewords occur, perplexity and entropy of each column; entropy of each place."""
    numbers, shares, maps = {}, {}, {}
    for name, level in subject.levels.items():
        codes = subject.codes[name]
        columns = []
        for index, size in enumerate(level.sizes):
            counts = use.counts(torch.from_numpy(codes[:, index : index + 1]), size)
            used, perplexity = int(use.used(counts)[0]), float(use.perplexity(counts)[0])
            entropy = both(information.entropy(counts[0].numpy()))
            columns.append(
                {"codewords": size, "used": used, "perplexity": perplexity, "entropy": entropy}
            )
            label = name if len(level.sizes) == 1 else f"{name} {index + 1}"
            shares[label] = {"used": used / size, "perplexity": perplexity / size}
        places = information.bits(1) * information.position_entropy(codes)
        maps[f"{name}: {places.mean():.2f} bits"] = places
        numbers[name] = {
            "grid": level.grid,
            "columns": columns,
            "entropy_by_place_bits": places.tolist(),
        }
    figures = {
        "usage.png": plots.bars(shares, "share of the codebook"),
        "entropy-by-place.png": plots.heat_maps(maps, "bits of a code"),
    }
    return numbers, figures


def dependence(subject: Subject) -> Made:
    """Mutual information of the columns of each level (DQ, figure 3)."""
    numbers, figures = {}, {}
    rng = np.random.default_rng(subject.settings.seed)
    levels = [name for name, level in subject.levels.items() if len(level.sizes) > 1]
    if not levels:
        raise LeftOut("each level has one column")
    for name in subject.track(levels, "mutual information"):
        columns = information.sequences(subject.codes[name])
        matrix = information.dependence(columns)
        bias = information.dependence(information.shuffled(columns, rng))
        numbers[name] = {
            "samples": len(columns),
            "mean": both(information.between(matrix)),
            "mean_shuffled": both(information.between(bias)),
            "mean_entropy": both(float(matrix.diagonal().mean())),
            "nats": matrix.tolist(),
            "bits": (information.bits(1) * matrix).tolist(),
        }
        title = f"{name}: {information.between(matrix):.2f} nats between columns"
        figures[f"dependence-{name}.png"] = plots.heat_maps({title: matrix}, "nats")
    return numbers, figures


def classification(subject: Subject) -> Made:
    """Classes from codes by Bayes' rule (PQ-VAE, figure 4)."""
    labels, learned = subject.squares.labels, subject.learned
    if labels is None or learned is None or learned.labels is None:
        raise LeftOut("the pictures have no labels, or are larger than a square")
    classes, numbered = np.unique(np.concatenate([learned.labels, labels]), return_inverse=True)
    taught, answers = np.split(numbered.ravel(), [len(learned.labels)])
    numbers: dict[str, Any] = {"classes": len(classes), "learned_from": len(taught)}
    curves = {}
    model = subject.codec.model
    for index in subject.track(subject.whole, "classification"):
        rate = model.rates[index]
        levels = model.levels(rate)
        names = [level.name for level in levels]
        seen, asked = (
            bayes.sequence([codes[name] for name in names])
            for codes in (subject.learned_codes, subject.codes)
        )
        sizes = bayes.alphabets(levels)
        for kind, parents in (("independent", None), ("one_step", bayes.parents(levels))):
            right = bayes.accuracies(seen, taught, asked, answers, sizes, parents)
            numbers.setdefault(rate, {})[kind] = {
                "all_codes": right[-1],
                "best": right.max(),
                "best_codes": int(right.argmax()) + 1,
                "by_codes": right.tolist(),
            }
            curves[f"{rate} {kind.replace('_', ' ')}"] = (range(1, len(right) + 1), right.tolist())
    plot = plots.lines(curves, "codes used", "share of right classes", log_x=True)
    return numbers, {"classification.png": plot}


def rates(subject: Subject) -> Made:
    """Bits of a square by the codec's prior, by a histogram, and at a fixed length.

    The histogram's tables come from the other half of the squares, each code with 1/2 more. Of an
    RRVQ-VAE also -log2 p of its own prior, and KL(q || p), which only bits-back coding would reach.
    """
    count = len(subject.squares.pixels)
    if count < 2:
        raise LeftOut("a histogram of other squares needs two of them")
    model = subject.codec.model
    numbers: dict[str, dict[str, float]] = {}
    kinds = {}
    for index in subject.track(subject.whole, "priors"):
        known = Remembering()
        for level in model.levels(model.rates[index]):
            codes, prior = subject.codes[level.name], subject.codec.priors[level.name]
            numbers[level.name] = {
                "fixed_length": float(np.prod(level.grid) * np.log2(level.sizes).sum()),
                "histogram": _histogram_bits(codes, level.sizes) / count,
                "prior": prior.encode(RangeEncoder(), codes, known) / count,
            }
            kinds[level.name] = prior.kind
            known[level.name] = codes
    if isinstance(model, RRVQ):
        for name, own in _own_bits(subject, model).items():
            numbers[name] |= own
    total = {
        model.rates[index]: {
            kind: sum(numbers[level.name][kind] for level in model.levels(model.rates[index]))
            for kind in next(iter(numbers.values()))
        }
        for index in subject.whole
    }
    figures = {"rates.png": plots.bars(numbers, "bits of a square")}
    return {"levels": numbers, "priors": kinds, "rate_points": total}, figures


def _histogram_bits(codes: np.ndarray, sizes: tuple[int, ...]) -> float:
    halves, total = (codes[::2], codes[1::2]), 0.0
    for half, other in (halves, halves[::-1]):
        for index, size in enumerate(sizes):
            counts = np.bincount(other[:, index].ravel(), minlength=size)
            symbols = half[:, index].ravel()
            tables = Tables(Histogram.fit(counts[None]).tables)
            total += tables.ideal_bits(symbols, np.zeros(len(symbols), np.uint8))
    return total


@torch.inference_mode()
def _own_bits(subject: Subject, model: RRVQ) -> dict[str, dict[str, float]]:
    """By level, bits of a square: 'network' and 'kl'."""
    pixels = subject.squares.pixels
    total: dict[str, np.ndarray] = {}
    generator = torch.Generator(subject.codec.device)  # nothing is drawn in evaluation
    for first in subject.track(range(0, len(pixels), PART), "KL divergences"):
        x = input_of(subject, pixels[first : first + PART])
        parts, divergences = model.loss(x, 1.0, generator), model.divergences(x)
        for name, values in divergences.items():
            row = np.array([float(parts[f"kl.{name}"]) * len(x), float(values.sum())])
            total[name] = total.get(name, np.zeros(2)) + row / len(pixels)
    return {name: {"network": float(a), "kl": float(b)} for name, (a, b) in total.items()}


# --- pictures -------------------------------------------------------------------------------------


def reconstructions(subject: Subject) -> Made:
    """Each rate point; of several levels, the first ones and each one alone."""
    numbers = []
    sheet = {"original": list(grey3(subject, subject.squares.pixels[:SHOWN]))}
    for name, index, codes in subject.track(list(_withheld(subject)), "reconstructions"):
        decoded = subject.codec.squares(codes, index)
        row = quality(mse_of(subject, decoded))
        numbers.append({"name": name} | row)
        decibels = "" if row["psnr_db"] is None else f" {row['psnr_db']:.1f} dB"
        sheet[name + decibels] = list(decoded[:SHOWN])
    return numbers, {"reconstructions.png": plots.rows(sheet)}


def _withheld(subject: Subject) -> Iterator[tuple[str, int, list[np.ndarray | None]]]:
    """Names, rate points and codes of what can be decoded."""
    for index, rate in enumerate(subject.rates):
        yield rate, index, [*subject.at(index)]
    finest = len(subject.rates) - 1
    codes = subject.at(finest)
    names = [level.name for level in subject.codec.model.levels(subject.rates[finest])]
    if len(names) == 1:
        return
    for kept in range(1, len(names)):
        yield f"first {kept} of {len(names)} levels", finest, [
            c if i < kept else None for i, c in enumerate(codes)
        ]  # fmt: skip
    for alone, name in enumerate(names):
        yield f"{name} alone", finest, [c if i == alone else None for i, c in enumerate(codes)]


def progressive(subject: Subject) -> Made:
    """Of PQ-VAE: error by prefix and without each single code, and conditional entropy (figure 5).

    The entropies are H(z_l | z_{l-1}), over squares and sub-maps, and H(q(z_l | x, z_<l)), their
    mean, of the paper.
    """
    model = subject.codec.model
    if not isinstance(model, PQVAE):
        raise LeftOut("no rate points that are prefixes of one sequence of codes")
    finest = len(model.rates) - 1
    (level,), (codes,) = model.levels(model.rates[finest]), subject.at(finest)
    few = codes[:DECODED]
    steps = range(1, len(level.sizes) + 1)

    def error(decode: Callable[[torch.Tensor], torch.Tensor]) -> float:
        parts = [few[first : first + PART] for first in range(0, len(few), PART)]
        with torch.inference_mode():
            made = [to_pixels(decode(torch.from_numpy(p).to(subject.codec.device))) for p in parts]
        return mse_of(subject, np.concatenate(made))

    def prefix(length: int, codes: torch.Tensor) -> torch.Tensor:
        return model.decode([codes[:, :length]], model.rates[finest])

    def without(column: int, codes: torch.Tensor) -> torch.Tensor:
        return model.decode_without(codes, column)

    prefixes = [error(partial(prefix, n)) for n in subject.track(steps, "prefixes")]
    removed = [error(partial(without, n - 1)) for n in subject.track(steps, "single codes")]
    increase = [mse - prefixes[-1] for mse in removed]
    with torch.inference_mode():
        latents = model.features(input_of(subject, subject.squares.pixels[:DECODED]))
        posterior = model.quantizer.entropies(latents).double().mean(1).tolist()
    columns = information.sequences(codes)
    mixed = information.shuffled(columns, np.random.default_rng(subject.settings.seed))
    given, bias = (
        [information.entropy_of(c[:, 0])]
        + [information.conditional_entropy(b, a) for a, b in pairwise(c.T)]
        for c in (columns, mixed)
    )
    numbers = {
        "squares": len(few),
        "mse_by_prefix": prefixes,
        "mse_increase_without": increase,
        "samples": len(columns),
        "entropy_given_previous_nats": given,
        "entropy_given_previous_bits": [information.bits(h) for h in given],
        "entropy_given_previous_shuffled_nats": bias,
        "posterior_entropy_nats": posterior,
        "posterior_entropy_bits": [information.bits(h) for h in posterior],
    }
    entropies = {
        "H(z_l | z_l-1)": (steps, given),
        "the same, shuffled": (steps, bias),
        "H(z_l | x, z_<l)": (steps, posterior),
    }
    figures = {
        "prefixes.png": plots.lines(
            {"prefix": (steps, prefixes)}, "codes of a sub-map", "MSE", log_x=True
        ),
        "without-a-code.png": plots.lines(
            {"without": (steps, increase)}, "code left out", "increase of the MSE"
        ),
        "conditional-entropy.png": plots.lines(entropies, "code", "nats"),
    }
    return numbers, figures


def stochastic(subject: Subject) -> Made:
    """Of HQA: the decoder draws the codes of lower layers; the mean of several such decodes."""
    model, codec = subject.codec.model, subject.codec
    if not isinstance(model, HQA):
        raise LeftOut("the decoder of a whole file has nothing to choose")
    upper = [index for index, rate in enumerate(model.rates) if model.layer_of(rate) > 0]
    if not upper:
        raise LeftOut("there is no layer below the first")
    numbers, sheet, curves = {}, {}, {}
    original = grey3(subject, subject.squares.pixels[:1])[0]
    for index in subject.track(upper, "stochastic decodes"):
        rate, codes = model.rates[index], subject.at(index, DECODED)
        generator = torch.Generator(codec.device).manual_seed(subject.settings.seed)
        drawn, mse = [], {}
        total = np.zeros((len(codes[0]), *subject.squares.pixels.shape[1:]), np.float32)
        for count in range(1, AVERAGES[-1] + 1):
            pixels = codec.squares(codes, index, generator)
            total += pixels
            drawn.append(pixels[0])
            if count in AVERAGES:
                mse[count] = mse_of(subject, np.rint(total / count))
        plain = codec.squares(codes, index)
        numbers[rate] = {
            "squares": len(plain),
            "likeliest": quality(mse_of(subject, plain)),
            "mean_of": {str(count): quality(value) for count, value in mse.items()},
        }
        curves[rate] = (list(mse), list(mse.values()))
        mean = np.rint(total[0] / AVERAGES[-1]).astype(np.uint8)
        sheet[rate] = [original, plain[0], mean, *drawn[: SHOWN - 3]]
    figures = {
        "decodes.png": plots.rows(sheet),
        "means-of-decodes.png": plots.lines(curves, "decodes in the mean", "MSE", log_x=True),
    }
    return numbers, figures


def codewords(subject: Subject) -> Made:
    """All pictures of a coarsest level with one code, other levels withheld (HQA, figure 4)."""
    rate = subject.rates[0]
    top, *rest = subject.codec.model.levels(rate)
    if top.grid != (1, 1) or len(top.sizes) != 1:
        raise LeftOut(f"{rate} has more than one code on its coarsest level")
    codes = np.arange(top.sizes[0]).reshape(-1, 1, 1, 1)
    pictures = subject.codec.squares([codes, *(None for _ in rest)], 0)
    distinct = len(np.unique(pictures.reshape(len(pictures), -1), axis=0))
    numbers = {"rate": rate, "codewords": len(codes), "distinct_pictures": distinct}
    return numbers, {"codewords.png": plots.sheet(list(pictures))}


def interpolation(subject: Subject) -> Made:
    """Of HQA: latents of each layer between those of two pictures, quantized and decoded."""
    model, codec = subject.codec.model, subject.codec
    if not isinstance(model, HQA):
        raise LeftOut("the latents of one picture have no single layer to be taken from")
    if len(subject.squares.pixels) < 2:
        raise LeftOut("two pictures are needed")
    two = subject.squares.pixels[:2]
    t = torch.linspace(0, 1, STEPS, dtype=torch.float64, device=codec.device)[:, None, None, None]
    first, last = grey3(subject, two)
    sheet, numbers = {}, {}
    for index, rate in enumerate(model.rates):
        a, b = model.latent(input_of(subject, two), rate)
        codes = model.quantize((1 - t) * a + t * b, rate).cpu().numpy()
        sheet[rate] = [first, *codec.squares([codes], index), last]
        changed = [int((x != y).sum()) for x, y in pairwise(codes)]
        numbers[rate] = {"codes": int(codes[0].size), "codes_changed_by_step": changed}
    return numbers, {"interpolation.png": plots.rows(sheet)}


def grey3(subject: Subject, pixels: np.ndarray) -> np.ndarray:
    """Squares (n, side, side, 3) as the system sees them, still with three channels."""
    return np.broadcast_to(grey(pixels, subject.codec.model), pixels.shape)


SECTIONS: dict[str, Callable[[Subject], Made]] = {
    "usage": usage,
    "dependence": dependence,
    "rates": rates,
    "likelihood": likelihood,
    "reconstructions": reconstructions,
    "perception": perception,
    "progressive": progressive,
    "stochastic": stochastic,
    "codewords": codewords,
    "interpolation": interpolation,
    "classification": classification,
}
