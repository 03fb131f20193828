"""The papers' relations at a scale of two cores: small networks, three seeds, one table each.

    python docs/reproduce.py estimators CIFAR.npz     DiVeQ: seven ways to train a codebook
    python docs/reproduce.py depthwise CIFAR.npz      DQ: slices of channels against one vector
    python docs/reproduce.py tables                   the tables of docs/systems.md alone

Each run is trained with the loop of `vqcodec train` and measured on held-out pictures with the
codes of a file, not with relaxed ones. Results are kept in docs/systems.json, and a run that stands
there is not repeated; --seeds and --steps say how many and how long. `--jobs 2` has two at a time,
with one thread each.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec import autoencoders
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.autoencoders.system import System
from vqcodec.quantizers import usage
from vqcodec.training import data
from vqcodec.training.batches import Crops
from vqcodec.training.loop import Run
from vqcodec.training.systems import SystemTask, SystemTraining, grey

HERE = Path(__file__).parent
RESULTS = HERE / "systems.json"

Job = dict[str, Any]  # experiment, label, bits, system, shape, training, seed


def estimators(seeds: int, steps: int) -> Iterator[Job]:
    """One network, one code of 6 to 10 bits in each of 8x8 places; the quantizer alone differs."""
    names = ("ste", "ema", "gumbel", "rotation", "nsvq", "diveq", "diveq-detached", "sfdiveq")
    for seed in range(1, seeds + 1):
        for bits in (6, 8, 10, 7, 9):
            for name in names:
                shape = {"width": 32, "blocks": 1, "size": 2**bits, "quantizer": name}
                yield job("estimators", name, bits, "vqvae", shape, steps, seed)


def depthwise(seeds: int, steps: int) -> Iterator[Job]:
    """M codebooks of K codewords in each of 8x8 places, for slices (DQ) or for one vector (VQ)."""
    for seed in range(1, seeds + 1):
        for columns, size in ((1, 128), (3, 128), (5, 128), (3, 32), (5, 32), (3, 512), (1, 512)):
            for tied in (False, True) if columns > 1 else (False,):
                shape = {
                    "width": 32, "blocks": 1, "columns": columns, "sizes": [size], "dim": 8,
                    "tied": tied,
                }  # fmt: skip
                label = f"{'VQ' if tied else 'DQ'} M={columns} K={size}"
                bits = columns * (size.bit_length() - 1)
                yield job("depthwise", label, bits, "dqae", shape, steps, seed)


EXPERIMENTS: dict[str, Callable[[int, int], Iterator[Job]]] = {
    "estimators": estimators,
    "depthwise": depthwise,
}


def job(
    experiment: str,
    label: str,
    bits: int,
    system: str,
    shape: dict[str, Any],
    steps: int,
    seed: int,
) -> Job:
    training = {
        "steps": steps, "decay_steps": steps // 2, "warmup_steps": steps // 20, "batch": 64,
        "lr": 2e-3, "ema": 0.99, "evaluate_steps": 10**9, "seed": seed,
    }  # fmt: skip
    return {
        "experiment": experiment, "label": label, "bits": bits, "system": system,
        "shape": shape, "training": training, "seed": seed,
    }  # fmt: skip


def run(work: Job, path: Path) -> Job:
    """Train and measure; the job with 'result'."""
    torch.set_num_threads(1)
    _, config = autoencoders.classes(work["system"])
    shape = config.from_dict(work["shape"])
    settings = SystemTraining.from_dict(work["training"] | {"crop": shape.side})
    training, held_out = data.load_arrays(path)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        loop = Run(
            settings,
            lambda crops: SystemTask(settings, work["system"], shape),
            Crops(training, settings.seed),
            Path(folder),
        )
        while loop.step < loop.steps:
            loop.advance()
        model = loop.averaged()
    assert isinstance(model, System)
    squares = np.stack(settings.squares(held_out))
    return work | {"result": measure(model, squares) | {"seconds": round(time.monotonic() - start)}}


def measure(model: System, squares: np.ndarray) -> dict[str, float]:
    """Of the finest rate point: squared error of pixels in [0, 1], and how the codes are spread."""
    codec, index = GridCodec(model, {}, torch.device("cpu")), len(model.rates) - 1
    codes = codec.codes(squares, index)
    error = codec.squares(codes, index).astype(np.float64) - grey(squares, model)
    columns = [torch.from_numpy(c) for level in codes for c in level.swapaxes(0, 1)[:, :, None]]
    sizes = [size for level in model.levels(model.rates[index]) for size in level.sizes]
    counts = [usage.counts(c, size) for c, size in zip(columns, sizes, strict=True)]
    perplexity = [float(usage.perplexity(count)) for count in counts]
    used = [int(usage.used(count)) / size for count, size in zip(counts, sizes, strict=True)]
    return {
        "mse": round(float(np.square(error / 255).mean()), 7),
        "perplexity": round(statistics.mean(perplexity), 2),
        "used": round(statistics.mean(used), 4),
    }


def key(work: Job) -> str:
    """What tells one run from another, their results left out."""
    return json.dumps({k: v for k, v in work.items() if k != "result"}, sort_keys=True)


def load() -> list[Job]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []


def save(done: list[Job]) -> None:
    lines = ",\n".join(json.dumps(work) for work in sorted(done, key=key))
    RESULTS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def table(done: list[Job], experiment: str) -> str:
    """Means and standard deviations over the seeds, in Markdown."""
    groups: dict[tuple[str, int], list[dict[str, float]]] = {}
    for work in done:
        if work["experiment"] == experiment:
            groups.setdefault((work["label"], work["bits"]), []).append(work["result"])
    rows = ["| | bits | seeds | MSE x 1000 | PSNR | perplexity | used |", "|-|-|-|-|-|-|-|"]
    for (label, bits), results in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        mse = [1000 * r["mse"] for r in results]
        spread = f" ± {statistics.stdev(mse):.2f}" if len(mse) > 1 else ""
        psnr = -10 * np.log10(statistics.mean(mse) / 1000)
        perplexity = statistics.mean(r["perplexity"] for r in results)
        used = statistics.mean(r["used"] for r in results)
        rows.append(
            f"| {label} | {bits} | {len(results)} | {statistics.mean(mse):.2f}{spread} "
            f"| {psnr:.2f} dB | {perplexity:.0f} | {used:.0%} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "tables"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    done = load()
    if args.experiment != "tables":
        if args.data is None:
            parser.error("an .npz file of pictures is needed")
        known = {key(work) for work in done}
        wanted = EXPERIMENTS[args.experiment](args.seeds, args.steps)
        jobs = [work for work in wanted if key(work) not in known]
        with ProcessPoolExecutor(args.jobs) as pool:
            waiting = {pool.submit(run, work, args.data): work for work in jobs}
            for count, future in enumerate(as_completed(waiting), 1):
                done.append(future.result())
                save(done)
                result = done[-1]["result"]
                name = f"{done[-1]['label']} {done[-1]['bits']} bits, seed {done[-1]['seed']}"
                print(f"{count}/{len(jobs)}  {name}: {result}", file=sys.stderr)
    page = HERE / "systems.md"
    text = page.read_text(encoding="utf-8")
    for name in EXPERIMENTS:
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}{table(done, name)}\n{end}{tail}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
