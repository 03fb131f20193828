"""The README's commands work as they are written, one after the other."""

import hashlib
import io
import re
import shlex
import subprocess
import sys
from itertools import count
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vqcodec import desktop
from vqcodec.cli.program import program

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PHOTO = Image.open(ROOT / "tests" / "data" / "photo.png").convert("RGB")

# What is not run, but read word by word
PARSED = {
    "vqcodec train PHOTOS --from photo-3 --minutes 60 --name mine": (
        "it trains for an hour; tests/training/test_finetune.py goes all of its way in seconds"
    ),
}
# What is added to commands that begin so, to be done in seconds
FASTER = {
    "vqcodec train": "--smoke --set workers=0 --set steps=4 --set decay_steps=2",
    "vqcodec analyse my-codec": "-n 1",
    "vqcodec analyse hqa-digits": "-n 6",
    "vqcodec bench": "--no-speed --jobs 1",
    "vqcodec bench PICTURES": "--rates 6bit,7bit,8bit --vs jpeg,avif --metrics psnr,ssimulacra2",
}


def blocks() -> list[str]:
    """The indented blocks."""
    found = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", README, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def lines() -> list[str]:
    """Commands, without the comment behind them."""
    commands = [re.split(r"\s+#\s", line)[0] for block in blocks() for line in block.splitlines()]
    return [line for line in commands if re.match(r"(vqcodec|cat [^|]*\| vqcodec)\s", line)]


def parts(size: int, training: int, held_out: int) -> dict[str, bytes]:
    """PNG files of squares of a photo, of which so many are held out by their content."""
    wanted, found = {False: training, True: held_out}, {}
    for seed in count():
        x, y = np.random.default_rng(seed).integers(0, (480 - size, 320 - size)).tolist()
        file = io.BytesIO()
        PHOTO.crop((x, y, x + size, y + size)).save(file, "PNG")
        held = hashlib.sha256(file.getvalue()).hexdigest().startswith("0")
        if wanted[held]:
            wanted[held] -= 1
            found[f"{seed}.png"] = file.getvalue()
        if not any(wanted.values()):
            return found
    raise AssertionError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has: pictures with the names of the README's."""
    PHOTO.crop((40, 20, 300, 280)).save(tmp_path / "photo.png")
    PHOTO.crop((40, 20, 300, 280)).save(tmp_path / "photo.jpg")
    PHOTO.crop((60, 60, 100, 90)).save(tmp_path / "a.png")
    PHOTO.crop((80, 60, 120, 90)).save(tmp_path / "b.png")
    PHOTO.convert("L").crop((60, 60, 92, 92)).save(tmp_path / "digit.png")
    for name, files in {
        "album": parts(64, 2, 1), "PHOTOS": parts(192, 3, 2), "DIGITS": parts(32, 12, 1),
        "PICTURES": parts(128, 1, 0),
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        for file, data in files.items():
            (tmp_path / name / file).write_bytes(data)
    # No file of the user's, and no window
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(desktop.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(desktop, "show", Image.open)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_commands_of_every_kind() -> None:
    used = {shlex.split(line)[1] for line in lines() if line.startswith("vqcodec ")}
    assert used == set(program.list_commands(click.Context(program)))


def test_what_is_not_run_is_right_in_every_word() -> None:
    for line in PARSED:
        assert line in lines()
        _, name, *words = shlex.split(line)
        command = program.get_command(click.Context(program), name)
        assert command is not None
        command.make_context(name, words).close()


@pytest.mark.slow
def test_every_command_works_as_it_is_written(folder: Path) -> None:
    runner, wrong = CliRunner(), []
    for line in lines():
        elsewhere = line.startswith("vqcodec desktop") and sys.platform in ("win32", "darwin")
        if line in PARSED or elsewhere:
            continue
        if line == "vqcodec decode damaged.vqc --salvage":
            data = bytearray((folder / "photo.vqc").read_bytes())
            data[-20] ^= 1
            (folder / "damaged.vqc").write_bytes(data)
        if "|" in line:
            ours = shlex.join([sys.executable, "-m", "vqcodec"])
            done = subprocess.run(re.sub(r"\bvqcodec\b", ours, line), shell=True)
            code, said = done.returncode, ""
        else:
            added = " ".join(more for start, more in FASTER.items() if line.startswith(start))
            result = runner.invoke(program, [*shlex.split(line)[1:], *shlex.split(added)])
            code, said = result.exit_code, result.output
        if code:
            wrong.append(f"{line}: exit code {code}: {said}")
    assert not wrong, "\n".join(wrong)
    assert Image.open("back.png").size == Image.open("photo.png").size
    assert "steps = 4\n" in Path("rotated/recipe.toml").read_text()  # --set goes before --smoke
    assert Path("digit.vqc").stat().st_size == 16  # as its line says
    assert Image.open("part.png").size == (256, 256)


def test_the_lines_of_python_work_as_they_are_written(folder: Path) -> None:
    (code,) = (block for block in blocks() if block.startswith("import vqcodec"))
    assert CliRunner().invoke(program, ["encode", "photo.png", "--rate", "7bit"]).exit_code == 0
    names: dict[str, object] = {}
    exec(code, names)
    image = names["image"]
    assert isinstance(image, Image.Image) and image.size == Image.open("b.png").size
    assert Path("again.vqc").exists()
