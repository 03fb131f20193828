"""What the papers claim, as small experiments: what to train, and what to measure of it.

Each experiment makes jobs (a label, a system, its sizes, its training, a seed), of which
``reproduce`` trains the models, and measures rows of numbers. All are of held-out pictures and of
the codes of files, unless a name says otherwise. MSE is that of 8-bit pixels in units of [0, 1]^2.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.analysis import bayes, features, information
from vqcodec.autoencoders.grid_codec import GridCodec, to_input
from vqcodec.autoencoders.pqvae import PQVAE, PQVAEConfig
from vqcodec.autoencoders.rrvq import RRVQ, RRVQConfig
from vqcodec.autoencoders.system import Level, System
from vqcodec.metrics import psnr
from vqcodec.metrics.quality import quality_of
from vqcodec.priors import embedding
from vqcodec.priors.grid import Column, GridPrior, LevelPrior, pack
from vqcodec.quantizers import choice, usage
from vqcodec.quantizers.responsibility import Responsibility
from vqcodec.rangecoder import RangeEncoder
from vqcodec.training.systems import fit_priors, grey

Job = dict[str, Any]  # label, system, shape, training, seed; 'variant' names one of VARIANTS
Rows = dict[str, dict[str, float]]  # by what is said behind the label, "" for nothing
DRAWS = 14  # decodes in a mean (HQA)
DRAWN = 50  # digits that are decoded so often


class Trained(NamedTuple):
    """What a job has made."""

    model: System  # averaged weights, as they ship
    last: System  # weights of the last step
    seen: np.ndarray  # (n, side, side, 3) uint8, training squares
    labels_seen: np.ndarray | None
    held_out: np.ndarray
    labels: np.ndarray | None
    seed: int

    def codes(self, squares: np.ndarray, rate: str) -> list[np.ndarray]:
        codec = GridCodec(self.model, {}, torch.device("cpu"))
        return codec.codes(squares, self.model.rates.index(rate))

    def decode(
        self, codes: Sequence[np.ndarray], rate: str, generator: torch.Generator | None = None
    ) -> np.ndarray:
        codec = GridCodec(self.model, {}, torch.device("cpu"))
        return codec.squares(codes, self.model.rates.index(rate), generator)

    def error(self, decoded: np.ndarray) -> float:
        """Squared error of decoded first held-out squares."""
        original = grey(self.held_out[: len(decoded)], self.model).astype(np.float64)
        return float(np.square(decoded - original).mean()) / 255**2

    def mse(self, rate: str) -> float:
        return self.error(self.decode(self.codes(self.held_out, rate), rate))

    def perceived(self, decoded: np.ndarray) -> dict[str, float]:
        """'feature' and 'frechet' distance of decoded first held-out squares."""
        name = "digits" if self.model.config.channels == 1 else "photos"
        original = grey(self.held_out[: len(decoded)], self.model)
        a, b = (features.of(squares, name) for squares in (original, decoded))
        return {"feature": features.distance(a, b), "frechet": features.frechet(a, b)}


class Experiment(NamedTuple):
    """``jobs`` gets a seed and a factor of all steps; ``columns`` are headings by name.

    ``seen`` and ``asked`` bound the training and the held-out squares that are measured.
    """

    data: str
    jobs: Callable[[int, float], Iterator[Job]]
    measure: Callable[[Trained], Rows]
    columns: dict[str, str]
    seen: int = 10000
    asked: int = 1000


def job(label: str, system: str, shape: dict[str, Any], seed: int, **training: Any) -> Job:
    return {"label": label, "system": system, "shape": shape, "training": training, "seed": seed}


# --- DiVeQ: estimators ----------------------------------------------------------------------------


def estimators(seed: int, factor: float) -> Iterator[Job]:
    """One network, one code of 6 to 10 bits in each of 8x8 places; the quantizer alone differs.

    Those of the poster, whose ST-GS is 'st-gumbel', and the mixture without hard samples, 'gumbel'.
    """
    how = {"steps": round(400 * factor), "lr": 2e-3}
    for bits in range(6, 11):
        for name in ("ste", "ema", "rotation", "st-gumbel", "gumbel", "nsvq", "diveq", "sfdiveq"):
            shape = {"width": 32, "blocks": 1, "size": 2**bits, "quantizer": name}
            yield job(f"{bits} bits, {name}", "vqvae", shape, seed, **how)


def measure_estimator(made: Trained) -> Rows:
    """'gap' compares the decoder's input in training and in evaluation, by the error of pixels."""
    (rate,) = made.model.rates
    (codes,) = made.codes(made.held_out, rate)
    (level,) = made.model.levels(rate)
    counts = usage.counts(torch.from_numpy(codes[:, :1]), level.sizes[0])
    x = to_input(torch.from_numpy(made.held_out).permute(0, 3, 1, 2), made.last)
    errors = []
    for mode in (True, False):
        generator = torch.Generator().manual_seed(made.seed)
        with torch.no_grad():
            errors.append(made.last.train(mode).loss(x, 1.0, generator)["mse"].item())
    return {
        "": {
            "mse": made.mse(rate),
            "perplexity": float(usage.perplexity(counts)),
            "used": int(usage.used(counts)) / level.sizes[0],
            "gap": errors[1] / errors[0] - 1,
        }
    }


def total_bits(seed: int, factor: float) -> Iterator[Job]:
    """8, 10 or 12 bits in all for each of 16x16 places of photographs of 64x64 pixels.

    SF-DiVeQ's segment and its four places on it are counted together. 300 steps of 8 squares are
    very short: ST-GS, which mixes all codewords, takes several times as long as any other.
    """
    how = {"steps": round(300 * factor), "batch": 8, "lr": 2e-3}
    for bits in (8, 10, 12):
        for name in ("ste", "ema", "rotation", "st-gumbel", "nsvq", "diveq", "sfdiveq"):
            size = 2 ** (bits - 2) + 1 if name == "sfdiveq" else 2**bits
            shape = {"side": 64, "width": 32, "blocks": 1, "size": size, "quantizer": name}
            yield job(f"{bits} bits in all, {name}", "vqvae", shape, seed, **how)


def measure_total_bits(made: Trained) -> Rows:
    (rate,), (level,) = made.model.rates, made.model.levels(made.model.rates[0])
    (codes,) = made.codes(made.held_out, rate)
    decoded = made.decode([codes], rate)
    counts = usage.counts(torch.from_numpy(codes[:, :1]), level.sizes[0])
    pairs = zip(made.held_out, decoded, strict=True)
    scores = [quality_of(a, b) for a, b in pairs]  # of 64x64 pixels, continued by mirror images
    row = {
        "psnr": psnr.db(made.error(decoded), 1),
        "ssimulacra2": float(np.mean(scores)),
        "used": int(usage.used(counts)) / level.sizes[0],
        "perplexity": float(usage.perplexity(counts)),
    }
    return {"": row | made.perceived(decoded)}


# --- DQ -------------------------------------------------------------------------------------------


def depthwise(seed: int, factor: float) -> Iterator[Job]:
    """M codebooks of K codewords in each of 8x8 places, for slices (DQ) or for one vector (VQ)."""
    for columns, size in ((1, 128), (3, 128), (5, 128), (3, 32), (5, 32), (3, 512), (1, 512)):
        for tied in (False, True):
            shape = {
                "width": 32, "blocks": 1, "columns": columns, "sizes": [size], "dim": 8,
                "tied": tied,
            }  # fmt: skip
            label = f"{'VQ' if tied else 'DQ'}, M = {columns}, K = {size}"
            yield job(label, "dqae", shape, seed, steps=round(400 * factor), lr=2e-3)


def measure_depthwise(made: Trained) -> Rows:
    """Entropy and mutual information of columns, from training squares, of which there are more.

    Mutual information is less what remains when each column is shuffled: the bias.
    """
    (rate,) = made.model.rates
    row = {"mse": made.mse(rate)}
    columns = information.sequences(made.codes(made.seen[:4000], rate)[0])
    row["entropy"] = np.mean([information.bits(information.entropy_of(c)) for c in columns.T])
    if columns.shape[1] > 1:
        mixed = information.shuffled(columns, np.random.default_rng(made.seed))
        shared, bias = (information.between(information.dependence(c)) for c in (columns, mixed))
        row["information"] = information.bits(shared - bias)
    return {"": row}


def likelihoods(seed: int, factor: float) -> Iterator[Job]:
    """Tables 3 (ce; one level) and 4 (mix; M = 5, two levels), DQ and VQ, which for M = 1 are one.

    256 logits of each sub-pixel take their time: few steps, of small batches.
    """
    how = {"batch": 16, "lr": 2e-3}
    rows: list[tuple[str, int, list[int]]] = [("ce", m, [128]) for m in (1, 3, 5, 10)]
    rows += [("mix", 5, sizes) for sizes in ([128, 128], [256, 128], [32, 128])]
    for likelihood, columns, sizes in rows:
        for tied in (False, True)[: min(columns, 2)]:
            shape = {
                "width": 32, "blocks": 1, "columns": columns, "sizes": sizes, "dim": 8,
                "tied": tied, "likelihood": likelihood,
            }  # fmt: skip
            name = f"{likelihood}, {'VQ' if tied else 'DQ'}, M = {columns}, K = {sizes}"
            steps = round((120 if likelihood == "ce" else 300) * factor)
            yield job(name, "dqae", shape, seed, steps=steps, **how)


def measure_likelihood(made: Trained) -> Rows:
    """Nats of a sub-pixel given the codes, and nats of the codes, at a fixed length."""
    model, (rate,) = made.model, made.model.rates
    x = to_input(torch.from_numpy(made.held_out).permute(0, 3, 1, 2), model)
    generator = torch.Generator().manual_seed(made.seed)
    with torch.no_grad():
        losses = [model.eval().loss(part, 1.0, generator) for part in x.split(50)]
    nats = sum(np.prod(v.grid) * np.log(v.sizes).sum() for v in model.levels(rate))
    nll = float(torch.stack([loss["pixels"] for loss in losses]).mean())
    return {"": {"nll": nll, "code_nats": float(nats) / x[0].numel(), "mse": made.mse(rate)}}


# --- HQA ------------------------------------------------------------------------------------------


def hierarchies(seed: int, factor: float) -> Iterator[Job]:
    """Stacks of five layers for digits, and a VQ-VAE that is trained end to end for 8 bits."""
    for name, lowest in (("hqa", (200, 250)), ("ham", (250, 350))):
        steps = [round(n * factor) for n in (*lowest, 400, 400, 400)]
        how = {"batch": 128, "lr": 1e-3, "flip": False, "stage_steps": steps, "decay_steps": 200}
        yield job(name.upper(), name, {"channels": 1}, seed, **how)
    # 0.3 million weights, as the paper's baseline (table 14).
    shape = {"channels": 1, "down": 5, "width": 32, "blocks": 1, "dim": 64}
    how = {"steps": round(1200 * factor), "batch": 128, "lr": 1e-3, "flip": False}
    yield job("VQ-VAE", "vqvae", shape, seed, **how)


def measure_hierarchy(made: Trained) -> Rows:
    """Of each layer; 'right' is the share of decoded digits that the classifier reads rightly."""
    rows: Rows = {}
    assert made.labels is not None and made.labels_seen is not None
    classify = classifier(made.seen, made.labels_seen)
    priors = fit_priors(made.model, made.seen[:2000])
    original = classify(grey(made.held_out, made.model))
    rows["originals"] = {"right": float((original == made.labels).mean())}
    for rate in reversed(made.model.rates):
        (codes,) = made.codes(made.held_out, rate)
        (level,) = made.model.levels(rate)
        decoded = made.decode([codes], rate)
        grid = f"{level.grid[0]}x{level.grid[1]}"
        coder = RangeEncoder()
        priors[level.name].encode(coder, codes, {level.name: codes})
        rows[grid] = {
            "mse": made.error(decoded),
            "fixed_bits": float(np.prod(level.grid) * np.log2(level.sizes).sum()),
            "bits": 8 * len(coder.finish()) / len(codes),
            "used": len(np.unique(codes)) / level.sizes[0],
            "right": float((classify(decoded) == made.labels).mean()),
            **made.perceived(decoded),
        }
        if len(made.model.rates) > 1 and rate != made.model.rates[-1]:
            generator = torch.Generator().manual_seed(made.seed)
            few, total = codes[:DRAWN], 0.0
            for count in range(1, DRAWS + 1):
                total = total + made.decode([few], rate, generator).astype(np.float64)
                if count == 1:
                    rows[grid]["draw"] = made.error(total)
            rows[grid]["mean_of_draws"] = made.error(np.rint(total / DRAWS))
    return rows


def classifier(squares: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A small network that has seen original digits: (n, 32, 32, 3) uint8 -> classes (n,)."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10)),
    )
    epochs, batch = 3, 128
    steps = epochs * len(squares) // batch
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    rng = np.random.default_rng(0)

    def pixels(rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows[..., 0]).float()[:, None] / 255

    for _ in range(steps):
        some = rng.integers(len(squares), size=batch)
        loss = F.cross_entropy(net(pixels(squares[some])), torch.from_numpy(labels[some]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    def classify(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return torch.cat(
                [net(pixels(part)).argmax(1) for part in np.array_split(rows, 8)]
            ).numpy()

    return classify


# --- PQ-VAE ---------------------------------------------------------------------------------------


class FlatPQVAE(PQVAE):
    """PQ-VAE's encoder and decoder around one code for each cell of the features: VQ-VAE."""

    def __init__(self, config: PQVAEConfig) -> None:
        super().__init__(config)
        self.flat = choice.make("ema", config.dim, config.size)
        self.rates = self.rates[-1:]

    def levels(self, rate: str) -> list[Level]:
        cells = self.config.side // 4
        return [Level("codes", (cells, cells), (self.config.size,))]

    def encode(self, x: Tensor, rate: str) -> list[Tensor]:
        return [self.flat.encode(self.features(x))]

    def decode(
        self, codes: list[Tensor | None], rate: str, generator: torch.Generator | None = None
    ) -> Tensor:
        assert codes[0] is not None
        x: Tensor = self.decoder(self.flat.decode(codes[0]))
        return x

    def begin(self, stage: int, x: Tensor, generator: torch.Generator) -> None:
        choice.begin(self)

    def loss(self, x: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        choice.before_step(self, choice.COLDEST**progress)
        made = self.flat(self.features(x), generator)
        mse = F.mse_loss(self.decoder(made.z), x)
        counts = usage.counts(made.codes, self.config.size)
        perplexity = usage.perplexity(counts)[0]
        return {"loss": mse + made.loss, "mse": mse.detach(), "perplexity": perplexity}

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        choice.after_step(self, progress, generator, optimizer)


def progressive(seed: int, factor: float) -> Iterator[Job]:
    """Digits in 64 codes of 8 bits: in sequence, or one for each of 8x8 places.

    The paper's PQ-VAE decodes whole sequences alone, so that is what is compared with VQ-VAE. That
    of half the digits from a random prefix, which makes the files' prefixes good, is another row.
    """
    steps = round(1000 * factor)
    shape = {"side": 32, "channels": 1, "hidden": 32, "dim": 32, "rank": [16, 2]}
    whole = {"prefixes": 0.0, "cold": 0.5}
    how = {"steps": steps, "batch": 64, "lr": 3e-3, "flip": False, "decay_steps": steps // 2}
    yield job("PQ-VAE", "pqvae", shape | whole, seed, **how)
    yield job("PQ-VAE, trained on prefixes", "pqvae", shape, seed, **how)
    yield job("VQ-VAE, the same network", "pqvae", shape, seed, **how) | {"variant": "flat"}
    own = {"channels": 1, "width": 32, "blocks": 1}
    yield job("VQ-VAE, its own network", "vqvae", own, seed, **how)


def measure_progressive(made: Trained) -> Rows:
    rate, model = made.model.rates[-1], made.model
    decoded = made.decode(made.codes(made.held_out, rate), rate)
    rows: Rows = {"": {"mse": made.error(decoded), **made.perceived(decoded)}}
    if not isinstance(model, PQVAE) or isinstance(model, FlatPQVAE):
        return rows
    (codes,) = made.codes(made.held_out, rate)
    steps = codes.shape[1]
    for length in (2**n for n in range(int(math.log2(steps)))):
        short = next(r for r, n in model.lengths.items() if n == length)
        rows[f"first {length}"] = {"mse": made.error(made.decode([codes[:, :length]], short))}
    for column in (0, 1, steps // 2, steps - 1):
        with torch.inference_mode():
            parts = torch.from_numpy(codes).split(500)
            pixels = torch.cat([model.decode_without(part, column) for part in parts])
        decoded = (255 * pixels).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
        increase = made.error(decoded) - rows[""]["mse"]
        rows[f"without code {column + 1}"] = {"increase": increase}
    assert made.labels is not None and made.labels_seen is not None
    seen, asked = (
        bayes.sequence(made.codes(squares, rate)) for squares in (made.seen, made.held_out)
    )
    (level,) = levels = model.levels(rate)
    for name, parents in (("independent", None), ("one step", bayes.parents(levels))):
        right = bayes.accuracies(
            seen, made.labels_seen, asked, made.labels, bayes.alphabets([level]), parents
        )
        for count in (1, 4, 16, steps):
            rows.setdefault(f"Bayes, {name}, first {count}", {})["right"] = float(right[count - 1])
        best = int(right.argmax())
        rows[f"Bayes, {name}, best"] = {"right": float(right[best]), "codes": best + 1}
    return rows


# --- RRVQ -----------------------------------------------------------------------------------------


class DirectCat(Responsibility):
    """A codebook whose prior is given as logits, and not as an embedding: 'Direct-Cat'."""

    def log_responsibilities(self, e: Tensor) -> Tensor:
        return e.log_softmax(1)


class DirectRRVQ(RRVQ):
    """RRVQ-VAE with p(z_l | z_>l) from a network's logits (the ablation of table G.1)."""

    def __init__(self, config: RRVQConfig) -> None:
        super().__init__(config)
        for layer, (rung, size) in enumerate(zip(self.top_down.rungs, config.sizes, strict=True)):
            rung.pstrap = nn.Conv2d(config.width, size, 1)
            self.posteriors[layer].codebook = DirectCat(
                config.embedding,
                size,
                learn_variances=config.learn_variances,
                free_bits=config.free_bits,
                seed=layer,
            )


def responsibilities(seed: int, factor: float) -> Iterator[Job]:
    """The models of table G.1 and a flat rVQ with the paper's rate, and RRVQ trained for files."""
    steps = round(600 * factor)
    base = {"sizes": [64] * 5, "width": 32, "fine": 24, "embedding": 16, "free_bits": 0.5}
    how = {"steps": steps, "batch": 32, "lr": 2e-3, "decay_steps": steps // 2}
    paper = base | {"last_bits_back": 1.0}
    for learnt in (False, True):
        name = "learnt variances" if learnt else "variances 1"
        shape = paper | {"learn_variances": learnt}
        yield job(f"p direct, {name}", "rrvq", shape, seed, **how) | {"variant": "direct"}
        yield job(f"p by embedding, {name}", "rrvq", shape, seed, **how)
    flat = paper | {"grids": [16], "sizes": [64], "learn_variances": False}
    yield job("rVQ, one layer", "rrvq", flat, seed, **how)
    yield job("RRVQ-VAE, trained for files", "rrvq", base, seed, **how)


def measure_responsibilities(made: Trained) -> Rows:
    """Bits per dimension: 'elbo' with bits-back, 'file_bpd' with -log2 p of the codes of a file.

    The former is that of the paper, a draw of each code from q, none of them relaxed.
    Of one trained for files, bits of its codes by prior: in bytes of one coder for all squares.
    """
    model = made.model
    assert isinstance(model, RRVQ)
    x = to_input(torch.from_numpy(made.held_out).permute(0, 3, 1, 2), model)
    generator = torch.Generator().manual_seed(made.seed)
    model.eval()
    with torch.no_grad():
        bounds = torch.cat([model.bound(part, generator) for part in x.split(50)])
        losses = [model.loss(part, 1.0, generator)["loss"] for part in x.split(50)]
    values = {"elbo": float(bounds.mean()), "file_bpd": float(torch.stack(losses).mean())}
    row = values | {"mse": made.mse(model.rates[0])}
    if isinstance(model, DirectRRVQ) or model.config.last_bits_back == 1:
        return {"": row}
    return {"": row | _bits_by_prior(made, model)}


def _bits_by_prior(made: Trained, model: RRVQ) -> dict[str, float]:
    (rate,), levels = model.rates, model.levels(model.rates[0])
    names = [level.name for level in levels]
    seen, fresh = (
        dict(zip(names, made.codes(squares, rate), strict=True))
        for squares in (made.seen[:4000], made.held_out)
    )
    own = embedding.fit(model.network(), seen)
    chosen = fit_priors(model, made.seen[:4000])
    result = {"fixed_bits": sum(float(np.prod(v.grid) * np.log2(v.sizes).sum()) for v in levels)}
    histograms = {level.name: _histogram(seen[level.name], level.sizes[0]) for level in levels}
    kinds: dict[str, Mapping[str, LevelPrior]] = {
        "histogram_bits": histograms, "own_bits": own, "chosen_bits": chosen
    }  # fmt: skip
    for kind, priors in kinds.items():
        coder = RangeEncoder()
        for name in names:
            priors[name].encode(coder, fresh[name], fresh)
        result[kind] = 8 * len(coder.finish()) / len(made.held_out)
    return result


def _histogram(codes: np.ndarray, size: int) -> GridPrior:
    """One table, of how often each code occurs."""
    counts = np.bincount(codes.ravel(), minlength=size) + 0.5
    return GridPrior([Column(pack(counts[None]))])


# --- all ------------------------------------------------------------------------------------------

PERCEIVED = {"feature": "feature distance", "frechet": "Fréchet distance"}
EXPERIMENTS = {
    "total_bits": Experiment(
        "photos",
        total_bits,
        measure_total_bits,
        {
            "psnr": "PSNR, dB", "ssimulacra2": "SSIMULACRA2", "used": "codewords used",
            "perplexity": "perplexity", **PERCEIVED,
        },
    ),
    "likelihoods": Experiment(
        "cifar",
        likelihoods,
        measure_likelihood,
        {"nll": "nats of a sub-pixel", "code_nats": "nats of its codes", "mse": "MSE x 1000"},
        asked=500,
    ),
    "estimators": Experiment(
        "cifar",
        estimators,
        measure_estimator,
        {
            "mse": "MSE x 1000", "perplexity": "perplexity", "used": "codewords used",
            "gap": "MSE in evaluation, against that in training",
        },
    ),
    "depthwise": Experiment(
        "cifar",
        depthwise,
        measure_depthwise,
        {"mse": "MSE x 1000", "entropy": "entropy of a code, bits",
         "information": "mutual information of two codes, bits"},
    ),
    "hierarchies": Experiment(
        "mnist",
        hierarchies,
        measure_hierarchy,
        {
            "fixed_bits": "bits", "bits": "bits coded", "mse": "MSE x 1000", "draw": "one draw",
            "mean_of_draws": f"mean of {DRAWS} draws", "used": "codewords used",
            "right": "read rightly", **PERCEIVED,
        },
    ),
    "progressive": Experiment(
        "mnist",
        progressive,
        measure_progressive,
        {
            "mse": "MSE x 1000", "increase": "MSE x 1000 added", "right": "classes right",
            **PERCEIVED,
        },
        seen=60000,  # counts of pairs of codes need many
        asked=3000,
    ),
    "responsibilities": Experiment(
        "cifar",
        responsibilities,
        measure_responsibilities,
        {
            "elbo": "ELBO, bits per dimension", "file_bpd": "with -log2 p of codes",
            "mse": "MSE x 1000", "fixed_bits": "bits, fixed length",
            "histogram_bits": "histogram", "own_bits": "own prior",
            "chosen_bits": "chosen at export",
        },
    ),
}  # fmt: skip
VARIANTS: dict[str, type[System]] = {"flat": FlatPQVAE, "direct": DirectRRVQ}
