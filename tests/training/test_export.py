"""From a run to a codec: ``vqcodec export``, measuring with files, recipes in run and card."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vqcodec import zoo
from vqcodec.card import read_card
from vqcodec.cli.program import program
from vqcodec.errors import CodecError, InputError, OutputError, UsageError
from vqcodec.training import journal, loop, recipe, release, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SMALL = (
    "card.system=hqa", "shape.quantizer=ema", "id=tiny", "number=99", "side=16", "encoder=[4, 4]",
    "decoder=[4, 4]", "dim=4", "codebook=8", "stage_steps=[3, 4]", "decay_steps=2", "batch=8",
    "fitting=64", "workers=0", "evaluate_steps=100",
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
    pictures = coarse.repeat(4, 1).repeat(4, 2)
    np.savez("data.npz", x_train=pictures[:50], x_test=pictures[50:])
    return tmp_path / "data.npz"


def train(out: str = "run", changes: tuple[str, ...] = SMALL, **wanted: Any) -> None:
    settled = {"data": Path("data.npz"), "device": "cpu", "quiet": True} | wanted
    run.train_command(None, changes, Path(out), run.Wanted(**settled))


def vqcodec(*args: str) -> Result:
    return CliRunner().invoke(program, args, prog_name="vqcodec")


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("recipes/*.toml")))
def test_a_recipe_with_all_its_values_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    read = recipe.read_recipe(path, ['data.path=pictures of "mine"', "lr=1e-05"])
    (tmp_path / "all.toml").write_text(read.text())
    assert recipe.read_recipe(tmp_path / "all.toml") == read
    values = tomllib.loads(read.text())["training"]
    assert values["optimizer"] == read.config.optimizer and values["lr"] == 1e-5
    assert set(values) == set(read.config.all_values())


def test_a_run_goes_on_with_its_own_recipe_and_pictures(data: Path) -> None:
    train(minutes=0)
    assert recipe.read_recipe(Path("run/recipe.toml")).data.path == str(data)
    os.chdir("/")
    wanted = run.Wanted(device="cpu", quiet=True)
    run.train_command(None, (), data.parent / "run", wanted)
    card = read_card(data.parent / "run")
    assert (card.id, card.number, card.system) == ("tiny", 99, "hqa")
    told = tomllib.loads((data.parent / "run" / "card.toml").read_text())
    assert told["training"]["steps"] == told["training"]["of_steps"] == 7
    assert told["recipe"]["training"]["stage_steps"] == [3, 4]
    assert told["recipe"]["training"]["optimizer"] == "adamw"
    assert told["recipe"]["shape"]["quantizer"] == "ema"
    assert str(data.parent) not in (data.parent / "run" / "card.toml").read_text()


def test_pictures_have_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither DATA nor path in the recipe's \[data\]"):
        run.train_command(None, SMALL, tmp_path / "run", run.Wanted(device="cpu"))


def test_fewer_pictures_may_be_wanted(data: Path) -> None:
    train(changes=(*SMALL, "limit=20", "held_out=3"), minutes=0)
    vqcodec("export", "run", "-o", "made")
    told = tomllib.loads(Path("made/card.toml").read_text())["training"]
    assert (told["pictures"], told["held_out"]) == (20, 3)


# --- export ---------------------------------------------------------------------------------------


def test_an_unfinished_run_becomes_a_codec(data: Path) -> None:
    train(minutes=0)
    result = vqcodec("export", "run", "-o", "made", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    card = read_card(Path("made"))
    assert card.table == told["table"] and [p["rate"] for p in card.table] == ["3bit-8x8"]
    assert sorted(path.name for path in Path("made").iterdir()) == [
        "card.toml", "weights.safetensors",
    ]  # fmt: skip
    assert not list(Path().glob(".vqcodec-*"))
    trained = zoo.load(card, "cpu")
    with np.load("data.npz") as arrays:
        held_out = list(arrays["x_test"])
    again = release.measure(trained, held_out, "3bit-8x8", lambda: None)
    assert {"rate": "3bit-8x8"} | again == card.table[0]


def test_train_ends_with_what_export_makes(data: Path) -> None:
    train()
    assert vqcodec("export", "run", "-o", "made", "-q").exit_code == 0
    ours, theirs = (read_card(Path(folder)) for folder in ("run", "made"))
    assert ours.sha256 == theirs.sha256 and ours.table == theirs.table
    assert len(ours.table) == 2


def test_a_codec_is_replaced_on_demand_only(data: Path) -> None:
    train(minutes=0)
    Path("made").mkdir()
    Path("made", "notes.txt").write_text("mine")
    assert vqcodec("export", "run", "-o", "made", "-q").exit_code == 0
    first = read_card(Path("made")).sha256
    train()
    result = vqcodec("export", "run", "-o", "made", "-q")
    assert result.exit_code == 8 and "--force replaces it" in result.output
    assert read_card(Path("made")).sha256 == first
    assert vqcodec("export", "run", "-o", "made", "-q", "--force").exit_code == 0
    assert read_card(Path("made")).sha256 == read_card(Path("run")).sha256 != first
    assert Path("made", "notes.txt").read_text() == "mine"


def test_a_codec_whose_files_do_not_decode_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(minutes=0)
    decompress = release.decompress

    def wrong(*args: Any) -> Any:
        picture = decompress(*args)
        picture.pixels[0, 0, 0] ^= 1
        return picture

    monkeypatch.setattr(release, "decompress", wrong)
    result = vqcodec("export", "run", "-o", "made")
    assert result.exit_code == 6 and not Path("made").exists()
    line = "vqcodec: error: tiny: a file of 16 x 16 pixels at 3bit-8x8 does not decode to what was"
    assert result.output.splitlines()[-1].startswith(line)
    train(out="other", minutes=0)
    with pytest.raises(CodecError):
        train(out="other")
    assert not Path("other/card.toml").exists() and not list(Path("other").glob(".vqcodec-*"))


def test_what_is_no_run_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run with a checkpoint"):
        run.export_command(tmp_path, tmp_path / "made", None, False, None, True)


def test_nothing_is_left_of_a_codec_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError), release.published(tmp_path / "made", False) as folder:
        (folder / release.WEIGHTS).write_bytes(b"x")
        raise ValueError
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), release.published(tmp_path / "file" / "made", False):
        pass


# --- measuring while training ---------------------------------------------------------------------


def test_files_are_measured_at_the_end_of_stages_and_now_and_then(data: Path) -> None:
    train(changes=(*SMALL, "evaluate_files_steps=5"))
    lines = [json.loads(line) for line in Path("run", journal.LOG).read_text().splitlines()]
    measured = {line["step"]: line["files"] for line in lines if "files" in line}
    assert {step: list(files) for step, files in measured.items()} == {
        3: ["3bit-8x8"],  # what the first stage has trained
        5: ["3bit-4x4", "3bit-8x8"],
    }
    assert all(point["bpp"] > 0 and point["psnr_db"] > 5 for point in measured[5].values())
    assert not list(Path("run").glob(".vqcodec-*")) and Path("run", loop.CHECKPOINT).exists()
