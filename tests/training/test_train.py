"""Training: what is drawn, how it resumes, and that a model comes out at the end."""

import errno
import json
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import SHORT, TINY, ladder_run, photo, write_photos

from vqcodec import zoo
from vqcodec.autoencoders.ladder.codec import LadderCodec
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.autoencoders.ladder.model import Ladder
from vqcodec.card import read_card
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.errors import InputError, OutputError, UsageError
from vqcodec.image import Picture
from vqcodec.metrics.psnr import psnr_db
from vqcodec.rate import parse_rate
from vqcodec.training import export, ladder, loop, pack, recipe, run
from vqcodec.training.batches import Crops
from vqcodec.training.config import LadderTraining, TrainConfig
from vqcodec.training.journal import Journal
from vqcodec.training.ladder import LadderTask, weights_to_start_with
from vqcodec.training.loop import Run

ROOT = Path(__file__).parents[2]

# --- the loop -------------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_stays_and_decays() -> None:
    config = TrainConfig(steps=1000, warmup_steps=100, decay_steps=400, lr=1e-3, lr_end=0.02)
    rates = [loop.learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[99:601] == pytest.approx([1e-3] * 502)
    assert rates[800] == pytest.approx(1e-3 * (0.02 + 0.98 / 2))
    assert rates[1000] == pytest.approx(2e-5)
    assert rates[600:] == sorted(rates[600:], reverse=True)
    assert loop.learning_rate(TrainConfig(decay_steps=0), 17999) == pytest.approx(1e-3)


def test_rate_points_are_drawn_from_their_interval() -> None:
    bits = ladder.sample_bits(LadderTraining(), 4000, torch.Generator().manual_seed(0))
    assert bits.min() >= 4.9 and bits.max() <= 10.1
    inside = ((bits >= 5.5) & (bits <= 9)).float().mean()
    assert inside == pytest.approx(0.75 + 0.25 * 3.5 / 5.2, abs=0.03)


def test_a_larger_model_starts_with_what_a_smaller_one_has_learned(tmp_path: Path) -> None:
    small = ladder_run(tmp_path / "small")
    small.advance()
    shape = replace(
        TINY, more_luma=2, slices=(8, 24, 64, 160, 2), checkerboard=(True,) * 3 + (False,) * 2,
        coded_from=(0, 0, 0, 0, 8), hidden=(8,) * 5,
    )  # fmt: skip
    large = Ladder(shape)
    own = large.analysis.linear[256:].clone()
    fresh = loop.transplant(small.model.state_dict(), large)
    assert fresh and all(name.startswith("anchor_nets.4") for name in fresh)
    assert torch.equal(large.analysis.linear[256:], own)
    x = torch.from_numpy(photo(64, 64, 3)).permute(2, 0, 1)[None].float()
    t = torch.zeros(1, 3)
    y, expected = large.analysis(x, t), small.model.analysis(x, t)
    assert torch.allclose(y[:, :256], expected, atol=1e-4)
    y[:, 256:] = 0
    decoded = large.synthesis(y, t, large.std)
    assert torch.allclose(decoded, small.model.synthesis(expected, t, small.model.std), atol=1e-2)


def test_a_run_can_start_from_a_shipped_codec(tmp_path: Path) -> None:
    config = replace(SHORT, start="photo-1")
    crops = Crops([photo(80, 90, 0)])
    training = Run(config, lambda crops: LadderTask(config, LadderConfig(), crops), crops, tmp_path)
    shipped = zoo.load(zoo.find("photo-1"), "cpu").system.model.state_dict()
    own = training.model.state_dict()
    for name, value in shipped.items():
        if not name.startswith("hyper_mean") and not name.startswith("hyper_scale"):
            assert torch.equal(own[name], value), name


@pytest.mark.parametrize("name", ["photo-1", "photo-3"])
def test_the_rate_of_hyper_codes_is_known_from_the_start(name: str) -> None:
    """Of a ladder that begins with a codec, although what estimates it does not ship."""
    codec = zoo.load(zoo.find(name), "cpu")
    system = codec.system
    assert isinstance(system, LadderCodec)
    pixels = np.asarray(Image.open(ROOT / "tests/data/photo.png").convert("RGB"))[:192, :256]
    rate = system.point(codec.rate_index(parse_rate("8bit")))
    y, z = system.latents(pixels[None], rate)
    real = system.encode_latents(y, z, rate)[0].ideal_bits[0]
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    tune = torch.ones(1) if system.model.config.tuned else None

    def estimated(state: dict[str, torch.Tensor]) -> float:
        model = Ladder(system.model.config)
        loop.transplant(state, model)
        with torch.no_grad():
            coded = model.code(x, torch.tensor([8.0]), torch.Generator().manual_seed(0), tune=tune)
        return float(coded.hyper_bits)

    known = estimated(weights_to_start_with(codec))
    assert known < 2 * real  # noise in place of rounding costs a little
    assert known - real < (estimated(dict(system.model.state_dict())) - real) / 3


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    whole = ladder_run(tmp_path / "whole")
    for _ in range(6):
        whole.advance()
    first = ladder_run(tmp_path / "parts")
    assert not first.resume()
    for _ in range(3):
        first.advance()
    first.save()
    second = ladder_run(tmp_path / "parts")
    assert second.resume() and second.step == 3
    for _ in range(3):
        second.advance()
    assert second.step == whole.step == 6
    assert torch.equal(second.norms, whole.norms)
    expected, result = whole.model.state_dict(), second.model.state_dict()
    for name in expected:
        assert torch.equal(result[name], expected[name]), name
        assert torch.equal(second.ema[name], whole.ema[name]), name
    start = ladder_run(tmp_path / "start").model.state_dict()
    assert not torch.equal(result["analysis.enter.weight"], start["analysis.enter.weight"])


def test_a_step_with_an_unusual_gradient_is_skipped(tmp_path: Path) -> None:
    training = ladder_run(tmp_path)
    training.advance()
    training.norms[-20:] = 1e-6
    before = {k: v.clone() for k, v in training.model.state_dict().items()}
    out = training.advance()
    assert out["skipped"] == 1
    after = training.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert training.step == 2


def test_training_logs_evaluates_and_saves(tmp_path: Path) -> None:
    training = ladder_run(tmp_path)
    held_out = torch.from_numpy(np.stack([photo(64, 64, 9)])).permute(0, 3, 1, 2).float()
    assert loop.train(training, held_out, Journal(tmp_path))
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert "config" in log[0] and "held_out" in log[-1]
    again = ladder_run(tmp_path)
    assert again.resume() and again.step == 6
    for name, value in again.averaged().state_dict().items():
        assert torch.equal(value, training.ema[name])


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_the_recipes_can_be_read(path: Path) -> None:
    read = recipe.read_recipe(path)
    assert read.card.id == path.stem
    assert read.config.steps > read.config.decay_steps


def test_no_recipe_means_the_defaults() -> None:
    read = recipe.read_recipe(None)
    assert (read.config, read.shape) == (LadderTraining(), LadderConfig())


@pytest.mark.parametrize(
    "text",
    [
        "no toml",
        "[training]\nspeed = 3",
        "[training]\nlr = 'fast'",
        "[training]\nsteps = 1.5",
        "training = 3",
        "card = 3",
        "shape = [3]",
        "[shape]\nwidth = 3",
        "[shape]\nluma = 'wide'",
        "[shape]\nslices = 8",
        "[shape]\nslices = [8, 24]",
        "[shape]\nslices = [8, 24, 'x', 3]",
        "[card]\nsystem = 'unheard-of'",
        "[speed]\nfast = true",
        "\xff",
    ],
)
def test_a_bad_recipe_is_an_input_error_of_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        recipe.read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.toml: cannot be read: no such file"):
        recipe.read_recipe(tmp_path / "missing.toml")


# --- from pictures to a model ---------------------------------------------------------------------


def train(pictures: Path, out: Path, resume: bool = False) -> None:
    wanted = run.Wanted(pictures, smoke=True, resume=resume, device="cpu", quiet=True)
    run.train_command(None, (), out, wanted)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def fewer(config: TrainConfig) -> TrainConfig:
        return replace(usual(config), steps=8, late_steps=2, batch=2, late_crop=64)

    usual = recipe.smoke_config
    monkeypatch.setattr(recipe, "smoke_config", fewer)


def test_pictures_become_a_model_that_encodes_and_decodes(tmp_path: Path, few_steps: None) -> None:
    write_photos(tmp_path / "photos", 18, 2)
    out = tmp_path / "model"
    threads = torch.get_num_threads()
    train(tmp_path / "photos", out)
    assert torch.get_num_threads() == threads
    card = read_card(out)
    assert card.system == "ladder" and [row["rate"] for row in card.table] == ["6bit", "8bit"]
    assert LadderConfig.from_dict(card.shape) == recipe.SMOKE_SHAPE
    assert 'command = "vqcodec train photos --out model --smoke"' in (out / "card.toml").read_text()
    model = zoo.load(card, "cpu")
    pixels = photo(83, 61, 99)
    made = compress(model, Picture(pixels), "8bit")
    decoded = decompress(model, made.data).pixels
    assert decoded.shape == pixels.shape
    assert psnr_db(pixels, decoded) > 20
    assert 8 * len(made.data) < pixels.size * 8 / 3

    with pytest.raises(OutputError, match="--resume"):
        train(tmp_path / "photos", out)
    train(tmp_path / "photos", out, resume=True)  # nothing is left to do but the export
    assert read_card(out).sha256 == card.sha256


def test_a_codec_comes_from_shards_and_what_cannot_be_used_is_named(
    tmp_path: Path, few_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, shards, out = tmp_path / "photos", tmp_path / "shards", tmp_path / "model"
    write_photos(photos, 9, 2)
    Image.fromarray(photo(63, 99, 0)).save(photos / "small.png")
    pack.pack(photos, shards, pack.Packing(), lambda items, name: items, pytest.fail)
    with tarfile.open(shards / "train-00000.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("empty.jpg"))
    run.train_command(None, (), out, run.Wanted(shards, smoke=True, device="cpu"))
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith("; skipped")]
    empty, small = sorted(said, key=len)
    assert re.search(r": [0-9a-f]{64}\.png: 99 x 63 pixels; 64 a side are needed", small)
    assert empty.startswith(f"{shards / 'train-00000.tar'}: empty.jpg: not an image")
    listed = (out / run.SKIPPED).read_text().splitlines()
    assert [json.loads(line)["skipped"] + "; skipped" for line in listed] == said
    card = read_card(out)
    assert (card.training["skipped"], card.training["held_out"], card.split) == (2, 2, "content")


@pytest.mark.parametrize(("training", "held_out"), [(3, 0), (0, 2)])
def test_too_few_pictures_are_an_input_error(tmp_path: Path, training: int, held_out: int) -> None:
    write_photos(tmp_path / "photos", training, held_out)
    with pytest.raises(InputError, match="too few"):
        train(tmp_path / "photos", tmp_path / "model")


def test_an_output_that_cannot_be_made_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=f"^{out}: cannot be made: "):
            train(tmp_path / "no photos", out)

    def refuse(path: Path, **how: object) -> None:  # which hardly anybody does to root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(OutputError, match="cannot be written: permission denied"):
        train(tmp_path / "no photos", tmp_path)


def test_a_training_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1, 0, side=260)
    with pytest.raises(InputError, match="too few pictures"):
        train(tmp_path / "photos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_device_that_cannot_train_is_wrong_usage(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    Image.fromarray(photo(8, 8, 0)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="no CUDA device"):
        run.train_command(None, (), tmp_path, run.Wanted(tmp_path, smoke=True, device="cuda"))


def test_nothing_is_drawn_where_stderr_is_no_terminal(
    tmp_path: Path, few_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "photos", 4, 1)
    out = tmp_path / "model"
    run.train_command(None, (), out, run.Wanted(tmp_path / "photos", smoke=True, device="cpu"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("held out at step 8: 6bit ")
    assert len(lines) == 4 and all(line.startswith("held out") for line in lines[:3])
    assert lines[3] == f"To use it: vqcodec encode PICTURE --codec {out}"


@pytest.mark.parametrize(
    "fields", [{"title": 'a "quoted" \\ title\n', "number": 3}, {"title": "Fotos für alle – ✓"}]
)
def test_a_card_comes_back_as_written(tmp_path: Path, fields: dict[str, object]) -> None:
    base = {"id": "x", "number": 0, "system": "ladder", "title": "", "licence": "",
            "rates": "5bit to 10bit", "sha256": "00" * 32}  # fmt: skip
    table: Sequence[dict[str, object]] = [{"rate": "8bit", "bpp": 0.5, "psnr_db": 31.25}]
    tables = {"training": {"steps": 3}, "shape": TINY.to_dict()}
    export.write_card(tmp_path, base | fields, tables, table)
    card = read_card(tmp_path)
    assert {key: getattr(card, key) for key in base} == base | fields
    assert card.table == table
    assert LadderConfig.from_dict(card.shape) == TINY
