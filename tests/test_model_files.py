"""Model files from strangers: hash first, a clear error for whatever is wrong, no pickles."""

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from fuzz.fuzz_tiny import SHAPES
from tiny_codec import made
from torch import Tensor

from vqcodec import zoo
from vqcodec.card import read_card
from vqcodec.errors import CodecError

SOURCE = Path(zoo.__file__).parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a codec of each tiny system, and of a shipped ladder."""
    folder = tmp_path_factory.mktemp("models")
    for name, shape in SHAPES.items():
        made(folder / name, name, shape)
    return {name: folder / name for name in SHAPES} | {"ladder": zoo.find("photo-2").path}


def copied(source: Path, folder: Path, weights: bytes, *, hashed: bool) -> zoo.Card:
    """The model with other weights, and a card that has their hash or still that of the old."""
    shutil.copytree(source, folder)
    (folder / "weights.safetensors").write_bytes(weights)
    if hashed:
        card = (folder / "card.toml").read_text(encoding="utf-8")
        sha256 = hashlib.sha256(weights).hexdigest()
        card = re.sub('sha256 = "[0-9a-f]*"', f'sha256 = "{sha256}"', card)
        (folder / "card.toml").write_text(card, encoding="utf-8")
    return read_card(folder)


def refusal(card: zoo.Card) -> str:
    with pytest.raises(CodecError) as caught:
        zoo.load(card, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda weights: b"",
    "truncated": lambda weights: weights[: len(weights) // 2],
    "one byte less": lambda weights: weights[:-1],
    "tampered": lambda weights: weights[:-9] + bytes([weights[-9] ^ 1]) + weights[-8:],
    "longer": lambda weights: weights + b"\0",
    "absurd header": lambda weights: b"\xff" * 8 + weights[8:],
    "pickle": lambda weights: pickle.dumps(Trap()),
}


# A changed bit of a weight is as good as the other one, if the hash is right.
CASES = [(damage, hashed) for damage in DAMAGES for hashed in (False, True)]
CASES.remove(("tampered", True))


@pytest.mark.parametrize(("damage", "hashed"), CASES)
def test_damaged_weights_are_told_and_never_unpickled(
    damage: str,
    hashed: bool,
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = DAMAGES[damage]((models["vqvae"] / "weights.safetensors").read_bytes())
    card = copied(models["vqvae"], tmp_path / "model", weights, hashed=hashed)
    expected = "the weights cannot be used" if hashed else "is damaged: its hash is not the card's"
    assert expected in refusal(card)
    assert not Path("trapped").exists()


Tensors = dict[str, Tensor]
TABLES = "prior.4x4.0.tables"
HALF = torch.full((96, 48, 3, 3), 6e4).half()
TAMPERS: list[tuple[str, Callable[[Tensors], object], str]] = [
    ("ladder", lambda t: t.pop("units"), "'units'"),
    ("ladder", lambda t: t.pop("synthesis.enter.weight"), "not those of this version"),
    ("ladder", lambda t: t.update(more=torch.zeros(3)), "not those of this version"),
    ("ladder", lambda t: t.update(units=t["units"][:, 1:]), "size mismatch"),
    ("ladder", lambda t: t.update(hyper_tables=t["hyper_tables"][1:]), "not those of the network"),
    ("ladder", lambda t: t.update(class_tables=t["class_tables"][0]), "not those of the network"),
    ("ladder", lambda t: t.update({"synthesis.enter.bias": torch.ones(2)}), "size mismatch"),
    ("ladder", lambda t: t.update(units=t["units"].float()), "32-bit integers"),
    ("ladder", lambda t: t["units"].zero_(), "not above zero"),
    ("ladder", lambda t: t["class_tables"][3].add_(1), "sum to"),
    ("ladder", lambda t: t["hyper_tables"][1, 2].mul_(-1), "sum to"),
    ("ladder", lambda t: t["synthesis.enter.weight"].fill_(torch.nan), "not a number"),
    ("ladder", lambda t: t.update({"hyper_synthesis.conv64.weight": HALF}), "too large for exact"),
    ("vqvae", lambda t: t.update({"prior.up.0.tables": t[TABLES]}), "no level 'up'"),
    ("vqvae", lambda t: t.pop(TABLES), "missing"),
    ("vqvae", lambda t: t.update({TABLES: t[TABLES][:, 1:]}), "the largest entry|codewords"),
    ("vqvae", lambda t: t.update({TABLES: t[TABLES].int()}), "packed tables are bytes"),
    ("vqvae", lambda t: t.update({"prior.4x4.0.2.up.3": torch.zeros(9).byte()}), "column 3"),
    ("vqvae", lambda t: t.update({"prior.4x4.0.2.above.0": torch.zeros(9).byte()}), "'above'"),
    ("vqvae", lambda t: t.update({"prior.4x4.0.1.up.0": t["prior.4x4.0.1.up.0"][1:]}), "no map"),
    ("dqae", lambda t: t["prior.4x4.0.choice"].fill_(9999), "does not exist"),
    ("rrvq", lambda t: t.update({"prior.z3.centroids": torch.ones(1, 99).int()}), "dimensions"),
    ("rrvq", lambda t: t.update({"prior.z3.tables": t["prior.z1.0.tables"][:1]}), "codebooks"),
]  # fmt: skip


@pytest.mark.parametrize(("system", "tamper", "words"), TAMPERS)
def test_weights_that_do_not_fit_the_network_are_told(
    system: str,
    tamper: Callable[[Tensors], object],
    words: str,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    tensors = safetensors.torch.load((models[system] / "weights.safetensors").read_bytes())
    tamper(tensors)
    weights = safetensors.torch.save({name: value.clone() for name, value in tensors.items()})
    card = copied(models[system], tmp_path / "model", weights, hashed=True)
    assert re.search(words, refusal(card))


def test_weights_of_another_system_are_told(models: dict[str, Path], tmp_path: Path) -> None:
    weights = (models["dqae"] / "weights.safetensors").read_bytes()
    for system in ("ladder", "hqa"):
        card = copied(models[system], tmp_path / system, weights, hashed=True)
        assert "cannot be used" in refusal(card)


@pytest.mark.parametrize("id", ["../../etc", "a/b", "/etc", "..", ".hidden", "", "a\\nb", "x" * 65])
def test_an_id_cannot_leave_the_folder_of_models(
    id: str, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["vqvae"], tmp_path / "model")
    card = (tmp_path / "model/card.toml").read_text(encoding="utf-8")
    (tmp_path / "model/card.toml").write_text(card.replace('"tiny"', f'"{id}"'), encoding="utf-8")
    with pytest.raises(CodecError, match="id cannot be"):
        read_card(tmp_path / "model")


@pytest.mark.parametrize("value", ["1e9", "99999999", "[8, 99999999]", "-1", f"[{'1, ' * 300}1]"])
def test_a_network_of_absurd_size_is_not_made(
    value: str, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["vqvae"], tmp_path / "model")
    card = (tmp_path / "model/card.toml").read_text(encoding="utf-8")
    card = re.sub("width = .*", f"width = {value}", card)
    (tmp_path / "model/card.toml").write_text(card, encoding="utf-8")
    with pytest.raises(CodecError, match="shape cannot be"):
        read_card(tmp_path / "model")


@pytest.mark.parametrize("codec", [card.id for card in zoo.cards()])
def test_every_codec_has_a_rate_for_who_names_none(codec: str) -> None:
    card = zoo.find(codec)
    assert "default_rate" in (card.path / "card.toml").read_text(encoding="utf-8")
    assert not card.points or card.default_rate in card.points


def test_without_a_default_rate_it_is_the_finest_and_another_codec_s_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    assert read_card(models["hqa"]).default_rate == read_card(models["hqa"]).points[-1]
    assert read_card(models["ladder"]).default_rate == "8bit"
    shutil.copytree(models["hqa"], tmp_path / "model")
    path = tmp_path / "model/card.toml"
    card = path.read_text(encoding="utf-8")
    path.write_text('default_rate = "7.5bit"\n' + card, encoding="utf-8")
    with pytest.raises(CodecError, match=r"'7\.5bit' is none of its points"):
        read_card(tmp_path / "model")


def test_nothing_is_unpickled_on_the_way_from_a_file_to_a_picture(models: dict[str, Path]) -> None:
    script = """
import sys
import torch, numpy, scipy, PIL.Image  # what these do when they are imported is their affair
found = []
sys.addaudithook(lambda event, args: found.append(event) if "pickle" in event else None)
import vqcodec
from vqcodec import zoo
for codec in sys.argv[1:]:
    data = vqcodec.encode(numpy.zeros((8, 8, 3), numpy.uint8), "3bit", codec=codec, device="cpu")
    vqcodec.decode(data, codec=codec, device="cpu")
print(found)
"""
    folders = [str(models[name]) for name in ("vqvae", "dqae", "rrvq")]
    command = [sys.executable, "-c", script, *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_package_reads_no_pickles() -> None:
    """Checkpoints of one's own training alone are torch's format, without code in it."""
    sources = {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8")
        for path in SOURCE.rglob("*.py")
    }
    for name, text in sources.items():
        assert not re.search(r"import (c?pickle|marshal|shelve|joblib)|allow_pickle=True", text), (
            name
        )
        loads = re.findall(r"(?<!\.)\btorch\.load\((?:[^()]|\([^()]*\))*\)", text)
        assert all("weights_only=True" in call for call in loads), name
        assert not loads or name.startswith("training/"), name


def test_the_card_is_data(tmp_path: Path) -> None:
    """A card with what looks like code is a card."""
    source = zoo.find("photo-2").path
    shutil.copytree(source, tmp_path / "model")
    title = json.dumps("__import__('os').mkdir('trapped'); ${HOME} %(id)s {0}")
    card = (tmp_path / "model/card.toml").read_text(encoding="utf-8")
    card = re.sub("title = .*", f"title = {title}", card)
    (tmp_path / "model/card.toml").write_text(card, encoding="utf-8")
    assert read_card(tmp_path / "model").title == json.loads(title)
