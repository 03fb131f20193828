"""A file decodes to the same codes in whichever cell of the matrix it was made, and is decoded."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cells
import pytest
import torch
from cells import CELLS

HERE = Path(__file__).parent


@pytest.mark.slow
def test_every_cell_decodes_the_files_of_every_cell_to_the_same_codes(tmp_path: Path) -> None:
    path = os.pathsep.join(
        [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    )
    workers = {}
    for capability in ("default", "avx2", "native"):
        environment = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
        environment |= {"PYTHONPATH": path}
        if capability != "native":
            environment["ATEN_CPU_CAPABILITY"] = capability
        workers[capability] = subprocess.Popen(
            [sys.executable, str(HERE / "cells.py"), str(tmp_path), capability],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    used = {}
    for capability, worker in workers.items():
        assert worker.stdout is not None
        used[capability] = json.loads(worker.stdout.readline())
    assert used["default"] == "DEFAULT"
    found = {}
    for capability, worker in workers.items():
        output, _ = worker.communicate("decode\n")
        found |= {(capability, cell): made for cell, made in json.loads(output).items()}
    assert len(found) == 3 * len(CELLS)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert {name.partition("-")[0] for name in files} == set(workers)
    for name in files:
        assert len({made[name] for made in found.values()}) == 1, name


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_and_cpu_decode_the_files_of_both_to_the_same_codes(tmp_path: Path) -> None:
    both = [*CELLS[:1], *(replace(cell, device="cuda") for cell in CELLS)]
    cells.encode(both, tmp_path, "any")
    first, *others = cells.decode(both, tmp_path).values()
    assert len(others) == len(CELLS) and all(other == first for other in others)
