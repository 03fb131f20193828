"""Two processes with half of each batch are one process with all of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_worker import CASES, trained

from vqcodec.card import read_card
from vqcodec.errors import InputError
from vqcodec.training import loop

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of all cases, by two processes, which check that they stay alike."""
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("distributed_worker.py")
    subprocess.run([*TORCHRUN, script, folder], env=ENVIRONMENT, check=True, timeout=600)
    return folder


@pytest.mark.parametrize("name", ["ste", "ema", "hqa"])
def test_two_processes_do_what_one_does(name: str, together: Path, tmp_path: Path) -> None:
    alone = trained(name, tmp_path)
    state = torch.load(together / name / loop.CHECKPOINT, weights_only=True)
    assert state["step"] == alone.step
    for key, value in alone.model.state_dict().items():
        torch.testing.assert_close(state["model"][key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_noise_differs_between_processes(together: Path, tmp_path: Path) -> None:
    alone = trained("gumbel", tmp_path).model.state_dict()
    state = torch.load(together / "gumbel" / loop.CHECKPOINT, weights_only=True)["model"]
    assert not torch.allclose(
        state["layers.0.encoder.0.weight"], alone["layers.0.encoder.0.weight"]
    )


def test_a_batch_that_cannot_be_shared_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqcodec.distributed.size", lambda: 3)
    with pytest.raises(InputError, match="a batch of 8 cannot be cut into 3 parts"):
        trained(next(iter(CASES)), tmp_path)


@pytest.mark.slow
def test_the_command_under_torchrun_resumes_and_exports_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(0, 256, (60, 4, 4, 3), np.uint8), 4, 1).repeat(4, 2)
    np.savez(tmp_path / "data.npz", x_train=pictures[:50], x_test=pictures[50:])
    small = ("side=16", "width=8", "blocks=1", "dim=4", "size=16", "steps=40", "decay_steps=20",
             "batch=8", "fitting=64", "workers=0")  # fmt: skip
    command = ["train", "data.npz", "--system", "vqvae", "--out", "run", "--device", "cpu"]
    command += [word for setting in small for word in ("--set", setting)]

    def torchrun(*more: str) -> subprocess.CompletedProcess[str]:
        words = [*TORCHRUN, "-m", "vqcodec", *command, *more]
        return subprocess.run(
            words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
        )

    first = torchrun("--minutes", "0")
    assert first.returncode == 0 and first.stderr.count("stopped at step 1 of 40") == 1
    second = torchrun()
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("resumed at step 1") == second.stderr.count("held out  ") == 1
    assert read_card(tmp_path / "run").table[0]["bpp"] > 0
    (tmp_path / "run" / loop.CHECKPOINT).write_bytes(b"damaged")
    third = torchrun()
    assert third.returncode != 0 and "not a checkpoint of this recipe" in third.stderr
