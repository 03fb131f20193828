"""What all tests run with."""

import os
from collections.abc import Iterator

import pytest

# As `vqcodec train` sets it, and before torch is imported: sums in MKL are the same in each run.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


@pytest.fixture
def threads() -> Iterator[None]:
    """The test may change how many threads torch has."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(threads: None) -> None:
    """Torch has two threads at first, and the test may change that."""
    import torch

    torch.set_num_threads(2)
