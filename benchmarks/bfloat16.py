"""What decoding with the 3x3 convolutions in bfloat16 changes: differences of pixels, PSNR, time.

    python benchmarks/bfloat16.py PICTURES --count 1000

Of each picture the middle square is encoded for either aim at a random rate, and its file decoded
with both, by turns. On a processor without bfloat16 the differences are the same and times are not.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from vqcodec import image, zoo
from vqcodec.autoencoders.ladder import codec as ladder
from vqcodec.autoencoders.ladder.rate import RATE_HIGH, RATE_LOW
from vqcodec.autoencoders.system import System
from vqcodec.codec import Codec
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.metrics.psnr import psnr_db
from vqcodec.training.data import spread

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decoded(ours: Codec, data: bytes, dtype: torch.dtype) -> tuple[np.ndarray, float]:
    """Pixels, and the seconds that it took."""
    system: System = ours.system
    ladder.fast_dtype = lambda device: dtype  # type: ignore[assignment]
    system._folded = None  # type: ignore[attr-defined]
    begun = time.perf_counter()
    return decompress(ours, data).pixels, time.perf_counter() - begun


def measure(ours: Codec, pictures: list[Path], side: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    largest, changed, samples, psnr = 0, 0, 0, []
    seconds = dict.fromkeys(DTYPES, 0.0)
    for number, path in enumerate(pictures):
        whole = image.read(path, path.name).pixels
        top, left = ((n - min(n, side)) // 2 for n in whole.shape[:2])
        picture = image.from_array(whole[top : top + side, left : left + side])
        for aim in ours.card.tunes:
            bits = rng.integers(RATE_LOW, RATE_HIGH + 1) / 256
            data = compress(ours.tuned(aim), picture, f"{bits}bit").data
            found = {}
            for name in sorted(DTYPES, reverse=bool(number % 2)):
                found[name], took = decoded(ours, data, DTYPES[name])
                seconds[name] += took
            a, b = found["float32"], found["bfloat16"]
            difference = np.abs(a.astype(np.int16) - b)
            largest = max(largest, int(difference.max()))
            changed += int(np.count_nonzero(difference))
            samples += difference.size
            psnr.append(psnr_db(picture.pixels, b) - psnr_db(picture.pixels, a))
    return {
        "codec": ours.card.id,
        "pictures": len(pictures),
        "files": len(psnr),
        "largest_difference": largest,
        "changed_share": changed / samples,
        "psnr_db_mean": float(np.mean(psnr)),
        "psnr_db_least": min(psnr),
        "decoding_time_ratio": seconds["bfloat16"] / seconds["float32"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--codec", default=zoo.DEFAULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in options.pictures.rglob("*") if p.suffix in (".jpg", ".png", ".webp"))
    chosen = [paths[index] for index in spread(len(paths), options.count)]
    ours = zoo.load(zoo.find(options.codec), "cpu")
    print(json.dumps(measure(ours, chosen, options.side), indent=1))


if __name__ == "__main__":
    main()
