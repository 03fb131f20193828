"""``vqcodec train --from``: a codec trained further, in the time there is; and its identity."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from tiny_training import TINY, photo, write_photos

from vqcodec import zoo
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.card import MAX_CODEC, Card, read_card
from vqcodec.cli.program import program
from vqcodec.errors import UsageError
from vqcodec.training import finetune, recipe, run
from vqcodec.training.batches import Crops
from vqcodec.training.identity import PRIVATE, private_number, with_own_identity

SHAPE = [f"shape.{k}={v if isinstance(v, int) else list(v)}" for k, v in TINY.to_dict().items()]
SHORT = (
    "steps=4", "warmup_steps=1", "decay_steps=2", "late_steps=0", "batch=2", "crop=64",
    "workers=0", "fitting=2", "evaluate_files_steps=0", "held_out=2",
)  # fmt: skip


def vqcodec(*args: str | Path) -> Result:
    return CliRunner().invoke(program, list(map(str, args)), prog_name="vqcodec")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in photos/, and a tiny ladder that was trained on them in start/."""
    folder = tmp_path_factory.mktemp("finetune")
    write_photos(folder / "photos", 6, 2)
    wanted = run.Wanted(folder / "photos", device="cpu", quiet=True)
    run.train_command(None, [*SHAPE, *SHORT], folder / "start", wanted)
    return folder


# --- what a new codec calls itself ----------------------------------------------------------------


def identity(name: str | None, out: str, changes: tuple[str, ...] = ()) -> recipe.CardSettings:
    path = zoo.find_recipe(Path("photo-2"))
    return with_own_identity(recipe.read_recipe(path, changes), changes, name, Path(out)).card


def test_a_codec_of_a_shipped_recipe_has_an_identity_of_its_own() -> None:
    card = identity("mine", "runs/7")
    assert card.id == "mine" and PRIVATE <= card.number <= MAX_CODEC
    assert card.number == identity("mine", "elsewhere").number == private_number("mine")
    assert card.licence == card.data == "" and "photo-2" in card.title
    assert identity(None, "runs/my codec").id == "my-codec"
    assert identity(None, "models/photo-2").id == "my-photo-2"
    settings = ("card.number=77", "licence=CC0-1.0")
    card = identity("mine", "x", settings)
    assert (card.number, card.licence, card.data) == (77, "CC0-1.0", "")


def test_who_sets_the_id_keeps_the_recipe_s_card() -> None:
    card = identity(None, "x", ("card.id=photo-2",))
    assert card == recipe.read_recipe(zoo.find_recipe(Path("photo-2"))).card


def test_a_recipe_of_one_s_own_keeps_its_card_but_for_the_name(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[card]\nid = "own"\nnumber = 99\ntitle = "Ours"\nlicence = "MIT"\n')
    own = recipe.read_recipe(path)
    assert with_own_identity(own, (), None, tmp_path) == own
    assert with_own_identity(own, (), "other", tmp_path).card == replace(own.card, id="other")


@pytest.mark.parametrize("name", ["photo-2", "a b", "../x", "", "x" * 65])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        identity(name, "x")


def test_a_shipped_codec_is_not_shadowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = zoo.find("photo-2")
    text = (folder / "start" / "card.toml").read_text(encoding="utf-8")
    for name, old, new in (
        ("a", 'id = "start"', 'id = "photo-2"'),
        ("b", f"number = {private_number('start')}", f"number = {shipped.number}"),
    ):
        assert old in text
        made = tmp_path / name
        made.mkdir()
        (made / "card.toml").write_text(text.replace(old, new), encoding="utf-8")
        weights = (folder / "start" / "weights.safetensors").read_bytes()
        (made / "weights.safetensors").write_bytes(weights)
    monkeypatch.setenv("VQCODEC_MODELS", str(tmp_path))
    assert zoo.find("photo-2") == shipped
    assert [str(error).count("is that of the shipped photo-2") for error in zoo.broken()] == [1, 1]
    assert "start" not in [card.id for card in zoo.cards()]


# --- recipes by name ------------------------------------------------------------------------------


def test_recipes_are_found_by_name_and_listed() -> None:
    assert zoo.find_recipe(Path("photo-2")).read_text().startswith("# Photographs")
    with pytest.raises(UsageError, match=r"no recipe 'photo-x'; there are .*photo-2"):
        zoo.find_recipe(Path("photo-x"))
    for args in (["photos", "--out", "x"], ["photos"], []):
        result = vqcodec("train", *args)
        assert result.exit_code == 2 and "--from photo-3 --minutes" in result.stderr
        assert all(name in result.stderr for name in zoo.recipes())
    result = vqcodec("train", "photos", "--recipe", "photo-2")
    assert result.exit_code == 2 and "--out DIR or --name NAME" in result.stderr
    result = vqcodec("train", "photos", "--from", "photo-2", "--smoke", "--name", "x")
    assert result.exit_code == 2 and "no --recipe" in result.stderr


# --- training further -----------------------------------------------------------------------------


def test_a_shipped_codec_is_trained_further_with_what_everyone_has() -> None:
    tables = finetune.tables_of(zoo.find("photo-3"), "photo-3")
    training = recipe.recipe_of(tables, "test").config
    assert (training.optimizer, training.resized) == ("adamw", 0.0)
    assert training.start == "photo-3"


def test_a_codec_is_trained_further_and_compared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finetune, "_step_seconds", lambda run, most: 200.0)  # few fit
    start = folder / "start"
    result = vqcodec(
        "train", folder / "photos", "--from", start, "--name", "mine", "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    made = read_card(Path("mine"))
    assert (made.id, made.number) == ("mine", private_number("mine"))
    assert "start" in made.title and made.shape == read_card(start).shape
    assert made.sha256 != read_card(start).sha256
    read = recipe.read_recipe(Path("mine/recipe.toml"))
    assert 10 <= read.config.steps < 20 and read.config.start == str(start)
    assert read.config.decay_steps + read.config.warmup_steps == read.config.steps
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 held-out pictures")
    assert [line.split()[0] for line in lines[2:8]] == [
        "5bit",
        "6bit",
        "7bit",
        "8bit",
        "9bit",
        "10bit",
    ]
    assert "At equal PSNR: " in lines[-2] and lines[-2].endswith("bytes than start.")
    assert lines[-1] == "To use it: vqcodec encode PICTURE --codec mine"
    shown = [row for row in made.table if row["rate"] == "8bit"]
    assert f"{shown[0]['bpp']:.4f} bpp  {shown[0]['psnr_db']:.2f} dB" in lines[5]
    log = [json.loads(line) for line in Path("mine/log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == read.config.steps


def test_a_tuned_codec_is_trained_further_for_both_aims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finetune, "_step_seconds", lambda run, most: 200.0)  # few fit
    write_photos(tmp_path / "photos", 4, 2, side=120)  # of which SSIMULACRA2 can be told
    changes = [
        "shape.tuned=true",
        "shape.weighted=true",
        "loss.mse=0.5",
        "loss.luma=0.5",
        "visual=0.5",
    ]
    wanted = run.Wanted(tmp_path / "photos", device="cpu", quiet=True)
    default = "card.default_rate=60q"
    run.train_command(None, [*SHAPE, *SHORT, *changes, default], tmp_path / "start", wanted)
    result = vqcodec("train", "photos", "--from", "start", "--name", "mine", "--device", "cpu")
    assert result.exit_code == 0, result.output
    start, made = read_card(Path("start")), read_card(Path("mine"))
    assert made.tunes == ("visual", "psnr") and made.shape == start.shape
    assert made.default_rate == start.default_rate == "60q"
    read = recipe.read_recipe(Path("mine/recipe.toml"))
    assert (read.loss.luma, read.loss.visual) == (0.5, 0.5)
    before, after = (load_file(card.path / "weights.safetensors") for card in (start, made))
    name = "step_weights.weight"
    assert after[name].shape == before[name].shape and not torch.equal(after[name], before[name])
    assert len(after["hyper_tables"]) == 12  # of six bands and two tunes
    lines = result.stdout.splitlines()
    assert lines[0] == "2 held-out pictures, means of finished files:"
    rows = [line.split() for line in lines[2:14]]
    assert [row[:2] for row in rows] == [
        [tune, f"{bits}bit"] for tune in ("visual", "psnr") for bits in range(5, 11)
    ]
    assert all(row[4].endswith("q") and row[-1].endswith("q") for row in rows[:6])
    assert all(row[5] == row[-1] == "dB" for row in rows[6:])
    told = lines[14:-1]
    for line in told:  # none where the curves of so short a training do not overlap
        assert line.startswith(("At equal SSIMULACRA2, tuned for visual", "At equal PSNR, tuned"))
    assert lines[-1] == "To use it: vqcodec encode PICTURE --codec mine"
    picture = next(Path("photos").iterdir())
    for tune in made.tunes:
        words = (
            "encode",
            picture,
            "-o",
            f"{tune}.vqc",
            "--codec",
            f"mine:{tune}",
            "--rate",
            "7bit",
        )
        assert vqcodec(*words).exit_code == 0
        back = vqcodec("decode", f"{tune}.vqc", "-o", f"{tune}.png", "--codec", "mine")
        assert back.exit_code == 0, back.output


def plan(
    start: Card, seconds: float, monkeypatch: pytest.MonkeyPatch, after: float
) -> finetune.Schedule:
    """With steps of a second, where measuring all of a picture takes ``after`` seconds."""
    clock = [0.0]

    def measure(*args: object) -> dict[str, float]:
        clock[0] += after / 18  # six rates, thrice
        return {}

    monkeypatch.setattr(finetune, "_step_seconds", lambda run, most: 1.0)
    monkeypatch.setattr(finetune.release, "measure", measure)
    monkeypatch.setattr(finetune.time, "monotonic", lambda: clock[0])
    tables = finetune.tables_of(start, str(start.path))
    pictures = [photo(90, 80, i) for i in range(60)]
    return finetune.fitted(
        recipe.recipe_of(tables, "test"), zoo.load(start, "cpu"), Crops(pictures, 1), pictures,
        seconds, "cpu", 0.0,
    )  # fmt: skip


def test_the_steps_fit_into_the_minutes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = read_card(folder / "start")
    for seconds, after in ((60.0, 1.0), (600.0, 10.0), (3600.0, 0.5), (3600.0, 100.0)):
        made = plan(start, seconds, monkeypatch, after)
        config = made.recipe.config
        count = len(made.held_out)
        assert 8 <= count <= 40 and config.held_out == config.fitting == count
        assert made.seconds_after == pytest.approx(after * count)
        assert made.seconds_after <= max(0.2 * seconds, 8 * after)
        assert 0.85 * (seconds - made.seconds_after) < config.steps < seconds - made.seconds_after
    told = r"1 minutes are too few: a step takes 1 s here, .* the training 56 s; 2 would do"
    with pytest.raises(UsageError, match=told):
        plan(start, 60.0, monkeypatch, 7.0)
    assert plan(start, 120.0, monkeypatch, 7.0).recipe.config.steps >= 10


def test_too_few_minutes_are_refused_before_the_pictures_are_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "_step_seconds", lambda run, most: 30.0)
    monkeypatch.setattr(run, "_read", lambda *how: pytest.fail("read"))
    words = ["train", folder / "photos", "--from", folder / "start", "--device", "cpu"]
    result = vqcodec(*words, "--minutes", "4", "--out", tmp_path / "new")
    assert result.exit_code == 2 and "4 minutes are too few: a step takes 30 s" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_recipe_begins_as_the_codec_s_own(folder: Path) -> None:
    start = read_card(folder / "start")
    made = recipe.recipe_of(finetune.tables_of(start, str(start.path)), "test")
    assert isinstance(made.shape, LadderConfig) and made.shape == TINY
    assert (made.config.batch, made.config.crop, made.config.late_steps) == (2, 64, 0)
    shipped = recipe.recipe_of(finetune.tables_of(zoo.find("photo-2"), "photo-2"), "test")
    own = recipe.read_recipe(zoo.find_recipe(Path("photo-2")))
    assert shipped.shape == own.shape and shipped.config.amp == own.config.amp
    assert (shipped.config.start, shipped.config.lr) == ("photo-2", finetune.LR)


def test_a_codec_that_is_trained_in_stages_is_refused(tmp_path: Path) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "data.npz", x_train=squares[:30], x_test=squares[30:])
    out = tmp_path / "out"
    result = vqcodec("train", tmp_path / "data.npz", "--from", "hqa-digits", "--out", out, "-q")
    assert result.exit_code == 2 and "--from takes a codec that is trained in one" in result.stderr


def test_a_run_without_a_codec_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    result = vqcodec("encode", "a.png", "--codec", tmp_path)
    assert result.exit_code == 6 and f"`vqcodec export {tmp_path} -o DIR`" in result.stderr
    result = vqcodec("encode", "a.png", "--codec", "nothing")
    assert "--codec takes the folder of one" in result.stderr and "VQCODEC_MODELS" in result.stderr
