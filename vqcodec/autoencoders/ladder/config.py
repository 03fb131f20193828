"""Sizes of a ladder, and the constants of its steps. Does not import torch.

Units: pixels 0..255; the latent in units of the orthonormal transform of such pixels; after
division by a step one unit is the distance of two codewords. At ``Nbit`` a codebook of 2**N
codewords covers a range of 10240 units, so step(N) = 10240 / 2**N. A ladder with ``weighted``
steps has another factor for each channel (see ``model.StepWeights``).
"""

from dataclasses import dataclass

from vqcodec.settings import Settings

RANGE = 10240.0  # units of the latent that a codebook covers
BITS_CENTRE = 7.5  # t(n) = (n - 7.5) / 2
BITS_MOST = 10.0
MIN_WEIGHT, MAX_WEIGHT = -0.5, 4.0  # log2 of a channel's step over the rate point's
HYPER_SIZE = 64  # codewords of a hyper channel, the integers -32..31


@dataclass(frozen=True)
class LadderConfig(Settings):
    """Sizes of a ladder. Channel counts are those of the latent y, by frequency."""

    luma: int = 176
    chroma: int = 40
    more_luma: int = 0  # the next frequencies, after all of the above
    more_chroma: int = 0
    slices: tuple[int, ...] = (8, 24, 64, 160)
    checkerboard: tuple[bool, ...] = (True, True, True, False)
    coded_from: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # N from which a slice is coded
    fine: int = 96  # channels at /8
    coarse: int = 192  # channels at /16
    hyper: int = 48  # channels of the hyper grid
    features: int = 64  # channels of the decoded hyper grid
    hidden: tuple[int, ...] = (96, 96, 128, 128)  # of the prior network of each slice
    narrow: int = 0  # channels to which a prior network first reduces twice as many or more
    analysis_fine: int = 2  # residual blocks of the analysis at /8
    analysis_coarse: int = 1  # and at /16
    tuned: bool = False  # one network for both aims: v is 0 for PSNR, 1 for the eye
    weighted: bool = False  # a learnt factor of the step for each channel

    @property
    def channels(self) -> int:
        return self.luma + self.more_luma + 2 * (self.chroma + self.more_chroma)

    @property
    def conditions(self) -> int:
        """How many variables a FiLM layer sees: see ``conditions``."""
        return 6 if self.tuned else 3

    @property
    def base(self) -> int:
        """Channels of the slices that are coded at all rates."""
        return self.coded_channels(0)

    def coded_slices(self, bits: float) -> int:
        """How many slices are coded at rate point ``bits``."""
        return sum(low <= bits for low in self.coded_from)

    def coded_channels(self, bits: float) -> int:
        return sum(self.slices[: self.coded_slices(bits)])

    def check(self) -> None:
        """Raises ValueError where the sizes contradict each other."""
        if self.analysis_fine < 1 or self.analysis_coarse < 1:
            raise ValueError("the analysis has at least one block at /8 and one at /16")
        if sum(self.slices) != self.channels:
            raise ValueError(f"slices {self.slices} do not add up to {self.channels} channels")
        lengths = {len(t) for t in (self.slices, self.checkerboard, self.coded_from, self.hidden)}
        if len(lengths) > 1:
            raise ValueError("slices, checkerboard, coded_from and hidden differ in length")
        if list(self.coded_from) != sorted(self.coded_from) or self.coded_from[0] > 0:
            raise ValueError("coded_from starts at 0 and does not fall")
