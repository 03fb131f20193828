"""Rate-distortion of a codec and of the reference codecs of Pillow, on a folder of pictures.

    python docs/measure.py PICTURES --out results.json [--codec photo-1] [--references FILE]

Bytes are those of finished files. The mean curve is, for each setting, the mean bpp and the mean
PSNR (RGB, of 8-bit pixels) over the pictures. BD-rate: log rate as a PCHIP of PSNR, integrated over
27..34 dB where the curves overlap. JPEG XL is measured where pillow-jxl-plugin is installed. Needs
scipy.
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, features
from scipy.interpolate import PchipInterpolator

REFERENCES: dict[str, tuple[str, list[dict]]] = {
    "jpeg": (
        "JPEG",
        [
            {"quality": q, "optimize": True, "subsampling": "4:2:0"}
            for q in (5, 8, 12, 16, 20, 26, 32, 40, 50, 60, 70, 78, 85, 90)
        ],
    ),
    "webp": (
        "WEBP",
        [{"quality": q, "method": 6} for q in (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90)],
    ),
    "avif": ("AVIF", [{"quality": q, "speed": 6} for q in (15, 25, 32, 40, 48, 56, 64, 72, 80)]),
    "jxl": ("JXL", [{"quality": q, "effort": 7} for q in (10, 20, 30, 40, 50, 60, 70, 78, 85, 90)]),
}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB, over all 8-bit samples."""
    mse = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / mse))


def reference_curves(pictures: list[Path]) -> dict[str, list[dict]]:
    available = {"jpeg": True, "webp": features.check("webp"), "avif": features.check("avif")}
    try:
        import pillow_jxl  # noqa: F401

        available["jxl"] = True
    except ImportError:
        print("JPEG XL: pillow-jxl-plugin is not installed, left out", file=sys.stderr)
    curves: dict[str, list[dict]] = {}
    for name, (form, settings) in REFERENCES.items():
        if not available.get(name):
            continue
        curves[name] = []
        for setting in settings:
            bpp, quality = [], []
            for path in pictures:
                image = Image.open(path).convert("RGB")
                stream = io.BytesIO()
                image.save(stream, form, **setting)
                decoded = np.asarray(Image.open(stream).convert("RGB"))
                bpp.append(8 * stream.tell() / (image.width * image.height))
                quality.append(psnr(decoded, np.asarray(image)))
            curves[name].append(
                {"setting": setting, "bpp": float(np.mean(bpp)), "psnr": float(np.mean(quality))}
            )
    return curves


def own_curve(
    pictures: list[Path],
    encode: Callable[[np.ndarray, str], tuple[bytes, float, np.ndarray]],
    rates: list[str],
) -> list[dict]:
    """``encode`` returns the file, its ideal bits and the decoded pixels."""
    curve = []
    for rate in rates:
        rows = []
        for path in pictures:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            data, ideal, decoded = encode(pixels, rate)
            n = pixels.shape[0] * pixels.shape[1]
            rows.append((8 * len(data) / n, psnr(decoded, pixels), len(data), ideal))
        bpp, quality, _, _ = np.mean(rows, 0)
        curve.append(
            {
                "rate": rate,
                "bpp": float(bpp),
                "psnr": float(quality),
                "images": {
                    p.name: {"bytes": int(r[2]), "psnr": r[1], "ideal_bits": r[3]}
                    for p, r in zip(pictures, rows, strict=True)
                },
            }
        )
        print(f"{rate:>8} {bpp:.4f} bpp {quality:.3f} dB", file=sys.stderr, flush=True)
    return curve


def bd_rate(
    anchor: list[dict], test: list[dict], low: float = 27, high: float = 34
) -> tuple[float, float, float]:
    """Mean rate difference of test against anchor in percent, and the PSNR interval used."""

    def interpolate(curve: list[dict]) -> tuple[PchipInterpolator, float, float]:
        points = sorted((p["psnr"], np.log(p["bpp"])) for p in curve)
        return PchipInterpolator(*zip(*points, strict=True)), points[0][0], points[-1][0]

    a, a_low, a_high = interpolate(anchor)
    b, b_low, b_high = interpolate(test)
    low, high = max(low, a_low, b_low), min(high, a_high, b_high)
    if low >= high:
        return float("nan"), low, high
    difference = (b.integrate(low, high) - a.integrate(low, high)) / (high - low)
    return float(100 * np.expm1(difference)), low, high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--codec", default=None)
    parser.add_argument(
        "--references", type=Path, help="curves measured before, read or written here"
    )
    parser.add_argument(
        "--rates", default="5bit,5.5bit,6bit,6.5bit,7bit,7.5bit,8bit,8.5bit,9bit,9.5bit,10bit"
    )
    options = parser.parse_args()
    import vqcodec
    from vqcodec import codec, image, zoo

    pictures = sorted(options.pictures.glob("*.png"))
    if options.references and options.references.exists():
        references = json.loads(options.references.read_text())
    else:
        references = reference_curves(pictures)
        if options.references:
            options.references.write_text(json.dumps(references, indent=1))
    card = zoo.find(options.codec)
    ours = zoo.load(card, "cpu")

    def encode(pixels: np.ndarray, rate: str) -> tuple[bytes, float, np.ndarray]:
        made = codec.compress(ours, image.Picture(pixels), rate)
        return made.data, sum(made.ideal_bits), codec.decompress(ours, made.data).pixels

    begun = time.time()
    own = own_curve(pictures, encode, options.rates.split(","))
    report = {
        "codec": card.id,
        "version": vqcodec.__version__,
        "pictures": len(pictures),
        "seconds": round(time.time() - begun),
        "bd_rate": {
            name: dict(zip(("percent", "low_db", "high_db"), bd_rate(curve, own), strict=True))
            for name, curve in references.items()
        },
        "curve": own,
        "references": references,
    }
    options.out.write_text(json.dumps(report, indent=1))
    for name, result in report["bd_rate"].items():
        print(
            f"BD-rate against {name}: {result['percent']:+.2f} % "
            f"over {result['low_db']:.1f}..{result['high_db']:.1f} dB"
        )


if __name__ == "__main__":
    main()
