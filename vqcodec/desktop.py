"""What desktops that follow freedesktop.org need to know .vqc files, in the user's own folders.

A MIME type, by the magic and the suffix (Shared MIME-info Database), an icon for it, a program that
opens it (Desktop Entry), and one that makes thumbnails (thumbnailer entries of GNOME, which XFCE,
Cinnamon, MATE and others read too). And a picture in the viewer of the system.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vqcodec.errors import OutputError, UsageError, reason
from vqcodec.files import atomic_write, make_folder

MIME = "image/x-vqc"
_ICON = MIME.replace("/", "-")
_MARK = "Written by vqcodec desktop install"  # in each of our files, by which we know them again
_MIME_INFO = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!-- {_MARK} -->
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="{MIME}">
    <comment>vqcodec image</comment>
    <icon name="{_ICON}"/>
    <generic-icon name="image-x-generic"/>
    <magic priority="60"><match type="string" offset="0" value="VQC1"/></magic>
    <glob pattern="*.vqc"/>
  </mime-type>
</mime-info>
"""
_OPENER = """\
# {mark}
[Desktop Entry]
Type=Application
Name=vqcodec
GenericName=Image Viewer
Comment=Open .vqc images in the system's viewer
Exec={command} view %F
TryExec={program}
Icon={icon}
MimeType={mime};
Categories=Graphics;Viewer;
NoDisplay=true
Terminal=false
"""
_THUMBNAILER = """\
# {mark}
[Thumbnailer Entry]
TryExec={program}
Exec={command} desktop thumbnail %i %o %s --max-pixels {most}
MimeType={mime};
"""
_SVG = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">
  <!-- {_MARK} -->
  <rect x="4" y="10" width="56" height="44" rx="5" fill="#2d5d7b"/>
  <path d="M8 50V38h12V28h12v10h12v-6h12v18z" fill="#9fd3c7"/>
  <path d="M8 50v-6h12v-6h12v6h12v-4h12v10z" fill="#e9f5f2"/>
  <rect x="42" y="16" width="10" height="10" fill="#f6c667"/>
</svg>
"""


class _Database(NamedTuple):
    """What a program makes of the files of all programs in a folder."""

    folder: str  # below the user's folder of data
    program: str
    sources: str  # pattern of the files
    made: tuple[str, ...]  # of no files at all


_DATABASES = (
    _Database(
        "mime",
        "update-mime-database",
        "packages/*.xml",
        (
            *("XMLnamespaces", "aliases", "generic-icons", "globs", "globs2", "icons", "magic"),
            *("mime.cache", "subclasses", "treemagic", "types", "version", f"{MIME}.xml"),
        ),
    ),
    _Database("applications", "update-desktop-database", "**/*.desktop", ("mimeinfo.cache",)),
)
_MOST_PIXELS = 100_000_000  # of a file whose thumbnail is made, which nobody has opened
_KEPT_HOURS = 24  # of pictures that were shown
_MOST_SAID = 1000  # bytes of what a program says is wrong


def data_home() -> Path:
    """The user's folder of data. Raises UsageError on systems where desktops look elsewhere."""
    if sys.platform in ("win32", "darwin"):
        raise UsageError("this is for desktops that follow freedesktop.org, such as Linux has")
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"


def _entries() -> dict[str, str]:
    """Our files, by their paths below the user's folder of data."""
    program = Path(sysconfig.get_path("scripts"), "vqcodec")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "vqcodec"]
    if not command[0].isprintable():
        raise UsageError(f"{command[0]!r}: no desktop starts a program of this name")
    filled = {
        "command": " ".join(map(_argument, command)),
        "program": command[0].replace("\\", "\\\\"),
        "mark": _MARK,
        "mime": MIME,
        "icon": _ICON,
        "most": _MOST_PIXELS,
    }
    return {
        "mime/packages/vqcodec.xml": _MIME_INFO,
        f"icons/hicolor/scalable/mimetypes/{_ICON}.svg": _SVG,
        "applications/vqcodec.desktop": _OPENER.format(**filled),
        "thumbnailers/vqcodec.thumbnailer": _THUMBNAILER.format(**filled),
    }


def _argument(text: str) -> str:
    """An argument as in Desktop Entry's Exec: quoted, and what a string escapes doubled."""
    quoted = re.sub(r'(["`$\\])', r"\\\1", text)
    return '"' + quoted.replace("\\", "\\\\").replace("%", "%%") + '"'


def install() -> tuple[list[Path], list[str]]:
    """Put our files; again is no harm. Returns their paths, and what could not be done besides.

    Raises OutputError, before anything is written where a file is not ours.
    """
    home, written = data_home(), []
    entries = {home / name: content for name, content in _entries().items()}
    for path in entries:
        if os.path.lexists(path) and not _ours(path):
            raise OutputError(f"{path}: exists, and is not from vqcodec desktop install")
    for path in entries:
        make_folder(path.parent)
    for path, content in entries.items():
        with atomic_write(path, force=True) as file:
            file.write(content.encode())
        written.append(path)
    return written, _update(home)


def uninstall() -> tuple[list[Path], list[str]]:
    """Remove our files, and folders that are empty then. Returns as ``install``."""
    home, removed = data_home(), []
    for name in _entries():
        path = home / name
        if not _ours(path):
            continue
        try:
            path.unlink()
            removed.append(path)
        except OSError as error:
            raise OutputError(f"{path}: {reason(error)}") from error
    missing = _update(home) if removed else []
    for path in removed:
        _remove_empty(path.parent, home)
    return removed, missing


def _ours(path: Path) -> bool:
    """Whether there is a file that install wrote."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        return _MARK.encode() in path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path}: {reason(error)}") from error


def _update(home: Path) -> list[str]:
    """Bring the databases up to date that are made of such files. Returns what is missing.

    One that would be of no file at all is removed.
    """
    missing = []
    for database in _DATABASES:
        path = home / database.folder
        if not path.is_dir():
            continue
        if not any(path.glob(database.sources)):
            for name in database.made:
                with suppress(OSError):
                    (path / name).unlink()
                    _remove_empty((path / name).parent, home)
        elif shutil.which(database.program) is None:
            missing.append(f"{database.program} is not installed, which brings {path} up to date")
        elif subprocess.run([database.program, path], capture_output=True).returncode:
            missing.append(f"{database.program} {path} failed")
    return missing


def _remove_empty(folder: Path, home: Path) -> None:
    """The folder and those it is in below ``home``, as far as there is nothing in them."""
    with suppress(OSError):
        while folder != home:
            folder.rmdir()
            folder = folder.parent


def place_to_show() -> Path:
    """A new private folder for pictures that are shown, which may be needed when we have ended.

    Those of a day ago are removed.
    """
    root = Path(tempfile.gettempdir())
    for old in root.glob("vqcodec-view-*"):
        with suppress(OSError):
            about = old.lstat()
            ours = not hasattr(os, "getuid") or about.st_uid == os.getuid()
            if ours and time.time() - about.st_mtime > 3600 * _KEPT_HOURS:
                shutil.rmtree(old, ignore_errors=True)
    try:
        return Path(tempfile.mkdtemp(prefix="vqcodec-view-"))
    except OSError as error:
        raise OutputError(f"{root}: {reason(error)}") from error


def show(path: Path) -> None:
    """Open a file in the system's viewer. Raises UsageError where there is none."""
    if sys.platform == "win32":
        os.startfile(path)
        return
    program = "open" if sys.platform == "darwin" else "xdg-open"
    if shutil.which(program) is None:
        raise UsageError(f"no viewer can be opened: {program} is not installed")
    nothing = subprocess.DEVNULL
    with tempfile.TemporaryFile() as said:  # no pipe: that ends with a viewer that stays open
        code = subprocess.run(
            [program, path], stdin=nothing, stdout=nothing, stderr=said
        ).returncode
        said.seek(0)
        lines = said.read(_MOST_SAID).decode(errors="replace").splitlines()
    if code:
        why = next(iter(lines), f"it ended with {code}")
        raise UsageError(f"no viewer could be opened: {program}: {why}")
