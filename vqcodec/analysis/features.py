"""What small networks see in pictures: Fréchet distances, and distances of single pictures.

The paper's tables have rFID, the Fréchet distance (Heusel et al. 2017) of features of originals and
of what their codes decode to, by a network for photographs of a thousand classes. That network does
not come along. Two small ones do, which ``benchmarks/features.py`` has trained:

digits   a classifier of MNIST's training digits, for grey squares
photos   two crops of one photograph are to be told from those of others (InfoNCE, van den Oord et
         al. 2018), for squares in colour; it has seen the training photographs and no label

So these distances compare with each other, by the same network, and with no published number.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

HERE = Path(__file__).parent
WIDTHS = (16, 32, 64)  # channels after each halving
DIM = 64  # of the features
PART = 256  # squares that are looked at together
NETWORKS = {"digits": 1, "photos": 3}  # channels that each sees


class Features(nn.Module):
    """Squares (B, channels, side, side) in [0, 1], sides of 16 or more -> features (B, DIM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential()
        for inputs, outputs in zip((channels, *WIDTHS), WIDTHS, strict=False):
            self.net.append(nn.Conv2d(inputs, outputs, 4, 2, 1))
            self.net.append(nn.ReLU())
        self.net.append(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.net.append(nn.ReLU())
        self.out = nn.Linear(WIDTHS[-1], DIM)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.out(self.net(2 * x - 1).mean((2, 3)))
        return features


@lru_cache
def network(name: str) -> Features:
    """One of ``NETWORKS``, as it ships, in evaluation mode."""
    made = Features(NETWORKS[name])
    weights = load_file(HERE / f"features-{name}.safetensors")
    made.load_state_dict({key: value.float() for key, value in weights.items()})
    return made.eval()


@torch.inference_mode()
def of(squares: np.ndarray, name: str) -> np.ndarray:
    """Squares (n, side, side, 1 or 3) uint8 -> features (n, DIM) float64; of grey, one channel."""
    net, found = network(name), []
    for first in range(0, len(squares), PART):
        x = torch.from_numpy(squares[first : first + PART][..., : NETWORKS[name]])
        found.append(net(x.permute(0, 3, 1, 2).float() / 255))
    return torch.cat(found).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of features (n, D) and (m, D), at least 0.

    With few pictures it is too large; compare only what is of equally many. Raises ValueError for
    fewer than two of either.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("a covariance needs two pictures at least")
    means = np.square(a.mean(0) - b.mean(0)).sum()
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # The trace of the root is the sum of the roots of the eigenvalues of C_a^(1/2) C_b C_a^(1/2).
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return max(0.0, float(means + np.trace(first) + np.trace(second) - 2 * shared))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared distance of features (n, D) of the same pictures, in units of their variance.

    0 for equal ones; 2 where those of ``b`` are of other pictures like those of ``a``.
    """
    spread = a.var(0).sum()
    return float(np.square(a - b).sum(1).mean() / spread) if spread else 0.0
