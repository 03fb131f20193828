"""The command line's manners, with a stand-in for the codec: lossless, quick and without torch."""

import json
import os
import shlex
import subprocess
import sys
import types
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import vqcodec
from vqcodec import container, errors, image
from vqcodec.cli import jobs, options, report
from vqcodec.cli.program import program
from vqcodec.progress import Progress, unseen

HASH = b"fake"


@dataclass(frozen=True)
class Card:
    id: str = "fake-1"
    number: int = 7
    system: str = "ladder"
    title: str = "A stand-in"
    licence: str = "Apache-2.0"
    rates: str = "5bit to 10bit"
    hash: bytes = HASH
    path: Path = Path("models/fake-1")
    batch_pixels: int = 1  # as a codec: every picture is encoded alone
    table: tuple[dict[str, object], ...] = (
        {"rate": "7bit", "bpp": 0.361, "psnr_db": 30.35},
        {"rate": "8bit", "bpp": 0.527, "psnr_db": 32.08},
    )

    def rate_name(self, index: int) -> str:
        return f"{index / 256:.4g}bit"


@dataclass
class Compressed:
    data: bytes
    rate: str
    width: int
    height: int
    section_bytes: list[int]
    ideal_bits: list[float]
    psnr_db: float | None
    notes: tuple[str, ...] = ()


def find(name: str | None) -> Card:
    if name not in (None, "fake-1"):
        raise errors.CodecError(f"no codec {name}; installed: fake-1")
    return Card()


def for_header(header: container.Header, name: str | None = None) -> Card:
    if (header.codec, header.weights_hash) != (7, HASH):
        raise errors.CodecError(f"codec number {header.codec} is not installed")
    return Card()


def parse_rate(text: str) -> float:
    try:
        return float(text.removesuffix("bit"))
    except ValueError:
        raise errors.RateError(f"{text} is no rate; 7.5bit is one") from None


def compress(
    codec: Card,
    picture: image.Picture,
    rate: str,
    strip: bool,
    progress: Callable[[str, float], None],
) -> Compressed:
    bits = parse_rate(rate)
    progress(rate, 0.5)
    sections = (b"coarse", zlib.compress(picture.pixels.tobytes()))
    boxes = (container.Box("EXIF", picture.exif),) if picture.exif and not strip else ()
    size = picture.width, picture.height
    header = container.Header(7, HASH, *size, round(bits * 256), grey=picture.grey)
    data = container.write(container.Container(header, sections, boxes))
    return Compressed(
        data,
        f"{round(bits * 256) / 256:.4g}bit",
        *size,
        [len(s) for s in sections],
        [40.5, 99.0],
        None,
    )


@dataclass
class Choices:
    columns: int | None
    seed: int | None
    average: int


SEEN: list[Choices] = []


def decompress(
    codec: Card,
    data: bytes,
    levels: int | None,
    choices: Choices,
    region: tuple[int, int, int, int] | None,
    progress: Progress,
    max_pixels: int,
) -> image.Picture:
    SEEN.append(choices)
    progress(0.25)
    content = container.read(data, levels)
    shape = (content.header.height, content.header.width, *(() if content.header.grey else (3,)))
    if levels == 1:
        return image.Picture(np.full(shape, 128, np.uint8))
    pixels = np.frombuffer(zlib.decompress(content.sections[1]), np.uint8).reshape(shape)
    x, y, width, height = region or (0, 0, shape[1], shape[0])
    return image.Picture(pixels[y : y + height, x : x + width])


def decompress_rows(*how: Any) -> image.Rows:
    whole = decompress(*how)
    return image.Rows(whole.height, whole.width, whole.grey, iter(whole.pixels[:, None]))


@pytest.fixture(autouse=True)
def codec(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The stand-ins, in place of the modules that need torch."""
    parts = {
        "zoo": types.SimpleNamespace(
            cards=lambda: [Card()],
            broken=lambda: [],
            find=find,
            for_header=for_header,
            load=lambda card, device: card,
        ),
        "codec": types.SimpleNamespace(
            parse_rate=parse_rate,
            compress=compress,
            Choices=Choices,
            decompress=decompress,
            decompress_rows=decompress_rows,
            ideal_bits=lambda codec, data: [40.5, 99.0],
        ),
    }
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, f"vqcodec.{name}", module)
        monkeypatch.setattr(vqcodec, name, module, raising=False)
    monkeypatch.setattr(options, "use_threads", lambda threads: None)
    return parts["codec"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(program, args, prog_name="vqcodec", input=stdin)


def draw(name: str, seed: int = 0) -> np.ndarray:
    """Makes a small picture file; returns its pixels (h, w, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 20, 3), np.uint8)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    image.write(image.Picture(pixels), Path(name), image.format_of(Path(name)))
    return pixels


def pixels_of(name: str | Path) -> np.ndarray:
    return image.read(Path(name), str(name)).pixels


def all_files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def assert_fails(result: Result, code: int, *words: str) -> None:
    """One line on stderr that holds the words, and this exit code."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vqcodec: error: "), result.stderr
    for word in words:
        assert word in lines[0]


# ------------------------------------------------------------------------------------- one file


def test_a_picture_comes_back() -> None:
    pixels = draw("a.png")
    result = run("encode", "a.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("a.png -> a.vqc  ") and result.stderr == ""
    for word in ("bpp", "8bit", "MP/s"):
        assert word in result.stdout
    Path("a.png").unlink()
    assert run("decode", "a.vqc").exit_code == 0
    np.testing.assert_array_equal(pixels_of("a.png"), pixels)
    assert all_files() == {"a.png", "a.vqc"}


def test_output_names_a_file_or_a_folder() -> None:
    draw("a.png")
    Path("there").mkdir()
    assert run("encode", "a.png", "-o", "b.bin").exit_code == 0
    assert run("encode", "a.png", "-o", "there").exit_code == 0
    assert run("encode", "a.png", "-o", "new/").exit_code == 0
    assert all_files() == {"a.png", "b.bin", "there/a.vqc", "new/a.vqc"}


@pytest.mark.parametrize(
    ("args", "name", "format"),
    [
        (["--format", "webp"], "a.webp", "WEBP"),
        (["-o", "b.tif"], "b.tif", "TIFF"),
        (["-o", "b", "--format", "jpg"], "b", "JPEG"),
        (["-o", "b.png", "--format", "bmp"], "b.png", "BMP"),
    ],
)
def test_the_format_is_that_of_the_option_or_the_suffix(
    args: list[str], name: str, format: str
) -> None:
    from PIL import Image

    draw("a.png")
    run("encode", "a.png")
    assert run("decode", "a.vqc", *args).exit_code == 0
    with Image.open(name) as picture:
        assert picture.format == format


def test_rate_and_strip_reach_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.new("RGB", (4, 4)).save("a.png", exif=exif)
    assert run("encode", "a.png", "--rate", "7.5bit").exit_code == 0
    kept = container.read(Path("a.vqc").read_bytes())
    assert kept.header.rate == 1920 and [box.type for box in kept.boxes] == ["EXIF"]
    assert run("encode", "a.png", "--strip", "--force").exit_code == 0
    assert container.read(Path("a.vqc").read_bytes()).boxes == ()


@pytest.mark.parametrize("rate", ["8bit", "7.5bit", "7.3bit", "7.31 bit", "7.301bit", "8.000bit"])
def test_a_rate_that_is_one_to_all_its_digits_needs_no_note(rate: str) -> None:
    draw("a.png")
    result = run("encode", "a.png", "--rate", rate)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("rate", "used"),
    [
        ("5.00001bit", "5bit"),
        ("10.001bit", "10bit"),
        ("7.302bit", "7.301bit"),
        ("4.999bit", "5bit"),
    ],
)
def test_a_rate_between_the_rate_points_is_said_to_be_rounded(rate: str, used: str) -> None:
    draw("a.png")
    result = run("encode", "a.png", "--rate", rate)
    note = f"a.png: no rate point is at {rate}: coded at {used}"
    assert (result.exit_code, result.stderr) == (0, f"vqcodec: warning: {note}\n")


def test_levels_decodes_a_preview_even_of_a_broken_file() -> None:
    draw("a.png")
    run("encode", "a.png")
    Path("cut.vqc").write_bytes(Path("a.vqc").read_bytes()[:-5])
    assert_fails(run("decode", "cut.vqc"), 5, "cut.vqc: ", "--salvage")
    assert run("decode", "cut.vqc", "--levels", "1").exit_code == 0
    assert (pixels_of("cut.png") == 128).all()
    assert_fails(run("decode", "a.vqc", "--levels", "3", "--force"), 2, "2 levels, not 3")


def test_a_codec_that_is_not_installed_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_header(header: container.Header, name: str | None = None) -> Card:
        if name != "my/folder":
            raise errors.CodecError("not installed")
        return Card(id="mine")

    monkeypatch.setattr(sys.modules["vqcodec.zoo"], "for_header", for_header)
    pixels = draw("a.png")
    run("encode", "a.png")
    assert_fails(run("decode", "a.vqc", "-o", "b.png"), 6)
    assert run("decode", "a.vqc", "-o", "b.png", "--codec", "my/folder").exit_code == 0
    np.testing.assert_array_equal(pixels_of("b.png"), pixels)
    assert "mine" in run("info", "a.vqc", "--codec", "my/folder").stdout
    assert_fails(run("info", "a.vqc", "--codec", "other"), 6)


def test_threads_and_device_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def load(card: Card, device: str) -> Card:
        seen.append(device)
        return card

    monkeypatch.setattr(options, "use_threads", seen.append)
    monkeypatch.setattr(sys.modules["vqcodec.zoo"], "load", load)
    draw("a.png")
    run("encode", "a.png", "--threads", "3", "--device", "cpu")
    assert [*dict.fromkeys(seen)] == [3, "cpu"]
    run("decode", "a.vqc", "--force")
    assert seen[-2:] == [None, "auto"]


# ---------------------------------------------------------------------------------------- pipes


def test_pipes_carry_only_the_file() -> None:
    pixels = draw("a.png")
    encoded = run("encode", "-", stdin=Path("a.png").read_bytes())
    assert encoded.exit_code == 0 and encoded.stdout_bytes[:4] == b"VQC1"
    assert encoded.stderr.startswith("- -> -  ")
    assert container.read(encoded.stdout_bytes).header.width == 20
    decoded = run("decode", "-", "-o", "-", "--format", "ppm", stdin=encoded.stdout_bytes)
    assert decoded.exit_code == 0
    np.testing.assert_array_equal(image.read(decoded.stdout_bytes, "stdout").pixels, pixels)
    assert all_files() == {"a.png"}


def test_one_end_of_the_pipe_may_be_a_file() -> None:
    draw("a.png")
    to_stdout = run("encode", "a.png", "-o", "-")
    assert to_stdout.stdout_bytes[:4] == b"VQC1" and to_stdout.stderr.startswith("a.png -> -")
    from_stdin = run("encode", "-", "-o", "b.vqc", stdin=Path("a.png").read_bytes())
    assert from_stdin.stdout.startswith("- -> b.vqc")
    assert Path("b.vqc").read_bytes() == to_stdout.stdout_bytes
    assert "fake-1" in run("info", "-", stdin=to_stdout.stdout_bytes).stdout


def test_no_binary_data_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for inputs, output in ((["-"], None), (["a.png"], "-")):
        with pytest.raises(errors.OutputError, match="terminal"):
            jobs.plan(inputs, output, recursive=False, input_suffixes=(), output_suffix=".vqc")


@pytest.mark.parametrize(
    "args",
    [
        ["encode", "-", "a.png"],
        ["encode", "a.png", "b.png", "-o", "-"],
        ["encode", "-", "--json"],
        ["encode"],
        ["encode", "a.png", "--no-such-option"],
        ["encode", "a.png", "--device", "abacus"],
        ["encode", ""],
        ["decode", "a.png", "-o", ""],
        ["info", ""],
        ["bench", ""],
        ["train", "", "--smoke", "--out", "run"],
        ["decode", "a.vqc", "--levels", "0"],
        ["decode", "a.vqc", "--format", "docx"],
        ["train", "photos", "--out", "run"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_is_one_line_and_2(args: list[str]) -> None:
    draw("a.png")
    draw("b.png")
    assert_fails(run(*args), 2, "--help" if args[-1] not in ("a.png", "-", "--json") else "")
    assert all_files() == {"a.png", "b.png"}


# --------------------------------------------------------------------------------------- errors


def write_foreign_codec() -> None:
    header = container.Header(99, b"1234", 8, 8, 2048)
    Path("foreign.vqc").write_bytes(container.write(container.Container(header, (b"x",))))


def write_flipped() -> None:
    draw("flipped.png")
    run("encode", "flipped.png")
    data = bytearray(Path("flipped.vqc").read_bytes())
    data[-3] ^= 1
    Path("flipped.vqc").write_bytes(data)


@pytest.mark.parametrize(
    ("prepare", "args", "code", "word"),
    [
        (None, ["encode", "missing.png"], 3, "missing.png: no such file"),
        (None, ["decode", "missing.vqc"], 3, "missing.vqc: no such file"),
        (None, ["info", "missing.vqc"], 3, "missing.vqc: no such file"),
        (lambda: Path("d").mkdir(), ["encode", "d"], 3, "d: no .png"),
        (lambda: Path("d").mkdir(), ["info", "d"], 3, "d: is a directory"),
        (lambda: Path("t.png").write_text("text"), ["encode", "t.png"], 4, "t.png: "),
        (lambda: Path("t.png").write_bytes(b""), ["encode", "t.png"], 4, "t.png: "),
        (lambda: Path("t.vqc").write_text("text"), ["decode", "t.vqc"], 5, "t.vqc: "),
        (lambda: Path("t.vqc").write_bytes(b""), ["decode", "t.vqc"], 5, "t.vqc: "),
        (lambda: Path("t.vqc").write_bytes(b"VQC2...."), ["info", "t.vqc"], 5, "version"),
        (write_flipped, ["decode", "flipped.vqc", "-o", "x.png"], 5, "flipped.vqc: "),
        (write_foreign_codec, ["decode", "foreign.vqc"], 6, "99 is not installed"),
        (write_foreign_codec, ["info", "--ideal", "foreign.vqc"], 6, "99 is not installed"),
        (lambda: draw("a.png"), ["encode", "a.png", "--codec", "none-1"], 6, "none-1"),
        (lambda: draw("a.png"), ["encode", "a.png", "--rate", "good"], 7, "'good' is none of"),
        (lambda: draw("a.png"), ["encode", "a.png", "-o", "no/a.vqc"], 8, "no such folder"),
        (lambda: draw("a.png"), ["encode", "a.png", "-o", "a.png"], 8, "overwritten"),
        (lambda: draw("a.png"), ["encode", "a.png", "a.png", "-o", "a.png"], 8, "is a file"),
    ],
)
def test_each_error_is_one_line_with_its_code(
    prepare: Callable[[], object] | None, args: list[str], code: int, word: str
) -> None:
    if prepare:
        prepare()
    before = all_files()
    assert_fails(run(*args), code, word)
    assert all_files() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_an_output_error() -> None:
    draw("a.png")
    Path("closed").mkdir(mode=0o500)
    assert_fails(run("encode", "a.png", "-o", "closed/a.vqc"), 8, "closed/a.vqc: ")
    assert_fails(run("encode", "a.png", "-o", "closed/new/"), 8, "closed/new: cannot be made")


@pytest.mark.parametrize(
    "args", [["encode", "a.png"], ["decode", "a.png", "-o", "b.png"], ["info", "a.png"]]
)
def test_an_unreadable_file_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    def closed(path: Path, *args: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    draw("a.png")
    # as for a file of mode 000, which root may read all the same
    monkeypatch.setattr(os, "access", lambda *args, **options: False)
    monkeypatch.setattr(Path, "open", closed)
    assert_fails(run(*args), 3, "a.png: permission denied")


def test_a_folder_that_cannot_be_made_is_an_output_error() -> None:
    draw("a.png")
    Path("file").write_text("in the way")
    assert_fails(run("encode", "a.png", "-o", "file/new/"), 8, "file/new", "cannot be made")


def test_nothing_is_overwritten_unless_forced() -> None:
    draw("a.png")
    Path("a.vqc").write_text("precious")
    assert_fails(run("encode", "a.png"), 8, "a.vqc: exists", "--force")
    assert Path("a.vqc").read_text() == "precious"
    assert run("encode", "a.png", "--force").exit_code == 0
    assert_fails(run("decode", "a.vqc"), 8, "a.png: exists")
    assert run("decode", "a.vqc", "--force").exit_code == 0


def test_an_output_that_exists_costs_no_work(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "compress", lambda *a, **k: pytest.fail("needless work"))
    draw("a.png")
    Path("a.vqc").write_text("precious")
    assert_fails(run("encode", "a.png"), 8)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MemoryError(), 1, "a.png: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory:\n you"), 1, "not enough memory"),
        (OSError(28, "No space left on device"), 1, "a.png: no space left on device"),
        (ValueError("two\nlines"), 1, "a.png: unexpected ValueError: two (VQCODEC_DEBUG"),
        (errors.RateError("cannot reach 90dB; 45.1dB can be"), 7, "a.png: cannot reach 90dB"),
    ],
)
def test_whatever_fails_inside_is_one_line(
    codec: types.SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    sentence: str,
) -> None:
    def fail(*args: object, **options: object) -> Compressed:
        raise error

    monkeypatch.setattr(codec, "compress", fail)
    draw("a.png")
    assert_fails(run("encode", "a.png"), code, sentence)
    assert all_files() == {"a.png"}


def test_a_bug_can_be_traced(codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "compress", lambda *a, **k: 1 / 0)
    monkeypatch.setenv("VQCODEC_DEBUG", "1")
    draw("a.png")
    result = run("encode", "a.png")
    assert result.exit_code == 1 and "Traceback" in result.stderr


def test_ctrl_c_leaves_no_half_file(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> Compressed:
        raise KeyboardInterrupt

    monkeypatch.setattr(codec, "compress", interrupted)
    draw("a.png")
    draw("b.png")
    result = run("encode", "a.png", "b.png")
    assert result.exit_code == 130 and result.stderr.strip() == ""
    assert all_files() == {"a.png", "b.png"}


def test_odd_file_names_stay_on_one_line() -> None:
    name = "two\nlines\x1b[31m.png"
    draw(name)
    result = run("encode", name)
    assert result.stdout.startswith("two\\nlines\\x1b[31m.png -> ")
    assert len(result.stdout.splitlines()) == 1
    assert_fails(run("encode", name), 8, "two\\nlines")


# ----------------------------------------------------------------------------------- many files


def test_several_files_go_to_a_folder() -> None:
    draw("x/a.png")
    draw("y/b.jpg")
    result = run("encode", "x/a.png", "y/b.jpg", "-o", "out/small")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert {"out/small/a.vqc", "out/small/b.vqc"} <= all_files()


def test_without_output_each_file_stays_in_its_folder() -> None:
    draw("x/a.png")
    draw("y/b.png")
    assert run("encode", "x/a.png", "y").exit_code == 0
    assert {"x/a.vqc", "y/b.vqc"} <= all_files()


def test_recursive_keeps_the_structure_both_ways() -> None:
    names = ["photos/a.png", "photos/sub/b.PNG", "photos/sub/deep/a.png"]
    pixels = {name: draw(name, seed) for seed, name in enumerate(names)}
    Path("photos/notes.txt").write_text("no picture")
    assert run("encode", "-r", "photos", "-o", "small").exit_code == 0
    assert run("decode", "-r", "small/", "-o", "again").exit_code == 0
    assert {n for n in all_files() if n.startswith("small")} == {
        "small/a.vqc",
        "small/sub/b.vqc",
        "small/sub/deep/a.vqc",
    }
    for name, before in pixels.items():
        after = Path("again", *Path(name).parts[1:]).with_suffix(".png")
        np.testing.assert_array_equal(pixels_of(after), before)


def test_a_folder_without_r_is_not_descended() -> None:
    draw("photos/a.png")
    draw("photos/sub/b.png")
    draw("deep/sub/c.png")
    assert run("encode", "photos", "-o", "small").exit_code == 0
    assert {n for n in all_files() if n.startswith("small")} == {"small/a.vqc"}
    assert_fails(run("encode", "deep", "-o", "small"), 3, "-r looks into its folders")


@pytest.mark.parametrize(
    "args",
    [
        ["a.png", "a.jpg"],
        ["a.png", "x/a.png", "-o", "out"],
        ["x", "-r", "a.png", "-o", "out"],
        ["a.png", "./a.png"],
    ],
)
def test_clashing_outputs_are_refused_before_any_work(args: list[str]) -> None:
    for name in ("a.png", "a.jpg", "x/a.png"):
        draw(name)
    before = all_files()
    assert_fails(run("encode", *args), 8, "both become this")
    assert all_files() == before


def test_one_failure_does_not_stop_the_others() -> None:
    draw("a.png")
    Path("b.png").write_text("no picture")
    draw("d.png")
    result = run("encode", "a.png", "b.png", "missing.png", "d.png")
    assert result.exit_code == 4  # of the first failure
    *told, summary = result.stderr.splitlines()
    assert [line.split(": ")[2] for line in told] == ["b.png", "missing.png"]
    assert summary.startswith("4 files: 2 done, 2 failed; ")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["a.png", "d.png"]
    assert {"a.vqc", "d.vqc"} <= all_files()


def test_a_wrong_rate_is_said_once() -> None:
    draw("a.png")
    draw("b.png")
    assert_fails(run("encode", "a.png", "b.png", "--rate", "good"), 7)


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    todo = [jobs.Job(f"{i}.png", f"{i}.vqc") for i in range(3)]

    class Odd(report.Work):
        def __call__(self, job: jobs.Job, progress: Progress = unseen, /) -> report.Done:
            return report.Done("done", {}, warnings=["odd"])

    work = Odd()
    assert report.run(todo, work) == 0
    plain = capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert report.run(todo, work) == 0
    bar = capsys.readouterr()
    assert plain.out == bar.out == "".join(f"{i}.png -> {i}.vqc  done\n" for i in range(3))
    *warnings, summary = plain.err.splitlines()
    assert warnings == [f"vqcodec: warning: {i}.png: odd" for i in range(3)]
    assert summary.startswith("3 files: 3 done; ")
    assert "3/3" in bar.err
    assert report.run(todo, work, quiet=True) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("large", "shown"), [(240, True), (241, False)])
def test_the_bar_of_one_file_is_that_of_a_large_picture(
    large: int, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw("a.png")  # of 240 pixels
    monkeypatch.setattr(report, "LARGE", large)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    for args in (["encode", "a.png"], ["decode", "a.vqc", "-o", "b.png"]):
        with pytest.raises(SystemExit, match="0"):
            program.main(args)
        assert ("100%" in capsys.readouterr().err) == shown


# ------------------------------------------------------------------------------ large pictures


@pytest.mark.parametrize("large", [1, 1 << 24])
@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm", "bmp"])
def test_a_region_comes_back(suffix: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGE", large)
    pixels = draw("a.png")
    assert run("encode", "a.png").exit_code == 0
    result = run("decode", "a.vqc", "-o", f"b.{suffix}", "--region", "3,2,10,7", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["width"], record["height"]) == (10, 7)
    assert record["bpp"] == json.loads(run("decode", "a.vqc", "--force", "--json").stdout)["bpp"]
    assert np.array_equal(pixels_of(f"b.{suffix}"), pixels[2:9, 3:13])
    piped = run("decode", "a.vqc", "-o", "-", "--region", "3,2,10,7", "--format", suffix)
    assert piped.stdout_bytes == Path(f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("region", ["1,2,3", "1,2,3,-4", "a,b,c,d", "1,2,3,4,5"])
def test_a_region_is_four_numbers(region: str) -> None:
    draw("a.png")
    run("encode", "a.png")
    assert_fails(run("decode", "a.vqc", "--region", region, "--force"), 2, region)


# --------------------------------------------------------------------------- how much is printed


def test_json_is_one_object_per_file() -> None:
    draw("a.png")
    Path("b.png").write_text("no picture")
    result = run("encode", "a.png", "b.png", "--json", "--rate", "7.5bit")
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    n_bytes = Path("a.vqc").stat().st_size
    assert good["seconds"] > 0
    assert {key: good[key] for key in good if key not in ("seconds", "sections")} == {
        "input": "a.png",
        "output": "a.vqc",
        "bytes": n_bytes,
        "bpp": n_bytes * 8 / (12 * 20),
        "rate": "7.5bit",
        "width": 20,
        "height": 12,
        "ideal_bits": [40.5, 99.0],
        "psnr_db": None,
    }
    assert good["sections"][0] == 6 and sum(good["sections"]) < n_bytes
    assert bad["input"] == "b.png" and bad["exit_code"] == result.exit_code == 4
    assert result.stderr.splitlines()[0] == f"vqcodec: error: {bad['error']}"

    decoded = json.loads(run("decode", "a.vqc", "-o", "c.png", "--json").stdout)
    assert decoded["output"] == "c.png" and decoded["bytes"] == n_bytes
    assert decoded["rate"] == "7.5bit" and (decoded["width"], decoded["height"]) == (20, 12)


def test_quiet_prints_only_errors() -> None:
    image.Image.fromarray(np.full((4, 4), 40000, np.uint16)).save("deep.png")
    loud = run("encode", "deep.png")
    assert loud.stderr.startswith("vqcodec: warning: deep.png: 16 bits")
    quiet = run("encode", "deep.png", "--force", "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert_fails(run("encode", "missing.png", "-q"), 3)


def test_verbose_adds_the_sections() -> None:
    draw("a.png")
    lines = run("encode", "a.png", "-v").stdout.splitlines()
    assert lines[0].startswith("a.png -> a.vqc")
    assert [line.split()[:4] for line in lines[1:2]] == [["level", "1", "6", "B"]]
    assert "ideal 40.5 bits" in lines[1] and len(lines) == 3
    assert len(run("decode", "a.vqc", "-v", "--force").stdout.splitlines()) == 3


@pytest.mark.parametrize(("format", "kept"), [("png", True), ("bmp", False), ("ppm", False)])
def test_metadata_that_a_format_cannot_hold_is_not_dropped_silently(
    codec: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, format: str, kept: bool
) -> None:
    from PIL import Image, ImageCms

    exif = Image.Exif()
    exif[0x010E] = "a description"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = image.Picture(np.zeros((4, 4, 3), np.uint8), icc=icc, exif=exif.tobytes()[6:])
    monkeypatch.setattr(codec, "decompress", lambda *args: picture)
    draw("a.png")
    run("encode", "a.png")
    result = run("decode", "a.vqc", "-o", f"b.{format}")
    assert result.exit_code == 0
    note = f"a.vqc: ICC profile and EXIF left out: {format.upper()} cannot hold that"
    assert result.stderr == ("" if kept else f"vqcodec: warning: {note}\n")
    assert run("decode", "a.vqc", "-o", f"b.{format}", "-q", "--force").output == ""


# ------------------------------------------------------------------------ info, models and train


def test_info_counts_every_byte() -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.new("RGB", (30, 20)).save("a.png", exif=exif)
    run("encode", "a.png", "--rate", "7.5bit")
    n_bytes = Path("a.vqc").stat().st_size
    record = json.loads(run("info", "a.vqc", "--json").stdout)
    assert (record["codec"], record["rate"], record["bytes"]) == ("fake-1", "7.5bit", n_bytes)
    assert [box["type"] for box in record["boxes"]] == ["EXIF"]
    assert sum(record["sections"]) + record["overhead"] == n_bytes
    assert "ideal_bits" not in record

    text = run("info", "a.vqc").stdout
    for word in ("fake-1", "30 x 20", "7.5bit", "level 2", "box EXIF", "total", "bpp"):
        assert word in text
    # the column of bytes adds up
    rows = [line.split() for line in text.splitlines() if " B" in line]
    sizes = [int(row[row.index("B") - 1].replace(",", "")) for row in rows]
    assert sum(sizes[:-1]) == sizes[-1] == n_bytes


def test_info_counts_the_bytes_of_a_file_of_an_earlier_version() -> None:
    golden = Path(__file__).parents[1] / "golden" / "photo-2" / "colour-1x1.vqc"  # no tail form
    record = json.loads(run("info", str(golden), "--json").stdout)
    assert sum(record["sections"]) + record["overhead"] == golden.stat().st_size


def test_info_ideal_bits() -> None:
    draw("a.png")
    run("encode", "a.png")
    record = json.loads(run("info", "a.vqc", "--json", "--ideal").stdout)
    assert record["ideal_bits"] == [40.5, 99.0]
    assert "ideal 99.0 bits" in run("info", "a.vqc", "--ideal").stdout


def test_info_describes_a_file_of_an_unknown_codec() -> None:
    write_foreign_codec()
    result = run("info", "foreign.vqc")
    assert result.exit_code == 0
    for word in ("number 99", "31323334", "8 x 8", "2048", "not installed", "level 1"):
        assert word in result.stdout
    record = json.loads(run("info", "foreign.vqc", "--json").stdout)
    assert record["codec"] is None and record["codec_number"] == 99


def test_info_goes_on_after_a_failure() -> None:
    write_foreign_codec()
    result = run("info", "missing.vqc", "foreign.vqc", "--json")
    bad, good = (json.loads(line) for line in result.stdout.splitlines())
    assert bad["exit_code"] == result.exit_code == 3 and good["input"] == "foreign.vqc"
    assert len(result.stderr.splitlines()) == 1


def test_models_lists_the_measured_points() -> None:
    text = run("models").stdout
    for word in ("fake-1", "A stand-in", "ladder", "5bit to 10bit", "psnr_db", "30.35"):
        assert word in text
    record = json.loads(run("models", "--json").stdout)
    assert record["id"] == "fake-1" and record["table"][1]["bpp"] == 0.527


@pytest.mark.parametrize(
    ("options", "choices"),
    [
        ((), Choices(None, None, 1)),
        (("--codes", "4"), Choices(4, None, 1)),
        (("--sample", "7"), Choices(None, 7, 1)),
        (("--average", "14"), Choices(None, 0, 14)),
        (("--average", "14", "--sample", "3"), Choices(None, 3, 14)),
    ],
)
def test_decode_hands_its_choices_on(options: tuple[str, ...], choices: Choices) -> None:
    draw("a.png")
    assert run("encode", "a.png").exit_code == 0
    assert run("decode", "a.vqc", "-o", "b.png", *options).exit_code == 0
    assert SEEN[-1] == choices


def test_train_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    module = types.SimpleNamespace(
        train_command=lambda *args: seen.append(args), Wanted=lambda *args: args
    )
    monkeypatch.setitem(sys.modules, "vqcodec.training.run", module)
    args = ["train", "photos", "--out", "run", "--threads", "2"]
    assert run(*args, "--recipe", "r.toml").exit_code == 0
    assert run(*args, "--smoke", "--no-resume", "-q", "--minutes", "3").exit_code == 0
    named = ["--system", "hqa", "--quantizer", "diveq", "--set", "training.lr=1", "--set", "a=b"]
    assert run(*args, *named, "--tensorboard").exit_code == 0
    photos = Path("photos")
    changes = ["card.system=hqa", "shape.quantizer=diveq", "training.lr=1", "a=b"]
    assert seen == [
        (Path("r.toml"), [], Path("run"), (photos, False, True, None, 2, "auto", False, False)),
        (None, [], Path("run"), (photos, True, False, 3.0, 2, "auto", False, True)),
        (None, changes, Path("run"), (photos, False, True, None, 2, "auto", True, False)),
    ]


# ----------------------------------------------------------------------------- the whole program


def process(*args: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The real program in a process of its own, codec and all."""
    command = [sys.executable, "-m", "vqcodec.cli", *args]
    return subprocess.run(command, capture_output=True, timeout=60, **options)  # type: ignore[call-overload]


def test_help_shows_the_commands_completion_and_codes() -> None:
    for args in ([], ["--help"], ["-h"]):
        result = run(*args)
        assert result.exit_code == 0 and result.stderr == ""
        for word in ("encode", "decode", "info", "models", "train", "bash_source", "130"):
            assert word in result.stdout
    for name in ("encode", "decode", "info", "models", "train", "export"):
        assert run(name, "--help").exit_code == 0


def test_version() -> None:
    result = process("--version")
    assert result.returncode == 0 and result.stdout.split() == [b"vqcodec", b"0.1.0"]


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


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "vqcodec.cli", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert result.returncode == 1 and result.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize(
    ("shell", "code", "word"),
    [
        ("--help >/dev/full", 8, "stdout cannot be written: no space left"),
        ("models >/dev/full", 8, "stdout cannot be written: no space left"),
        ("info foreign.vqc >/dev/full", 8, "stdout cannot be written: no space left"),
        ("info foreign.vqc >&-", 8, "stdout cannot be written: it is closed"),
        ("encode a.png -o - >&-", 8, "stdout cannot be written: it is closed"),
        ("encode - <&-", 3, "-: stdin is closed"),
        ("info - <&-", 3, "-: stdin is closed"),
        ("info missing.vqc 2>/dev/full", 3, ""),
        ("info missing.vqc 2>&-", 3, ""),
    ],
)
def test_closed_and_full_streams_are_one_line_with_their_code(
    shell: str, code: int, word: str
) -> None:
    write_foreign_codec()
    draw("a.png")
    command = f"{shlex.quote(sys.executable)} -m vqcodec.cli {shell}"
    result = subprocess.run(command, shell=True, capture_output=True, timeout=60)
    assert result.returncode == code
    assert result.stderr.decode().count("\n") == bool(word) and word in result.stderr.decode()


@pytest.mark.parametrize("module", ["click", "numpy", "torch"])
def test_ctrl_c_during_an_import_ends_with_130_and_no_traceback(module: str) -> None:
    draw("a.png")
    Path("early").mkdir()
    Path("early", f"{module}.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join(["early", *filter(None, [os.environ.get("PYTHONPATH")])])
    result = process("encode", "a.png", env={**os.environ, "PYTHONPATH": path})
    assert (result.returncode, result.stdout, result.stderr.strip()) == (130, b"", b"")
    assert "a.vqc" not in all_files()


def test_errors_of_the_real_program_are_one_line() -> None:
    result = process("decode", "missing.vqc")
    assert result.returncode == 3 and result.stdout == b""
    assert result.stderr == b"vqcodec: error: missing.vqc: no such file\n"


def test_usage_errors_name_the_help() -> None:
    with pytest.raises(click.UsageError):
        jobs.plan(["-", "-"], None, recursive=False, input_suffixes=(), output_suffix="")
    assert_fails(run("encode", "--levels", "1"), 2, "(see vqcodec encode --help)")
