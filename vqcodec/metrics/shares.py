"""How a mixture of measures is made up: shares, and what each measure is worth.

``metrics.mixture`` computes it. Recipes have it as [loss], and cards keep it.
Does not import torch.
"""

from dataclasses import dataclass, fields

from vqcodec.metrics import METRICS
from vqcodec.settings import Settings

MEASURED = ("luma", "ms_ssim_y", "ssimulacra2")  # besides the squared error
BITS = range(5, 11)  # rate points at which exchange rates are given
_MS_SIDE = next(metric.side for metric in METRICS if metric.id == "ms_ssim_y")


@dataclass(frozen=True)
class LossSettings(Settings):
    """Shares of the mixture, and exchange rates at 5, 6, 7, 8, 9, 10 bits.

    The rates were measured with photo-2 on the middles of 32 training pictures.
    """

    mse: float = 1.0  # over R, G and B
    luma: float = 0.0  # squared error of BT.601 luma
    ms_ssim_y: float = 0.0  # 1 - MS-SSIM of luma
    ssimulacra2: float = 0.0  # 100 - SSIMULACRA2
    visual: float = 1.0  # of a batch have the mixture where the codec is tuned; the rest mse alone
    luma_rates: tuple[float, ...] = (1.21, 1.10, 1.12, 1.17, 1.24, 1.30)
    ms_ssim_y_rates: tuple[float, ...] = (3000.0, 2940.0, 3720.0, 3210.0, 2830.0, 2550.0)
    ssimulacra2_rates: tuple[float, ...] = (8.0, 4.46, 3.34, 1.97, 1.18, 0.84)

    def check(self) -> None:
        """Raises ValueError for values that nothing can be done with."""
        shares = list(self.shares().values())
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError("the shares of a loss are not negative and add up to 1")
        if not 0 < self.visual <= 1:
            raise ValueError("visual is above 0 and at most 1")
        for field in fields(self):
            if field.name.endswith("_rates") and len(getattr(self, field.name)) != len(BITS):
                raise ValueError(f"{field.name} are {len(BITS)} numbers, for 5 to 10 bits")

    def shares(self) -> dict[str, float]:
        """By name, all four."""
        return {name: getattr(self, name) for name in ("mse", *MEASURED)}

    def smallest_crop(self) -> int:
        """Pixels a side that the measures need."""
        return _MS_SIDE if self.ms_ssim_y or self.ssimulacra2 else 1
