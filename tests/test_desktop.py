"""What desktops are told of .vqc files, and that it goes away again."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vqcodec import desktop
from vqcodec.cli.program import program
from vqcodec.errors import UsageError

GOLDEN = Path(__file__).parent / "golden"
GREY, ARCHIVE = GOLDEN / "photo-2" / "grey-17x9.vqc", GOLDEN / "photo-2" / "archive.vqc"
TOOLS = [database.program for database in desktop._DATABASES]

pytestmark = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="desktops look elsewhere there"
)
needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, [*TOOLS, "gio", "xdg-mime", "desktop-file-validate"])),
    reason="apt-get install desktop-file-utils libglib2.0-bin shared-mime-info xdg-utils",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of data, with a file of another program in it."""
    found = tmp_path / "data"
    other = found / "applications" / "other.desktop"
    other.parent.mkdir(parents=True)
    other.write_text("[Desktop Entry]\nType=Application\nName=other\nExec=other\n")
    monkeypatch.setenv("XDG_DATA_HOME", str(found))
    return found


def run(*args: str) -> Result:
    return CliRunner().invoke(program, args)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_is_put_twice_is_removed_without_a_trace(home: Path) -> None:
    before = tree(home)
    result = run("desktop", "install")
    assert result.exit_code == 0
    put = tree(home)
    ours = {str(Path(line).relative_to(home)) for line in result.stdout.splitlines()}
    assert len(ours) == 4 and ours <= put.keys()
    assert run("desktop", "install", "-q").stdout == "" and tree(home) == put
    removed = run("desktop", "uninstall")
    assert removed.stdout == result.stdout
    left = tree(home)
    left.pop("applications/mimeinfo.cache", None)  # of the other program, where there is the tool
    assert left == before
    assert [path.name for path in home.iterdir()] == ["applications"]
    assert run("desktop", "uninstall").stdout == ""


@pytest.mark.parametrize("index", range(4))
def test_what_somebody_else_wrote_is_left(home: Path, index: int) -> None:
    other = home / [*desktop._entries()][index]
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("of a distribution")
    before = tree(home)
    result = run("desktop", "install")
    assert result.exit_code == 8 and result.stderr.startswith(f"vqcodec: error: {other}: exists")
    assert run("desktop", "uninstall").stdout == "" and tree(home) == before
    other.unlink()
    assert run("desktop", "install").exit_code == 0
    other.write_text("of a distribution")
    assert len(run("desktop", "uninstall").stdout.splitlines()) == 3
    assert other.read_text() == "of a distribution"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda p: p.symlink_to("/nonexistent/x")])
def test_what_is_no_file_is_left(home: Path, make: Callable[[Path], None]) -> None:
    for name in ("applications/vqcodec.desktop", "thumbnailers/vqcodec.thumbnailer"):
        place = home / name
        place.parent.mkdir(exist_ok=True)
        make(place)
        before = {*home.rglob("*")}
        assert run("desktop", "install").exit_code == 8
        assert run("desktop", "uninstall").exit_code == 0
        assert {*home.rglob("*")} == before
        (place.rmdir if place.is_dir() else place.unlink)()


def test_a_file_where_a_folder_should_be_stops_all(home: Path) -> None:
    (home / "thumbnailers").write_text("")
    assert run("desktop", "install").exit_code == 8
    assert [path.name for path in home.rglob("*") if path.is_file()] == [
        "thumbnailers",
        "other.desktop",
    ]


def test_a_tool_that_is_missing_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    result = run("desktop", "install")
    told = result.stderr.splitlines()
    assert result.exit_code == 0 and len(told) == len(TOOLS)
    for line, tool in zip(told, TOOLS, strict=True):
        assert line.startswith(f"vqcodec: warning: {tool} is not installed")


def test_a_folder_that_takes_no_files_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file" / "data"))
    (tmp_path / "file").write_text("")
    result = run("desktop", "install")
    assert result.exit_code == 8 and result.stderr.count("\n") == 1


@needs_tools
def test_the_desktop_knows_type_icon_and_program(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CURRENT_DESKTOP", "GNOME")  # whose way to ask for types is gio's
    desktop.install()
    nameless = tmp_path / "nameless"
    shutil.copy(GREY, nameless)

    def told(*command: str | Path) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    about = told("gio", "info", "-a", "standard::content-type,standard::icon", nameless)
    assert "content-type: image/x-vqc" in about and "icon: image-x-vqc" in about
    assert told("xdg-mime", "query", "filetype", GREY).strip() == "image/x-vqc"
    assert told("xdg-mime", "query", "default", "image/x-vqc").strip() == "vqcodec.desktop"
    assert told("desktop-file-validate", home / "applications" / "vqcodec.desktop") == ""


def test_the_entries_start_this_program(home: Path, tmp_path: Path) -> None:
    desktop.install()
    entry = (home / "thumbnailers" / "vqcodec.thumbnailer").read_text()
    command = next(line for line in entry.splitlines() if line.startswith("Exec="))
    out = tmp_path / "small.png"
    out.touch()
    opened = out.open("rb")  # before, and read after, as Tumbler does
    filled = command[5:].replace("%i", str(GREY)).replace("%o", str(out)).replace("%s", "8")
    subprocess.run(filled, shell=True, check=True, timeout=60)
    with opened:
        assert Image.open(opened).size == (8, 4)


@pytest.mark.parametrize("name", ["plain", "a b", 'q"uote', "back\\slash", "do$lar", "100%", "`"])
def test_programs_with_odd_names_are_quoted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script = tmp_path / name / "vqcodec"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "$0" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(desktop.sysconfig, "get_path", lambda kind: str(script.parent))
    entry = desktop._entries()["applications/vqcodec.desktop"]
    command = next(line for line in entry.splitlines() if line.startswith("Exec="))[5:]
    # As a desktop reads it: the escapes of a string, then field codes, then the quotes of a shell
    plain = command.replace("\\\\", "\\").replace("%F", "a.vqc").replace("%%", "%")
    done = subprocess.run(plain, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == f"{script} view a.vqc\n"


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of what a viewer that is found first was given."""
    folder, seen = tmp_path / "bin", tmp_path / "seen"
    folder.mkdir()
    script = folder / "xdg-open"
    script.write_text(f'#!/bin/sh\necho "$1" >> "{seen}"\n[ ! -e "{folder}/fails" ] || exit 4\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    shown = tmp_path / "tmp"
    shown.mkdir()
    monkeypatch.setattr(desktop.tempfile, "tempdir", str(shown))
    return seen


def test_view_opens_pictures_and_removes_those_of_yesterday(viewer: Path) -> None:
    assert run("view", str(GREY), str(ARCHIVE)).exit_code == 0
    grey, first = map(Path, viewer.read_text().splitlines())
    with Image.open(grey) as im:
        assert (grey.name, im.size, im.mode) == ("grey-17x9.png", (17, 9), "L")
    assert first.name == "photo.png"
    assert {path.stem for path in first.parent.iterdir()} == {"photo", "grey", "alpha"}
    assert grey.parent.stat().st_mode & 0o077 == 0
    yesterday = time.time() - 25 * 3600
    os.utime(grey.parent, (yesterday, yesterday))
    assert run("view", str(GREY)).exit_code == 0
    assert not grey.parent.exists() and first.exists()


def test_view_leaves_nothing_of_what_fails(viewer: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.vqc"
    broken.write_bytes(GREY.read_bytes()[:-3])
    result = run("view", str(broken))
    assert result.exit_code == 5 and result.stderr.count("\n") == 1
    (tmp_path / "bin" / "fails").touch()
    result = run("view", str(GREY))
    assert result.exit_code == 2 and "xdg-open: it ended with 4" in result.stderr
    assert not list((tmp_path / "tmp").iterdir())


def test_view_tells_each_file_that_fails(viewer: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.vqc"
    result = run("view", str(missing), str(tmp_path), str(GREY))
    assert result.exit_code == 3 and len(result.stderr.splitlines()) == 2
    assert len(viewer.read_text().splitlines()) == 1


def test_view_takes_names_of_any_length(viewer: Path, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 255)
    shutil.copy(GREY, long)
    assert run("view", str(long)).exit_code == 0
    assert Path(viewer.read_text().strip()).is_file()


def test_a_viewer_that_stays_open_is_not_waited_for(viewer: Path, tmp_path: Path) -> None:
    stays, ended = tmp_path / "stays", tmp_path / "ended"
    stays.touch()
    script = tmp_path / "bin" / "xdg-open"
    waits = f'while [ -e "{stays}" ]; do sleep 0.01; done; touch "{ended}"'
    script.write_text(f"#!/bin/sh\n({waits}) &\n")
    # It goes away by itself, so that a test that fails ends too.
    given_up = threading.Timer(20, stays.unlink, kwargs={"missing_ok": True})
    given_up.start()
    desktop.show(GREY)
    assert stays.exists() and not ended.exists()
    given_up.cancel()
    stays.unlink()


def test_what_a_viewer_says_need_not_be_text(viewer: Path, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "xdg-open"
    script.write_text("#!/bin/sh\nprintf 'b\\377d\\n' >&2\nexit 3\n")
    result = run("view", str(GREY))
    assert result.exit_code == 2 and result.stderr.endswith("xdg-open: b\ufffdd\n")


def test_a_viewer_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="xdg-open is not installed"):
        desktop.show(GREY)


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match=r"freedesktop\.org"):
        desktop.install()
