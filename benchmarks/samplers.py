"""Train the network that ``vqcodec sample`` draws a codec's codes with.

    python benchmarks/samplers.py hqa-digits MNIST.npz --rate 8bit-2x2
    python benchmarks/samplers.py models/mine PHOTOS --scales 64 96 --steps 2000

It is written beside the codec's weights, of which it is no part. What is told at the end are the
bits of squares that were held out, by the network and by the tables of the codec.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from vqcodec import zoo
from vqcodec.autoencoders import sampler
from vqcodec.autoencoders.grid_codec import GridCodec
from vqcodec.autoencoders.pqvae import PQVAE
from vqcodec.priors.embedding import Remembering
from vqcodec.rangecoder import RangeEncoder
from vqcodec.training import data, sources
from vqcodec.training.batches import Crops
from vqcodec.training.sampler import HELD_OUT, fit


def squares(path: Path, split: str, scales: list[int], side: int, count: int) -> np.ndarray:
    """Of training pictures alone."""
    if path.suffix == ".npz":
        seen, _ = data.load_arrays(path)
        pictures: data.Pictures = [data.at_least(x, side) for x in seen]
    else:
        source = sources.find(path)
        chosen, _ = data.split(source, split, lambda items, name: items, lambda why: None)
        pictures = data.Decoded(source, chosen, tuple(scales), side)
    return Crops(pictures, 1, path.suffix != ".npz").take("sampler", range(count), side)


def table_bits(codec: GridCodec, codes: list[np.ndarray], rate: str) -> float:
    known, bits = Remembering(), 0.0
    for level, grid in zip(codec.model.levels(rate), codes, strict=True):
        bits += codec.priors[level.name].encode(RangeEncoder(), grid, known)
        known[level.name] = grid
    return bits / len(codes[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("codec")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rate", help="without it the finest")
    parser.add_argument("--scales", type=int, nargs="+", default=[0], help="short sides, pixels")
    parser.add_argument("--squares", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    card = zoo.find(args.codec)
    codec = zoo.load(card, "cpu").system
    if not isinstance(codec, GridCodec):
        parser.error(f"{card.id} is none of the systems of the papers")
    model = codec.model
    rate = args.rate or model.rates[-1]
    pixels = squares(args.data, card.split, args.scales, model.config.side, args.squares)
    parts = [codec.codes(part, model.rates.index(rate)) for part in np.array_split(pixels, 32)]
    codes = [np.concatenate(level) for level in zip(*parts, strict=True)]
    made = sampler.Sampler(
        model.levels(rate), args.width, args.layers, maps=isinstance(model, PQVAE)
    )

    def show(step: int, nats: float) -> None:
        if step % 50 == 0:
            print(f"{step}/{args.steps}  {nats:.2f} nats", file=sys.stderr, flush=True)

    sequences = sampler.sequence([torch.from_numpy(level) for level in codes])
    nats = fit(made, sequences, args.steps, show=show)
    sampler.save(made, rate, card.path)
    tables = table_bits(codec, [level[::HELD_OUT] for level in codes], rate)
    print(f"held out: {nats / np.log(2):.1f} bits a square; by the codec's tables {tables:.1f}")


if __name__ == "__main__":
    main()
