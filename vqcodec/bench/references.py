"""The encoders that vqcodec is compared with, all behind one pair of calls.

Those of Pillow and its plugins run in this process, on one thread while they encode: with more,
libaom would cut the picture into tiles, and sizes would depend on the machine. Those of the
command line run on files in a temporary folder.
"""

import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from PIL import Image, features

from vqcodec.errors import ImageError, InputError

_TIMEOUT = 600.0  # seconds for one call of an external tool

# From the smallest file to the largest: the lowest quality that the encoder takes, closer steps at
# the low end, where vqcodec works, and a last one above 40 dB on most photos.
_JPEG_QUALITIES = (1, 3, 5, 7, 10, 13, 17, 22, 28, 36, 46, 58, 70, 80, 88, 95)
_WEBP_QUALITIES = (0, 1, 3, 6, 10, 15, 22, 30, 40, 52, 65, 76, 85, 91, 95, 100)
_AVIF_QUALITIES = (0, 6, 12, 18, 24, 31, 38, 45, 53, 61, 69, 77, 85, 92, 97)
# Below about 18 libjxl halves the picture first, so 14 to 17 are both larger and worse than 20.
_JXL_QUALITIES = (0, 4, 8, 12, 20, 26, 33, 40, 48, 56, 65, 74, 82, 88, 93, 97)
_JPEG2000_RATES = (400, 270, 180, 120, 85, 60, 42, 30, 22, 16, 12, 9, 7, 5, 4, 3)


_FORMATS = {".png": "PNG", ".ppm": "PPM"}  # that external tools take pixels in


@dataclass(frozen=True)
class Reference:
    """An encoder with fixed settings; only its quality varies.

    settings: library versions and fixed options, for reports. ladder: values for ``encode``, from
    the smallest file to the largest. mime: the type under which browsers show the files, None
    where they do not. kind: whether the values are qualities or compression ratios (24:1).

    encode(pixels, quality): the finished file for (h, w, 3) uint8. Raises ImageError where the
    format cannot hold the picture, InputError where an external tool fails.
    decode(data): (h, w, 3) uint8. Raises ImageError or InputError where it cannot be decoded.
    """

    id: str
    label: str
    settings: str
    ladder: tuple[int, ...]
    mime: str | None
    encode: Callable[[np.ndarray, Any], bytes] = field(repr=False)
    decode: Callable[[bytes], np.ndarray] = field(repr=False)
    kind: Literal["quality", "rate"] = "quality"

    def setting_name(self, quality: int) -> str:
        """For reports: ``quality 40`` or ``rate 24:1``."""
        return f"{self.kind} {quality}" + (":1" if self.kind == "rate" else "")


def available() -> dict[str, Reference]:
    """The references that this Pillow and its plugins can encode and decode, by id."""
    found: list[Reference] = []
    options: dict[str, Any]
    pillow = f"Pillow {PIL.__version__}"
    if features.check("jpg"):
        for name, label, chroma, progressive in (
            ("jpeg", "JPEG", "4:2:0", False),
            ("jpeg-444", "JPEG 4:4:4", "4:4:4", False),
            ("jpeg-progressive", "JPEG progressive", "4:2:0", True),
        ):
            settings = f"{pillow}, {_libjpeg()}, {chroma}, optimize"
            settings += ", progressive" if progressive else ""
            options = {"subsampling": chroma, "optimize": True, "progressive": progressive}
            found.append(
                _pillow(name, label, settings, _JPEG_QUALITIES, "image/jpeg", "JPEG", **options)
            )
    if features.check("webp"):
        settings = f"{pillow}, libwebp {features.version('webp')}, 4:2:0, method 6"
        found.append(
            _pillow("webp", "WebP", settings, _WEBP_QUALITIES, "image/webp", "WEBP", method=6)
        )
    if features.check("avif") and (aom := _libaom()):
        # Where nothing is said, libavif 1.4 with libaom 3.13 and later tunes stills for the eye
        # ("iq"), with losses by PSNR; so a second encoder is told to aim at PSNR.
        for name, label, chroma, advanced in (
            ("avif", "AVIF", "4:2:0", {}),
            ("avif-psnr", "AVIF for PSNR", "4:4:4", {"tune": "psnr"}),
        ):
            settings = f"{pillow}, libavif {features.version('avif')}, libaom {aom}, {chroma}"
            settings += f", speed 6, tune={advanced.get('tune', 'default')}"
            options = {"codec": "aom", "speed": 6, "subsampling": chroma, "max_threads": 1}
            options |= {"advanced": advanced}
            found.append(
                _pillow(name, label, settings, _AVIF_QUALITIES, "image/avif", "AVIF", **options)
            )
    if features.check("jpg_2000"):
        found.append(
            Reference(
                "jpeg2000",
                "JPEG 2000",
                f"{pillow}, OpenJPEG {features.version('jpg_2000')}, irreversible, ICT, .jp2",
                _JPEG2000_RATES,
                None,  # of the browsers only Safari
                _save_jpeg2000,
                partial(_load, format="JPEG2000"),
                kind="rate",
            )
        )
    if plugin := _jxl_plugin():
        settings = f"{pillow}, pillow-jxl-plugin {plugin}, effort 7"
        options = {"effort": 7, "num_threads": 1}
        found.append(_pillow("jxl", "JPEG XL", settings, _JXL_QUALITIES, None, "JXL", **options))
    return {reference.id: reference for reference in found}


def _pillow(
    name: str,
    label: str,
    settings: str,
    ladder: tuple[int, ...],
    mime: str | None,
    format: str,
    **options: Any,
) -> Reference:
    save = partial(_save, format=format, **options)
    return Reference(name, label, settings, ladder, mime, save, partial(_load, format=format))


def external() -> dict[str, Reference]:
    """The references whose encoder and decoder are on PATH, by id; asks each for its version."""
    found: list[Reference] = []
    command: tuple[str, ...]
    version = _version("cjxl", "djxl")
    if version:
        # not -q, which means other distances before 0.9 and fails at 0
        command = ("cjxl", "{in}", "{out}", "-d", "{distance}", "-e", "7", "--num_threads=0")
        found.append(
            Reference(
                "cjxl",
                "JPEG XL (cjxl)",
                f"{version.split(' [')[0]}, effort 7",
                _JXL_QUALITIES,
                None,
                partial(_encode_outside, command=command, suffixes=(".png", ".jxl")),
                partial(
                    _decode_outside,
                    command=("djxl", "{in}", "{out}"),
                    suffixes=(".jxl", ".png"),
                ),
            )
        )
    # Before 1.0 avifenc knew no quality, only quantizers.
    version = _version("avifenc", "avifdec")  # "1.2.1 (dav1d [dec]:1.5.1, aom [enc/dec]:v3.12.1)"
    aom = re.search(r"aom \[(?:enc|enc/dec)\]:v?([\w.]+)", version)
    if aom and "--qcolor" in _output_of("avifenc", "--help"):
        options = ("-c", "aom", "-q", "{q}", "-s", "6", "-y", "444", "-j", "1")
        command = ("avifenc", *options, "{in}", "{out}")
        found.append(
            Reference(
                "avifenc",
                "AVIF 4:4:4 (avifenc)",
                f"avifenc {version.split(' (')[0]}, libaom {aom[1]}, 4:4:4, speed 6",
                _AVIF_QUALITIES,
                "image/avif",
                partial(_encode_outside, command=command, suffixes=(".png", ".avif")),
                partial(
                    _decode_outside,
                    command=("avifdec", "{in}", "{out}"),
                    suffixes=(".avif", ".png"),
                ),
            )
        )
    version = _version("cjpeg", "djpeg", flag="-version")
    if "mozjpeg" in version.lower():
        command = ("cjpeg", "-quality", "{q}", "-sample", "2x2", "-outfile", "{out}", "{in}")
        found.append(
            Reference(
                "mozjpeg",
                "JPEG (mozjpeg)",
                f"{version}, 4:2:0, progressive",
                _JPEG_QUALITIES,
                "image/jpeg",
                partial(_encode_outside, command=command, suffixes=(".ppm", ".jpg")),
                partial(
                    _decode_outside,
                    command=("djpeg", "-pnm", "-outfile", "{out}", "{in}"),
                    suffixes=(".jpg", ".ppm"),
                ),
            )
        )
    return {reference.id: reference for reference in found}


def _save(pixels: np.ndarray, quality: int, *, format: str, **options: Any) -> bytes:
    return _written(pixels, format, quality=quality, **options)


def _save_jpeg2000(pixels: np.ndarray, rate: int) -> bytes:
    """rate: the compression ratio, against 24 bits per pixel."""
    return _written(
        pixels, "JPEG2000", irreversible=True, mct=1, quality_mode="rates", quality_layers=[rate]
    )


def _written(pixels: np.ndarray, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    try:
        Image.fromarray(pixels, "RGB").save(file, format, **options)
    except (OSError, RuntimeError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise ImageError(
            f"{format} cannot hold {width} x {height} pixels: {_line(error)}"
        ) from error
    return file.getvalue()


def _load(data: bytes, *, format: str) -> np.ndarray:
    """(h, w, 3) uint8"""
    try:
        with Image.open(io.BytesIO(data), formats=[format]) as image:
            return np.array(image.convert("RGB"))
    except (OSError, RuntimeError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"not a sound {format} file: {_line(error)}") from error


def _encode_outside(
    pixels: np.ndarray, quality: int, *, command: tuple[str, ...], suffixes: tuple[str, str]
) -> bytes:
    """suffixes: of the files that the command reads and writes; the first is Pillow's to write."""
    file = io.BytesIO()
    # of PNG files only the speed matters here
    Image.fromarray(pixels, "RGB").save(file, _FORMATS[suffixes[0]], compress_level=1)
    return _convert(file.getvalue(), command, suffixes, quality)


def _decode_outside(
    data: bytes, *, command: tuple[str, ...], suffixes: tuple[str, str]
) -> np.ndarray:
    """(h, w, 3) uint8"""
    return _load(_convert(data, command, suffixes), format=_FORMATS[suffixes[1]])


def _convert(
    data: bytes, command: tuple[str, ...], suffixes: tuple[str, str], quality: int = 0
) -> bytes:
    """What the command makes of ``data``; its words may hold {in}, {out}, {q} and {distance}."""
    with tempfile.TemporaryDirectory(prefix="vqcodec-") as folder:
        source, target = Path(folder, "in" + suffixes[0]), Path(folder, "out" + suffixes[1])
        source.write_bytes(data)
        values = {"in": source, "out": target, "q": quality, "distance": _distance(quality)}
        _run([word.format_map(values) for word in command], _TIMEOUT)
        if not target.is_file():
            raise InputError(f"{command[0]} wrote no file")
        return target.read_bytes()


def _distance(quality: int) -> float:
    """What cjxl 0.11 makes of -q (JxlEncoderDistanceFromQuality): 25 to 0.1 for 0 to 100."""
    if quality >= 30:
        return round(0.1 + (100 - quality) * 0.09, 6)
    return round(53 / 3000 * quality**2 - 23 / 20 * quality + 25, 6)


def _run(command: list[str], timeout: float) -> str:
    """Standard output and error of a command. Raises InputError if it fails; timeout: seconds."""
    name = command[0]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{name} took longer than {timeout:g} s") from None
    except OSError as error:
        raise InputError(f"{name} cannot be run: {_line(error)}") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        last = output.strip().splitlines()[-1:] or ["it said nothing"]
        raise InputError(
            f"{name} failed with code {done.returncode}: {last[0].strip().rstrip('.')}"
        )
    return output


def _version(encoder: str, decoder: str, flag: str = "--version") -> str:
    """The first line that the encoder says of itself; empty where either is missing."""
    if not (shutil.which(encoder) and shutil.which(decoder)):
        return ""
    lines = _output_of(encoder, flag).strip().splitlines()
    return lines[0].removeprefix("Version:").strip() if lines else ""


def _output_of(tool: str, flag: str) -> str:
    """Empty where the tool is broken: it is not offered then."""
    try:
        return _run([tool, flag], timeout=10.0)
    except InputError:
        return ""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".")


def _libjpeg() -> str:
    for feature, name in (("mozjpeg", "mozjpeg"), ("libjpeg_turbo", "libjpeg-turbo")):
        if feature in features.features and features.check(feature):
            return f"{name} {features.version(feature) or ''}".strip()
    return f"libjpeg {features.version('jpg')}"


def _libaom() -> str | None:
    """The version of the AV1 encoder inside Pillow; None where it can only decode."""
    from PIL import AvifImagePlugin

    return AvifImagePlugin.get_codec_version("aom")


def _jxl_plugin() -> str | None:
    """The version of pillow-jxl-plugin, which is registered with Pillow; None without it."""
    try:
        import pillow_jxl  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return None
    return metadata.version("pillow-jxl-plugin")
