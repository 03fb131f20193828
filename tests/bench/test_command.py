"""``vqcodec bench`` from pictures to tables, JSON, CSV, plot and page."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vqcodec import zoo
from vqcodec.bench import aims, measure, output, speed, summary, tries
from vqcodec.bench.bdrate import bd_rate
from vqcodec.bench.curves import compared, mean_curve, to_scale
from vqcodec.bench.plan import Plan
from vqcodec.bench.references import available
from vqcodec.bench.run import run
from vqcodec.card import read_card
from vqcodec.cli.program import program
from vqcodec.errors import ImageError
from vqcodec.metrics import METRICS, PANEL, psnr_db

ROOT = Path(__file__).parents[2]
QUICK = Plan(("photo-2",), ("jpeg", "webp"), ("6bit", "8bit", "9bit"), ("psnr", "ssim"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two crops of a real photo, one file that is no picture, one folder below."""
    top = tmp_path_factory.mktemp("pictures")
    photo = Image.open(ROOT / "tests/data/photo.png").convert("RGB")
    photo.crop((0, 0, 160, 96)).save(top / "a.png")
    photo.crop((20, 10, 120, 110)).save(top / "b.png")
    (top / "broken.png").write_bytes(b"no picture")
    (top / "below").mkdir()
    photo.crop((0, 0, 64, 64)).save(top / "below/c.png")
    return top


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a test takes; tests/test_progress.py tests them."""
    monkeypatch.setattr("vqcodec.progress.LINE_SECONDS", 1e9)


@pytest.fixture(scope="module")
def records(folder: Path) -> list[dict]:
    return run([folder / "a.png", folder / "b.png"], QUICK)[0]


def bench(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(program, ["bench", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_a_record_holds_what_the_codecs_make(folder: Path, records: list[dict]) -> None:
    record = records[0]
    pixels = np.asarray(Image.open(folder / "a.png"))
    assert (record["name"], record["width"], record["height"]) == ("a.png", 160, 96)
    jpeg = available()["jpeg"]
    for point, quality in zip(record["points"]["jpeg"], jpeg.ladder, strict=True):
        data = jpeg.encode(pixels, quality)
        assert point["bytes"] == len(data)
        assert point["setting"] == f"quality {quality}"
        mse = np.square(jpeg.decode(data).astype(float) - pixels).mean()
        assert point["metrics"]["psnr"] == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-3)
    ours = record["points"]["photo-2"]
    assert [p["setting"] for p in ours] == list(QUICK.rates)
    assert sorted(p["bytes"] for p in ours) == [p["bytes"] for p in ours]
    assert all(p["ideal_bytes"] <= p["bytes"] for p in ours)


def test_equal_size_is_the_best_file_that_is_not_larger(folder: Path, records: list[dict]) -> None:
    pixels = np.asarray(Image.open(folder / "a.png"))
    jpeg = available()["jpeg"]
    sizes = {q: len(jpeg.encode(pixels, q)) for q in range(jpeg.ladder[0], jpeg.ladder[-1] + 1)}
    rows = [row for row in records[0]["equal_size"] if row["thumbnail"] is None]
    assert len(rows) == 3
    for row in rows:
        found = row["references"]["jpeg"]
        fitting = [q for q, size in sizes.items() if size <= row["bytes"]]
        assert found["too_large"] == (not fitting)
        best = max(fitting) if fitting else jpeg.ladder[0]
        assert (found["setting"], found["bytes"]) == (f"quality {best}", sizes[best])
        psnr = psnr_db(pixels, jpeg.decode(jpeg.encode(pixels, best)))
        assert found["metrics"]["psnr"] == pytest.approx(psnr, abs=1e-4)
    small = [row for row in records[0]["equal_size"] if row["thumbnail"] == 64]
    assert [row["setting"] for row in small] == list(QUICK.rates)
    assert not any(row["thumbnail"] == 256 for row in records[0]["equal_size"])  # too small for it


def test_a_report_sums_up(records: list[dict]) -> None:
    report = summary.report(records, QUICK, command="vqcodec bench x")
    json.dumps(report, allow_nan=False)
    for name in ("photo-2", "jpeg", "webp"):
        for i, point in enumerate(report["curves"][name]):
            every = [r["points"][name][i] for r in records]
            bpp = [
                8 * p["bytes"] / (r["width"] * r["height"])
                for p, r in zip(every, records, strict=True)
            ]
            assert point["bpp"] == pytest.approx(np.mean(bpp), abs=1e-6)
            psnr = np.mean([p["metrics"]["psnr"] for p in every])
            assert point["metrics"]["psnr"] == pytest.approx(psnr, abs=1e-4)
    rows = {(r["reference"], r["metric"]): r for r in report["bd_rate"]}
    assert set(rows) == {(r, m) for r in ("jpeg", "webp") for m in ("psnr", "ssim")}
    ours, jpeg = (report["curves"][name] for name in ("photo-2", "jpeg"))
    direct = bd_rate(
        [p["bpp"] for p in ours],
        [p["metrics"]["psnr"] for p in ours],
        [p["bpp"] for p in jpeg],
        [p["metrics"]["psnr"] for p in jpeg],
    )
    assert rows["jpeg", "psnr"]["mean_curve"]["percent"] == pytest.approx(direct.percent, abs=1e-3)
    assert rows["jpeg", "psnr"]["mean_curve"]["percent"] < 0
    assert rows["jpeg", "psnr"]["per_image"]["count"] == 2


def test_a_setting_that_a_picture_lacks_is_not_in_the_mean(records: list[dict]) -> None:
    cut = json.loads(json.dumps(records))
    del cut[1]["points"]["photo-2"][2]
    assert [p["setting"] for p in mean_curve(cut, "photo-2")] == ["6bit", "8bit"]


def test_curves_that_do_not_overlap_are_said_not_to() -> None:
    record = {"name": "x", "width": 10, "height": 10, "equal_size": []}
    points = [{"setting": str(i), "bytes": 10 + i, "metrics": {"psnr": 20.0 + i}} for i in range(4)]
    better = [p | {"metrics": {"psnr": p["metrics"]["psnr"] + 30}} for p in points]
    records = [record | {"points": {"ours": points, "theirs": better}}]
    curves = {name: mean_curve(records, name) for name in ("ours", "theirs")}
    row = compared(records, curves, "ours", "theirs", "psnr")
    nothing = {"percent": None, "low": None, "high": None}
    assert row["mean_curve"] == nothing | {"why": "no overlap"}
    assert (row["per_image"]["count"], row["per_image"]["no_overlap"]) == (0, 1)
    assert row["per_image"]["mean"] is None
    assert output.percent(row["mean_curve"]) == "no overlap"
    assert output.interval(row["mean_curve"]) == ""
    for n, metric, why in ((4, "ssim", "too small"), (1, "psnr", "too few points")):
        short = [{"setting": p["setting"], "bytes": p["bytes"], "metrics": {metric: None}
                  if metric == "ssim" else p["metrics"]} for p in points[:n]]  # fmt: skip
        records = [record | {"points": {"ours": short, "theirs": short}}]
        curves = {name: mean_curve(records, name) for name in ("ours", "theirs")}
        row = compared(records, curves, "ours", "theirs", metric)
        assert row["mean_curve"] == nothing | {"why": why}


def test_one_picture_has_no_interval(records: list[dict]) -> None:
    row = summary.report(records[:1], QUICK, command="x")["bd_rate"][0]["per_image"]
    assert row["count"] == 1 and row["mean"] == row["median"]
    assert row["low95"] is None and row["high95"] is None
    assert output.mean_interval(row) == f"{row['mean']:+.1f}"
    row = summary.report(records, QUICK, command="x")["bd_rate"][0]["per_image"]
    assert row["low95"] <= row["mean"] <= row["high95"]
    assert output.mean_interval(row).endswith(f"to {row['high95']:+.1f})")


def test_similarities_are_compared_in_decibels() -> None:
    assert to_scale("ms_ssim", 0.99) == pytest.approx(20)
    assert to_scale("gmsd", 0.9) == pytest.approx(10)
    assert to_scale("psnr", 30.0) == to_scale("vif", 30.0) == 30


def test_one_job_and_two_find_the_same(folder: Path) -> None:
    paths = [folder / "a.png", folder / "b.png"]
    plan = replace(QUICK, references=tuple(available()), rates=("6bit",), metrics=("psnr",))
    records, _ = run(paths, plan)
    again, _ = run(paths, plan, jobs=2)

    def without_times(found: list[dict]) -> str:
        return json.dumps([r | {"points": _untimed(r["points"])} for r in found])

    assert without_times(again) == without_times(records)


def _untimed(points: dict) -> dict:
    return {
        name: [{k: v for k, v in p.items() if not k.endswith("_s")} for p in found]
        for name, found in points.items()
    }


def test_only_what_was_not_measured_before_is_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is of files and their metrics, whatever the plan or the name of the picture."""
    plan = Plan(("photo-2",), ("jpeg",), ("6bit", "7bit"), ("psnr", "ssim"), pictures=True)
    first, _ = run([folder / "a.png"], plan, cache=tmp_path)
    shutil.copy(folder / "a.png", tmp_path / "copy.png")
    encoded: list[object] = []
    measured: list[set[str]] = []
    with monkeypatch.context() as patch:
        own, original = tries.OwnCodec.encode, tries.metrics.measure
        patch.setattr(
            tries.OwnCodec,
            "encode",
            lambda self, pixels, rate: encoded.append(rate) or own(self, pixels, rate),
        )
        patch.setattr(
            tries.metrics,
            "measure",
            lambda a, b, which: measured.append({*which}) or original(a, b, which),
        )
        again, _ = run([folder / "a.png", tmp_path / "copy.png"], plan, cache=tmp_path)
        assert again[0] == first[0]
        assert again[1]["name"] == again[1]["equal_size"][0]["image"] == "copy.png"
        without_page = replace(plan, pictures=False, metrics=("psnr",), rates=("7bit",))
        run([folder / "a.png"], without_page, cache=tmp_path)
        assert (encoded, measured) == ([], [])
        more = replace(plan, rates=("6bit", "8bit"), metrics=("psnr", "ssim", "psnr_y"))
        found, _ = run([folder / "a.png"], more, cache=tmp_path)
    assert set(encoded) == {"8bit"}
    assert {name for names in measured for name in names} == {"psnr", "ssim", "psnr_y"}
    fresh, _ = run([folder / "a.png"], more)
    assert _untimed(found[0]["points"]) == _untimed(fresh[0]["points"])
    assert found[0]["equal_size"] == fresh[0]["equal_size"]


def test_a_damaged_cache_is_made_again(folder: Path, tmp_path: Path) -> None:
    plan = Plan(("photo-2",), ("jpeg",), ("6bit",), ("psnr",))
    first, _ = run([folder / "a.png"], plan, cache=tmp_path)
    for file in tmp_path.iterdir():
        file.write_text(file.read_text()[:100])
    repaired, _ = run([folder / "a.png"], plan, cache=tmp_path)
    assert _untimed(repaired[0]["points"]) == _untimed(first[0]["points"])
    assert all(json.loads(file.read_text()) for file in tmp_path.iterdir())


def test_a_rate_that_is_not_possible_is_remembered(folder: Path, tmp_path: Path) -> None:
    plan = Plan(("photo-2",), ("jpeg",), ("4bit", "6bit"), ("psnr",))
    for _ in range(2):
        (record,), _ = run([folder / "a.png"], plan, cache=tmp_path)
        assert [point["setting"] for point in record["points"]["photo-2"]] == ["6bit"]


def test_progress_comes_to_one_for_each_picture(folder: Path) -> None:
    plan = replace(QUICK, rates=("4bit", "6bit"), references=("jpeg",), metrics=("psnr",))
    for jobs in (1, 2):
        told: list[float] = []
        paths = [folder / name for name in ("a.png", "b.png", "broken.png")]
        run(paths, plan, jobs=jobs, advance=told.append)
        assert sum(told) == pytest.approx(3)
        assert len(told) > 40  # it moves within a picture


def test_the_panel_leaves_out_what_a_codec_was_trained_on(tmp_path: Path) -> None:
    card = (ROOT / "models/photo-2/card.toml").read_text()
    (tmp_path / "card.toml").write_text(card)
    assert aims.trained_on(read_card(tmp_path)) == ["mse"]
    card += (
        "\n[recipe.loss]\nmse = 0.3\nluma = 0.0\nms_ssim_y = 0.4\nssimulacra2 = 0.3\nvisual = 1\n"
    )
    (tmp_path / "card.toml").write_text(card)
    trained = aims.trained_on(read_card(tmp_path))
    assert trained == ["mse", "ms_ssim_y", "ssimulacra2"]
    assert aims.trained_on(replace(read_card(tmp_path), tune="psnr")) == ["mse"]

    def curve(factor: float) -> list[dict]:
        return [
            {"bpp": factor * 2**i, "metrics": {name: 0.5 + 0.1 * i for name in PANEL}}
            for i in range(4)
        ]

    curves = {"ours": curve(1.5), "theirs": curve(1.0)}
    found = aims.panel(curves, "ours", "theirs", trained)
    assert found["left_out"] == ["ms_ssim_y"]
    assert list(found["each"]) == [name for name in PANEL if name != "ms_ssim_y"]
    assert found["percent"] == pytest.approx(50)
    del curves["theirs"][0]["metrics"]["vif"], curves["theirs"][1]["metrics"]["vif"]
    del curves["theirs"][2]["metrics"]["vif"]
    assert aims.panel(curves, "ours", "theirs", trained)["percent"] is None


def test_the_headline_says_who_wins_at_which_aim(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.open(ROOT / "tests/data/photo.png").crop((100, 100, 260, 228)).save(photo)
    metrics = ("psnr", "ssimulacra2")
    plan = Plan(("photo-2",), ("jpeg", "webp"), ("6bit", "8bit", "9.5bit"), metrics)
    records, _ = run([photo], plan)
    report = summary.report(records, plan, command="x")
    fidelity, looks = report["headline"]
    rows = {(r["reference"], r["metric"]): r["used"]["percent"] for r in report["bd_rate"]}
    assert fidelity["reference"] == looks["reference"] == "webp"  # the stronger one
    assert rows["jpeg", "psnr"] < fidelity["percent"] == rows["webp", "psnr"] < -5
    n = round(-fidelity["percent"])
    assert fidelity["text"] == (
        f"Fidelity (PSNR 27 to 34 dB): photo-2 needs {n} % fewer bytes than WebP, "
        "the strongest of 2 references."
    )
    assert looks["text"].startswith("Looks (SSIMULACRA2 30 to 85): photo-2 needs ")
    (alone, _) = summary.report(records, replace(plan, references=("jpeg",)), command="x")[
        "headline"
    ]
    n = round(-rows["jpeg", "psnr"])
    assert alone["text"].endswith(f"photo-2 needs {n} % fewer bytes than JPEG.")


def test_without_both_aims_the_headline_is_of_the_first_metric() -> None:
    rows = [
        {"codec": "a", "reference": name, "metric": metric, "used": None,
         "mean_curve": {"percent": percent, "low": 0.61234, "high": 0.95}}
        for metric in ("psnr_y", "ssim")
        for name, percent in (("b", -30.0), ("c", None), ("d", -10.0))
    ]  # fmt: skip
    luma, ssim = (
        {"id": m.id, "label": m.label, "unit": m.unit}
        for m in METRICS
        if m.id in ("psnr_y", "ssim")
    )
    report = {
        "codecs": [
            {"id": "a", "label": "A", "own": True, "trained_on": ["mse"]},
            *({"id": name, "label": name.upper(), "own": False} for name in "bcd"),
        ],
        "bd_rate": rows,
        "panel": [],
    }
    (line,) = aims.headline({**report, "metrics": [ssim]})
    assert (line["metric"], line["percent"]) == ("ssim", -10.0)
    assert line["text"] == (
        "SSIM 0.6123 to 0.95: A needs 10 % fewer bytes than D, the strongest of 3 references."
    )
    (line,) = aims.headline({**report, "metrics": [luma, ssim]})
    assert line["text"].startswith("PSNR-Y 0.6123 to 0.95 dB: A needs 10 % fewer")
    for row in rows:
        row["mean_curve"]["percent"] = None
    (line,) = aims.headline({**report, "metrics": [ssim]})
    assert line["text"] == "SSIM: A cannot be compared with B."


def test_the_panel_is_called_the_same_everywhere() -> None:
    """Seven metrics, and how many of them judge a codec that was trained on some."""
    judged = {"codec": "a", "reference": "b", "percent": -2.0, "left_out": ["ms_ssim_y"]}
    judged["each"] = {name: -2.0 for name in PANEL if name != "ms_ssim_y"}
    used = {"codec": "a", "reference": "b", "metric": "ssimulacra2", "used": {"percent": -9.0}}
    report = {
        "codecs": [
            {"id": "a", "label": "A", "own": True, "trained_on": []},
            {"id": "b", "label": "B", "own": False},
        ],
        "metrics": [{"id": "ssimulacra2", "label": "SSIMULACRA2", "unit": ""}],
        "bd_rate": [used],
        "panel": [judged],
    }
    (line,) = aims.headline(report)
    assert "by the mean of 6 of the panel's 7 metrics needs 2 % fewer bytes" in line["text"]
    table = output._overview(report, report["codecs"][0], {"b": "B"})
    assert [column.header for column in table.columns][-1] == "panel\n6 of 7"


def test_speed_is_split(folder: Path) -> None:
    pixels = np.asarray(Image.open(folder / "a.png"))
    row = speed.own("photo-2", "7bit", pixels, "cpu")
    assert row["encode_mps"] > 0 and row["decode_mps"] > 0 and row["load_s"] > 0
    total = 1e3 * pixels.shape[0] * pixels.shape[1] / 1e6 / row["decode_mps"]
    parts = row["decode_ms"]
    assert set(parts) == {"network", "prior", "entropy", "io"}
    assert parts["network"] + parts["prior"] + parts["entropy"] >= 0.99 * total
    assert speed.memory()["peak_rss_mib"] > 50


def test_the_command_writes_every_view(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html", "png")}
    code, stdout, stderr = bench(
        folder, "--vs", "jpeg,webp", "--rates", "6bit,9bit", "--metrics", "psnr", "--no-speed",
        "--json", files["json"], "--csv", files["csv"], "--html", files["html"],
        "--plot", files["png"],
    )  # fmt: skip
    assert code == 4  # of the picture that could not be read
    assert stderr == f"vqcodec: error: {folder / 'broken.png'}: not an image that can be read\n"
    words = " ".join(stdout.split())
    assert f"BD-rate of {zoo.DEFAULT}" in words and "thumbnails of 64x64" in words
    report = json.loads(files["json"].read_text())
    assert [image["name"] for image in report["images"]] == ["a.png", "b.png"]
    (skipped,) = report["skipped"]
    assert (skipped["path"], skipped["exit_code"]) == (str(folder / "broken.png"), 4)
    rows = list(csv.DictReader(files["csv"].open()))
    points = [p for image in report["images"] for c in image["points"].values() for p in c]
    assert [int(row["bytes"]) for row in rows] == [p["bytes"] for p in points]
    assert "data:image/webp;base64," in files["html"].read_text()
    assert Image.open(files["png"]).width > 500
    code, _, stderr = bench(folder, "--json", files["json"])
    assert code == 8 and "--force" in stderr


def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqcodec.bench.run.run", lambda *args, **kwargs: pytest.fail("measured"))
    picture, same = folder / "a.png", tmp_path / "same"
    for args in (
        ("--json", tmp_path / "none" / "x.json"),
        ("--json", same, "--csv", same),
        ("--json", picture, "--force"),
        ("--json", tmp_path, "--force"),
    ):
        code, _, stderr = bench(picture, *args)
        assert code == 8 and stderr.count("\n") == 1
    assert Image.open(picture).size == (160, 96)


@pytest.mark.parametrize(
    ("number", "send", "code"), [(signal.SIGINT, os.killpg, 130), (signal.SIGKILL, os.kill, -9)]
)
def test_the_workers_end_when_the_command_does(
    number: int, send: Callable[[int, int], None], code: int, folder: Path, tmp_path: Path
) -> None:
    """Or else they would hold its output open, and whoever reads that would wait for ever."""
    pixels = np.asarray(Image.open(folder / "a.png"))
    for i in range(30):
        Image.fromarray(np.roll(pixels, i, 0)).save(tmp_path / f"{i}.png")
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "vqcodec", "bench", str(tmp_path), "--jobs", "2"]
    command += ["--vs", "jpeg", "--metrics", "psnr", "--no-speed", "--cache", str(cache)]
    child = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    while not (cache.exists() and any(cache.glob("*.json"))) and child.poll() is None:
        time.sleep(0.05)
    send(child.pid, number)
    child.communicate(timeout=300)
    assert child.returncode == code
    assert len(list(cache.glob("*.json"))) < 25


def test_folders_below_and_limits(folder: Path) -> None:
    args = ("--vs", "jpeg", "--rates", "6bit", "--metrics", "psnr", "--no-speed", "--jobs", "1")
    assert "1 picture;" in bench(folder, "--limit", "1", *args)[1]
    assert "3 pictures;" in bench(folder, "-r", *args)[1]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--vs", "bpg"], 2, "no encoder for bpg"),
        (["--metrics", "beauty"], 2, "no metric 'beauty'"),
        (["--rates", ","], 2, "'--rates': names nothing"),
        (["--vs", " , "], 2, "'--vs': names nothing"),
        (["--cache", __file__], 8, "cannot be made"),
        (["--rates", "very good"], 7, "rate 'very good'"),
        (["--codec", "video"], 6, "no codec named 'video'"),
    ],
)
def test_wrong_requests_are_one_line(
    folder: Path, args: list[str], code: int, message: str
) -> None:
    found, _, stderr = bench(folder, *args)
    assert found == code
    assert message in stderr and stderr.count("\n") == 1


def test_nothing_to_measure(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path, code, why in (
        (tmp_path / "x.png", 4, "x.png: not an image"),
        (tmp_path / "none.png", 3, "none.png: no such file"),
        (tmp_path / "folder", 3, "folder: no .png"),
    ):
        found, stdout, stderr = bench(path, "--vs", "jpeg", "--no-speed")
        assert (found, stdout, stderr.count("\n")) == (code, "", 1) and why in stderr


def test_a_rate_that_is_not_possible_is_said_in_one_line(folder: Path) -> None:
    args = ("--vs", "jpeg", "--metrics", "psnr", "--no-speed")
    code, stdout, stderr = bench(folder / "a.png", *args, "--rates", "4bit,6bit,99dB")
    assert code == 0 and "6bit" in stdout
    which = "4bit (possible on 0 of 1), 99dB (possible on 0 of 1)"
    assert stderr == f"vqcodec: warning: {zoo.DEFAULT}: not in the mean curve: {which}\n"
    assert bench(folder / "a.png", *args, "--rates", "4bit,6bit", "-q") == (0, "", "")
    code, stdout, stderr = bench(folder / "a.png", *args, "--rates", "4bit")
    assert (code, stdout) == (7, "") and "4bit (possible on 0 of 1)" in stderr


def test_a_codec_can_be_a_folder(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models/photo-1", tmp_path / "own")
    args = ("--vs", "jpeg", "--rates", "6bit", "--metrics", "psnr", "--no-speed")
    code, _, stderr = bench(
        folder / "a.png", *args, "--codec", tmp_path / "own", "--json", tmp_path / "x.json"
    )
    assert code == 0, stderr
    codecs = json.loads((tmp_path / "x.json").read_text())["codecs"]
    assert [c["id"] for c in codecs] == [str(tmp_path / "own"), "jpeg"]


def test_the_pictures_of_one_name_are_not_confused(folder: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    (tmp_path / "x/a.png").write_bytes(b"")
    shutil.copy(folder / "a.png", tmp_path / "y")
    code, stdout, _ = bench(
        tmp_path / "x/a.png", tmp_path / "y/a.png",
        "--vs", "jpeg", "--rates", "6bit", "--metrics", "psnr", "--jobs", "1",
    )  # fmt: skip
    assert code == 4 and "Speed" in stdout


def test_a_picture_that_a_reference_cannot_hold_is_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, *args: object) -> dict:
        raise ImageError("WEBP cannot hold 20000 x 1 pixels")

    monkeypatch.setattr("vqcodec.bench.run.measure_pixels", fail)
    records, skipped = run([folder / "a.png"], QUICK)
    assert records == []
    assert skipped[0]["why"] == "WEBP cannot hold 20000 x 1 pixels" and skipped[0]["exit_code"] == 4


def test_a_terminal_of_80_columns_is_enough(records: list[dict]) -> None:
    from io import StringIO

    from rich.console import Console

    report = summary.report(records, QUICK, command="x", skipped=[{"path": "y", "why": "z"}])
    text = StringIO()
    output.print_report(report, Console(file=text, width=80))
    assert "…" not in text.getvalue()
    assert "skipped" not in text.getvalue()  # the command has said it on stderr


def test_the_middle_of_a_large_picture_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SHOWN_PIXELS", 1000)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    plan = Plan(("photo-2",), ("jpeg",), ("6bit",), ("psnr",), pictures=True)
    shown = measure.measure_pixels("x", pixels, plan)["picture"]
    assert (shown["width"], shown["height"]) == (96, 64)
    assert shown["rates"][0]["references"]["jpeg"]["src"].startswith("data:image/webp")
