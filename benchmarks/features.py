"""Train the networks of ``vqcodec.analysis.features``, which ship with the package.

    python benchmarks/features.py digits MNIST.npz     a classifier of digits
    python benchmarks/features.py photos PHOTOS        crops of one photograph, told from others

Held-out pictures say how good they are: the share of digits read rightly, and of crops whose other
half is found among those of 128 photographs.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from vqcodec.analysis import features
from vqcodec.training import data, sources
from vqcodec.training.batches import Crops

BATCH = 128
SIDE = 64  # of a crop of a photograph, in pixels
REGION = 96  # of the part of the photograph that both crops are from
TEMPERATURE = 0.1


def fit(modules: list[nn.Module], steps: int, loss: Callable[[int], Tensor]) -> None:
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for step in range(steps):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"{step + 1}/{steps}  {value.item():.3f}", file=sys.stderr, flush=True)


def digits(path: Path, steps: int) -> tuple[features.Features, float]:
    """Digits in the middle of 32x32 pixels; the last layer's features are those before classes."""
    seen, held_out = data.load_labelled(path)
    assert seen.labels is not None and held_out.labels is not None
    net = features.Features(1)
    classes = nn.Linear(features.DIM, 10)

    def squares(pictures: list[np.ndarray]) -> Tensor:
        rows = np.stack([data.at_least(x, 32)[..., 0] for x in pictures])
        return torch.from_numpy(rows)[:, None].float() / 255

    rng = np.random.default_rng(0)

    def loss(step: int) -> Tensor:
        some = rng.integers(len(seen.pictures), size=BATCH)
        x = squares([seen.pictures[i] for i in some])
        dy, dx = (int(n) for n in rng.integers(-2, 3, 2))
        logits = classes(F.relu(net(x.roll((dy, dx), (2, 3)))))
        return F.cross_entropy(logits, torch.from_numpy(seen.labels[some]).long())

    fit([net, classes], steps, loss)
    with torch.inference_mode():
        parts = [squares(held_out.pictures[i : i + 500]) for i in range(0, 10000, 500)]
        found = torch.cat([classes(F.relu(net(x))).argmax(1) for x in parts]).numpy()
    return net, float((found == held_out.labels[: len(found)]).mean())


def photos(path: Path, steps: int) -> tuple[features.Features, float]:
    """InfoNCE of two crops of a region, which may be apart or one on the other."""
    source = sources.find(path)
    parts = data.split(source, "name", lambda items, name: items, lambda why: None)
    training, held_out = (data.Decoded(source, part, (128,), REGION) for part in parts)
    for part in (training, held_out):
        part.keep(10**9, lambda items, name: items, lambda why: None)
    net, head = features.Features(3), nn.Linear(features.DIM, features.DIM)

    def logits(crops: Crops, number: int) -> Tensor:
        regions = crops.take(f"regions {number}", range(BATCH), REGION)
        rng, views = np.random.default_rng(number), []
        for _ in range(2):
            y, x = rng.integers(0, REGION - SIDE + 1, 2)
            cut = regions[:, y : y + SIDE, x : x + SIDE]
            view = torch.from_numpy(cut).permute(0, 3, 1, 2).float() / 255
            views.append(F.normalize(head(F.relu(net(view)))))
        return views[0] @ views[1].T / TEMPERATURE

    crops = Crops(training, 1)

    def loss(step: int) -> Tensor:
        return F.cross_entropy(logits(crops, step), torch.arange(BATCH))

    fit([net, head], steps, loss)
    with torch.inference_mode():
        asked = Crops(held_out, 2)
        found = [logits(asked, n).argmax(1) for n in range(8)]
    right = torch.stack(found) == torch.arange(BATCH)
    return net, float(right.double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("network", choices=features.NETWORKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net, right = {"digits": digits, "photos": photos}[args.network](args.data, args.steps)
    weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    save_file(weights, features.HERE / f"features-{args.network}.safetensors")
    print(f"held out: {100 * right:.1f} % right")


if __name__ == "__main__":
    main()
