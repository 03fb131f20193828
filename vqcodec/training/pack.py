"""Shards from pictures: made smaller, chosen by quality, split. For training and WebDataset."""

import json
import os
import secrets
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np

from vqcodec import image
from vqcodec.errors import ImageError, InputError, OutputError, UsageError, reason
from vqcodec.files import make_folder
from vqcodec.image import Picture
from vqcodec.training.data import MAX_PIXELS, Skip, Track
from vqcodec.training.parallel import mapped
from vqcodec.training.sources import Files, find, is_held_out

_KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # formats whose files may stay as they are
OVERSAMPLED = 3  # JPEGs are decoded at a half, a quarter... where that is still so much too large
_PARTS = ("train", "val")


@dataclass(frozen=True)
class Packing:
    """What is packed, and how."""

    long_side: int = 672  # pixels; larger pictures are made smaller
    lossless: bool = False  # what is made smaller, or is of another format: WebP in place of JPEG
    quality: int = 95  # of that JPEG
    min_side: int = 0  # pixels, of the short side as packed
    min_quality: int = 0  # of a JPEG file, unless it is made smaller than half
    min_detail: float = 0.0  # see ``detail``, of what is packed
    split: str = "content"  # or "name", see ``sources.Source``
    shard_mb: int = 256


@dataclass(frozen=True)
class Summary:
    """What has become of all pictures."""

    training: int
    held_out: int
    dropped: dict[str, int]  # by the reason
    shards: int
    n_bytes: int


@dataclass(frozen=True)
class _Packed:
    key: str  # SHA-256 of the original file, hexadecimal
    held_out: bool  # by its content
    suffix: str
    content: bytes
    about: bytes  # JSON


@dataclass(frozen=True)
class _Dropped:
    reason: str
    broken: str = ""  # what is wrong, where anything is


def pack(
    data: Path,
    out: Path,
    packing: Packing,
    track: Track,
    skip: Skip,
    *,
    force: bool = False,
    threads: int | None = None,
) -> Summary:
    """Write the pictures of a folder, or of a list, to shards in the folder ``out``.

    ``train-00000.tar`` and so on, and ``val-00000.tar`` with what is held out, appear when all are
    written. A picture is two members, named by the SHA-256 of its original file: the picture, and
    JSON with the original's name and hash and the size as packed. The same pictures give the same
    bytes. Copies of a file are dropped, and what ``packing`` says; ``skip`` is told what is broken.

    Raises InputError where nothing is left to pack, UsageError where ``data`` is neither a folder
    of pictures nor a list, and OutputError.
    """
    source = find(data)
    if not isinstance(source, Files):
        raise UsageError(f"{data}: pictures are packed from a folder or from a list of files")
    by_name = source.held_out(packing.split)
    counts = [0, 0]
    dropped = Counter[str]()
    seen = set[bytes]()
    indices = range(len(source))
    most = 10**6 * packing.shard_mb
    with _shards(out, force) as folder:
        parts = [_Part(folder, name, most) for name in _PARTS]
        with closing(parts[0]), closing(parts[1]):
            packed = mapped(partial(_one, source, packing), indices, threads)
            for index, made in zip(track(indices, "packing"), packed, strict=True):
                if isinstance(made, _Packed) and bytes.fromhex(made.key) in seen:
                    made = _Dropped("copies")
                if isinstance(made, _Dropped):
                    dropped[made.reason] += 1
                    if made.broken:
                        skip(made.broken)
                    continue
                seen.add(bytes.fromhex(made.key))
                held_out = bool(made.held_out if by_name is None else by_name[index])
                counts[held_out] += 1
                parts[held_out].add(made)
        if not any(counts):
            why = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
            raise InputError(f"{data}: no picture is left to pack: {why}")
    shards, n_bytes = (sum(part.shards for part in parts), sum(part.n_bytes for part in parts))
    return Summary(counts[0], counts[1], dict(sorted(dropped.items())), shards, n_bytes)


def _one(source: Files, packing: Packing, index: int) -> _Packed | _Dropped:
    name = source.name(index)
    try:
        original = source.content(index)
        header = image.header(original, name, MAX_PIXELS)
        factor = min(1.0, packing.long_side / max(header.height, header.width))
        if round(factor * min(header.height, header.width)) < packing.min_side:
            return _Dropped("too small")
        if header.quality is not None and factor > 0.5 and header.quality < packing.min_quality:
            return _Dropped("of low quality")
        picture = image.read(original, name, MAX_PIXELS, OVERSAMPLED * packing.long_side)
    except (ImageError, InputError) as error:
        return _Dropped("broken", str(error))
    pixels, suffix, content = picture.pixels, _KEPT.get(header.format), original
    if factor < 1:
        factor = packing.long_side / max(pixels.shape)
        height, width = (max(1, round(factor * n)) for n in pixels.shape[:2])
        pixels = image.resize(pixels, height, width)
    if packing.min_detail and detail(pixels) < packing.min_detail:
        return _Dropped("flat or blurred")
    if factor < 1 or suffix is None or picture.deep:
        suffix = "webp" if packing.lossless else "jpg"
        content = _encoded(pixels, "WEBP" if packing.lossless else "JPEG", packing.quality)
    key = sha256(original).hexdigest()
    about = {
        "name": source.names[index],
        "sha256": key,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
    }
    return _Packed(key, is_held_out(original), suffix, content, json.dumps(about).encode())


def detail(pixels: np.ndarray) -> float:
    """The mean difference of neighbours in a picture (h, w[, 3]), in grey levels."""
    green = (pixels if pixels.ndim == 2 else pixels[..., 1]).astype(np.int16)
    differences = (np.abs(np.diff(green, axis=axis)) for axis in (0, 1))
    return float(np.mean([d.mean() if d.size else 0.0 for d in differences]))


def _encoded(pixels: np.ndarray, format: str, quality: int) -> bytes:
    buffer = BytesIO()
    image.write(Picture(pixels), buffer, format, quality=quality)
    return buffer.getvalue()


class _Part:
    """Shards of about ``most`` bytes, at least one."""

    def __init__(self, folder: Path, name: str, most: int) -> None:
        self.folder, self.name, self.most = folder, name, most
        self.shards = self.n_bytes = 0
        self._open()

    def add(self, packed: _Packed) -> None:
        if self.filled >= self.most:
            self.close()
            self._open()
        for suffix, content in ((packed.suffix, packed.content), ("json", packed.about)):
            member = tarfile.TarInfo(f"{packed.key}.{suffix}")  # of nobody, and of no time
            member.size = len(content)
            self.tar.addfile(member, BytesIO(content))
            self.filled += len(content)

    def close(self) -> None:
        self.tar.close()
        self.n_bytes += self.path.stat().st_size

    def _open(self) -> None:
        self.path = self.folder / f"{self.name}-{self.shards:05}.tar"
        self.tar = tarfile.open(self.path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.shards, self.filled = self.shards + 1, 0


@contextmanager
def _shards(out: Path, force: bool) -> Iterator[Path]:
    """A hidden folder, whose files move to ``out`` when the block ends without an error.

    Shards of an earlier packing are replaced, all of them, with ``force``. Raises OutputError.
    """
    make_folder(out)
    old = {path for name in _PARTS for path in out.glob(f"{name}-*.tar")}
    if old and not force:
        raise OutputError(f"{min(old)}: exists; --force replaces all shards of the folder")
    hidden = out / f".vqcodec-{secrets.token_hex(8)}.tmp"
    try:
        hidden.mkdir()
        yield hidden
        new = {out / path.name for path in hidden.iterdir()}
        for path in new:
            os.replace(hidden / path.name, path)
        for path in old - new:
            path.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {reason(error)}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
