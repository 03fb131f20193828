"""Two processes with half of each batch are one process with all of it."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from distributed_worker import CASES, trained

from vqcodec.card import read_card
from vqcodec.errors import InputError
from vqcodec.training import loop

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


class Together(NamedTuple):
    """What two processes did."""

    folder: Path  # the checkpoints of all cases, and ``run``
    stderr: str


def free_ports(count: int) -> list[str]:
    with ExitStack() as sockets:
        opened = [sockets.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [str(one.getsockname()[1]) for one in opened]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    """All cases, and the command, by two processes, which check that they stay alike."""
    folder = tmp_path_factory.mktemp("together")
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(0, 256, (60, 4, 4, 3), np.uint8), 4, 1).repeat(4, 2)
    np.savez(folder / "data.npz", x_train=pictures[:50], x_test=pictures[50:])
    script = Path(__file__).with_name("distributed_worker.py")
    words = [*TORCHRUN, script, folder, *free_ports(3)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Together(folder, done.stderr)


@pytest.mark.parametrize("name", ["ste", "ema", "hqa"])
def test_two_processes_do_what_one_does(name: str, together: Together, tmp_path: Path) -> None:
    alone = trained(name, tmp_path)
    state = torch.load(together.folder / name / loop.CHECKPOINT, weights_only=True)
    assert state["step"] == alone.step
    for key, value in alone.model.state_dict().items():
        torch.testing.assert_close(state["model"][key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_noise_differs_between_processes(together: Together, tmp_path: Path) -> None:
    alone = trained("gumbel", tmp_path).model.state_dict()
    state = torch.load(together.folder / "gumbel" / loop.CHECKPOINT, weights_only=True)["model"]
    assert not torch.allclose(
        state["layers.0.encoder.0.weight"], alone["layers.0.encoder.0.weight"]
    )


def test_a_batch_that_cannot_be_shared_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqcodec.distributed.size", lambda: 3)
    with pytest.raises(InputError, match="a batch of 8 cannot be cut into 3 parts"):
        trained(next(iter(CASES)), tmp_path)


def test_the_command_under_torchrun_resumes_and_exports_once(together: Together) -> None:
    folder, said = together
    for rank in (0, 1):  # it is stopped, goes on to its end, and finds its checkpoint damaged
        assert json.loads((folder / f"codes-{rank}.json").read_text()) == [0, 0, 3]
    assert said.count("stopped at step 1 of 40") == said.count("resumed at step 1") == 1
    assert said.count("held out  ") == 1
    assert read_card(folder / "run").table[0]["bpp"] > 0
    assert "not a checkpoint of this recipe" in said
