"""What a processor multiplies fast."""

from functools import cache

import torch


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """Of 3x3 convolutions of files: bfloat16 where the processor multiplies in it."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # since torch 2.6
    return torch.bfloat16 if device.type == "cpu" and known and known() else torch.float32


@cache
def multiplies_bytes(device: torch.device) -> bool:
    """Whether products of int8 are fast, and exact: without VNNI they may overflow."""
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    if device.type != "cpu" or known is None or not known():
        return False
    # Tried, because oneDNN can be told to do without it
    ends = torch.tensor([[-128], [127]], dtype=torch.int8, device=device).repeat(32, 64)
    whole = ends.double()
    return torch.equal(torch._int_mm(ends, ends.t()).double(), whole @ whole.t())
