"""Pictures at random: what a decoder may choose is drawn, or all codes are."""

import numpy as np
import torch

from vqcodec import image
from vqcodec.autoencoders import sampler
from vqcodec.autoencoders.grid_codec import GridCodec, Mosaic
from vqcodec.card import USUAL_RATE
from vqcodec.codec import Codec
from vqcodec.decoder import Decoder, whole
from vqcodec.errors import RateError
from vqcodec.rangecoder import Draws
from vqcodec.rate import parse_rate


def drawn(
    codec: Decoder,
    latent: list[np.ndarray],
    height: int,
    width: int,
    point: int,
    seed: int,
    average: int,
) -> np.ndarray:
    """pixels (height, width, 3) uint8 of a file's codes, the mean of several drawn."""
    system = codec.system
    assert isinstance(system, GridCodec)
    generator = torch.Generator(system.device).manual_seed(seed)
    mosaic = Mosaic.of(height, width, system.model.config.side)
    total = np.zeros((height, width, 3), np.float32)
    draws = torch.Generator().manual_seed(seed)  # of codes, on the CPU
    for _ in range(average):
        codes, index = _completed(codec, latent, point, draws)
        total += mosaic.join(system.drawn(codes, index, generator), height, width)
    return np.rint(total / average).astype(np.uint8)


def sample(codec: Codec, rate: str | None, height: int, width: int, seed: int) -> image.Picture:
    """A picture drawn from the prior, level by level, each given those before.

    Where the codec has a network for this (``autoencoders.sampler``), at one of its rate points,
    that draws each square at this point, and without a rate. Without one a rate is the card's
    default, or 8bit where that is of files. Raises RateError for a rate that is not a rate point,
    CodecError for a broken network.
    """
    found = _sampler(codec)
    if found and rate in (None, found[0]):
        assert isinstance(codec.system, GridCodec)
        count = Mosaic.of(height, width, codec.system.model.config.side).size
        codes = torch.empty(count, 0, dtype=torch.int64)
        generator = torch.Generator().manual_seed(seed)
        grids = found[1].grids(found[1].complete(codes, generator))
        point = codec.system.model.rates.index(found[0])
        bands = codec.system.bands([grid.numpy() for grid in grids], height, width, point)
        return image.Picture(whole(bands, height, width, 3))
    wanted = parse_rate(rate or codec.card.default_rate)
    if rate is None and wanted.kind != "bit":
        wanted = parse_rate(USUAL_RATE)
    if wanted.kind != "bit":
        raise RateError(f"{rate!r} is of a file; a sample has a rate such as 8bit")
    point = codec.system.point(codec.rate_index(wanted))
    draws = Draws(seed)
    sections = [draws] * codec.system.levels(point)
    latent = codec.system.decode(sections, height, width, point)
    return image.Picture(whole(codec.system.bands(latent, height, width, point), height, width, 3))


def _sampler(codec: Decoder) -> tuple[str, sampler.Sampler] | None:
    """The codec's network to draw codes with and its rate point. Raises CodecError."""
    if not isinstance(codec.system, GridCodec):
        return None
    return sampler.load(codec.card.path, codec.system.model)


def _completed(
    codec: Decoder, latent: list[np.ndarray], point: int, generator: torch.Generator
) -> tuple[list[np.ndarray], int]:
    """Codes of a file and its rate point, or those of the sampler's with the others drawn.

    That is where the file has the first of them, as a prefix of PQ-VAE's has (table 3).
    """
    found, system = _sampler(codec), codec.system
    if found is None:
        return latent, point
    assert isinstance(system, GridCodec)
    rate, network = found
    levels = system.model.levels(system.model.rates[point])[: len(latent)]
    known = [torch.from_numpy(codes).cpu() for codes in latent]
    if not network.continues([level.name for level in levels], known):
        return latent, point
    made = network.grids(network.complete(sampler.sequence(known), generator))
    return [grid.numpy() for grid in made], system.model.rates.index(rate)
