"""Numbers as the user reads them."""

import re
from collections.abc import Sequence


def size(n_bytes: int) -> str:
    """``512 B``, ``23.1 kB`` (1000 bytes), ``1.23 MB``."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    return f"{n_bytes / 1e3:.1f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:.2f} MB"


def bpp(n_bytes: int, width: int, height: int) -> float:
    """Bits per pixel of a whole file."""
    return 8 * n_bytes / (width * height)


def rounding(asked: str, used: str) -> tuple[str, ...]:
    """A note where a rate in bits is not that of the rate point, to all the digits given.

    7.3bit is coded at 7.301bit, which needs no note; 7.31bit at 7.309bit neither; 7.302bit does.
    """
    one, other = (re.fullmatch(r"([\d.]+)\s*bit", rate.strip()) for rate in (asked, used))
    if not one or not other:
        return ()
    digits = len(one[1].partition(".")[2])
    if round(float(other[1]), digits) == float(one[1]):
        return ()
    return (f"no rate point is at {asked.strip()}: coded at {used}",)


def sizes(n_before: int, n_after: int) -> str:
    """``1.23 MB -> 23.1 kB, 53:1``; ``1:1.3`` where it grew."""
    if not n_after:  # of what went to a device
        return size(n_before)
    ratio = max(n_before, n_after) / max(1, min(n_before, n_after))
    digits = 0 if ratio >= 10 else 1
    said = f"{ratio:.{digits}f}:1" if n_before >= n_after else f"1:{ratio:.{digits}f}"
    return f"{size(n_before)} -> {size(n_after)}, {said}"


def growth(n_before: int, n_after: int) -> tuple[str, ...]:
    """A warning where a file is larger than what it was made of."""
    if not 0 < n_before < n_after:
        return ()
    return (f"the file is larger than its input: {size(n_before)} became {size(n_after)}",)


def seconds(value: float) -> str:
    """``12.3 s``, ``45 ms``."""
    return f"{value:.1f} s" if value >= 1 else f"{max(1, round(value * 1000))} ms"


def row(name: str, n_bytes: int, bpp: float | None = None) -> str:
    """A line of a table of sizes."""
    line = f"{name:<10}{n_bytes:11,} B"
    return line if bpp is None else f"{line}{bpp:10.4f} bpp"


def sections(
    n_bytes: Sequence[int], width: int, height: int, ideal_bits: Sequence[float] | None = None
) -> list[str]:
    """A line for each section, coarse first; level 1 is what ``--levels 1`` decodes."""
    lines = [row(f"level {i + 1}", n, bpp(n, width, height)) for i, n in enumerate(n_bytes)]
    if ideal_bits is None:
        return lines
    return [f"{a}   ideal {bits:,.1f} bits" for a, bits in zip(lines, ideal_bits, strict=True)]
