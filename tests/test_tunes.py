"""``--tune``: one codec for two aims, from the name of a codec to the number in its file."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_training import write_photos

import vqcodec
from vqcodec import container, zoo
from vqcodec.card import read_card
from vqcodec.cli.program import program
from vqcodec.errors import UsageError
from vqcodec.rate import VISUAL, rate_name, tune_name
from vqcodec.training.run import Wanted, train_command

PHOTO = Path(__file__).parent / "data" / "photo.png"
RECIPE = """
[card]
id = "tiny-tuned"
number = 16000
title = "For tests"

[shape]
fine = 8
coarse = 16
hyper = 4
features = 8
hidden = [8, 8, 8, 8]
tuned = true
weighted = true

[loss]
luma = 0.5
mse = 0.5

[training]
steps = 2
warmup_steps = 0
decay_steps = 1
late_steps = 0
batch = 2
crop = 64
late_batch = 2
late_crop = 64
held_out = 2
fitting = 2
workers = 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that has hardly been trained, with a choice of tunes."""
    where = tmp_path_factory.mktemp("tuned")
    write_photos(where / "photos", 4, 2)
    (where / "recipe.toml").write_text(RECIPE)
    train_command(where / "recipe.toml", (), where / "codec", Wanted(where / "photos", quiet=True))
    return where / "codec"


def rate_of(data: bytes) -> int:
    return container.read(data).header.rate


def test_a_card_lists_the_points_of_both_tunes(folder: Path) -> None:
    card = read_card(folder)
    assert card.tunes == ("visual", "psnr")
    assert [row["tune"] for row in card.table] == ["visual"] * 6 + ["psnr"] * 6
    assert all(0 < row["bpp"] < 24 and row["psnr_db"] > 5 for row in card.table)


def test_the_file_says_what_it_is_tuned_for(folder: Path) -> None:
    pixels = np.asarray(Image.open(PHOTO).convert("RGB"))[:70, :90]
    name, made = str(folder), {}
    for tune, number in ((None, VISUAL + 1792), ("visual", VISUAL + 1792), ("psnr", 1792)):
        made[tune] = vqcodec.encode(pixels, "7bit", codec=name, tune=tune, device="cpu")
        assert rate_of(made[tune]) == number
        assert vqcodec.decode(made[tune], codec=name, device="cpu").size == (90, 70)
    assert made[None] == made["visual"] != made["psnr"]
    assert vqcodec.encode(pixels, "7bit", codec=f"{name}:psnr", device="cpu") == made["psnr"]
    card = read_card(folder)
    assert [rate_name(card, i) for i in (1792, VISUAL + 1792)] == ["7bit", "7bit"]
    assert [tune_name(card, i) for i in (1792, VISUAL + 1792)] == ["psnr", "visual"]


@pytest.mark.parametrize("tune", ["visual", "psnr"])
def test_targets_are_met_within_a_tune(folder: Path, tune: str) -> None:
    pixels = np.asarray(Image.open(PHOTO).convert("RGB"))[:64, :64]
    data = vqcodec.encode(pixels, "900B", codec=str(folder), tune=tune, device="cpu")
    assert 700 < len(data) <= 900
    assert (rate_of(data) >= VISUAL) == (tune == "visual")


def test_the_command_line_takes_a_tune_and_tells_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vqc"
    options = ["--codec", str(folder), "--rate", "6bit", "--device", "cpu"]
    for tune in ("psnr", "visual"):
        words = ["encode", str(PHOTO), "-o", str(out), "--force", "--tune", tune, *options]
        assert CliRunner().invoke(program, words).exit_code == 0
        result = CliRunner().invoke(program, ["info", str(out), "--codec", str(folder), "--json"])
        told = json.loads(result.output)
        assert (told["rate"], told["tune"]) == ("6bit", tune)


def test_a_sample_has_a_rate_although_the_codec_s_own_is_of_files(tmp_path: Path) -> None:
    words = ["sample", "photo-3", "-n", "1", "--size", "64", "48", "--device", "cpu"]
    result = CliRunner().invoke(program, [*words, "-o", str(tmp_path / "a.png")])
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size == (64, 48)
    result = CliRunner().invoke(program, [*words, "-o", str(tmp_path / "b.png"), "--rate", "80q"])
    assert result.exit_code == 7 and "a sample has a rate such as 8bit" in result.stderr


def test_codecs_without_a_choice_refuse_one() -> None:
    card = zoo.find("photo-2")
    assert card.tunes == () and card.tuned(None) is card and tune_name(card, 1792) is None
    with pytest.raises(UsageError, match="photo-2 has no choice"):
        zoo.find("photo-2:psnr")
    result = CliRunner().invoke(
        program, ["encode", str(PHOTO), "--codec", "photo-2", "--tune", "psnr"]
    )
    assert result.exit_code == 2 and "photo-2 has no choice" in result.output
