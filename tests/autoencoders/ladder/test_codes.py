"""The sources of codes, without networks."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.autoencoders.ladder.codes import Chooser, Reader
from vqcodec.autoencoders.ladder.prior import Group
from vqcodec.priors import classes
from vqcodec.priors.histogram import integer_rows
from vqcodec.rangecoder import RangeDecoder

LARGEST = integer_rows(classes.logistic_weights())


@settings(deadline=None, max_examples=30)
@given(
    size=st.integers(16, classes.LARGEST),
    seed=st.integers(0, 2**32 - 1),
    rdo=st.sampled_from([0.0, 0.08]),
)
def test_a_mean_that_is_far_off_costs_bits_and_not_quality(
    size: int, seed: int, rdo: float
) -> None:
    """As of codes modulo their number: their range is the latent's, wherever the mean is."""
    rng = np.random.default_rng(seed)
    tables = classes.ClassTables(LARGEST, size)
    low, high = -tables.zero, size - tables.zero
    shape = (40, 3)
    latent = rng.uniform(low - 5, high + 5, shape)
    latent[0] = low, high, (low + high) / 2
    mean = np.clip(latent, low, high) + rng.normal(0, 2, shape)
    mean[20:] = rng.integers(-(2**20), 2**20, (20, 3), endpoint=True) / 1024
    group = Group(
        1,
        slice(0, 40),
        slice(0, 3),
        torch.from_numpy(np.round(np.clip(mean, -1024, 1024) * 1024) / 1024).float(),
        torch.from_numpy(rng.integers(20, classes.CLASSES, shape).astype(np.uint8)),
    )
    chooser = Chooser(
        torch.from_numpy(latent).float(), 1, tables, 1, rdo, lambda *_: None, wraps=True
    )
    chooser.see(group)
    chooser.finish(1)
    error = np.abs(chooser.latent.numpy() - np.clip(latent, low + 2, high - 3))
    # half a step but where the nearest codeword is the first one on the other side of the seam
    assert error.max() <= 1.001 + (1 if rdo else 0) and np.quantile(error, 0.8) <= 0.501 + rdo

    coder = RangeDecoder(chooser.coded[0].coders[0].finish())
    reader = Reader(torch.empty(shape), tables, [coder], count_bits=False, wraps=True)
    reader.see(group)
    reader.finish(1)
    assert torch.equal(reader.latent, chooser.latent)
