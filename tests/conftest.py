"""What all tests run with."""

import os
import signal
from collections.abc import Iterator

import pytest

# Before torch is imported, and for all processes that tests start. As `vqcodec train` sets it: sums
# in MKL are the same in each run.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# Tensors are small here, and tests run side by side: more threads, and threads that spin while they
# wait, would only take the processors from each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell starts what it puts into the background with Ctrl-C ignored, and all children inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
