"""What is measured on every picture. Imports no torch: what cannot be is refused at once."""

from dataclasses import dataclass
from functools import lru_cache

from vqcodec.bench.references import Reference, available, external
from vqcodec.errors import UsageError
from vqcodec.metrics import PANEL

RATES = tuple(f"{n / 2:g}bit" for n in range(10, 21))
SHOWN_RATES = ("6bit", "7bit", "8bit", "9bit")  # of the report's pictures and equal sizes
THUMBNAILS = (64, 256)  # pixels, both sides
EQUAL_SIZE = ("jpeg", "webp", "avif", "avif-psnr", "jxl", "jpeg2000")  # with integers as settings
USUAL = ("psnr", "psnr_y", "ssimulacra2")  # metrics, besides the panel's


@dataclass(frozen=True)
class Plan:
    """What is measured on every picture. Ids of codecs and references, names of rates, metrics.

    panel_of: the references that have the panel's metrics, None for all; ours always have them.
    """

    codecs: tuple[str, ...]
    references: tuple[str, ...]
    rates: tuple[str, ...] = RATES
    metrics: tuple[str, ...] = ("psnr",)
    device: str = "cpu"
    pictures: bool = False  # keep what the report shows
    panel_of: tuple[str, ...] | None = None

    @property
    def found(self) -> dict[str, Reference]:
        """The references, in their order. Raises UsageError where one is not at hand."""
        return _find(self.references)

    @property
    def shown(self) -> tuple[str, ...]:
        """The rates of pictures and equal sizes."""
        return tuple(rate for rate in self.rates if rate in SHOWN_RATES) or self.rates[-4:]

    @property
    def equal(self) -> list[Reference]:
        """The references that are compared at equal sizes."""
        return [reference for name, reference in self.found.items() if name in EQUAL_SIZE]

    @property
    def steps(self) -> int:
        """How often ``measure_pixels`` advances at most."""
        ladders = sum(len(reference.ladder) for reference in self.found.values())
        equal = (1 + len(THUMBNAILS)) * len(self.shown)
        return len(self.codecs) * (len(self.rates) + equal) + ladders

    @property
    def judges(self) -> list[str]:
        """The metrics at equal sizes: not the panel's, for which so many files are too slow."""
        return [name for name in self.metrics if name not in PANEL]


@lru_cache(maxsize=4)  # of this process: a plugin of Pillow registers itself in each
def _find(names: tuple[str, ...]) -> dict[str, Reference]:
    known = available() | external()
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(f"no encoder for {missing[0]} here; at hand: {', '.join(known)}")
    return {name: known[name] for name in names}
