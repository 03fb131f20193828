"""What needs no codec loads no torch, which takes seconds; and names that stand for stdout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from PIL import Image

from vqcodec.cli.program import program

GOLDEN = Path(__file__).parents[1] / "golden" / "photo-3"

SCRIPT = """
import json, sys
from click.testing import CliRunner
from vqcodec.cli.program import program

for args in json.load(sys.stdin):
    result = CliRunner().invoke(program, args)
    loaded = sorted({"torch", "constriction"} & set(sys.modules))
    print(json.dumps([args, result.exit_code, result.stderr, loaded]))
"""

REFUSED = [
    (["encode", "a.png"], 8, "a.vqc: exists"),
    (["encode", "a.png", "no/b.vqc"], 8, "no such folder: no"),
    (["encode", "a.png", "-o", "a.png/b/"], 8, "cannot be made: a.png is not a folder"),
    (["encode", "a.png", "-o", "/proc/b.vqc"], 8, "/proc/b.vqc: "),
    (["encode", "a.png", "b.jpg"], 2, "b.jpg: no such picture, and encode makes files"),
    (["encode", "a.png", "--rate", "80%", "--force"], 7, "did you mean 80q?"),
    (["encode", "a.png", "--rate", "12bit", "--force"], 7, "offers 5bit to 10bit, not 12bit"),
    (["encode", "a.png", "b.vqc", "--codec", "hqa-digits", "--rate", "5bit"], 7, "8bit-16x16"),
    (["encode", "a.png", "-q", "80"], 2, "--quality 80"),
    (["encode", "a.vqc", "b.vqc"], 4, "already"),
    (["encode", "a.png", "--rate", "RATE", "--update", "--json"], 0, ""),
    (["decode", "a.vqc"], 8, "a.png: exists"),
    (["decode", "a.vqc", "b.png", "--region", "0,0,900,900"], 2, "not within the picture of 17x9"),
    (["decode", "a.vqc", "no/b.png"], 8, "no such folder: no"),
    (["decode", "alpha.vqc", "b.jpg"], 8, "JPEG cannot store alpha; PNG, TIFF, WEBP can"),
    (["decode", "alpha.vqc", "b.pgm", "--background", "red"], 8, "PGM cannot store colour"),
    (["decode", "a.vqc", "b.png", "--index", "1"], 2, "a.vqc: a picture, not an archive"),
    (["compare", "a.png", "set.vqc"], 2, "set.vqc: an archive of 3 pictures, not a picture\n"),
    (["decode", "a.vqc", "b.png", "--sample", "3"], 2, "photo-3 has one way to decode a file"),
    (["decode", "a.vqc", "b.png", "--average", "2"], 2, "photo-3 has one way to decode a file"),
    (["decode", "a.vqc", "b.png", "--codes", "1"], 2, "photo-3 has one way to decode a file"),
    (["decode", "a.png", "b.png"], 5, "a.png: a PNG picture, not a .vqc file"),
    (["decode", "newer.vqc", "old.png", "--update"], 0, ""),
    (["verify", "none"], 3, "none: no such file or folder\n"),
    (["encod", "a.png"], 2, "No such command 'encod'. Did you mean 'encode'? (see "),
    (["xyz"], 2, "No such command 'xyz' (see "),
    (["verify", "a.png"], 5, "not a .vqc file"),
    (["compare", "a.png", "none.png"], 3, "none.png: no such file"),
    (["compare", "a.png", "wide.png"], 4, "wide.png: 20x9 pixels, but a.png has 17x9"),
    (["compare", "a.png", "a.vqc", "--metrics", "beauty"], 2, "no metric 'beauty'"),
    (["compare", "a.png", "a.vqc", "--html", "no/a.html"], 8, "no such folder: no"),
    (["bench", "none"], 3, "none: no such file or folder\n"),
    (["bench", "a.png", "none.png"], 3, "none.png: no such file"),
    (["bench", "a.png", "--metrics", "beauty"], 2, "no metric 'beauty'"),
    (["bench", "a.png", "--vs", "bpg"], 2, "no encoder for bpg"),
    (["bench", "a.png", "--codec", "none"], 6, "no codec named 'none'"),
    (["bench", "a.png", "--json", "no/a.json"], 8, "no such folder: no"),
    (["train", ".", "--recipe", "none", "--out", "new"], 2, "no recipe 'none'; there are"),
    (["train", ".", "--recipe", "none"], 2, "no recipe 'none'; there are"),
    (["train", ".", "--recipe", "none.toml", "--out", "new"], 3, "none.toml: no such file"),
    (["train", ".", "--from", "none", "--name", "new"], 6, "no codec named 'none'"),
    (["train", ".", "--from", "photo-3", "--name", "photo-2"], 2, "a shipped codec's"),
    (["train", ".", "--system", "none", "--out", "new"], 2, "no system 'none'"),
    (["train", ".", "--smoke", "--out", "new", "--set", "lrr=1"], 2, "'lrr'; 'training.lr' was"),
    (["train", ".", "--recipe", "photo-2", "-o", "new", "--set", "lr=a"], 2, "lr is not a number"),
    (["train", "none", "--smoke", "--out", "new"], 3, "none: no such file or folder\n"),
    (["train", "none.npz", "--smoke", "--out", "new"], 3, "none.npz: no such file"),
    (["train", "none-{0..1}.tar", "--smoke", "--out", "new"], 3, "none-0.tar: no such file"),
    (["train", ".", "--smoke", "--out", "a.png"], 8, "cannot be made"),
    (["export", "none", "-o", "new"], 3, "none: there is no run"),
    (["export", "none", "--web", "new"], 6, "no codec named 'none'"),
    (["analyse", "none", ".", "-o", "new"], 6, "no codec named 'none'"),
    (["analyse", "photo-3", "none", "-o", "new"], 3, "none: no such file or folder\n"),
    (["analyse", "photo-3", ".", "-o", "."], 8, "holds a.png already"),
    (["sample", "none", "-o", "b.png"], 6, "no codec named 'none'"),
    (["sample", "photo-3", "-o", "a.png"], 8, "a.png: exists"),
    (["sample", "photo-3", "-o", "b.png", "--rate", "4bit"], 7, "not 4bit"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "old.png"):
        Image.new("RGB", (17, 9)).save(name)
    Image.new("RGB", (20, 9)).save("wide.png")
    for name in ("a.vqc", "newer.vqc"):
        shutil.copy(GOLDEN / "grey-17x9.vqc", name)
    shutil.copy(GOLDEN / "alpha-64x48.vqc", "alpha.vqc")
    shutil.copy(GOLDEN / "archive.vqc", "set.vqc")
    os.utime("a.png", (0, 0))
    os.utime("newer.vqc", (0, 0))
    return tmp_path


def test_refusals_do_not_load_torch(folder: Path) -> None:
    info = CliRunner().invoke(program, ["info", "a.vqc", "--json"])
    rate = json.loads(info.stdout)["rate"]
    calls = [[rate if word == "RATE" else word for word in args] for args, _, _ in REFUSED]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(calls).encode(), capture_output=True
    )
    assert result.returncode == 0, result.stderr.decode()
    told = [json.loads(line) for line in result.stdout.splitlines()]
    for (args, code, word), (_, found, said, loaded) in zip(REFUSED, told, strict=True):
        assert (found, loaded) == (code, []) and word in said, (args, found, said, loaded)
        assert said.count("\n") <= 1
    assert not (folder / "new").exists()


def test_dev_stdout_carries_only_the_file(folder: Path) -> None:
    for name in ("/dev/stdout", "-"):
        result = CliRunner().invoke(program, ["decode", "a.vqc", name, "--format", "pgm"])
        assert result.exit_code == 0 and result.stdout_bytes[:2] == b"P5"
        assert len(result.stdout_bytes) == len(b"P5\n17 9\n255\n") + 17 * 9
        assert "a.vqc -> -" in result.stderr


@pytest.mark.parametrize(
    ("args", "begun", "expected"),
    [
        (["encode", "--codec"], "photo", {"photo-1", "photo-2"}),
        (["analyse"], "hqa-d", {"hqa-digits"}),
        (["bench", "--metrics"], "psnr,ssimul", {"psnr,ssimulacra2"}),
        (["bench", "--vs"], "jpeg,web", {"jpeg,webp"}),
        (["train", "--system"], "lad", {"ladder"}),
        (["train", "--recipe"], "photo", {"photo-1", "photo-2", "photo-3"}),
    ],
)
def test_the_shell_completes_names(args: list[str], begun: str, expected: set[str]) -> None:
    shell = ShellComplete(program, {}, "vqcodec", "_VQCODEC_COMPLETE")
    found = {item.value for item in shell.get_completions(args, begun)}
    assert expected <= found and all(name.startswith(begun) for name in found)
