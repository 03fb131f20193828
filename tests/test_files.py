"""Output files appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from vqcodec.errors import OutputError
from vqcodec.files import atomic_write, check_folder, check_output


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Where asked for, a file system without hard links."""

    def link(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param:
        monkeypatch.setattr(os, "link", link)


both_ways = pytest.mark.parametrize("without_links", [False, True], indirect=True)


@both_ways
@pytest.mark.parametrize("force", [False, True])
def test_a_file_appears_whole_at_the_end(tmp_path: Path, force: bool, without_links: None) -> None:
    path = tmp_path / "a"
    with atomic_write(path, force=force) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_after_an_error(
    tmp_path: Path, error: type[BaseException], force: bool
) -> None:
    path = tmp_path / "a"
    if force:
        path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path, force=force) as file:
        file.write(b"half")
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if force else [])


@both_ways
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, without_links: None) -> None:
    path = tmp_path / "a"
    with (
        pytest.raises(OutputError, match=r"a: exists; --force overwrites"),
        atomic_write(path, force=False) as file,
    ):
        file.write(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_stops_the_block_before_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists"), atomic_write(path, force=False):
        pytest.fail("entered")
    with atomic_write(path, force=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_impossible_places_are_output_errors(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a/b: no such folder: "),
        atomic_write(tmp_path / "a" / "b", force=False),
    ):
        pytest.fail("entered")
    with pytest.raises(OutputError, match=r"is a folder"), atomic_write(tmp_path, force=True):
        pytest.fail("entered")
    with (
        pytest.raises(OutputError, match=r"cannot be written: file name too long"),
        atomic_write(tmp_path / ("a" * 999), force=True),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a", force=False):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_symbolic_link_is_followed_with_force_and_kept_without(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)  # to nothing yet
    with pytest.raises(OutputError, match=r"exists"), atomic_write(link, force=False):
        pytest.fail("entered")
    with atomic_write(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="devices of Linux")
def test_devices_are_written_to_and_never_replaced() -> None:
    with atomic_write(Path("/dev/null"), force=False) as file:
        file.write(b"gone")
    assert not Path("/dev/null").is_file()
    with (
        pytest.raises(OutputError, match=r"/dev/full: cannot be written: no space left on device"),
        atomic_write(Path("/dev/full"), force=False) as file,
    ):
        file.write(b"too much")


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    link, loop, old = tmp_path / "link", tmp_path / "loop", tmp_path / "old"
    link.symlink_to(tmp_path / "gone")
    loop.symlink_to("loop")
    old.write_bytes(b"old")
    for path in (link, loop, old):
        with pytest.raises(OutputError, match=r"exists; --force overwrites"):
            check_output(path, force=False)
    check_output(link, force=True)
    check_output(old, force=True)
    check_output(Path("/dev/null"), force=False)
    with pytest.raises(OutputError, match=r"cannot be written: file name too long"):
        check_output(tmp_path / ("a" * 999), force=True)
    with pytest.raises(OutputError, match=r"link is not a folder"):
        check_folder(link / "below")
    assert {path.name for path in tmp_path.iterdir()} == {"link", "loop", "old"}
    assert old.read_bytes() == b"old"


def test_a_folder_that_is_not_to_be_looked_into_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(*args: object, **how: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)  # root may look into any
        with pytest.raises(OutputError, match=r"a: cannot be written: permission denied"):
            check_output(tmp_path / "a", force=True)


def test_an_interrupt_leaves_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch

    def interrupted(path: Path, **how: bool) -> None:
        touch(path, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_output(tmp_path / "a", force=False)
    assert not list(tmp_path.iterdir())
