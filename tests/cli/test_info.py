"""``vqcodec info`` and ``vqcodec models``."""

import json
from pathlib import Path

import pytest
from stand_in import draw, run, write_foreign_codec

pytestmark = pytest.mark.usefixtures("codec", "folder")


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
    for word in (
        "number 99",
        "31323334",
        "8 x 8",
        "rate point 2048, which the codec names",
        "not installed",
        "level 1",
    ):
        assert word in result.stdout
    record = json.loads(run("info", "foreign.vqc", "--json").stdout)
    assert record["codec"] is None and record["codec_number"] == 99


def test_info_goes_on_after_a_failure() -> None:
    write_foreign_codec()
    result = run("info", "missing.vqc", "foreign.vqc", "--json")
    bad, good = (json.loads(line) for line in result.stdout.splitlines())
    assert bad["exit_code"] == result.exit_code == 3 and good["input"] == "foreign.vqc"
    assert len(result.stderr.splitlines()) == 1


def test_models_lists_the_measured_points(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run("models").stdout
    for word in ("fake-1: A stand-in", "ladder", "5bit to 10bit", "psnr_db", "30.35", "held out"):
        assert word in text
    record = json.loads(run("models", "--json").stdout)
    assert not record["default"]
    monkeypatch.setenv("VQCODEC_CODEC", "fake-1:psnr")
    assert run("models").stdout.startswith("fake-1 (default): A stand-in\n")
    assert json.loads(run("models", "--json").stdout)["default"]
    assert record["id"] == "fake-1" and record["table"][1]["bpp"] == 0.527
