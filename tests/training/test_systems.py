"""Training the systems of the papers: stages, resuming, arrays, and the codec at the end."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_codec import photo

from vqcodec import zoo
from vqcodec.autoencoders import SYSTEMS, classes
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.card import read_card
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.errors import InputError, UsageError
from vqcodec.image import Picture
from vqcodec.training import data, recipe, run
from vqcodec.training.batches import Crops
from vqcodec.training.config import SystemTraining, TrainConfig
from vqcodec.training.loop import Run
from vqcodec.training.systems import SystemTask

SHAPE = HQAConfig(side=16, codebook=8, dim=4, encoder=(4, 4), decoder=(4, 4), places=1024)
SHORT = SystemTraining(
    stage_steps=(3, 4), decay_steps=2, warmup_steps=1, batch=8, crop=16, workers=0
)


def digits(count: int, seed: int = 0) -> np.ndarray:
    """Bright bars on black, (count, 14, 14) uint8."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, 14, 14), np.uint8)
    for picture in pictures:
        top, left, height, width = rng.integers(1, 7, 4)
        picture[top : top + height, left : left + width] = rng.integers(128, 256)
    return pictures


def new_run(folder: Path, shape: HQAConfig = SHAPE) -> Run:
    pictures = list(np.repeat(digits(40)[..., None], 3, -1))
    make = partial(lambda crops: SystemTask(SHORT, "hqa", shape))
    return Run(SHORT, make, Crops(pictures, flip=False), folder)


# --- stages ---------------------------------------------------------------------------------------


def test_each_stage_trains_its_own_layer_alone(tmp_path: Path) -> None:
    training = new_run(tmp_path)
    assert training.steps == 7
    seen = []
    for _ in range(7):
        before = {k: v.clone() for k, v in training.model.state_dict().items()}
        training.advance()
        after = training.model.state_dict()
        seen.append({k.split(".")[1] for k, v in before.items() if not torch.equal(v, after[k])})
    assert all(layers == {"0"} for layers in seen[:3])
    # When a stage begins, the averages of the layer before take its place.
    assert all(layers == {"1"} for layers in seen[4:])


@pytest.mark.parametrize("kept", [(), (0, 20)])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_run_resumed_in_any_stage_is_bit_identical(
    tmp_path: Path, steps: int, kept: tuple[int, ...]
) -> None:
    shape = replace(SHAPE, kept=kept)
    whole = new_run(tmp_path / "whole", shape)
    for _ in range(7):
        whole.advance()
    first = new_run(tmp_path / "parts", shape)
    for _ in range(steps):
        first.advance()
    first.save()
    second = new_run(tmp_path / "parts", shape)
    assert second.resume()
    for _ in range(7 - steps):
        second.advance()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
        assert torch.equal(second.ema[name], whole.ema[name]), name


def test_steps_for_other_stages_than_there_are_are_an_input_error(tmp_path: Path) -> None:
    wrong = replace(SHORT, stage_steps=(3, 4, 5))
    with pytest.raises(InputError, match="names 3 stages; there are 2"):
        Run(wrong, lambda crops: SystemTask(wrong, "hqa", SHAPE), Crops([]), tmp_path)


def test_the_tables_of_a_level_stay_within_the_bytes_of_the_recipe() -> None:
    crops = Crops([photo(64, 64, seed) for seed in range(9)])

    def tables(limit: int) -> dict[str, int]:
        task = SystemTask(replace(SHORT, table_bytes=limit), "hqa", SHAPE)
        x = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        for stage in range(2):
            task.model.begin(stage, x, torch.Generator().manual_seed(stage))
        found = task.export(task.model, crops, 400, lambda: None)
        levels: dict[str, int] = {}
        for name, tensor in found.items():
            if name.startswith("prior."):
                level = name.split(".")[1]
                levels[level] = levels.get(level, 0) + tensor.nbytes
        return levels

    torch.manual_seed(0)
    rich, poor = tables(SHORT.table_bytes), tables(100)
    assert rich.keys() == poor.keys()
    assert max(poor.values()) <= 100 < max(rich.values())


# --- pictures -------------------------------------------------------------------------------------


def test_arrays_name_what_is_held_out_or_their_bytes_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=digits(9), x_test=digits(3, 1), y_train=np.zeros(9))
    training, held_out = data.load_arrays(tmp_path / "a.npz")
    assert len(training) == 9 and len(held_out) == 3
    expected = np.repeat(digits(9)[..., None], 3, -1)
    assert np.array_equal(np.stack(training), expected)
    colour = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "b.npz", x=colour)
    training, held_out = data.load_arrays(tmp_path / "b.npz")
    assert len(training) + len(held_out) == 300 and 5 < len(held_out) < 40
    assert all(data.is_held_out(x.tobytes()) for x in held_out)


def test_labels_stay_with_their_pictures(tmp_path: Path) -> None:
    x, y = digits(200), np.arange(200)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    parts = data.load_labelled(tmp_path / "a.npz")
    for pictures, labels in parts:
        assert labels is not None and len(labels) == len(pictures) > 0
        assert np.array_equal(np.stack(pictures)[..., 0], x[labels])
    assert sorted(np.concatenate([labels for _, labels in parts])) == y.tolist()
    np.savez(tmp_path / "b.npz", x_train=x, x_test=x[:9], y_test=y[:9])
    training, held_out = data.load_labelled(tmp_path / "b.npz")
    assert training.labels is None and np.array_equal(held_out.labels, y[:9])


@pytest.mark.parametrize(
    "arrays", [{"y": np.zeros(3)}, {"x": np.zeros((3, 8, 8))}, {"x": np.zeros((3, 8), np.uint8)}]
)
def test_other_arrays_are_an_input_error(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=r"a\.npz"):
        data.load_arrays(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"no arrays")
    with pytest.raises(InputError, match="cannot be read"):
        data.load_arrays(tmp_path / "b.npz")


def test_pictures_are_scaled_by_their_short_side_and_never_up() -> None:
    pixels = np.zeros((60, 90, 3), np.uint8)
    assert data.scaled(pixels, 20).shape == (20, 30, 3)
    assert data.scaled(pixels, 0) is pixels and data.scaled(pixels, 61) is pixels
    assert data.at_least(pixels[:10, :9], 16).shape == (16, 16, 3)
    assert data.at_least(pixels, 16) is pixels
    assert data.centre(pixels, 64).shape == (64, 64, 3)


# --- from pictures to a codec ---------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_has_defaults_that_its_class_takes(name: str) -> None:
    model, config = classes(name)
    made = model(config())
    assert made.rates and all(made.levels(rate) for rate in made.rates)
    assert config.from_dict(config().to_dict()) == config()


def test_arrays_become_a_codec_by_a_recipe_with_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fewer(config: TrainConfig) -> TrainConfig:
        return replace(usual(config), steps=4, evaluate_steps=4)

    usual = recipe.smoke_config
    monkeypatch.setattr(recipe, "smoke_config", fewer)
    np.savez(tmp_path / "bars.npz", x_train=digits(200), x_test=digits(9, 1))
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[card]\nid = "bars"\nnumber = 99\nsystem = "hqa"\n[training]\nlr = 2e-3\nflip = false\n'
        "[shape]\nside = 16\nencoder = [4, 4]\ndecoder = [4, 4]\ndim = 4\ncodebook = 8\n"
    )
    changes = ["codebook=16", "training.seed=5", "title=Bars"]
    out = tmp_path / "bars"
    wanted = run.Wanted(tmp_path / "bars.npz", smoke=True, device="cpu", quiet=True)
    run.train_command(path, changes, out, wanted)
    card = read_card(out)
    assert (card.id, card.number, card.system, card.title) == ("bars", 99, "hqa", "Bars")
    assert card.points == ["4bit-4x4", "4bit-8x8"] and card.shape["codebook"] == 16
    assert "--set codebook=16" in (out / "card.toml").read_text()
    trained = zoo.load(card, "cpu")
    picture = Picture(digits(1, 7)[0])
    made = compress(trained, picture, "4bit-8x8")
    assert decompress(trained, made.data).pixels.shape == (14, 14)
    assert len(made.data) < 14 + 2 + 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.lr", "TABLE.KEY=VALUE"),
        ("speed.lr=1", "no table 'speed', but card, data, loss, shape, training"),
        ("lrr=1", "'training.lr' was meant"),
        ("slice=1", "'shape.slices' was meant"),
        ("number=-1", "number is not from 0"),
        ("optimizer=sgd", "'sgd' is none of adamw, soap, muon"),
        ("loss.ms_ssim=1", "'ms_ssim_y' was meant"),
        ("mse=0.5", "add up to 1"),
        ("visual=0", "visual is above 0"),
        ("loss.luma_rates=[1]", "6 numbers"),
        ("amp=fp16", "'fp16' is none of off, bf16"),
        ("accumulate=0", "accumulate is at least 1"),
        ("compile=yes", "compile is not true or false"),
        ("training.lrr=1", "'lr' was meant"),
        ("training.lr=fast", "lr is not a number"),
        ("card.system=hqq", "no system 'hqq'"),
    ],
)
def test_a_change_that_cannot_be_is_wrong_usage(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        recipe.read_recipe(None, [change])
    assert str(caught.value).startswith(f"{change}: ")
