"""Kill a command of vqcodec again and again, and see what it leaves: python tests/kills.py ...

    KIND FOLDER COUNT    encode, decode, archive, bench or train; its last line is JSON

A new process would take 2 s to its first step, so one that is warm forks a child for each kill.
Every second kill comes at a random moment, the others at a random access to a file in the folder.
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tiny_codec
import torch
from fuzz.fuzz_tiny import SHAPES
from PIL import Image

from vqcodec import zoo
from vqcodec.card import read_card
from vqcodec.cli.program import program

Kind = tuple[list[list[str]], Callable[[], None]]  # commands in turn, and what finds a broken file


def one_of(path: Path, commands: list[list[str]]) -> Callable[[], None]:
    """The file has at any time what one of the commands makes of it, to the byte."""
    made = set()
    for command in commands:
        run(command)
        made.add(path.read_bytes())
    assert len(made) == len(commands)

    def check() -> None:
        assert path.read_bytes() in made

    return check


def pictures(folder: Path, count: int, side: int = 160) -> list[str]:
    paths = [str(folder / f"{seed:02}.png") for seed in range(count)]
    for seed, path in enumerate(paths):
        Image.fromarray(tiny_codec.photo(side, side, seed)).save(path)
    return paths


def model(folder: Path) -> str:
    tiny_codec.made(folder / "tiny", "vqvae", SHAPES["vqvae"])
    return str(folder / "tiny")


def encode(folder: Path) -> Kind:
    codec, out = model(folder), folder / "out.vqc"
    commands = [
        ["encode", path, "-o", str(out), "--force", "--rate", "3bit", "--codec", codec]
        for path in pictures(folder, 2)
    ]
    return commands, one_of(out, commands)


def decode(folder: Path) -> Kind:
    codec, out = model(folder), folder / "out.png"
    commands = []
    for path in pictures(folder, 2):
        run(["encode", path, "--rate", "3bit", "--codec", codec])
        file = path.replace(".png", ".vqc")
        commands.append(["decode", file, "-o", str(out), "--force", "--codec", codec])
    return commands, one_of(out, commands)


def archive(folder: Path) -> Kind:
    codec, out = model(folder), folder / "out.vqc"
    paths = pictures(folder, 4)
    commands = [
        ["encode", *some, "-o", str(out), "--force", "--rate", "3bit", "--codec", codec]
        for some in (paths[:2], paths[2:])
    ]
    return commands, one_of(out, commands)


def bench(folder: Path) -> Kind:
    codec, cache = model(folder), folder / "cache"
    page, data, table = folder / "out.html", folder / "out.json", folder / "out.csv"
    command = ["bench", *pictures(folder, 2, 48), "--codec", codec, "--vs", "jpeg", "--force"]
    command += ["--rates", "3bit", "--metrics", "psnr", "--no-speed", "--cache", str(cache)]
    command += ["--jobs", "1"]  # so that what is killed is what writes, without a start of 3 s
    command += ["--html", str(page), "--json", str(data), "--csv", str(table)]

    def check() -> None:
        assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
        for file in (data, *cache.glob("*.json")):
            assert isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
            if random.random() < 0.5 and file is not data:
                file.unlink()  # so that the next one has something to do
        with table.open(newline="", encoding="utf-8") as lines:
            assert len({len(row) for row in csv.reader(lines)}) == 1

    run(command)
    return [command], check


def train(folder: Path) -> Kind:
    (folder / "photos").mkdir()
    pictures(folder / "photos", 40, 64)
    out, recipe = folder / "codec", folder / "recipe.toml"
    recipe.write_text(
        '[card]\nid = "killed"\nnumber = 77\nsystem = "vqvae"\n'
        "[shape]\nside = 8\nwidth = 4\nblocks = 1\ndown = 1\ndim = 2\nsize = 8\n"
        "[training]\nsteps = 40\nscales = [16]\n"
    )
    command = ["train", str(folder / "photos"), "--recipe", str(recipe), "--out", str(out), "-q"]

    def check() -> None:
        if (out / "last.pt").exists():
            torch.load(out / "last.pt", weights_only=True)
        if (out / "card.toml").exists():  # a codec, or none yet, but not a broken one
            zoo.load(read_card(out), "cpu")
            shutil.rmtree(out)

    run(command)
    check()
    return [command], check


def run(command: list[str]) -> None:
    """In this process, which is warm then."""
    try:
        program.main(command)
    except SystemExit as end:
        assert not end.code, (command, end.code)


def child(command: list[str], folder: Path, step: int | None) -> int:
    """A process that runs the command, and kills itself at an access to the folder."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        left = step

        def watch(event: str, args: tuple[object, ...]) -> None:
            nonlocal left
            if left is None or not event.startswith(("open", "os.")):
                return
            if any(
                str(folder) in os.fsdecode(a) for a in args if isinstance(a, str | bytes | Path)
            ):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        program.main(command)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(99)
    return 0


def main(name: str, folder: Path, count: int, seed: int = 0) -> None:
    torch.set_num_threads(1)
    rng = random.Random(seed)
    random.seed(seed)
    made: Kind = {
        "encode": encode, "decode": decode, "archive": archive, "bench": bench, "train": train
    }[name](folder)  # fmt: skip
    commands, check = made
    begun = time.monotonic()
    _, status = os.waitpid(child(commands[0], folder, None), 0)
    assert status == 0, status
    duration = time.monotonic() - begun
    check()
    killed, finished, steps = 0, 0, 64
    while killed < count:
        step = rng.randrange(steps) if killed % 2 else None
        pid = child(commands[(killed + finished) % len(commands)], folder, step)
        if step is None:
            time.sleep(rng.uniform(0, duration))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:
            assert status == 0, status
            finished += 1
            steps = max(1, step or steps)  # there are no more
        check()
    left = 0
    for path in folder.rglob(".*"):  # what was being written, under names that nobody takes
        assert path.name.startswith(".vqcodec-"), path
        left += 1
    run(commands[0])
    check()
    print(json.dumps({"killed": killed, "finished": finished, "left": left}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
