"""``vqcodec train``, whose work is tested in tests/training."""

import sys
import types
from pathlib import Path

import pytest
from stand_in import run

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_train_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    module = types.SimpleNamespace(
        train_command=lambda *args: seen.append(args), Wanted=lambda *args: args
    )
    monkeypatch.setitem(sys.modules, "vqcodec.training.run", module)
    args = ["train", "photos", "--out", "run", "--threads", "2"]
    assert run(*args, "--recipe", "r.toml").exit_code == 0
    assert run(*args, "--smoke", "--no-resume", "-q", "--minutes", "3").exit_code == 0
    named = ["--system", "hqa", "--quantizer", "diveq", "--set", "training.lr=1", "--set", "a=b"]
    assert run(*args, *named, "--tensorboard").exit_code == 0
    photos = Path("photos")
    changes = ["card.system=hqa", "shape.quantizer=diveq", "training.lr=1", "a=b"]
    assert seen == [
        (Path("r.toml"), [], Path("run"), (photos, False, True, None, 2, "auto", False, False)),
        (None, [], Path("run"), (photos, True, False, 3.0, 2, "auto", False, True)),
        (None, changes, Path("run"), (photos, False, True, None, 2, "auto", True, False)),
    ]
