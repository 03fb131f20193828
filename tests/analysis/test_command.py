"""``vqcodec analyse`` from codec to files."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_codec import photo

from vqcodec.analysis import sections
from vqcodec.cli.program import program
from vqcodec.codec import Codec
from vqcodec.training import sources


def analyse(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["analyse", *map(str, arguments)])


FIGURES = {
    "dqae": {"dependence-2x2", "dependence-4x4"},
    "hqa": {"decodes", "means-of-decodes", "codewords", "interpolation"},
    "pqvae": {"dependence-codes", "prefixes", "without-a-code", "conditional-entropy", "codewords"},
    "rrvq": {"codewords"},
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_command_writes_what_applies_and_says_what_does_not(
    codecs: dict[str, Codec], data: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "new" / "out"
    folder = codecs[name].card.path
    result = analyse(folder, data, "-o", out, "-n", 30, "--learn", 50, "--scale", 16, "--json")
    assert result.exit_code == 0, result.output
    written = (out / "analysis.json").read_text()
    assert written == result.stdout
    numbers = json.loads(written)
    assert numbers["squares"] == 30 and numbers["settings"]["seed"] == 0
    common = {"usage", "entropy-by-place", "rates", "reconstructions", "perception"}
    common |= {"classification"}
    pictures = {path.stem for path in out.glob("*.png")}
    assert pictures == common | FIGURES[name]
    assert {f"{stem}.png" for stem in pictures} == set(numbers["files"])
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    assert set(numbers) & set(sections.SECTIONS) == set(sections.SECTIONS) - set(
        numbers["left_out"]
    )
    assert all(numbers["left_out"].values())
    again = analyse(folder, data, "-o", out, "-n", 30, "--learn", 50, "--scale", 16, "--force")
    assert again.exit_code == 0 and "no " in again.stdout
    assert (out / "analysis.json").read_text() == written  # of the same seed


def test_all_pictures_of_a_folder_are_looked_at_or_those_held_out(
    codecs: dict[str, Codec], tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(30):
        Image.fromarray(photo(32, 48, seed)).save(pictures / f"{seed}.png")
    held_out = [p for p in pictures.iterdir() if sources.is_held_out(p.name.encode())]
    assert held_out
    for options, count in (((), 30), (("--held-out",), len(held_out))):
        out = tmp_path / f"out{count}"
        result = analyse(codecs["hqa"].card.path, pictures, "-o", out, "--json", *options)
        assert result.exit_code == 0, result.output
        numbers = json.loads(result.stdout)
        assert numbers["squares"] == 6 * count
        assert "no labels" in numbers["left_out"]["classification"]
        assert numbers["settings"]["split"] == "name"  # as of cards that do not say


def test_all_of_an_array_without_a_test_part_is_looked_at(
    codecs: dict[str, Codec], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.stack([photo(16, 16, seed) for seed in range(30)]))
    result = analyse(codecs["hqa"].card.path, tmp_path / "x.npz", "-o", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["squares"] == 30


def test_what_cannot_be_analysed_has_its_exit_code_and_one_line(
    codecs: dict[str, Codec], data: Path, tmp_path: Path
) -> None:
    folder, out = codecs["hqa"].card.path, tmp_path / "out"
    (tmp_path / "bad.npz").write_bytes(b"no arrays")
    (tmp_path / "few").mkdir()
    Image.fromarray(photo(16, 16)).save(tmp_path / "few" / "a.png")
    np.savez(tmp_path / "labels.npz", x=photo(16, 16)[None], y=np.zeros(2, int))
    for arguments, code, message in (
        (("nothing", data), 6, "no codec named 'nothing'"),
        ((folder, tmp_path / "none"), 3, "no such file or folder"),
        ((folder, tmp_path / "none.npz"), 3, "none.npz: no such file"),
        ((folder, tmp_path / "bad.npz"), 3, "cannot be read"),
        ((folder, tmp_path / "few", "--held-out"), 3, "too few pictures"),
        ((folder, tmp_path / "labels.npz"), 3, "y is not one integer for each picture"),
        ((folder, data, "-n", -1), 2, "'-n'"),
    ):
        result = analyse(*arguments, "-o", out)
        assert result.exit_code == code, result.output
        assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert analyse(folder, data, "-o", data).exit_code == 8
    out.mkdir()
    shutil.copy(data, out / "two.json")
    result = analyse(folder, data, "-o", out)
    assert result.exit_code == 8 and "holds two.json already" in result.stderr


def test_without_matplotlib_the_user_is_told_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = analyse("photo-2", data, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "pip install matplotlib" in result.stderr
