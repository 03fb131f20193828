"""``vqcodec train``, whose work is tested in tests/training."""

import sys
import types
from pathlib import Path

import pytest
from stand_in import draw, run

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_train_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    module = types.SimpleNamespace(
        train_command=lambda *args: seen.append(args), Wanted=lambda **how: how
    )
    monkeypatch.setitem(sys.modules, "vqcodec.training.run", module)
    draw("photos/a.png")
    Path("r.toml").touch()
    args = ["train", "photos", "--out", "run", "--threads", "2"]
    assert run(*args, "--recipe", "r.toml").exit_code == 0
    assert run(*args, "--smoke", "--no-resume", "-q", "--minutes", "3").exit_code == 0
    named = ["--system", "hqa", "--quantizer", "diveq", "--set", "training.lr=1", "--set", "seed=2"]
    assert run(*args, *named, "--tensorboard").exit_code == 0
    more = ["--from", "photo-2", "--name", "mine", "--threads", "2"]
    assert run("train", "photos", *more).exit_code == 0
    changes = ["card.system=hqa", "shape.quantizer=diveq", "training.lr=1", "seed=2"]
    default = {
        "data": Path("photos"), "smoke": False, "resume": True, "minutes": None, "start": None,
        "name": None, "threads": 2, "device": "auto", "tensorboard": False, "quiet": False,
    }  # fmt: skip
    short = {"smoke": True, "resume": False, "minutes": 3.0, "quiet": True}
    further = {"start": "photo-2", "name": "mine"}
    assert seen == [
        (Path("r.toml"), [], Path("run"), default),
        (None, [], Path("run"), default | short),
        (None, changes, Path("run"), default | {"tensorboard": True}),
        (None, [], Path("mine"), default | further),
    ]
