"""Training a ``autoencoders.sampler.Sampler`` on the codes of a codec."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqcodec.autoencoders.sampler import Sampler

BATCH = 64
DECAY = 0.01  # of the weights
HELD_OUT = 16  # one in so many sequences measures


def fit(
    sampler: Sampler,
    codes: Tensor,
    steps: int,
    *,
    lr: float = 2e-3,
    seed: int = 1,
    show: Callable[[int, float], None] = lambda step, nats: None,
) -> float:
    """Train on sequences (n, L); returns nats of a sequence that was held out, their mean.

    ``show`` gets the step and the nats of a sequence of its batch.
    """
    held_out, seen = codes[::HELD_OUT], codes[torch.arange(len(codes)) % HELD_OUT > 0]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(sampler.parameters(), lr, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    sampler.train()
    for step in range(steps):
        some = torch.randint(len(seen), (BATCH,), generator=generator)
        loss = sampler.nats(seen[some]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sampler.parameters(), float(codes.shape[1]))
        optimizer.step()
        schedule.step()
        show(step + 1, loss.item())
    sampler.eval()
    with torch.inference_mode():
        return float(torch.cat([sampler.nats(part) for part in held_out.split(BATCH)]).mean())
