"""The README's commands are right in every word: the program has these options and values."""

import re
import shlex
from pathlib import Path

import click
import pytest

from vqcodec.cli.program import program

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def lines() -> list[str]:
    """Commands, without the comment behind them."""
    found = re.findall(
        r"^    (.*\bvqcodec (?![^\n]*=).*|.*\bvqcodec .*--.*)$", README, re.MULTILINE
    )
    commands = [re.split(r"\s+#\s", line)[0].strip() for line in found]
    return [line for line in commands if re.match(r"(vqcodec|cat [^|]*\| vqcodec)\s", line)]


def test_there_are_commands_of_every_kind() -> None:
    used = {shlex.split(line)[1] for line in lines() if line.startswith("vqcodec ")}
    assert used >= {
        "encode",
        "decode",
        "info",
        "verify",
        "models",
        "sample",
        "train",
        "export",
        "analyse",
        "bench",
        "data",
    }


@pytest.mark.parametrize(
    "line", [line for line in lines() if "|" not in line and "s3://" not in line]
)
def test_no_word_of_a_command_is_wrong(line: str) -> None:
    _, name, *words = shlex.split(line)
    command = program.get_command(click.Context(program), name)
    assert command is not None
    with command.make_context(name, words) as context:
        if isinstance(command, click.Group):
            sub = command.commands[words[0]]
            sub.make_context(words[0], words[1:], parent=context).close()
