"""What the fuzz targets share: limits of an input, the seeded engine, files with sound checksums.

A target is a file ``fuzz_NAME.py`` with a function ``check(data)``, which raises for a finding, and
a folder ``corpus/NAME`` of inputs to start from; past findings are among them. What it needs for
all inputs it loads in a function ``prepare()``, if it has one: that counts for none of them.
"""

import importlib
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from vqcodec import container
from vqcodec.container import header, parts
from vqcodec.errors import FormatError

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
SECONDS = 2.0  # of the processor, for an input
MEBIBYTES = 1024  # of the process

Check = Callable[[bytes], None]


class Finding(AssertionError):
    """An input that took too long or too much memory."""


def load(name: str) -> Check:
    """The check of a target, with its limits."""
    module = importlib.import_module(f"fuzz.fuzz_{name}")
    check: Check = module.check
    getattr(module, "prepare", lambda: None)()
    # Of a process that has had much already, as that of all tests, how much more counts.
    most = max(MEBIBYTES, peak_mebibytes() + MEBIBYTES // 4)

    def limited(data: bytes) -> None:
        begun = time.process_time()
        check(data)
        seconds = time.process_time() - begun
        if seconds > SECONDS:
            raise Finding(f"{seconds:.1f} s for an input of {len(data)} bytes")
        if peak_mebibytes() > most:
            raise Finding(f"{peak_mebibytes():.0f} MiB after an input of {len(data)} bytes")

    return limited


def peak_mebibytes() -> float:
    """The largest memory that the process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kB, on Linux


def corpus(name: str) -> list[bytes]:
    """The inputs of a target, by name."""
    return [path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())]


def longest(seeds: Sequence[bytes]) -> int:
    """How long an input may be, in bytes."""
    return 2 * max(map(len, seeds))


# ------------------------------------------------------------------------------- the seeded engine


def run(
    check: Check, seeds: Sequence[bytes], seed: int, seconds: float, inputs: int | None = None
) -> tuple[int, bytes | None, Exception | None]:
    """Checks mutations of the seeds; the same ones for the same seed.

    Returns how many were checked, and the first that fails with its error.
    """
    rng, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end and (inputs is None or count < inputs):
        data = seeds[count] if count < len(seeds) else mutated(rng, seeds)
        count += 1
        try:
            check(data)
        except Exception as error:
            return count, data, error
    return count, None, None


_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, changed in a few places."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([data[at] ^ 1 << rng.randrange(8)]) if data[at:] else b""
            case 2:
                size, order = rng.choice("BHI"), rng.choice("<>")
                value = rng.choice(_INTERESTING) & (1 << 8 * struct.calcsize(size)) - 1
                data[at : at + struct.calcsize(size)] = struct.pack(order + size, value)
            case 3:
                del data[at : at + rng.randrange(1, 17)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 17))
            case 5:
                start = rng.randrange(len(data) + 1)
                data[at:at] = data[start : start + rng.randrange(1, 65)]
            case 6:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) + 1)
                piece = other[start : start + rng.randrange(1, 65)]
                data[at : at + len(piece)] = piece
            case _:
                if rng.randrange(4) == 0:
                    del data[at:]
    return bytes(data[: longest(seeds)])


# ------------------------------------------------------------------- .vqc files, checksums and all


def sealed(data: bytes) -> bytes:
    """The file with every checksum made right that can be found, to let damage pass by them."""
    file = bytearray(data)
    try:
        if container.is_archive(data):
            _seal_archive(file)
        else:
            _seal_picture(file)
    except FormatError:  # from here on nothing can be found
        pass
    return bytes(file)


def _seal_picture(file: bytearray) -> None:
    flags, _, n_sections, n_boxes, at = header.read_header(bytes(file))
    crc = zlib.crc32(file[:at])
    for index in range(n_sections + n_boxes):
        label = bytes([index & 255])
        if index >= n_sections:
            label, at = bytes(file[at : at + 4]), at + 4
        if flags & header.TAIL and index + 1 == n_sections:
            length = max(0, len(file) - at - 2)
        else:
            length, at = parts.read_varint(bytes(file), at, "")
        start = at + parts.checksum_bytes(length)
        payload = bytes(file[start : start + length])
        file[at:start] = parts.checksum(crc, label, payload)[: start - at]
        at = start + length


def _seal_archive(file: bytearray) -> None:
    *_, count, at = header.read_header(bytes(file))
    lengths = []
    for _ in range(min(count, len(file))):
        length, at = parts.read_varint(bytes(file), at, "")
        lengths.append(length)
    crc = zlib.crc32(file[:at])
    file[at : at + 4] = crc.to_bytes(4, "little")
    at += 4
    for index, length in enumerate(lengths):
        start = at + parts.checksum_bytes(length, parts.LONG_PICTURE)
        picture = bytes(file[start : start + length])
        file[at:start] = parts.picture_checksum(crc, index, picture)[: start - at]
        at = start + length
