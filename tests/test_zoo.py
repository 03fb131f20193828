"""Models are found by id, by folder and by what a file says; broken ones do no harm."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vqcodec
from vqcodec import container, zoo
from vqcodec.cli.program import program
from vqcodec.errors import CodecError, InputError, RateError, UsageError, explain

SHA256 = "ab" * 32
CARD = f"""\
id = "mine"
number = 77
system = "ladder"
title = "A codec"
licence = "none"
rates = "5bit to 10bit"
sha256 = "{SHA256}"
"""


def add(root: Path, name: str, card: str = CARD) -> Path:
    (root / name).mkdir()
    (root / name / "card.toml").write_text(card, encoding="latin-1")
    return root / name


def header(weights_hash: str, codec: int = 77) -> container.Header:
    return container.Header(codec, bytes.fromhex(weights_hash), 8, 8, 2048)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which models are looked for."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("VQCODEC_MODELS", os.pathsep.join([str(tmp_path / "none"), str(folder)]))
    return folder


def test_a_codec_is_found_by_its_id_or_its_folder(models: Path, tmp_path: Path) -> None:
    inside, outside = add(models, "a"), add(tmp_path, "elsewhere")
    assert zoo.find("mine").path == inside
    assert zoo.find(str(outside)).path == outside
    assert zoo.find().id == zoo.DEFAULT
    for name in ("", "other", "no/such", "a\0b", "x" * 5000):
        with pytest.raises(CodecError, match=r"installed: .*mine"):
            zoo.find(name)


def test_what_is_wrong_with_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((9, 17, 3), np.uint8)
    for name, value, error, said in (
        ("VQCODEC_CODEC", "none", CodecError, "VQCODEC_CODEC: no codec named 'none'"),
        ("VQCODEC_CODEC", "photo-2:psnr", UsageError, "VQCODEC_CODEC: photo-2 has no choice"),
        ("VQCODEC_RATE", "good", RateError, "VQCODEC_RATE: no rate 'good'"),
        ("VQCODEC_RATE", "12bit", RateError, "VQCODEC_RATE: photo-3 offers 5bit to 10bit"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(error, match=f"^{said}"):
                vqcodec.encode(picture)
            result = CliRunner().invoke(program, ["encode", "none.png"])
            assert result.exit_code == error.exit_code and said in result.stderr
            # what is named goes before the variable
            with pytest.raises((CodecError, InputError), match=r"^none"):
                vqcodec.encode("none.png", "7bit", codec="photo-1")


def test_the_codec_of_a_file_is_the_one_with_its_number_and_weights(models: Path) -> None:
    for name, sha256 in (("a", "11" * 32), ("b", "22" * 32)):  # of one id and number
        add(models, name, CARD.replace(SHA256, sha256))
    assert zoo.for_header(header("11111111")).path == models / "a"
    assert zoo.for_header(header("22222222")).path == models / "b"
    with pytest.raises(CodecError, match="other weights of mine"):
        zoo.for_header(header("33333333"))
    with pytest.raises(CodecError, match="78, not installed"):
        zoo.for_header(header("11111111", codec=78))


def test_the_codec_of_a_file_can_be_named(models: Path, tmp_path: Path) -> None:
    folder = str(add(tmp_path, "elsewhere", CARD.replace(SHA256, "44" * 32)))
    with pytest.raises(CodecError, match="not installed"):
        zoo.for_header(header("44444444"))
    assert zoo.for_header(header("44444444"), folder).path == Path(folder)
    with pytest.raises(CodecError, match="other weights"):
        zoo.for_header(header("55555555"), folder)
    with pytest.raises(CodecError, match=f"not with {folder}, which has number 77"):
        zoo.for_header(header("44444444", codec=78), folder)


BROKEN = {
    "no TOML": "id = ",
    "no UTF-8": "id = '\xff'",
    "number is missing": CARD.replace("number = 77\n", ""),
    "number cannot be '77'": CARD.replace("77", "'77'"),
    "number cannot be True": CARD.replace("77", "true"),
    "number cannot be 16384": CARD.replace("77", "16384"),
    "id cannot be 3": CARD.replace('"mine"', "3"),
    "rates cannot be": CARD.replace('"5bit to 10bit"', "[5, 10]"),
    "sha256 cannot be 'zz'": CARD.replace(SHA256, "zz"),
    "shape cannot be": CARD + "shape = 3",
    "table cannot be": CARD + "table = [1]",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_card_is_told_and_breaks_nothing_else(models: Path, what: str) -> None:
    good = add(models, "good")
    bad = add(models, "bad", BROKEN[what])
    with pytest.raises(CodecError) as caught:
        zoo.find(str(bad))
    assert str(caught.value).startswith(f"{bad}/card.toml: not a model card: ")
    assert "\n" not in str(caught.value) and (what.startswith("no ") or what in str(caught.value))
    assert zoo.find("mine").path == zoo.for_header(header("abababab")).path == good

    result = CliRunner().invoke(program, ["models", "--json"])
    assert result.exit_code == 0
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()][-1] == "mine"
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"vqcodec: warning: {bad}/card.toml: ")


def test_what_a_card_says_is_printed_as_it_is(models: Path) -> None:
    card = CARD.replace("A codec", r"[red]\u001b[31mA\ncodec")
    add(models, "a", card + "table = [{rate = '[b]8bit', bpp = 0.5}]\n")
    result = CliRunner().invoke(program, ["models"])
    assert result.exit_code == 0
    assert r"mine: [red]\x1b[31mA\ncodec" in result.stdout and "[b]8bit" in result.stdout


def test_damaged_or_missing_weights_are_a_codec_error(models: Path) -> None:
    folder = add(models, "a")
    with pytest.raises(CodecError, match=r"weights\.safetensors: no such file"):
        zoo.load(zoo.find("mine"), "cpu")
    shutil.copy(zoo.find("photo-1").path / "weights.safetensors", folder)
    with pytest.raises(CodecError, match="is damaged"):
        zoo.load(zoo.find("mine"), "cpu")


def test_a_device_that_is_not_there_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device is available") as caught:
        zoo.device_of("cuda")
    assert explain(caught.value) == ("no CUDA device is available; use --device cpu", 2)
