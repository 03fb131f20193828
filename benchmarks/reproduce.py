"""The papers' relations at a scale of two cores: small networks, three seeds, one table each.

    python benchmarks/reproduce.py estimators CIFAR.npz       DiVeQ: seven ways to train a codebook
    python benchmarks/reproduce.py total_bits PHOTOS          the same at equal bits in all, 8 to 12
    python benchmarks/reproduce.py depthwise CIFAR.npz        DQ: slices against one vector
    python benchmarks/reproduce.py likelihoods CIFAR.npz      the same, by likelihood
    python benchmarks/reproduce.py hierarchies MNIST.npz      HQA, HAM, VQ-VAE from 2048 bits to 8
    python benchmarks/reproduce.py progressive MNIST.npz      PQ-VAE and VQ-VAE at 512 bits
    python benchmarks/reproduce.py responsibilities CIFAR.npz RRVQ-VAE and what each change gives
    python benchmarks/reproduce.py tables                     the tables of docs/systems.md alone

Each model is trained with the loop of ``vqcodec train``; ``relations.py`` says which and what is
measured. Results are kept in benchmarks/systems.json, and a run that stands there is not repeated.
``--factor 10`` trains ten times as long. ``--jobs 2`` has two at a time, with one thread each.
"""

import argparse
import fcntl
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from relations import EXPERIMENTS, VARIANTS, Job, Trained

from vqcodec import autoencoders
from vqcodec.autoencoders.system import System
from vqcodec.training import data, sources
from vqcodec.training.batches import Crops
from vqcodec.training.config import SystemTraining
from vqcodec.training.loop import Run
from vqcodec.training.systems import SystemTask

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "systems.json"
DEFAULTS = {"batch": 64, "ema": 0.99, "warmup_steps": 30, "workers": 0}


@lru_cache(1)  # photographs take longer to read than a small network to train
def read(path: Path, side: int) -> tuple[data.Labelled, data.Labelled]:
    """(training, held out) pictures; of photographs with short sides of ``side`` pixels."""
    if path.suffix == ".npz":
        return data.load_labelled(path)
    source = sources.find(path)
    parts = data.split(source, "name", lambda items, name: items, lambda why: None)
    seen, held_out = (data.Decoded(source, part, (side,), side) for part in parts)
    middles = [data.centre(held_out[i], side) for i in range(len(held_out))]
    return data.Labelled([seen[i] for i in range(len(seen))], None), data.Labelled(middles, None)


def run(experiment: str, work: Job, path: Path) -> Job:
    """Train and measure; the job with 'rows' and 'seconds'."""
    torch.set_num_threads(1)
    start = time.process_time()
    _, config = autoencoders.classes(work["system"])
    shape = config.from_dict(work["shape"])
    training = DEFAULTS | work["training"]
    training.setdefault("decay_steps", training.get("steps", 0) // 2)
    settings = SystemTraining.from_dict(training | {"crop": shape.side, "seed": work["seed"]})
    seen, held_out = read(path, shape.side)
    pictures = [data.at_least(x, shape.side) for x in seen.pictures]

    def task(crops: Crops) -> SystemTask:
        made = SystemTask(settings, work["system"], shape)
        if "variant" in work:
            made.kind = VARIANTS[work["variant"]]
            made.model = made.kind(shape)
        return made

    with tempfile.TemporaryDirectory() as folder:
        crops = Crops(pictures, settings.seed, settings.flip)
        loop = Run(settings, task, crops, Path(folder))
        while loop.step < loop.steps:
            loop.advance()
        model, last = loop.averaged(), loop.model
    assert isinstance(model, System) and isinstance(last, System)
    about = EXPERIMENTS[experiment]
    few, asked = slice(about.seen), slice(about.asked)
    made = Trained(
        model,
        last,
        np.stack([data.centre(x, shape.side) for x in pictures[few]]),
        None if seen.labels is None else seen.labels[few],
        np.stack([data.at_least(x, shape.side) for x in held_out.pictures[asked]]),
        None if held_out.labels is None else held_out.labels[asked],
        work["seed"],
    )
    rows = about.measure(made)
    rounded = {name: {k: float(f"{v:.5g}") for k, v in row.items()} for name, row in rows.items()}
    return work | {"rows": rounded, "seconds": round(time.process_time() - start)}


def key(work: Job) -> str:
    """What tells one run from another, its results left out."""
    return json.dumps({k: v for k, v in work.items() if k not in ("rows", "seconds")})


def load() -> dict[str, list[Job]]:
    """All results, by experiment."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


@contextmanager
def results() -> Iterator[dict[str, list[Job]]]:
    """The results to be changed, by one process at a time."""
    with (HERE / "systems.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = load()
        yield found
        parts = (
            f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, jobs)) + "\n]"
            for name, jobs in sorted(found.items())
        )
        RESULTS.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


def table(experiment: str, jobs: list[Job]) -> str:
    """Means and standard deviations over the seeds, in Markdown."""
    columns = EXPERIMENTS[experiment].columns
    cells: dict[str, dict[str, list[float]]] = {}
    for work in jobs:
        for name, row in work["rows"].items():
            label = f"{work['label']}, {name}" if name else work["label"]
            for column, value in row.items():
                cells.setdefault(label, {}).setdefault(column, []).append(value)
    lines = ["| | " + " | ".join(columns.values()) + " |", "|-" * (len(columns) + 1) + "|"]
    wanted = EXPERIMENTS[experiment].jobs(1, 1.0)
    order = {work["label"]: number for number, work in enumerate(wanted)}
    for label, row in sorted(cells.items(), key=lambda item: order[_owner(item[0], order)]):
        shown = (_cell(column, row.get(column, [])) for column in columns)
        lines.append(f"| {label} | {' | '.join(shown)} |")
    seeds = sorted({work["seed"] for work in jobs})
    minutes = sum(work["seconds"] for work in jobs) / 60
    return "\n".join(
        [*lines, "", f"Seeds {', '.join(map(str, seeds))}; {minutes:.0f} minutes of one core."]
    )


def _owner(label: str, jobs: dict[str, int]) -> str:
    return max((name for name in jobs if label.startswith(name)), key=len)


def _cell(column: str, values: list[float]) -> str:
    """Mean ± standard deviation; shares in per cent, squared errors in thousandths."""
    if not values:
        return ""
    factor, digits, unit = {
        **dict.fromkeys(("mse", "draw", "mean_of_draws", "increase"), (1000.0, 3, "")),
        **dict.fromkeys(("used", "right"), (100.0, 1, " %")),
        "gap": (100.0, 2, " %"),
        **dict.fromkeys(("elbo", "file_bpd", "entropy", "information"), (1.0, 3, "")),
        **dict.fromkeys(("nll", "code_nats", "feature"), (1.0, 3, "")),
        **dict.fromkeys(("psnr", "ssimulacra2", "frechet"), (1.0, 2, "")),
    }.get(column, (1.0, 0, ""))
    scaled = [factor * value for value in values]
    spread = f" ± {statistics.stdev(scaled):.{digits}f}" if len(values) > 1 else ""
    if len(set(values)) == 1:
        spread = ""
    return f"{statistics.mean(scaled):.{digits}f}{spread}{unit}"


def write_tables() -> None:
    """The tables of docs/systems.md."""
    page, found = HERE.parent / "docs" / "systems.md", load()
    text = page.read_text(encoding="utf-8")
    for name in EXPERIMENTS:
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if not found.get(name):
            continue
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}{table(name, found.get(name, []))}\n{end}{tail}"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "tables"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--factor", type=float, default=1.0, help="of all steps")
    parser.add_argument("--only", default="", help="runs whose label has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    if args.experiment == "tables":
        return write_tables()
    if args.data is None:
        parser.error("pictures are needed: an .npz file, or a folder of photographs")
    experiment = EXPERIMENTS[args.experiment]
    known = {key(work) for work in load().get(args.experiment, [])}
    wanted = [work for seed in args.seeds for work in experiment.jobs(seed, args.factor)]
    jobs = [work for work in wanted if key(work) not in known and args.only in work["label"]]
    with ProcessPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(run, args.experiment, work, args.data) for work in jobs]
        for count, future in enumerate(as_completed(waiting), 1):
            done: dict[str, Any] = future.result()
            with results() as found:
                found.setdefault(args.experiment, []).append(done)
            said = f"{count}/{len(jobs)}  {done['label']}, seed {done['seed']}"
            print(f"{said}, {done['seconds']} s: {done['rows']}", file=sys.stderr, flush=True)
    write_tables()


if __name__ == "__main__":
    main()
