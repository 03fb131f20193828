"""Every system with every quantizer: codes that say all, files, and trainings that resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_codec import SHAPES, config, made, photo
from torch import Tensor

from vqcodec import container, zoo
from vqcodec.autoencoders import SYSTEMS, classes, pqvae
from vqcodec.autoencoders.system import Config, System
from vqcodec.card import read_card
from vqcodec.compress import compress
from vqcodec.decompress import decompress
from vqcodec.image import Picture
from vqcodec.quantizers import choice
from vqcodec.quantizers import usage as use
from vqcodec.quantizers.choice import QUANTIZERS
from vqcodec.training import recipe as recipes
from vqcodec.training import run, systems
from vqcodec.training.batches import Crops
from vqcodec.training.config import SystemTraining, TrainConfig
from vqcodec.training.loop import Run
from vqcodec.training.systems import SystemTask

every_system = pytest.mark.parametrize("system", sorted(SYSTEMS))
every_quantizer = pytest.mark.parametrize("quantizer", QUANTIZERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(shape: Config, count: int, seed: int = 0) -> Tensor:
    pixels = np.stack([photo(shape.side, shape.side, 100 * seed + i) for i in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def trained(system: str, quantizer: str, steps: int = 3) -> System:
    """All stages begun, and trained for some steps; in evaluation mode."""
    shape = config(system, quantizer=quantizer)
    torch.manual_seed(0)
    model = classes(system)[0](shape)
    generator = seeded()
    for stage, parameters in enumerate(model.stages()):
        model.begin(stage, squares(shape, 32), generator)
        optimizer = torch.optim.Adam(parameters, 1e-3)
        for step in range(steps):
            out = model.loss(squares(shape, 4, step), step / steps, generator)
            optimizer.zero_grad()
            out["loss"].backward()
            optimizer.step()
            model.after_step((step + 1) / steps, generator, optimizer)
    return model.eval()


def quantizers(model: Any) -> list[tuple[Any, tuple[int, int]]]:
    """What makes codes of each level, and the grid that it sees."""
    grids = [level.grid for rate in model.rates for level in model.levels(rate)]
    name = type(model).__name__
    if name in ("DQAE", "VQVAE"):
        return list(zip(model.quantizers, grids, strict=True))
    if name in ("HQA", "HAM"):
        return [(x.quantizer, g) for x, g in zip(model.layers, grids[::-1], strict=True)]
    if name == "PQVAE":
        return [(model.quantizer, (8, 8))]
    return [(part.codebook, grid) for part, grid in zip(model.posteriors, grids, strict=True)]


# --- the codes are the truth ----------------------------------------------------------------------


@every_quantizer
@every_system
def test_what_the_decoder_sees_in_evaluation_is_what_codes_decode_to(
    system: str, quantizer: str
) -> None:
    model = trained(system, quantizer)
    for part, grid in quantizers(model):
        z = torch.randn(5, part.dim, *grid, generator=seeded())
        with torch.no_grad():
            seen = part(z)
            assert torch.equal(seen.codes, part.encode(z))
            assert torch.equal(seen.z, part.decode(seen.codes))
        for column, size in zip(seen.codes.unbind(1), part.sizes, strict=True):
            assert column.min() >= 0 and column.max() < size
    x = squares(model.config, 6, 9)
    for stage, rate in enumerate(reversed(model.rates)):
        if hasattr(model, "stage"):
            model.stage = stage
        elif stage:
            break
        with torch.no_grad():
            codes = model.encode(x, rate)
            decoded = model.decode(list(codes), rate)
            parts = model.loss(x, 1.0, seeded())
        for level, one in zip(model.levels(rate), codes, strict=True):
            assert one.shape == (6, len(level.sizes), *level.grid) and one.dtype == torch.int64
        assert parts["mse"] == (decoded - x).square().mean()
        assert torch.isfinite(parts["loss"]) and parts["perplexity"] >= 1


@every_quantizer
@every_system
def test_a_file_decodes_to_the_codes_that_were_written(
    system: str, quantizer: str, tmp_path: Path
) -> None:
    tiny = made(tmp_path, system, config(system, quantizer=quantizer), fitting=16)
    pixels = photo(40, 24, 3)
    for index, rate in enumerate(tiny.card.points):
        codes = tiny.system.encode(pixels, index).latent
        data = compress(tiny, Picture(pixels), rate).data
        sections = container.read(data).sections
        decoded = tiny.system.decode(sections, 40, 24, index)
        assert all(np.array_equal(a, b) for a, b in zip(decoded, codes, strict=True))
        assert decompress(tiny, data).pixels.shape == pixels.shape
        drawn = [tiny.system.drawn(codes, index, seeded(1)) for _ in range(2)]
        assert np.array_equal(*drawn)


# --- resuming -------------------------------------------------------------------------------------


@every_quantizer
@every_system
def test_a_training_that_is_stopped_twice_is_bit_identical(
    system: str, quantizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once before the first codewords, and once within a window, after which codewords move."""
    monkeypatch.setattr(systems, "BEGINNING", 32)
    monkeypatch.setattr(choice, "UNQUANTIZED", 0.3)
    monkeypatch.setattr(choice, "SEVERAL", 1)  # of the few latents that there are
    monkeypatch.setattr(choice, "SETTLED", 0.95)
    monkeypatch.setattr(choice, "WINDOW", 3)
    monkeypatch.setattr(choice, "HQA_WINDOW", 3)
    monkeypatch.setattr(pqvae, "REVIVE_EVERY", 5)
    shape = config(system, quantizer=quantizer)
    total = 6 * len(classes(system)[0](shape).stages())
    training = SystemTraining(
        stage_steps=(6,) * (total // 6), decay_steps=2, warmup_steps=1, batch=4, crop=shape.side,
        workers=0,
    )  # fmt: skip
    crops = Crops([photo(40, 40, seed) for seed in range(9)])

    def make(crops: Crops) -> SystemTask:
        return SystemTask(training, system, shape)

    revivals: list[int] = []
    judge, current = use.dead, Run(training, make, crops, tmp_path / "whole")

    def spy(*arguments: Any) -> Tensor:
        revivals.append(current.step)
        return judge(*arguments)

    monkeypatch.setattr(use, "dead", spy)
    whole = current
    for _ in range(total):
        whole.advance()
    expected, revivals = revivals, []
    for until in (2, 4, total):
        current = Run(training, make, crops, tmp_path / "parts")
        assert current.resume() == (until > 2)
        while current.step < until:
            current.advance()
        current.save()
    assert revivals == expected
    own = system == "rrvq" and quantizer == "responsibility"
    if not own and quantizer not in ("sfdiveq", "responsibility"):
        # RRVQ moves codewords for the last time before the second stop.
        assert (2 if system == "rrvq" else 4) <= expected[-1] < total
    for one, other in (
        (whole.model.state_dict(), current.model.state_dict()),
        (dict(whole.model.named_buffers()), dict(current.model.named_buffers())),
        (whole.ema, current.ema),
    ):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]), name


@every_system
def test_the_names_of_weights_are_those_of_the_quantizer_alone(system: str) -> None:
    """What training remembers does not ship, and no quantizer changes the names of other parts."""
    usual = classes(system)[1]().quantizer  # type: ignore[attr-defined]
    names = {q: set(trained(system, q, 0).state_dict()) for q in QUANTIZERS}
    for quantizer, found in names.items():
        assert not any(name.endswith(("state", "hits", "steps_done")) for name in found)
        inside = {n for n in found ^ names[usual] if "quantizer" not in n and "codebook" not in n}
        if system != "ham":
            assert not inside, (quantizer, inside)


# --- from pictures to a codec ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "quantizer"),
    [("ham", "sfdiveq"), ("pqvae", "diveq"), ("rrvq", "sfdiveq"), ("vqvae", "residual")],
)
def test_train_makes_a_codec_with_a_quantizer_by_name(
    system: str, quantizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fewer(config: TrainConfig) -> TrainConfig:
        return replace(usual(config), steps=3, evaluate_steps=3, fitting=32)

    usual = recipes.smoke_config
    monkeypatch.setattr(recipes, "smoke_config", fewer)
    monkeypatch.setattr(systems, "BEGINNING", 64)
    x = np.stack([photo(32, 32, seed) for seed in range(24)])
    np.savez(tmp_path / "x.npz", x_train=x[:20], x_test=x[20:])
    shape = "\n".join(
        f"{key} = {list(v) if isinstance(v, tuple) else v!r}" for key, v in SHAPES[system].items()
    )
    recipe, out = tmp_path / "recipe.toml", tmp_path / "made"
    recipe.write_text(f'[card]\nsystem = "{system}"\n[shape]\n{shape}\n')
    changes = [f"shape.quantizer={quantizer}"]
    wanted = run.Wanted(tmp_path / "x.npz", smoke=True, device="cpu", quiet=True)
    run.train_command(recipe, changes, out, wanted)
    card = read_card(out)
    assert card.system == system and card.shape["quantizer"] == quantizer
    tiny = zoo.load(card, "cpu")
    data = compress(tiny, Picture(x[0]), card.points[-1]).data
    assert decompress(tiny, data).pixels.shape == (32, 32, 3)


@every_system
def test_a_quantizer_that_does_not_exist_is_an_input_error(system: str) -> None:
    with pytest.raises(ValueError, match=r"quantizer 'vq' is none of ste, .*, product"):
        config(system, quantizer="vq")
