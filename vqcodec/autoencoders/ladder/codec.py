"""Images to sections and back with a trained ``Ladder``: tiles, exact prior, range coder.

A section is a level: the hyper grid, then the slices of the latent that the rate point codes.
The encoder chooses the codes, and the decoder reads them, as ``LadderPrior.walk`` asks for them.

Memory is bounded for large pictures: pixels go through the transforms in tiles, the grid of the
latent through the networks of the prior in bands of rows. All that is kept of a whole picture is
its latent, and the codes of one group.
"""

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqcodec.autoencoders.ladder.analysis import FoldedAnalysis
from vqcodec.autoencoders.ladder.codes import Chooser, Reader, Watch
from vqcodec.autoencoders.ladder.config import HYPER_SIZE
from vqcodec.autoencoders.ladder.correction import BIT, correct
from vqcodec.autoencoders.ladder.decoder import HALO, LadderDecoder, spans
from vqcodec.autoencoders.ladder.draft import Setting
from vqcodec.autoencoders.ladder.model import Ladder
from vqcodec.autoencoders.ladder.prior import BAND, LadderPrior
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.autoencoders.ladder.search import ROUNDS, Distortion, Point, search
from vqcodec.autoencoders.ladder.synthesis import FoldedSynthesis
from vqcodec.guest import own_gradients, own_torch
from vqcodec.metrics.mixture import mixture, squared_error
from vqcodec.metrics.quality import mirrored
from vqcodec.metrics.shares import LossSettings
from vqcodec.priors.classes import ClassTables
from vqcodec.processor import fast_dtype
from vqcodec.progress import Progress, between, unseen
from vqcodec.rangecoder import RangeDecoder, RangeEncoder, ideal_bits

RDO = 0.08  # squared steps that one bit is worth in the encoder's choice of codes
PREPARED_SHARE = 0.7  # of the time that encoding takes; the walk takes the rest
# What a search for the eye lowers. A metric that is searched for is no judge any more: with more of
# SSIMULACRA2 it alone gains, and others lose.
FOR_THE_EYE = LossSettings(mse=0.25, luma=0.35, ms_ssim_y=0.35, ssimulacra2=0.05)
FIRST_PARTS = {False: 0.6, True: 0.35}  # of a search, for PSNR and for the eye: see ``Point``
ROUND_SHARE = 1.0  # of a round of a search, in the same unit


class Coded(NamedTuple):
    """What the encoder made of an image."""

    sections: list[bytes]  # coarse first
    ideal_bits: list[float]  # of each section
    latent: Tensor  # (h * w, c) float32 in steps: what the decoder will make of them


class LadderCodec(LadderDecoder[Tensor, FoldedSynthesis]):
    """A trained ladder with its tables, on one device."""

    grey_only = False

    def __init__(
        self,
        model: Ladder,
        units: Tensor,
        hyper_tables: np.ndarray,
        class_tables: np.ndarray,
        device: torch.device,
        rdo: float = RDO,
    ) -> None:
        """Tables as of ``LadderDecoder``. Raises ValueError for what these cannot be."""
        super().__init__(model.config, units.cpu().numpy(), hyper_tables, class_tables)
        self.device, self.rdo = device, rdo
        self.model = model.to(device).eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prior = LadderPrior(model, units, device)
        self.steps = self.prior.steps
        self._wraps = model.config.weighted
        self._rounds = 0  # of a search for better codes
        self._analysis: tuple[RatePoint, FoldedAnalysis] | None = None

    def searching(self, effort: int) -> "LadderCodec":
        """The same weights; the encoder makes an effort, from 1 to 9 (see ``search``)."""
        made = copy(self)
        made._rounds = ROUNDS[effort - 1]
        return made

    # --- pixels and latents: floating point, in tiles -------------------------------------------

    def _condition(self, rate: RatePoint) -> Tensor:
        """For the networks in floating point, (1, k)."""
        values = rate.condition(self.config.conditions)
        return torch.tensor([values], dtype=torch.float32, device=self.device)

    def _steps(self, rate: RatePoint) -> Tensor:
        """Of the channels that are coded, (c,)."""
        steps = self.steps.steps(rate)[: self.config.coded_channels(rate.bits)]
        return torch.from_numpy(steps).to(self.device)

    def analyse(self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen) -> Tensor:
        """pixels (B, H, W, 3) uint8 -> latents (B, h, w, c) float32, coded channels, in steps."""
        n, height, width, _ = pixels.shape
        h, w = -(-height // 16), -(-width // 16)
        channels = self.config.coded_channels(rate.bits)
        latent = torch.empty(n, h, w, channels, dtype=torch.float32, device=self.device)
        folded = self._analysis_at(rate)
        # What a block at /8 or /16 adds to the receptive field, in cells
        config = self.config
        halo = HALO + (config.analysis_fine - 2) + 2 * (config.analysis_coarse - 1)
        tiles = [(row, column) for row in spans(h, halo) for column in spans(w, halo)]
        for done, (row, column) in enumerate(tiles, 1):
            rows, columns = (slice(16 * s.outer.start, 16 * s.outer.stop) for s in (row, column))
            missing = max(0, rows.stop - height), max(0, columns.stop - width)
            around = (0, 0), (0, missing[0]), (0, missing[1]), (0, 0)
            tile = torch.from_numpy(np.pad(pixels[:, rows, columns], around, "edge"))
            if self.device.type == "cuda":
                tile = tile.pin_memory().to(self.device, non_blocking=True)
            latent[:, row.inner, column.inner] = folded(tile)[:, row.crop, column.crop]
            progress(done / len(tiles))
        return latent

    def _analysis_at(self, rate: RatePoint) -> FoldedAnalysis:
        """As ``_synthesis_at``."""
        known = self._analysis
        if known is None or known[0] != rate:
            model, condition, steps = self.model, self._condition(rate), self._steps(rate)
            folded = FoldedAnalysis(model.analysis, condition, steps, fast_dtype(self.device))
            known = self._analysis = rate, folded
        return known[1]

    @own_torch()
    def _pixels(self, cells: Tensor, rate: RatePoint, part: tuple[slice, slice]) -> np.ndarray:
        return self._synthesis_at(rate)(cells)[part].cpu().numpy()

    def _fold(self, rate: RatePoint) -> FoldedSynthesis:
        model, condition, steps = self.model, self._condition(rate), self._steps(rate)
        return FoldedSynthesis(
            model.synthesis, model.std, condition, steps, fast_dtype(self.device)
        )

    # --- codes: exact -----------------------------------------------------------------------------

    def encode(
        self,
        pixels: np.ndarray,
        rate: RatePoint,
        progress: Progress = unseen,
        rdo: float | None = None,
    ) -> Coded:
        """pixels (H, W, 3) uint8 -> sections. rdo: in place of the codec's own."""
        searched = ROUND_SHARE * self._rounds / (1 + ROUND_SHARE * self._rounds)
        start = PREPARED_SHARE * (1 - searched)
        rdo = self.rdo if rdo is None else rdo
        y, z = self.prepared(pixels, rate, rdo, between(progress, 0, start))
        if self._rounds:
            worth = rdo / self.rdo
            y = self._search(pixels, y, z, rate, worth, between(progress, start, start + searched))
            rdo = 0.0  # the codes have been chosen
        walk = between(progress, start + searched, 1)
        return self.encode_latents(y, z, rate, progress=walk, rdo=BIT * rdo)[0]

    def encode_many(self, pictures: Sequence[np.ndarray], rate: RatePoint) -> list[Coded]:
        """Pictures (H, W, 3) uint8 of one size -> the sections of each.

        The prior sees all at once, which is faster where they are small. Each makes the file that
        it makes alone, byte for byte.
        """
        if self._rounds:
            return [self.encode(pixels, rate) for pixels in pictures]
        each = (self.prepared(pixels, rate, self.rdo) for pixels in pictures)
        y, z = (torch.cat(part) for part in zip(*each, strict=True))
        return self.encode_latents(y, z, rate, rdo=BIT * self.rdo)

    def prepared(
        self, pixels: np.ndarray, rate: RatePoint, rdo: float, progress: Progress = unseen
    ) -> tuple[Tensor, Tensor]:
        """pixels (H, W, 3) uint8 -> corrected latents (1, h, w, c), for codes that weigh a bit by
        BIT * rdo, and hyper codes (1, hyper, h', w')."""
        y, z = self.latents(pixels[None], rate, between(progress, 0, 0.35))
        return self._corrected(pixels, y, z, rate, rdo, between(progress, 0.35, 1)), z

    @own_torch()
    def latents(
        self, pixels: np.ndarray, rate: RatePoint, progress: Progress = unseen
    ) -> tuple[Tensor, Tensor]:
        """pixels (B, H, W, 3) uint8 -> latents (B, h, w, c), hyper codes (B, hyper, h', w').

        The latents have the coded channels, in steps.
        """
        y = self.analyse(pixels, rate, progress)
        h, w = y.shape[1:3]
        condition = self._condition(rate)
        rows = max(1, BAND // (4 * w))  # of the hyper grid
        bands = []
        for top in range(0, -(-h // 4), rows):
            # A cell of the hyper grid sees 3 rows above its own 4, and its convolutions have the
            # same phase with 4.
            band = y[:, max(0, 4 * top - 4) : 4 * (top + rows)].permute(0, 3, 1, 2)
            z = self.model.hyper_analysis(band, condition).round_()
            bands.append(z[:, :, 1:] if top else z)
        return y, torch.cat(bands, 2)

    def _features(self, z: Tensor, size: tuple[int, int], rate: RatePoint) -> Tensor:
        """What hyper codes z (1, hyper, h', w') say of the cells of a grid: (1, f, *size)."""
        h, w = size
        with torch.no_grad():
            return self.model.hyper_synthesis(z.clone(), self._condition(rate))[:, :, :h, :w]

    @own_torch()
    def _corrected(
        self,
        pixels: np.ndarray,
        y: Tensor,
        z: Tensor,
        rate: RatePoint,
        rdo: float,
        progress: Progress = unseen,
    ) -> Tensor:
        """Better latents than y (1, h, w, c), in steps: see ``correction``."""
        h, w = y.shape[1:3]
        features = self._features(z, (h, w), rate)
        setting = Setting(self._condition(rate), self._steps(rate)[None, :, None, None])
        analysis, decode = self._analysis_at(rate), self._synthesis_at(rate)
        corrected = torch.empty_like(y)
        tiles = [(row, column) for row in spans(h, HALO) for column in spans(w, HALO)]
        for done, (row, column) in enumerate(tiles, 1):
            rows, columns = (slice(16 * s.outer.start, 16 * s.outer.stop) for s in (row, column))
            x = torch.from_numpy(np.array(pixels[rows, columns])).to(self.device)
            cells = y[:, row.outer, column.outer].permute(0, 3, 1, 2)
            around = features[:, :, row.outer, column.outer]
            odd = (row.outer.start + column.outer.start) % 2
            cells = correct(
                self.model, cells, around, x, rate.visual, setting, analysis, decode, rdo, odd
            )
            better = cells.permute(0, 2, 3, 1)
            corrected[:, row.inner, column.inner] = better[:, row.crop, column.crop]
            progress(done / len(tiles))
        return corrected

    @own_gradients()
    def _search(
        self,
        pixels: np.ndarray,
        y: Tensor,
        z: Tensor,
        rate: RatePoint,
        worth: float,
        progress: Progress,
    ) -> Tensor:
        """Better latents than y (1, h, w, c), in steps, whose codes are chosen: see ``search``."""
        features = self._features(z, (y.shape[1], y.shape[2]), rate)
        part, steps = FIRST_PARTS[rate.visual], self._steps(rate)[None, :, None, None]
        point = Point(self._condition(rate), steps, rate.step, worth, part)
        x = torch.from_numpy(np.array(pixels)).to(self.device).permute(2, 0, 1)[None]
        distortion = self._visual(rate) if rate.visual else squared_error
        y = y.clone().permute(0, 3, 1, 2)
        found = search(self.model, y, features, x, distortion, point, self._rounds, progress)
        return found.permute(0, 2, 3, 1).contiguous()

    def _visual(self, rate: RatePoint) -> Distortion:
        """``FOR_THE_EYE``, of small pictures too: see ``mirrored``."""
        mixed, least = mixture(FOR_THE_EYE), FOR_THE_EYE.smallest_crop()
        bits = torch.tensor([rate.bits], device=self.device)

        def distortion(x_hat: Tensor, x: Tensor) -> Tensor:
            return mixed(mirrored(x_hat, least), mirrored(x, least), bits)

        return distortion

    @own_torch()
    def encode_latents(
        self,
        y: Tensor,
        z: Tensor,
        rate: RatePoint,
        watch: Watch = lambda level, codes, classes: None,
        progress: Progress = unseen,
        rdo: float | None = None,
    ) -> list[Coded]:
        """y (B, h, w, c) in steps, z (B, hyper, h', w') integers -> B images. Overwrites y.

        ``watch`` is told of each level of each image.
        """
        n, h, w, _ = y.shape
        tables = ClassTables(self.class_tables, self.steps.codewords(rate))
        rdo = self.rdo if rdo is None else rdo
        levels = self.levels(rate) - 1
        chooser = Chooser(y.flatten(0, 2), n, tables, levels, rdo, watch, self._wraps)
        self.prior.walk(z, h, w, rate, chooser, progress)
        least = self.least_bytes(16 * h, 16 * w, rate)
        made = []
        symbols = (z + HYPER_SIZE // 2).flatten(2).to(torch.int32).cpu().numpy()
        for image, latent, one in zip(symbols, y.flatten(1, 2), chooser.coded, strict=True):
            coder, bits = RangeEncoder(), 0.0
            for row, table in zip(image, self.hyper_tables[rate.band], strict=True):
                coder.encode(row, table)
                bits += ideal_bits(row, table)
            sections = [coder.finish().ljust(least, b"\0"), *(c.finish() for c in one.coders)]
            made.append(Coded(sections, [bits, *one.ideal_bits], latent))
        return made

    @own_torch()
    def _latent(
        self,
        z: np.ndarray,
        h: int,
        w: int,
        rate: RatePoint,
        tables: ClassTables,
        coders: list[RangeDecoder],
        count_bits: bool,
        progress: Progress,
    ) -> tuple[Tensor, list[float]]:
        channels = self.config.coded_channels(rate.bits)
        latent = torch.empty(h * w, channels, dtype=torch.float32, device=self.device)
        reader = Reader(latent, tables, coders, count_bits, self._wraps)
        codes = torch.from_numpy(z).to(self.device).float()
        self.prior.walk(codes[None], h, w, rate, reader, progress)
        return latent, reader.ideal_bits
