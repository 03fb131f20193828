"""A training that is killed, at any moment, goes on as if nothing had happened."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

from vqcodec.cli import main
from vqcodec.training import journal, loop

SETTINGS = (
    "side=16", "width=8", "blocks=1", "dim=4", "size=16", "quantizer=ema", "steps=400",
    "decay_steps=100", "batch=8", "fitting=64", "evaluate_steps=150", "workers=1",
    "checkpoint_seconds=0.1",
)  # fmt: skip


def command(out: str) -> ForkServerProcess:
    """A process of its own, forked from one that has imported torch: a new one would take 4 s."""
    words = ["train", "data.npz", "--system", "vqvae", "--quiet"]
    words += ["--out", out, "--name", "resumed", "--device", "cpu", "--threads", "1"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    server = multiprocessing.get_context("forkserver")
    # The second is what an optimizer imports when it is made.
    server.set_forkserver_preload(["vqcodec.training.run", "torch._dynamo"])
    process = server.Process(target=main)
    with pytest.MonkeyPatch.context() as patch:  # its arguments and its folder are this one's
        patch.setattr(sys, "argv", ["vqcodec", *words])
        process.start()
    return process


def ended(process: ForkServerProcess) -> int | None:
    process.join(600)
    return process.exitcode


def wait_for_change(path: Path, process: ForkServerProcess) -> None:
    """Until a checkpoint is written."""
    before = path.stat().st_mtime_ns if path.exists() else None
    while process.is_alive():
        if path.exists() and path.stat().st_mtime_ns != before:
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
    pictures = coarse.repeat(4, 1).repeat(4, 2)
    np.savez("data.npz", x_train=pictures[:50], x_test=pictures[50:])
    assert ended(command("whole")) == 0

    draw = random.Random(0)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGKILL):
        process = command("killed")
        wait_for_change(Path("killed") / loop.CHECKPOINT, process)
        time.sleep(draw.uniform(0, 0.3))
        assert process.pid is not None
        os.kill(process.pid, number)
        assert ended(process) in (0, -9 if number == signal.SIGKILL else 128 + number)
    assert ended(command("killed")) == 0

    for name in ("weights.safetensors", "recipe.toml"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()
    logs = [
        [json.loads(line) for line in Path(run, journal.LOG).read_text().splitlines()]
        for run in ("whole", "killed")
    ]
    # What was measured after the last checkpoint before a kill is there once. (Where SIGTERM comes,
    # nothing is measured any more.)
    whole, killed = ([x["step"] for x in log if "held_out" in x] for log in logs)
    assert whole == [150, 300, 400] and set(killed) <= set(whole)
    assert killed == sorted(set(killed)) and 400 in killed
    steps = [[x["step"] for x in log if "loss" in x] for log in logs]
    assert steps[0] == steps[1] == [*range(10, 100, 10), 100, 200, 300, 400]
