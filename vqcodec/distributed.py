"""Several processes that train one model, each on its part of every batch (torchrun starts them).

Each computes the gradient of its part; sums and means over all parts are taken here, so that the
result is that of one process with the whole batch. What is decided at random is decided by rank 0.
In a single process all functions leave their argument as it is.
"""

import importlib
import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=2)  # the others wait while rank 0 measures with files


def start(device: str) -> str:
    """Join the processes that torchrun started, if it did; 'cuda' becomes this one's own GPU."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # Its functions have the group that there is when they are imported as a default, and torch's
    # optimizers import it: after init_process_group they would keep the group, whose threads now
    # and then abort the process at its end.
    importlib.import_module("torch.distributed.nn.functional")
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    return device


def stop() -> None:
    """Leave the others: each goes on alone."""
    if _several():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if _several() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def total(x: Tensor) -> Tensor:
    """The sum of x over all processes, in place."""
    if _several():
        dist.all_reduce(x)
    return x


def largest(x: Tensor) -> Tensor:
    """The largest x of all processes, in place."""
    if _several():
        dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def mean(x: Tensor) -> Tensor:
    """The mean of x over all processes, in place."""
    return total(x).div_(size()) if _several() else x


def average(gradients: list[Tensor]) -> None:
    """Make each tensor its mean over all processes, in one exchange."""
    if not _several() or not gradients:
        return
    flat = mean(torch.cat([g.reshape(-1) for g in gradients]))
    for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view(g.shape))


def gathered(rows: Tensor) -> Tensor:
    """rows (n, ...) of all processes, one after another; n is the same in each."""
    if not _several():
        return rows
    parts = [torch.empty_like(rows) for _ in range(size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def shared(x: Tensor) -> Tensor:
    """x as rank 0 has it, in place."""
    if not _several():
        return x
    whole = x.contiguous()
    dist.broadcast(whole, 0)
    return x.copy_(whole)


def shared_bytes(data: bytes) -> bytes:
    """``data`` as rank 0 has it."""
    if not _several():
        return data
    size = int(shared(torch.tensor(len(data))))
    if size == 0:
        return b""
    buffer = torch.frombuffer(bytearray(data or size), dtype=torch.uint8)
    return shared(buffer).numpy().tobytes()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
