"""Compares a GPU with the CPU on all golden files, and measures how fast it is.

    python benchmarks/gpu.py OUT.json [--device cuda]

Codes must be the same, pixels within one step. Speeds are medians in one process, warm. See gpu.sh.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import vqcodec
from vqcodec import container, image, zoo
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.training.batches import Crops
from vqcodec.training.loop import Run
from vqcodec.training.recipe import read_recipe
from vqcodec.training.resident import ResidentBatches

ROOT = Path(__file__).resolve().parent.parent
RATE = "7bit"
ROUNDS = 7


def seconds(run: Callable[[], object], device: str) -> float:
    """Median time of a call, without the first three."""
    times = []
    for _ in range(3 + ROUNDS):
        wait(device)
        begun = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[3:])


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def golden(device: str) -> dict[str, object]:
    """All golden files, decoded on the device and as they are stored."""
    sys.path.insert(0, str(ROOT / "tests"))
    from golden import make

    wrong, largest, count = [], 0, 0
    for listed in sorted((ROOT / "tests/golden").glob("*/golden.json")):
        for name, expected in json.loads(listed.read_text(encoding="utf-8")).items():
            stem, _, number = name.partition("@")
            data = (listed.parent / f"{stem}.vqc").read_bytes()
            if number:
                data = container.write(container.read_archive(data)[int(number) - 1])
            codec = zoo.load(zoo.for_header(container.read(data).header), device)
            count += 1
            if make.codes_hash(codec, data) != expected:
                wrong.append(f"{listed.parent.name}/{name}")
            one, other = (
                np.asarray(vqcodec.decode(data, device=where)).astype(int)
                for where in ("cpu", device)
            )
            largest = max(largest, int(np.abs(one - other).max()))
    return {"files": count, "other_codes": wrong, "largest_pixel_difference": largest}


def picture(height: int, width: int) -> np.ndarray:
    """The test photograph, repeated."""
    photo = image.rgb(image.read(ROOT / "tests/data/photo.png", "photo"))
    rows, columns = -(-height // photo.shape[0]), -(-width // photo.shape[1])
    return np.tile(photo, (rows, columns, 1))[:height, :width]


def coding(device: str) -> dict[str, dict[str, float]]:
    """MP/s of the default codec: picture in memory to bytes and back."""
    codec, found = vqcodec.load_codec(device=device), {}
    for height, width in ((512, 768), (4000, 6000)):
        one = image.from_array(picture(height, width))
        data = compress(codec, one, RATE).data
        megapixels = height * width / 1e6
        found[f"{width}x{height}"] = {
            "encode_mp_s": megapixels / seconds(lambda p=one: compress(codec, p, RATE), device),
            "decode_mp_s": megapixels / seconds(lambda d=data: decompress(codec, d), device),
        }
    return found


def training(device: str, folder: Path, recipe_name: str, batch: int) -> dict[str, float]:
    """Megapixels of crops that a training takes in a second, with the pictures on the device."""
    changes = [f"batch={batch}", f"late_batch={batch}", "start="]
    if device == "cuda":
        changes += ["amp=bf16", "compile=true"]
    recipe = read_recipe(ROOT / "recipes" / f"{recipe_name}.toml", changes)
    crops = Crops([picture(500, 672 + 8 * n) for n in range(8)])
    run = Run(recipe.config, recipe.task, crops, folder, device)
    run.batches = ResidentBatches(crops, run.batch_shape, run.device)
    took = seconds(run.advance, device)
    count, side = run.batch_shape(0)
    return {"batch": count, "crop": side, "mp_s": count * side * side / 1e6 / took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--recipe", default="photo-3")
    parser.add_argument("--batch", type=int, nargs="*", default=[64])
    options = parser.parse_args()
    found: dict[str, object] = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    parts: dict[str, Callable[[], object]] = {
        "golden": lambda: golden(options.device),
        "coding": lambda: coding(options.device),
        "training": lambda: [
            training(options.device, options.out.parent / "speed", options.recipe, batch)
            for batch in options.batch
        ],
    }
    for name, part in parts.items():
        found[name] = part()
        print(name, json.dumps(found[name]), flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
