"""What a person sees of a long work."""

import pytest

from vqcodec import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands, until a test moves it."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_where_stderr_is_no_terminal_a_line_comes_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Bars() as bars, bars.task("pictures", 4) as advance:
        for _ in range(8):
            clock[0] += 6
            advance(0.5)
    assert capsys.readouterr().err.splitlines() == [
        "pictures: 1 of 4, about 36 s left",
        "pictures: 2 of 4, about 24 s left",
        "pictures: 3 of 4, about 12 s left",
        "pictures: 4 of 4, about 0 s left",
    ]


def test_at_first_nobody_knows_how_much_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    advance = progress.lines("pictures", 4)
    clock[0] += 30
    advance(0.2)
    assert capsys.readouterr().err == "pictures: 0.2 of 4\n"


def test_what_is_short_or_quiet_is_not_told(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet, seconds in ((False, 1), (True, 100)):
        with progress.Bars(quiet) as bars:
            for _ in bars.track(range(5), "pictures"):
                clock[0] += seconds
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress.Bars() as bars:
        assert list(bars.track([7, 8], "pictures")) == [7, 8]
    shown = capsys.readouterr()
    assert "pictures" in shown.err and shown.out == ""
