"""Speed of our codecs and of the references, measured in one process, one after the other.

A time is the median of several rounds after a warm-up, from pixels in memory to bytes in memory and
back. Ours is split: ``network`` is analysis or synthesis, ``prior`` the exact networks and all else
of the walk, ``entropy`` the range coder, ``io`` the image file and the .vqc file on disk.
"""

import hashlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec import container, image, zoo
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.correction import BIT
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.bench.plan import Plan
from vqcodec.bench.references import Reference
from vqcodec.bench.tries import OwnCodec, read_json, write_json
from vqcodec.codec import Codec
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.priors.classes import ClassTables
from vqcodec.rangecoder import RangeDecoder, RangeEncoder

ROUNDS = 5


def seconds(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The median time of ``work``, after one call that does not count."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def own(codec_id: str, rate: str, pixels: np.ndarray, device: str) -> dict[str, Any]:
    """pixels (h, w, 3) uint8. Times in ms, speeds in MP/s, ``load_s`` to load the weights."""
    start = time.perf_counter()
    codec = Codec.from_weights(
        card := zoo.find(codec_id), (card.path / "weights.safetensors").read_bytes(), device
    )
    load = time.perf_counter() - start
    picture, megapixels = image.Picture(pixels), pixels.shape[0] * pixels.shape[1] / 1e6
    data = compress(codec, picture, rate).data
    encode = seconds(lambda: compress(codec, picture, rate))
    decode = seconds(lambda: decompress(codec, data))
    encode_ms = decode_ms = None
    if isinstance(codec.system, LadderCodec):
        parts = _parts(codec, codec.system, pixels, data)
        network_in, network_out, entropy_in, entropy_out, read, write = parts
        encode_ms = _split(encode, network_in, entropy_in, read)
        decode_ms = _split(decode, network_out, entropy_out, write)
    return {
        "codec": codec_id,
        "setting": rate,
        "encode_mps": round(megapixels / encode, 3),
        "decode_mps": round(megapixels / decode, 3),
        "encode_ms": encode_ms,
        "decode_ms": decode_ms,
        "load_s": round(load, 3),
    }


def reference(ref: Reference, quality: int, pixels: np.ndarray) -> dict[str, Any]:
    megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
    data = ref.encode(pixels, quality)
    return {
        "codec": ref.id,
        "setting": ref.setting_name(quality),
        "encode_mps": round(megapixels / seconds(lambda: ref.encode(pixels, quality)), 3),
        "decode_mps": round(megapixels / seconds(lambda: ref.decode(data)), 3),
        "encode_ms": None,
        "decode_ms": None,
        "load_s": None,
    }


def all_of(
    plan: Plan,
    pixels: np.ndarray,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Every codec of the plan on one picture: ours at two rates, references amid their ladders.

    Returns 'speed', a list of rows, and 'memory'; from the cache, a folder, where it was measured
    before on this picture, with as many threads.
    """
    encoders = [OwnCodec(name, plan.device).settings for name in plan.codecs]
    encoders += [reference.settings for reference in plan.found.values()]
    about = json.dumps(["speed", encoders, torch.get_num_threads(), pixels.shape])
    name = hashlib.sha256(about.encode() + pixels.tobytes()).hexdigest()
    path = cache and cache / f"{name}.json"
    known = read_json(path)
    if known:
        return known
    rows = []
    for codec_id in plan.codecs:
        for rate in zoo.find(codec_id).points[-1:] or ["7bit", "9bit"]:
            rows.append(own(codec_id, rate, pixels, plan.device))
            advance()
    for ref in plan.found.values():
        rows.append(reference(ref, ref.ladder[len(ref.ladder) // 2], pixels))
        advance()
    found = {"speed": rows, "memory": memory()}
    if path:
        write_json(path, found)
    return found


def memory() -> dict[str, float | None]:
    """Peaks of this process since it started, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    vram = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {"peak_rss_mib": round(peak), "peak_vram_mib": vram and round(vram)}


def _split(total: float, network: float, entropy: float, io: float) -> dict[str, float]:
    """In ms. What is neither network nor range coder is the prior's walk; io comes on top."""
    prior = max(0.0, total - network - entropy)
    parts = {"network": network, "prior": prior, "entropy": entropy, "io": io}
    return {name: round(1e3 * value, 1) for name, value in parts.items()}


def _parts(codec: Codec, system: LadderCodec, pixels: np.ndarray, data: bytes) -> tuple[float, ...]:
    """Seconds of analysis, synthesis, range encoding, range decoding, input and output."""
    height, width = pixels.shape[:2]
    point = RatePoint(container.read(data).header.rate)
    y, z = system.prepared(pixels, point, system.rdo)
    groups: list[tuple[int, np.ndarray, np.ndarray]] = []

    def watch(level: int, codes: np.ndarray, classes: np.ndarray) -> None:
        groups.append((level - 1, codes, classes))

    (coded,) = system.encode_latents(y, z, point, watch, rdo=BIT * system.rdo)
    tables = ClassTables(system.class_tables, system.steps.codewords(point))

    def range_encode() -> None:
        coders = [RangeEncoder() for _ in coded.sections[1:]]
        for level, codes, classes in groups:
            tables.encode(coders[level], codes, classes)
        for coder in coders:
            coder.finish()

    def range_decode() -> None:
        coders = [RangeDecoder(section) for section in coded.sections[1:]]
        for level, _, classes in groups:
            tables.decode(coders[level], classes)

    with tempfile.TemporaryDirectory() as folder:
        png, vqc = Path(folder) / "picture.png", Path(folder) / "picture.vqc"
        decoded = decompress(codec, data)
        image.write(decoded, png, "PNG")
        vqc.write_bytes(data)

        def read() -> None:
            image.read_rgb(png)
            vqc.write_bytes(data)

        def write() -> None:
            container.read(vqc.read_bytes())
            image.write(decoded, png, "PNG", force=True)

        return (
            seconds(lambda: system.prepared(pixels, point, system.rdo)),
            seconds(lambda: list(system.bands(coded.latent, height, width, point))),
            seconds(range_encode),
            seconds(range_decode),
            seconds(read, 3),
            seconds(write, 3),
        )
