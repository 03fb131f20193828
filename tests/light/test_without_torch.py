"""The program and the library decode where torch cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqcodec
from vqcodec import zoo
from vqcodec.codec import Codec
from vqcodec.errors import NEEDS_TORCH, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = [f"photo-{n}/{name}" for n in (1, 2, 3) for name in ("photo-7.3bit", "alpha-64x48")]
ARCHIVE = GOLDEN / "photo-3" / "archive.vqc"
GREY = GOLDEN / "photo-2" / "grey-17x9.vqc"
DIGIT = next((GOLDEN / "hqa-digits").glob("*.vqc"))

SCRIPT = """
import json, sys
sys.modules["torch"] = None  # its import fails
from click.testing import CliRunner
from vqcodec.cli.program import program

for args in json.load(sys.stdin):
    result = CliRunner().invoke(program, args)
    print(json.dumps([result.exit_code, result.stdout, result.stderr]))
import vqcodec
from PIL import Image
Image.open(sys.argv[1]).save(sys.argv[2])
"""


def near(found: Path, name: str) -> bool:
    with Image.open(found) as im, Image.open(GOLDEN / f"{name}.png") as stored:
        assert (im.mode, im.size) == (stored.mode, stored.size)
        return bool(np.abs(np.array(im).astype(int) - np.array(stored)).max() <= 1)


def test_the_program_decodes_what_it_is_for_and_names_torch_else(tmp_path: Path) -> None:
    out = {name: tmp_path / f"{name.replace('/', '-')}.png" for name in NAMES}
    part, second, pillow = (tmp_path / f"{name}.png" for name in ("part", "second", "pillow"))
    preview, packed = tmp_path / "preview.png", tmp_path / "packed"
    photo = GOLDEN / f"{NAMES[0]}.vqc"
    source = str(GOLDEN / f"{NAMES[0]}.png")
    done = [
        *(["decode", str(GOLDEN / f"{name}.vqc"), "-o", str(path)] for name, path in out.items()),
        ["decode", str(ARCHIVE), "-o", str(packed), "--threads", "1", "-q"],
        ["decode", str(ARCHIVE), "-o", str(second), "--index", "2"],
        ["decode", str(photo), "-o", str(part), "--region", "8,16,40,30"],
        ["decode", str(photo), "-o", str(preview), "--levels", "2"],
        ["info", str(photo), "--ideal", "--json"],
        ["verify", "-q", *map(str, sorted(GOLDEN.glob("photo-*/*.vqc")))],
        ["models"],
    ]
    refused = [
        ["encode", source, "-o", str(tmp_path / "a.vqc")],
        ["decode", str(DIGIT), "-o", str(tmp_path / "digit.png")],
        ["decode", str(photo), "-o", str(tmp_path / "a.png"), "--device", "cuda"],
        ["verify", str(DIGIT)],
        ["compare", source, str(photo)],
        ["sample", "hqa-digits", "-o", str(tmp_path / "sample.png")],
        ["bench", source],
        ["train", str(tmp_path), "--out", str(tmp_path / "run"), "--smoke"],
    ]
    environment = {key: value for key, value in os.environ.items() if key != "VQCODEC_RUNTIME"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(GREY), str(pillow)],
        input=json.dumps(done + refused),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    told = [json.loads(line) for line in result.stdout.splitlines()]
    for args, (code, _, error) in zip(done, told, strict=False):
        assert (code, error) == (0, ""), args
    for args, (code, printed, error) in zip(refused, told[len(done) :], strict=True):
        assert (code, printed) == (2, ""), args
        assert error.endswith(f"{NEEDS_TORCH}\n") and error.count("\n") == 1, (args, error)
    assert all(near(path, name) for name, path in out.items())
    assert near(second, "photo-3/archive@2") and near(pillow, "photo-2/grey-17x9")
    assert len(list(packed.iterdir())) == 3
    assert len(json.loads(told[len(NAMES) + 4][1])["ideal_bits"]) == 5
    whole, shown = (np.array(Image.open(path)) for path in (out[NAMES[0]], part))
    assert np.array_equal(shown, whole[16:46, 8:48])
    assert Image.open(preview).size == Image.open(source).size
    assert not list(tmp_path.glob("a.*")) and not (tmp_path / "digit.png").exists()


def test_torch_is_left_alone_where_the_light_runtime_is_chosen() -> None:
    script = "import sys, vqcodec; vqcodec.decode(sys.argv[1]); assert 'torch' not in sys.modules"
    environment = {**os.environ, "VQCODEC_RUNTIME": "light"}
    command = [sys.executable, "-c", script, str(GREY)]
    subprocess.run(command, env=environment, check=True, timeout=120)


def test_the_runtime_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    card = zoo.find("photo-2")
    for runtime, light in (("light", True), ("torch", False), ("", False)):
        monkeypatch.setenv("VQCODEC_RUNTIME", runtime)
        assert zoo.is_light() == light
        assert isinstance(zoo.load_decoder(card, "cpu"), Codec) != light
        assert isinstance(zoo.load_decoder(zoo.find("hqa-digits"), "cpu"), Codec)
    monkeypatch.setenv("VQCODEC_RUNTIME", "tensorflow")
    with pytest.raises(UsageError, match="torch or light, not 'tensorflow'"):
        vqcodec.decode(GREY)


def test_rich_is_not_needed_to_decode(tmp_path: Path) -> None:
    """It draws bars and tables in a terminal."""
    script = """if True:
        import sys
        sys.modules["rich"] = None
        sys.stderr.isatty = lambda: True
        from vqcodec.cli import main
        main()"""
    out = tmp_path / "out.png"
    decode = subprocess.run(
        [sys.executable, "-c", script, "decode", str(GREY), "-o", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "VQCODEC_RUNTIME": "light"},
    )
    assert (decode.returncode, near(out, "photo-2/grey-17x9")) == (0, True), decode.stderr
    models = subprocess.run(
        [sys.executable, "-c", script, "models"], capture_output=True, text=True
    )
    assert models.returncode == 2
    assert models.stderr.endswith("this needs rich, which is not installed: pip install rich\n")
