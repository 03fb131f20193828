"""What the ladder brings to training: rate points, its loss, and its export to a codec."""

from collections.abc import Callable, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcodec.autoencoders.ladder.codec import RDO, LadderCodec
from vqcodec.autoencoders.ladder.config import HYPER_SIZE, LadderConfig
from vqcodec.autoencoders.ladder.model import (
    MAX_LOG2_SCALE,
    MIN_LOG2_SCALE,
    Ladder,
    logistic_bits,
    unit_tables,
)
from vqcodec.autoencoders.ladder.rate import BANDS, RatePoint
from vqcodec.card import TUNES
from vqcodec.codec import Codec
from vqcodec.fixedpoint import stored_weights
from vqcodec.metrics import mixture, psnr
from vqcodec.metrics.mixture import squared_error
from vqcodec.metrics.shares import LossSettings
from vqcodec.priors import classes
from vqcodec.priors.histogram import Histogram, integer_rows
from vqcodec.training.batches import Crops
from vqcodec.training.config import LadderTraining
from vqcodec.training.export import pack_weights

EXACT = (
    "hyper_synthesis.",
    "anchor_nets.",
    "other_nets.",
    "step_weights.",
)  # evaluated in fixed point
TABLE_RATES = ("5bit", "6bit", "7bit", "8bit", "9bit", "10bit")
LARGEST_FITTING = 1024  # pixels a side of pictures that tables are fitted to
_SKIPPED = ("std", "hyper_scale", "hyper_mean")  # training only, or replaced by integers


def sample_bits(config: LadderTraining, count: int, generator: torch.Generator) -> Tensor:
    """Rate points (count,), float32, on the generator's device."""
    u = torch.rand(count, generator=generator, device=generator.device)
    wide = config.bits_low + u * (config.bits_high - config.bits_low)
    narrow = config.bits_often_low + u * (config.bits_often_high - config.bits_often_low)
    often = torch.rand(count, generator=generator, device=generator.device) < config.often
    return torch.where(often, narrow, wide)


class LadderTask:
    """A ladder in training: see ``task.Task``."""

    model: Ladder

    def __init__(
        self,
        config: LadderTraining,
        shape: LadderConfig,
        crops: Crops,
        loss: LossSettings = LossSettings(),
    ) -> None:
        self.config, self.shape, self.loss = config, shape, loss
        self.mixture = mixture.mixture(loss)
        self.model = Ladder(shape)
        self.model.set_std(crops.some(256, config.crop, "std").float())

    def sizes(self) -> dict[str, Any]:
        return self.shape.to_dict()

    def rates(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        return "5bit to 10bit", (), TABLE_RATES

    def held_out_side(self) -> int:
        return 256 if self.config.crop >= 128 else 64

    def new_model(self) -> nn.Module:
        return Ladder(self.shape)

    def stages(self) -> list[list[dict[str, Any]]]:
        linear = [self.model.analysis.linear, self.model.synthesis.linear]
        steps = self.model.step_weights
        weights = [] if steps is None else list(steps.parameters())
        others = {id(p) for p in (*linear, *weights)}
        rest = [p for p in self.model.parameters() if id(p) not in others]
        groups = [(rest, 1.0), (linear, self.config.linear_lr), (weights, self.config.step_lr)]
        return [[{"params": params, "factor": factor} for params, factor in groups if params]]

    def begin(self, stage: int, crops: Crops, generator: torch.Generator) -> None:
        pass

    def objective(
        self, x: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        bits = sample_bits(self.config, len(x), generator).to(x.device)
        amp = self.config.amp == "bf16"
        visual = round(self.loss.visual * len(x)) if self.shape.tuned else len(x)
        tune = self._tune(len(x), visual, x.device)
        distortion = self._distortion(bits, visual)
        return self.model.loss(x, bits, generator, self.config.rdo, amp, distortion, tune)

    def _tune(self, count: int, visual: int, device: torch.device) -> Tensor | None:
        """v of a batch whose first ``visual`` samples are for the eye; None if not tuned."""
        if not self.shape.tuned:
            return None
        return (torch.arange(count, device=device) < visual).float()

    def _distortion(self, bits: Tensor, visual: int) -> mixture.Measure:
        """The mixture for the first ``visual`` samples, squared error for the others."""

        def distortion(x_hat: Tensor, x: Tensor) -> Tensor:
            parts = [self.mixture(x_hat[:visual], x[:visual], bits[:visual])] if visual else []
            if visual < len(x):
                parts.append(squared_error(x_hat[visual:], x[visual:]))
            return torch.cat(parts)

        return distortion

    def after_step(
        self, progress: float, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        pass

    @torch.no_grad()
    def evaluate(self, model: nn.Module, held_out: Tensor) -> dict[str, dict[str, float]]:
        """Mean bpp, PSNR and cost at whole bits; of a tuned ladder for either aim."""
        assert isinstance(model, Ladder)
        device = model.std.device
        generator = torch.Generator(device).manual_seed(0)
        result = {}
        for aim in ("psnr", "visual") if self.shape.tuned else ("",):
            for bits in (6.0, 7.0, 8.0, 9.0):
                parts = []
                for x in held_out.split(8):
                    rate, n = torch.full((len(x),), bits, device=device), len(x)
                    visual = 0 if aim == "psnr" else n
                    out = model.loss(
                        x.to(device), rate, generator, self.config.rdo,
                        distortion=self._distortion(rate, visual),
                        tune=self._tune(n, visual, device),
                    )  # fmt: skip
                    parts.append(out)
                mse, bpp, cost = (torch.cat([p[k] for p in parts]) for k in ("mse", "bpp", "rd"))
                decibels = fmean(map(psnr.db, mse.tolist()))
                values = {"psnr_db": decibels, "bpp": bpp.mean().item(), "rd": cost.mean().item()}
                name = " ".join(filter(None, (f"{bits:g}bit", aim)))
                result[name] = {key: round(value, 4) for key, value in values.items()}
        return result

    @torch.no_grad()
    def look(
        self, model: nn.Module, held_out: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pictures at 6 and 8 bits, and the codes of the slices at 8."""
        assert isinstance(model, Ladder)
        device = model.std.device
        generator = torch.Generator(device).manual_seed(0)
        pictures = {}
        for bits in (6.0, 8.0):
            rate = torch.full((len(held_out),), bits, device=device)
            tune = self._tune(len(held_out), len(held_out), device)
            coded = model.code(held_out.to(device), rate, generator, self.config.rdo, tune=tune)
            pictures[f"{bits:g}bit"] = coded.x_hat
        slices = coded.codes.split(list(self.shape.slices), 1)
        return pictures, {f"slice{n}": codes for n, codes in enumerate(slices, 1)}

    def fitting_steps(self, fitting: int) -> int:
        return 2 * fitting

    def export(
        self,
        model: nn.Module,
        crops: Crops,
        fitting: int,
        advance: Callable[[], None],
    ) -> dict[str, Tensor]:
        assert isinstance(model, Ladder)
        model = rounded(model)
        pictures = crops.whole(fitting, LARGEST_FITTING)
        tables = fit_tables(model, pictures, torch.device("cpu"), advance=advance)
        return tensors(model, *tables)


def weights_to_start_with(codec: Codec) -> dict[str, Tensor]:
    """A codec's weights, and of a ladder also what it estimates the rate of its hyper codes by.

    That does not ship, as files have tables. Without it a codec that is trained further would
    shrink its hyper codes until it is learnt again.
    """
    system = codec.system
    state: dict[str, Tensor] = dict(system.model.state_dict())
    if not isinstance(system, LadderCodec):
        return state
    aims = TUNES if system.model.config.tuned else (None,)
    spans = [system.span(aim) for aim in aims]
    points = [RatePoint(low + 256 * band) for low, _ in spans for band in range(BANDS)]
    count = system.model.config.conditions
    powers = torch.tensor([(1.0, *point.condition(count)) for point in points])
    rows = [point.band for point in points]
    shares = torch.from_numpy(system.hyper_tables[rows].astype(np.float64))
    shares /= shares.sum(-1, keepdim=True)  # (points, hyper, 64)
    values = torch.arange(HYPER_SIZE, dtype=torch.float64) - HYPER_SIZE // 2
    mean = shares @ values
    scales = torch.arange(MIN_LOG2_SCALE, MAX_LOG2_SCALE, 0.25, dtype=torch.float64)
    noise = torch.linspace(-0.4, 0.4, 5, dtype=torch.float64)
    x = (values - mean[..., None])[..., None] + noise  # (points, hyper, 64, noise)
    bits = torch.stack([logistic_bits(x, scale).mean(-1).mul(shares).sum(-1) for scale in scales])
    for name, wanted in (("hyper_mean", mean), ("hyper_scale", scales[bits.argmin(0)])):
        state[name] = torch.linalg.lstsq(powers.double(), wanted).solution.float()
    return state


def fit_tables(
    model: Ladder,
    images: Sequence[np.ndarray],
    device: torch.device,
    rdo: float = RDO,
    passes: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Tables (6 or 12, hyper, 64) and (64, 1024) from what the encoder makes of training images.

    Every image is encoded at one random rate point in each band. The choice of codes depends on
    the tables, so the counts are taken ``passes`` times, ``advance`` being called per image.
    Latents are counted as they are before their correction, which changes the tables too little to
    be worth its time.
    """
    hyper, aims = model.config.hyper, TUNES if model.config.tuned else (None,)
    hyper_tables = integer_rows(np.ones((BANDS * len(aims), hyper, HYPER_SIZE)))
    class_tables = integer_rows(classes.logistic_weights())
    for turn in range(passes):
        rng = np.random.default_rng(turn)
        hyper_counts = np.zeros((BANDS * len(aims), hyper, HYPER_SIZE))
        class_counts = np.zeros((classes.CLASSES, classes.LARGEST))
        codec = LadderCodec(model, unit_tables(model.std), hyper_tables, class_tables, device, rdo)
        for pixels in images:
            for aim, band in product(aims, range(BANDS)):
                least, most = codec.span(aim)
                middle = least + 256 * band
                low, high = max(least, middle - 128), min(most, middle + 127)
                rate = RatePoint(int(rng.integers(low, high + 1)))

                def count(level: int, codes: np.ndarray, chosen: np.ndarray) -> None:
                    centred = codes + classes.LARGEST // 2 - codec.steps.codewords(rate) // 2  # noqa: B023
                    flat = chosen.astype(np.int64) * classes.LARGEST + centred
                    class_counts.reshape(-1)[:] += np.bincount(flat, minlength=class_counts.size)  # noqa: B023

                y, z = codec.latents(pixels[None], rate)
                codec.encode_latents(y, z, rate, count)
                symbols = (z[0] + HYPER_SIZE // 2).flatten(1).long().cpu().numpy()
                for row, column in zip(hyper_counts[rate.band], symbols, strict=True):
                    row += np.bincount(column, minlength=HYPER_SIZE)
            advance()
        # Neighbouring bands are alike, and each has few cells: share a part of the counts.
        shared = hyper_counts.sum(0, keepdims=True) / len(hyper_counts)
        hyper_tables = Histogram.fit(hyper_counts + 0.1 * shared, 0.2).tables
        class_tables = classes.fit(class_counts)
    return hyper_tables, class_tables


def rounded(model: Ladder) -> Ladder:
    """A copy with the weights as they ship, so that tables are fitted to what will run."""
    copy = Ladder(model.config).eval()
    state = dict(model.state_dict())
    for name, value in pack_weights(model, EXACT, _SKIPPED).items():
        state[name] = stored_weights(value)
    copy.load_state_dict(state)
    return copy


def tensors(model: Ladder, hyper_tables: np.ndarray, class_tables: np.ndarray) -> dict[str, Tensor]:
    """What a weights file holds."""
    return pack_weights(model, EXACT, _SKIPPED) | {
        "units": unit_tables(model.std),
        "hyper_tables": torch.from_numpy(hyper_tables.astype(np.int32)),
        "class_tables": torch.from_numpy(class_tables.astype(np.int32)),
    }
