"""The small experiments on the papers' claims: that they are what the papers describe."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqcodec import autoencoders
from vqcodec.autoencoders.rrvq import RRVQ, RRVQConfig

HERE = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def relations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("relations")


def jobs(relations: Any, name: str) -> dict[str, dict[str, Any]]:
    return {job["label"]: job for job in relations.EXPERIMENTS[name].jobs(1, 1.0)}


def test_all_jobs_have_sizes_that_their_systems_take(relations: Any) -> None:
    for name in relations.EXPERIMENTS:
        made = list(relations.EXPERIMENTS[name].jobs(1, 1.0))
        assert len({job["label"] for job in made}) == len(made) > 1
        for job in made:
            autoencoders.classes(job["system"])[1].from_dict(job["shape"])


def test_vqvae_is_compared_with_the_paper_s_pqvae(relations: Any) -> None:
    """Which never decodes a random prefix in training, and whose samples stay soft."""
    job = jobs(relations, "progressive")["PQ-VAE"]
    shape = autoencoders.classes("pqvae")[1].from_dict(job["shape"])
    assert shape.prefixes == 0 and shape.cold >= 0.5
    assert jobs(relations, "progressive")["VQ-VAE, the same network"]["training"] == job["training"]


@pytest.mark.parametrize(
    ("name", "sizes"), [("estimators", range(6, 11)), ("total_bits", (8, 10, 12))]
)
def test_the_seven_estimators_have_hard_gumbel_samples(
    relations: Any, name: str, sizes: Sequence[int]
) -> None:
    made = jobs(relations, name)
    asked = {"ste", "ema", "rotation", "st-gumbel", "nsvq", "diveq", "sfdiveq"}
    for bits in sizes:
        at_it = [job for label, job in made.items() if label.startswith(f"{bits} bits")]
        assert asked <= {job["shape"]["quantizer"] for job in at_it}


def test_hqa_s_baseline_is_as_large_as_the_paper_s(relations: Any) -> None:
    """Table 14's VQ-VAE has about 0.3 million weights."""
    job = jobs(relations, "hierarchies")["VQ-VAE"]
    kind, config = autoencoders.classes(job["system"])
    count = sum(p.numel() for p in kind(config.from_dict(job["shape"])).parameters())
    assert 0.28e6 < count < 0.33e6


def test_the_bound_that_is_told_is_of_hard_codes(relations: Any) -> None:
    config = RRVQConfig(
        side=16, grids=(1, 2), sizes=(4, 4), embedding=4, width=8, fine=4, last_bits_back=1.0
    )
    torch.manual_seed(0)
    model = RRVQ(config)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    made = relations.Trained(model, model, pixels, None, pixels, None, 1)
    told = relations.measure_responsibilities(made)[""]
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    expected = model.bound(x, torch.Generator().manual_seed(1)).mean()
    assert told["elbo"] == pytest.approx(float(expected), rel=1e-6)
    relaxed = model.train().loss(x, 1.0, torch.Generator().manual_seed(1))["loss"]
    assert told["elbo"] != pytest.approx(float(relaxed), rel=1e-5)


# --- each experiment, from pictures to rows -------------------------------------------------------


def squares(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as each kind of data has them, and classes that are their mean brightness."""
    rng = np.random.default_rng(0)
    side, channels = {"cifar": (32, 3), "mnist": (28, 1), "photos": (64, 3)}[kind]
    coarse = rng.integers(0, 256, (150, side // 4, side // 4, channels), np.uint8)
    pixels = coarse.repeat(4, 1).repeat(4, 2)
    labels = (pixels.mean((1, 2, 3)) > 128).astype(np.int64)
    return (pixels[..., 0] if channels == 1 else pixels), labels


@pytest.mark.parametrize(
    ("name", "label", "columns"),
    [
        ("likelihoods", "ce, DQ, M = 3, K = [128]", {"nll", "code_nats", "mse"}),
        ("likelihoods", "mix, VQ, M = 5, K = [32, 128]", {"nll", "code_nats", "mse"}),
        ("total_bits", "8 bits in all, sfdiveq", {"psnr", "ssimulacra2", "used", "perplexity"}),
        ("responsibilities", "rVQ, one layer", {"elbo", "file_bpd", "mse"}),
        ("hierarchies", "VQ-VAE", {"right", "mse", "feature", "frechet"}),
        ("estimators", "6 bits, st-gumbel", {"mse", "perplexity", "used", "gap"}),
    ],
)
def test_a_job_gives_rows_with_the_columns_of_its_table(
    relations: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    name: str, label: str, columns: set[str],
) -> None:  # fmt: skip
    reproduce = importlib.import_module("reproduce")
    experiment = relations.EXPERIMENTS[name]
    pixels, labels = squares(experiment.data)
    arrays = {"x_train": pixels, "x_test": pixels[:140], "y_train": labels, "y_test": labels[:140]}
    np.savez(tmp_path / "x.npz", **arrays)
    monkeypatch.setitem(reproduce.DEFAULTS, "batch", 4)
    job = jobs(relations, name)[label]
    training = {"steps": 2, "lr": 1e-3, "batch": 4}
    done = reproduce.run(name, job | {"training": training}, tmp_path / "x.npz")
    found = set().union(*(set(row) for row in done["rows"].values()))
    assert columns <= found <= set(experiment.columns) | {"codes"}
    assert all(np.isfinite(v) for row in done["rows"].values() for v in row.values())
    table = reproduce.table(name, [done])
    assert label in table and "Seeds 1;" in table


def test_sfdiveq_has_as_many_bits_in_all_as_the_others(relations: Any) -> None:
    for job in jobs(relations, "total_bits").values():
        kind, config = autoencoders.classes(job["system"])
        model = kind(config.from_dict(job["shape"]))
        (level,) = model.levels(model.rates[0])
        assert np.log2(level.sizes).sum() == int(job["label"].split()[0])
