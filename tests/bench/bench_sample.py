"""A small report of ``vqcodec bench`` made by formulas, for the tests of its HTML page."""

import base64
import io
import math
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

HOSTILE = "</script><img src=x onerror=alert(1)>.png"
NAMES = ["kodim01.png", HOSTILE, "<!--<script>.png"]
REFERENCES = ["jpeg", "webp", "avif"]
EFFICIENCY = {"photo-2": 0.55, "jpeg": 1.0, "webp": 0.78, "avif": 0.6}  # bytes against JPEG's
SETTINGS = {
    "photo-2": ["5bit", "6bit", "7bit", "8bit"],
    "jpeg": ["quality 5", "quality 20", "quality 50", "quality 80", "quality 95"],
    "webp": ["quality 1", "quality 30", "quality 70", "quality 95"],
    "avif": ["quality 10", "quality 30", "quality 60", "quality 90"],
}
LOWEST_BPP = {"photo-2": 0.04, "jpeg": 0.2, "webp": 0.1, "avif": 0.05}


def sample(width: int = 192, height: int = 128) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and the pictures; two of the three image names attack the page."""
    images = [_image(i, name, width, height) for i, name in enumerate(NAMES)]
    report = {
        "vqcodec": "0.1.0",
        "date": "2026-11-22",
        "command": "vqcodec bench kodak",
        "machine": {
            "cpu": "Example CPU",
            "cores": 2,
            "threads": 1,
            "memory_gib": 23.5,
            "os": "Debian 12",
            "python": "3.11.2",
            "torch": "2.13.0+cpu",
            "pillow": "13.0.0",
            "gpu": None,
        },
        "codecs": [
            _codec("photo-2", "photo-2", "vqcodec 0.1.0, weights 84946e9e"),
            _codec("jpeg", "JPEG 4:2:0", "Pillow 13.0.0 (libjpeg-turbo): optimize, progressive"),
            _codec("webp", "WebP", "Pillow 13.0.0 (libwebp 1.6.0): method 6"),
            _codec("avif", "AVIF", "Pillow 13.0.0 (libavif 1.3.0, aom 3.13): speed 4, 4:2:0"),
        ],
        "metrics": [
            _metric("psnr", "PSNR (RGB)", "dB", "mean squared error over all samples"),
            _metric("ssim", "SSIM", "", "11 pixel Gaussian window, luma"),
            _metric("ms_ssim", "MS-SSIM", "dB", "-10 log10(1 - MS-SSIM), five scales"),
            _metric("ssimulacra2", "SSIMULACRA 2", "", "of libjxl"),
        ],
        "intervals": {"psnr": [27.0, 34.0], "ssimulacra2": [30.0, 85.0]},
        "headline": [
            {"text": "Fidelity (PSNR 27 to 34 dB): photo-2 needs 4 % more bytes than AVIF."},
            {"text": "Looks (SSIMULACRA2 30 to 85): photo-2 needs 41 % more bytes than AVIF."},
        ],
        "panel": [
            {
                "codec": "photo-2",
                "reference": "avif",
                "percent": 38.85,
                "each": {"vif": 29.2, "fsim": None},
                "left_out": ["ms_ssim"],
            }
        ],
        "images": images,
        "curves": {codec: _mean_curve(codec, images) for codec in SETTINGS},
        "bd_rate": [_bd_rate(c, m) for c, m in product(REFERENCES, ["psnr", "ssim", "ms_ssim"])],
        "equal_size": [
            _equal_size(image, index, point)
            for point in (1, 2)
            for index, image in enumerate(images)
        ],
        "speed": [
            {
                "codec": "photo-2",
                "setting": "7bit",
                "encode_mps": 2.4,
                "decode_mps": 3.2,
                "encode_ms": {"network": 60, "entropy": 80.4, "io": 3.25},
                "decode_ms": {"network": 70, "entropy": 50, "io": 2.5},
                "load_s": 1.1,
            },
            *(
                {
                    "codec": codec,
                    "setting": SETTINGS[codec][2],
                    "encode_mps": 60.0 / 4**i,
                    "decode_mps": 110.0 / 2**i,
                    "encode_ms": None,
                    "decode_ms": None,
                    "load_s": None,
                }
                for i, codec in enumerate(REFERENCES)
            ),
        ],
        "memory": {"peak_rss_mib": 812, "peak_vram_mib": None},
        "skipped": [{"path": f"x/{HOSTILE}", "why": "not a picture"}],
    }
    return report, [_picture(i, image) for i, image in enumerate(images)]


def _codec(key: str, label: str, settings: str) -> dict[str, Any]:
    return {"id": key, "own": key == "photo-2", "label": label, "settings": settings}


def _metric(key: str, label: str, unit: str, source: str) -> dict[str, str]:
    return {"id": key, "label": label, "unit": unit, "source": source}


def _image(index: int, name: str, width: int, height: int) -> dict[str, Any]:
    points = {
        codec: [_point(codec, i, index, width * height) for i in range(len(settings))]
        for codec, settings in SETTINGS.items()
    }
    sha256 = f"{index:064x}"
    return {"name": name, "sha256": sha256, "width": width, "height": height, "points": points}


def _point(codec: str, i: int, image: int, n_pixels: int) -> dict[str, Any]:
    bpp = LOWEST_BPP[codec] * 2.2**i * (1 + 0.1 * image)
    psnr = 31 + 5.5 * math.log10(bpp / EFFICIENCY[codec]) + 0.7 * i - image
    ssim = 1 - 10 ** -((psnr - 18) / 11)
    return {
        "setting": SETTINGS[codec][i],
        "bytes": round(bpp * n_pixels / 8),
        "metrics": {
            "psnr": psnr,
            "ssim": ssim,
            # too small a picture for five scales, say
            "ms_ssim": None if image == 1 or (codec, i) == ("jpeg", 0) else 0.9 * psnr - 14,
            "ssimulacra2": 4 * psnr - 60 if codec != "webp" else None,
        },
        "encode_s": 0.2,
        "decode_s": 0.1,
    }


def _mean_curve(codec: str, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    curve = []
    for i, setting in enumerate(SETTINGS[codec]):
        points = [image["points"][codec][i] for image in images]
        bpps = [
            8 * p["bytes"] / (image["width"] * image["height"])
            for p, image in zip(points, images, strict=True)
        ]
        metrics = {}
        for key in points[0]["metrics"]:
            values = [p["metrics"][key] for p in points if p["metrics"][key] is not None]
            metrics[key] = sum(values) / len(values) if values else None
        curve.append({"setting": setting, "bpp": sum(bpps) / len(bpps), "metrics": metrics})
    return curve


def _bd_rate(reference: str, metric: str) -> dict[str, Any]:
    percent = 100 * (EFFICIENCY["photo-2"] / EFFICIENCY[reference] - 1)
    row: dict[str, Any] = {"codec": "photo-2", "reference": reference, "metric": metric}
    used = {"percent": percent - 3, "low": 27.0, "high": 34.0}
    row["used"] = used if metric == "psnr" else None
    if (reference, metric) == ("webp", "ssim"):
        row["mean_curve"] = {"percent": None, "low": None, "high": None, "why": "too small"}
        empty = {"mean": None, "median": None, "low95": None, "high95": None}
        row["per_image"] = {"count": 0, "no_overlap": 3, **empty}
        return row
    low, high = (0.81, 0.9612) if metric == "ssim" else (25.1, 33.4)
    row["mean_curve"] = {"percent": percent, "low": low, "high": high, "why": None}
    row["per_image"] = {
        "count": 3,
        "no_overlap": 0,
        "mean": percent + 1,
        "median": percent + 0.5,
        "low95": percent - 2,
        "high95": percent + 4,
    }
    return row


def _equal_size(image: dict[str, Any], index: int, i: int) -> dict[str, Any]:
    ours = image["points"]["photo-2"][i]
    references = {}
    for codec in REFERENCES:
        fitting = [p for p in image["points"][codec] if p["bytes"] <= ours["bytes"]]
        other = fitting[-1] if fitting else image["points"][codec][0]
        # 0.25: a finer setting would come closer to our size
        references[codec] = {
            "setting": other["setting"],
            "bytes": min(other["bytes"] * 5 // 4, ours["bytes"]) if fitting else other["bytes"],
            "metrics": {
                "psnr": other["metrics"]["psnr"] + 0.25,
                "ssimulacra2": other["metrics"]["ssimulacra2"],
            },
            "too_large": not fitting or (codec == "webp" and index == 1),
        }
    return {
        "image": image["name"],
        "thumbnail": None,
        "codec": "photo-2",
        "setting": ours["setting"],
        "bytes": ours["bytes"],
        "metrics": {name: ours["metrics"][name] for name in ("psnr", "ssimulacra2")},
        "references": references,
    }


def _picture(index: int, image: dict[str, Any]) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin(x / (5 + index) + np.sin(y / 9)) * np.cos(y / (7 + index))
    pixels = np.stack([120 + 90 * wave, 255 * x / width, 255 * y / height], axis=-1)
    original = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    rates = []
    for i in (1, 2):
        matched = _equal_size(image, index, i)
        references = {
            codec: {
                "src": _url(original, 4 + 20 * i + 3 * j, "JPEG"),
                "bytes": other["bytes"],
                "metrics": other["metrics"],
                "too_large": other["too_large"],
            }
            for j, (codec, other) in enumerate(matched["references"].items())
        }
        rates.append(
            {
                "setting": matched["setting"],
                "codec": "photo-2",
                "bytes": matched["bytes"],
                "metrics": matched["metrics"],
                "ours": _url(original, 10 + 40 * i, "WEBP"),
                "references": references,
            }
        )
    return {
        "image": image["name"],
        "width": width,
        "height": height,
        "original": _url(original, 95, "WEBP"),
        "rates": rates,
    }


def _url(picture: Image.Image, quality: int, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
