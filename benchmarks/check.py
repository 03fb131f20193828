"""Measures what the README promises, on a folder of pictures of one size such as Kodak.

    python benchmarks/check.py PICTURES --results bench.json --out checks.json

Reads what `vqcodec bench --json` wrote for monotony and overhead. Then: size and PSNR targets
on every picture, warm speed on two threads, cold start of the command line, peak memory for 24
and for 100 megapixels, what a second process and what coding small pictures together bring, and how
often the encoder's choice depends on the number of threads. Run it on an idle machine.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vqcodec import image, zoo
from vqcodec.codec import Codec
from vqcodec.compress import compress, compress_many
from vqcodec.decompress import decompress
from vqcodec.errors import RateError
from vqcodec.metrics.psnr import psnr_db


def curves(report: dict) -> list[list[dict]]:
    """The points of each picture with our codecs: the default one, tuned for each aim."""
    names = [codec["id"] for codec in report["codecs"] if codec["own"]]
    return [picture["points"][name] for picture in report["images"] for name in names]


def monotone(report: dict) -> dict[str, dict[str, int]]:
    """By metric, the pairs of neighbouring rate points of all pictures and aims, and those that
    break the order: a larger file that is not better."""
    pairs = [pair for points in curves(report) for pair in pairwise(points)]
    return {
        metric: {
            "pairs": len(pairs),
            "broken": sum(
                not (b["bytes"] > a["bytes"] and b["metrics"][metric] > a["metrics"][metric])
                for a, b in pairs
            ),
        }
        for metric in ("psnr", "ssimulacra2")
    }


def overhead(report: dict) -> dict[str, float]:
    """The largest excess of a file over 1.005 times its ideal bits, in bytes: promised is 40."""
    points = [point for points in curves(report) for point in points]
    return {
        "largest_excess_bytes": max(p["bytes"] - 1.005 * p["ideal_bytes"] for p in points),
        "largest_share": max(p["bytes"] / p["ideal_bytes"] - 1 for p in points),
    }


def targets(ours: Codec, pictures: list[Path]) -> dict[str, dict]:
    result: dict[str, dict] = {}
    for rate in ("0.25bpp", "12kB", "1bpp"):
        used = []
        for path in pictures:
            picture = image.read(path, path.name)
            made = compress(ours, picture, rate)
            limit = {"0.25bpp": 0.25, "1bpp": 1.0}.get(rate, 0) * picture.width * picture.height / 8
            used.append(len(made.data) / (limit or 12000))
        result[rate] = {"least_used": min(used), "most_used": max(used)}
    over, missed = [], []
    for path in pictures:
        picture = image.read(path, path.name)
        try:
            made = compress(ours, picture, "34dB")
        except RateError:
            missed.append(path.name)  # not reached at 10bit either
            continue
        over.append(psnr_db(picture.pixels, decompress(ours, made.data).pixels) - 34)
    result["34dB"] = {"least_over_db": min(over), "most_over_db": max(over), "missed": missed}
    return result


def warm_speed(ours: Codec, path: Path) -> dict[str, dict[str, float]]:
    """Median MP/s of 15 runs in one process: picture in memory to bytes, and bytes to picture."""

    def seconds(run: Callable[[], object]) -> float:
        times = []
        for _ in range(18):
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
        return statistics.median(times[3:])

    picture = image.read(path, path.name)
    megapixels = picture.width * picture.height / 1e6
    result = {}
    for rate in ("7bit", "9bit"):
        data = compress(ours, picture, rate).data
        result[rate] = {
            "encode_mp_s": megapixels / seconds(lambda r=rate: compress(ours, picture, r)),
            "decode_mp_s": megapixels / seconds(lambda d=data: decompress(ours, d)),
        }
    return result


def command(*words: str) -> tuple[float, float]:
    """Runs the command line program in a process of its own: (seconds, peak memory in MiB)."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "vqcodec", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"vqcodec {' '.join(words)} failed")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def cold_and_large(pictures: list[Path]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = folder / "small.vqc"
        command("encode", str(pictures[0]), "-o", str(small), "--force")
        decode = [
            command("decode", str(small), "-o", str(folder / f"{i}.png"))[0] for i in range(3)
        ]
        info = [command("info", str(small))[0] for _ in range(5)]
        large = mosaic(pictures, 4000, 6000)
        Image.fromarray(large).save(folder / "large.png", compress_level=1)
        encoded = command("encode", str(folder / "large.png"), "-o", str(folder / "large.vqc"))
        decoded = command("decode", str(folder / "large.vqc"), "-o", str(folder / "back.png"))
        return {
            "cold_decode_seconds": statistics.median(decode),
            "cold_info_seconds": statistics.median(info),
            "large_megapixels": large.shape[0] * large.shape[1] / 1e6,
            "large_encode_seconds": encoded[0],
            "large_encode_mib": encoded[1],
            "large_decode_seconds": decoded[0],
            "large_decode_mib": decoded[1],
        }


def mosaic(pictures: list[Path], height: int, width: int) -> np.ndarray:
    """Pixels (height, width, 3) of pictures side by side."""
    tiles = [np.asarray(Image.open(p).convert("RGB")) for p in pictures]
    tiles = [t for t in tiles if t.shape == tiles[0].shape]
    high, wide = tiles[0].shape[:2]
    n_rows, n_columns = -(-height // high), -(-width // wide)
    rows = [
        np.concatenate([tiles[(n_columns * r + c) % len(tiles)] for c in range(n_columns)], 1)
        for r in range(n_rows)
    ]
    return np.concatenate(rows)[:height, :width]


def huge(pictures: list[Path]) -> dict[str, float]:
    """100 megapixels through the command line: seconds, and peak memory, promised below 3 GiB."""
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        huge, coded, back = (Path(name) / n for n in ("huge.png", "huge.vqc", "back"))
        Image.fromarray(mosaic(pictures, 10000, 10000)).save(huge, compress_level=1)
        steps = {
            "encode": ("encode", str(huge), "-o", str(coded), "--rate", "7bit"),
            "decode_png": ("decode", str(coded), "-o", str(back.with_suffix(".png"))),
            "decode_ppm": ("decode", str(coded), "-o", str(back.with_suffix(".ppm"))),
            "decode_region": (
                *("decode", str(coded), "--region", "6000,5000,1024,1024"),
                *("-o", str(back.with_suffix(".tif"))),
            ),
        }
        for step, words in steps.items():
            result[f"{step}_seconds"], result[f"{step}_mib"] = command(*words)
    return result


def many(pictures: list[Path]) -> dict[str, float]:
    """Seconds for all pictures, 8 times, with one process and with two of one thread each."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "in", Path(name) / "out"
        folder.mkdir()
        for path in pictures:  # so many that a process's start is a small part
            for copy in range(8):
                (folder / f"{path.stem}-{copy}{path.suffix}").symlink_to(path.resolve())
        words = ["encode", str(folder), "-o", str(out), "--rate", "7bit", "-q", "--force"]
        for turn in range(6):  # by turns, so that what else the machine does is alike for both
            jobs = 1 + turn % 2
            seconds[jobs].append(command(*words, "--threads", "1", "--jobs", str(jobs))[0])
    one, two = (statistics.median(seconds[jobs]) for jobs in (1, 2))
    return {"one_process_seconds": one, "two_processes_seconds": two, "ratio": one / two}


def small(ours: Codec, pictures: list[Path]) -> dict[str, dict[str, float]]:
    """What it gains to encode small pictures together, on one thread: milliseconds for each."""
    whole = [np.asarray(Image.open(path).convert("RGB")) for path in pictures]
    result = {}
    torch.set_num_threads(1)
    for side in (64, 128, 256):
        squares = [image.from_array(pixels[:side, :side]) for pixels in whole]
        works: dict[str, Callable[[], object]] = {
            "alone": lambda s=squares: [compress(ours, one, "7bit") for one in s],
            "together": lambda s=squares: compress_many(ours, s, "7bit"),
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(7):
            for name, work in works.items():
                begun = time.perf_counter()
                work()
                if turn:
                    times[name].append(time.perf_counter() - begun)
        row = {name: 1e3 * statistics.median(times[name]) / len(squares) for name in works}
        result[f"{side}x{side}"] = {**row, "ratio": row["alone"] / row["together"]}
    torch.set_num_threads(2)
    return result


def thread_dependence(ours: Codec, pictures: list[Path]) -> dict[str, int]:
    """Files of one and of two threads that differ; decoding them is exact either way."""
    differ = codes = 0
    for path in pictures:
        picture = image.read(path, path.name)
        made = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(compress(ours, picture, "8bit").data)
        differ += made[0] != made[1]
        codes += picture.width * picture.height
    return {"files": len(pictures), "files_that_differ": differ, "codes": codes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--step", action="append", help="repeat these only; keep the others")
    options = parser.parse_args()
    pictures = sorted(options.pictures.glob("*.png"))
    measured = json.loads(options.results.read_text())
    torch.set_num_threads(2)
    ours = zoo.load(zoo.find(), "cpu")
    report: dict[str, object] = {"machine": platform.processor() or platform.machine()}
    if options.step:
        report = json.loads(options.out.read_text())
    steps: dict[str, Callable[[], object]] = {
        "monotone": lambda: monotone(measured),
        "overhead": lambda: overhead(measured),
        "speed": lambda: warm_speed(ours, pictures[4]),
        "command_line": lambda: cold_and_large(pictures),
        "huge": lambda: huge(pictures),
        "many": lambda: many(pictures),
        "small": lambda: small(ours, pictures),
        "threads": lambda: thread_dependence(ours, pictures),
        "targets": lambda: targets(ours, pictures),
    }
    for name, step in steps.items():
        if options.step and name not in options.step:
            continue
        report[name] = step()
        print(name, json.dumps(report[name]), file=sys.stderr, flush=True)
    if not options.step:
        report["peak_mib_of_this_process"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        )
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
