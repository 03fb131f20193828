"""``vqcodec compare`` from files to its table, its JSON and its page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vqcodec
from vqcodec.bench.compare import TILE, Shown, similarity
from vqcodec.bench.compare import compare as compare_pictures
from vqcodec.cli.program import program
from vqcodec.metrics import computable, measure, psnr_db

PHOTO = Path(__file__).parents[1] / "data" / "photo.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo as PNG, JPEG and .vqc, and one of another size."""
    top = tmp_path_factory.mktemp("compare")
    photo = Image.open(PHOTO).convert("RGB").crop((100, 80, 276, 256))  # 176 x 176
    photo.save(top / "a.png")
    photo.save(top / "a.jpg", quality=40)
    (top / "a.vqc").write_bytes(vqcodec.encode(photo, "7bit"))
    photo.resize((90, 90)).save(top / "small.png")
    return top


def compare(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(program, ["compare", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_json_has_bytes_and_all_metrics(folder: Path) -> None:
    code, stdout, _ = compare(folder / "a.png", folder / "a.jpg", folder / "a.vqc", "--json")
    assert code == 0
    found = json.loads(stdout)
    assert (found["width"], found["height"]) == (176, 176)
    assert [row["name"] for row in found["pictures"]] == ["a.jpg", "a.vqc"]
    original = np.asarray(Image.open(folder / "a.png"))
    decoded = [
        np.asarray(Image.open(folder / "a.jpg")),
        np.asarray(vqcodec.decode(folder / "a.vqc")),
    ]
    for row, pixels in zip(found["pictures"], decoded, strict=True):
        assert row["bytes"] == (folder / row["name"]).stat().st_size
        assert row["bpp"] == pytest.approx(8 * row["bytes"] / 176**2, abs=1e-6)
        assert list(row["metrics"]) == computable()
        assert row["metrics"]["psnr"] == pytest.approx(psnr_db(original, pixels), abs=1e-4)
        score = measure(original, pixels, ["ssimulacra2"])["ssimulacra2"]
        assert row["metrics"]["ssimulacra2"] == pytest.approx(score, abs=1e-4)


def test_progress_is_told_of_each_metric_of_each_picture(folder: Path) -> None:
    pixels = np.asarray(Image.open(folder / "a.png"))
    told: list[float] = []
    shown = [Shown(name, 1, pixels) for name in "abc"]
    compare_pictures(shown, ["psnr", "psnr_y"], lambda more=1: told.append(more))
    assert told == [1, 1, 1, 1]


def test_the_table_has_a_column_for_each_picture(folder: Path) -> None:
    args = (folder / "a.png", folder / "a.png", folder / "a.jpg", "--metrics", "psnr,ms_ssim")
    code, stdout, _ = compare(*args)
    assert code == 0
    rows = {line.split("  ")[0]: line.split() for line in stdout.splitlines() if line.strip()}
    size = str((folder / "a.png").stat().st_size)
    assert rows["bytes"][1:] == [size, size, str((folder / "a.jpg").stat().st_size)]
    assert rows["PSNR dB"][2] == "equal" and float(rows["PSNR dB"][3]) > 25
    assert "SSIMULACRA2" not in stdout


def test_the_page_has_all_pictures_and_the_worst_squares(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    args = (folder / "a.png", folder / "a.jpg", folder / "a.vqc", "--metrics", "psnr")
    assert compare(*args, "--html", page)[0] == 0
    text = page.read_text()
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', text)[1])
    assert [row["name"] for row in data["pictures"]] == ["a.png", "a.jpg", "a.vqc"]
    assert all(row["src"].startswith("data:image/webp;base64,") for row in data["pictures"])
    assert len(data["tiles"]) == 2
    for index, tiles in enumerate(data["tiles"]):
        own = tiles["shown"][index + 1]["ssim"]
        assert tiles["side"] == TILE and 0 < own < 1
        assert len(tiles["shown"]) == 3
    code, _, stderr = compare(*args, "--html", page)
    assert code == 8 and stderr == f"vqcodec: error: {page}: exists; --force overwrites\n"
    assert compare(*args, "--html", page, "--force")[0] == 0
    assert compare(*args, "--html", folder / "a.jpg", "--force")[0] == 8


def test_the_worst_square_is_where_the_picture_was_spoilt() -> None:
    original = np.asarray(Image.open(PHOTO).convert("RGB"))
    spoilt = original.copy()
    spoilt[160:256, 320:416] = 128
    found = similarity(original, spoilt)
    row, column = np.unravel_index(found.argmin(), found.shape)
    assert (16 * row, 16 * column) == (160, 320)
    assert found[0, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a.png", "small.png"], 4, "small.png: 90x90 pixels, but a.png has 176x176"),
        (["a.png", "none.png"], 3, "none.png: no such file"),
        (["a.png", "a.jpg", "--metrics", "beauty"], 2, "no metric 'beauty'"),
        (["a.png"], 2, "Missing argument 'OTHER...'"),
    ],
)
def test_wrong_requests_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(folder)
    found, stdout, stderr = compare(*args)
    assert (found, stdout) == (code, "")
    assert message in stderr and stderr.count("\n") == 1
