"""What each process of ``test_distributed`` does: some steps of small systems, and the command."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vqcodec import distributed
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.autoencoders.pqvae import PQVAEConfig
from vqcodec.autoencoders.system import Config
from vqcodec.autoencoders.vqvae import VQVAEConfig
from vqcodec.cli.program import program
from vqcodec.training.batches import Crops
from vqcodec.training.config import SystemTraining
from vqcodec.training.loop import CHECKPOINT, Run
from vqcodec.training.systems import SystemTask

SHORT = SystemTraining(
    steps=12, decay_steps=4, warmup_steps=2, batch=8, crop=16, workers=0, lr=1e-3, ema=0.9
)
VQVAE = VQVAEConfig(side=16, width=8, blocks=1, dim=4, size=32)
HQA = HQAConfig(side=16, channels=3, codebook=8, dim=4, encoder=(4, 4), decoder=(4, 4),
                quantizer="ema", places=2**20)  # fmt: skip
CASES: dict[str, tuple[str, Config]] = {
    "ste": ("vqvae", replace(VQVAE, quantizer="ste")),
    "ema": ("vqvae", VQVAE),
    "hqa": ("hqa", HQA),
    "gumbel": ("hqa", replace(HQA, quantizer="gumbel")),
    "pqvae": ("pqvae", PQVAEConfig(side=32, hidden=8, dim=8, rank=(4, 2), size=16, steps=4)),
}


def trained(name: str, folder: Path) -> Run:
    """A run of one of the CASES after all its steps."""
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1))) for _ in range(40)]
    system, shape = CASES[name]
    config = replace(SHORT, crop=shape.side)
    crops = Crops([picture.astype(np.uint8) for picture in pictures], SHORT.seed)
    run = Run(config, lambda crops: SystemTask(config, system, shape), crops, folder)
    while run.step < run.steps:
        run.advance()
    return run


def command(folder: Path, port: str, *more: str) -> int | str | None:
    """The exit code of ``vqcodec train``, which joins the others and leaves them."""
    # Not where the group before met: its addresses are still there.
    os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "False"}
    small = ("side=16", "width=8", "blocks=1", "dim=4", "size=16", "steps=40", "decay_steps=20",
             "batch=8", "fitting=64", "workers=0")  # fmt: skip
    words = ["train", str(folder / "data.npz"), "--system", "vqvae", "--out", str(folder / "run")]
    words += ["--device", "cpu", *(word for setting in small for word in ("--set", setting))]
    with pytest.raises(SystemExit) as ended:
        program.main([*words, *more])
    return ended.value.code or 0


def main(folder: Path, *ports: str) -> None:
    distributed.start("cpu")
    for name in CASES:
        run = trained(name, folder / name)
        state = run.model.state_dict()
        for key, value in state.items():  # the ranks have stayed together
            assert torch.equal(value, distributed.shared(value.clone())), key
        run.save()
    distributed.stop()
    codes = [command(folder, ports[0], "--minutes", "0"), command(folder, ports[1])]
    (folder / "run" / CHECKPOINT).write_bytes(b"damaged")
    codes.append(command(folder, ports[2]))
    (folder / f"codes-{os.environ['RANK']}.json").write_text(json.dumps(codes))
    # What is left of gloo's threads would now and then abort the process at its end.
    left = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in left), left


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
