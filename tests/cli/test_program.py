"""The program as a whole: help, version, completion, what it imports."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from stand_in import process, run, write_foreign_codec

import vqcodec
from vqcodec.cli.program import program

pytestmark = pytest.mark.usefixtures("codec", "folder")


def test_help_shows_the_commands_completion_and_codes() -> None:
    for args in ([], ["--help"], ["-h"]):
        result = run(*args)
        assert result.exit_code == 0 and result.stderr == ""
        for word in ("encode", "decode", "info", "models", "train", "bash_source", "130"):
            assert word in result.stdout
    for name in ("encode", "decode", "info", "models", "train", "export"):
        assert run(name, "--help").exit_code == 0


def test_every_command_has_examples() -> None:
    def check(command: click.Command, name: str) -> None:
        assert "Examples:\n  " in (command.epilog or ""), name
        if isinstance(command, click.Group):
            context = click.Context(command)
            for each in command.list_commands(context):
                found = command.get_command(context, each)
                assert found
                check(found, f"{name} {each}")

    check(program, "vqcodec")


def test_version() -> None:
    result = process("--version")
    assert result.returncode == 0 and result.stdout.decode() == f"vqcodec {vqcodec.__version__}\n"


def test_shell_completion_script() -> None:
    result = process(env={**os.environ, "_VQCODEC_COMPLETE": "zsh_source"})
    assert result.returncode == 0 and b"compdef" in result.stdout


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["encode", "--help"], ["info", "foreign.vqc"], ["models"]]
)
def test_neither_torch_nor_numpy_is_imported_for(args: list[str]) -> None:
    write_foreign_codec()
    script = (
        "import sys; from vqcodec.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'constriction', 'numpy'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr.decode()


def test_a_library_that_cannot_be_loaded_is_no_fault_of_stdout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(ctx: object, name: str) -> None:
        raise OSError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.setattr(program, "get_command", broken)
    result = CliRunner().invoke(program, ["encode"])
    assert result.exit_code == 1 and "stdout" not in result.stderr
    assert "OSError: libtorch_cpu.so" in result.stderr and result.stderr.count("\n") == 1
