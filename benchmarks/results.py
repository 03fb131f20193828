"""Makes docs/results.md, its plot and the README's table from the JSON files beside this script.

    make results

The numbers come from (Kodak: 24 pictures in a folder; an otherwise idle machine)

    vqcodec bench KODAK --jobs 2 --json benchmarks/bench.json --force
    python benchmarks/check.py KODAK --results benchmarks/bench.json --out benchmarks/checks.json
"""

import json
import re
from pathlib import Path
from typing import Any

from vqcodec.bench.aims import FIDELITY, LOOKS
from vqcodec.bench.bdrate import bd_rate
from vqcodec.bench.output import equal_groups, equal_rows, interval, mean_interval, percent, plot
from vqcodec.metrics import PANEL

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
WHERE = ("Kodak", "these")
INTERVALS = ((27.0, 34.0), (28.6, 36.0))  # dB, besides all that two curves share
README_CODECS = ("jpeg", "webp", "jxl", "jpeg2000", "avif", "avif-psnr")


def curve(report: dict[str, Any], codec: str) -> tuple[list[float], list[float]]:
    points = report["curves"][codec]
    return [p["bpp"] for p in points], [p["metrics"]["psnr"] for p in points]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bd(report: dict[str, Any], codec: str, reference: str, low: float, high: float) -> str:
    found = bd_rate(*curve(report, codec), *curve(report, reference), low, high)
    if found.percent is None:
        return "no overlap"
    ends = (
        "" if (found.low, found.high) == (low, high) else f" ({found.low:.1f} to {found.high:.1f})"
    )
    return f"{found.percent:+.2f} %{ends}"


def readme_table(report: dict[str, Any], labels: dict[str, str]) -> str:
    """BD-rates of the default codec, or of its tune for each aim, where it has the choice."""
    own = [c["id"] for c in report["codecs"] if c["own"]]
    looks = [c for c in own if ":psnr" not in c] or own
    fidelity = [c for c in own if ":psnr" in c] or own
    rows = []
    for name in (n for n in README_CODECS if n in report["curves"]):
        cells = [used(report, codec, name, LOOKS) for codec in looks]
        cells += [panel_mean(report, codec, name) for codec in looks]
        cells += [used(report, codec, name, FIDELITY) for codec in fidelity]
        rows.append([labels[name], *cells])
    (low, high), (dark, bright) = report["intervals"][LOOKS], report["intervals"][FIDELITY]
    head = [f"Bytes of `{own[0].split(':')[0]}` at equal quality, against"]
    head += [f"looks: SSIMULACRA2 {low:g} to {high:g}{with_effort(codec)}" for codec in looks]
    head += [f"looks: the panel{with_effort(codec)}" for codec in looks]
    head += [f"fidelity: PSNR {dark:g} to {bright:g} dB{with_effort(codec)}" for codec in fidelity]
    return markdown(head, rows)


def with_effort(codec: str) -> str:
    _, _, effort = codec.partition(":effort")
    return f", `--effort {effort}`" if effort else ""


def used(report: dict[str, Any], codec: str, reference: str, metric: str) -> str:
    """The BD-rate within the metric's interval."""
    for row in report["bd_rate"]:
        if (row["codec"], row["reference"], row["metric"]) == (codec, reference, metric):
            return percent(row["used"] | {"why": "no overlap"})
    return "–"


def panel_mean(report: dict[str, Any], codec: str, reference: str) -> str:
    for row in report["panel"]:
        if (row["codec"], row["reference"]) == (codec, reference):
            return percent(row | {"why": "no overlap"})
    return "–"


def panel_table(report: dict[str, Any], codec: str, labels: dict[str, str]) -> str:
    names = {m["id"]: m["label"] for m in report["metrics"]}
    rows = [row for row in report["panel"] if row["codec"] == codec]
    if not rows:
        return "The panel was not measured."
    judges = list(rows[0]["each"])
    cells = [
        [labels[row["reference"]], panel_mean(report, codec, row["reference"])]
        + ["no overlap" if row["each"][j] is None else f"{row['each'][j]:+.1f} %" for j in judges]
        for row in rows
    ]
    table = markdown(["against", "mean", *(names[j] for j in judges)], cells)
    left_out = ", ".join(names[name] for name in rows[0]["left_out"])
    return table + (
        f"\n\nNot of the panel, because the codec was trained on them: {left_out}."
        if left_out
        else ""
    )


def bd_table(report: dict[str, Any], codec: str, labels: dict[str, str]) -> str:
    rows = []
    for row in report["bd_rate"]:
        if row["codec"] != codec or row["metric"] != "psnr":
            continue
        each = row["per_image"]
        rows.append(
            [labels[row["reference"]]]
            + [bd(report, codec, row["reference"], *ends) for ends in INTERVALS]
            + [f"{percent(row['mean_curve'])} ({interval(row['mean_curve'])})"]
            + [mean_interval(each)]
            + [f"{each['median']:+.1f}"]
        )
    names = [f"{low:g} to {high:g} dB" for low, high in INTERVALS]
    head = ["against", *names, "all that both reach (dB)", "per picture: mean (95 %)", "median"]
    return markdown(head, rows)


def validation_section(report: dict[str, Any], validation: dict[str, Any], codec: str) -> str:
    """BD-rates on photographs of the training's kind that were held out, beside the report's."""
    labels = {c["id"]: c["label"] for c in validation["codecs"]}
    rows = []
    for name in (c["id"] for c in validation["codecs"] if c["id"] != codec):
        row = [labels[name]]
        for ends in INTERVALS:
            for measured in (report, validation):
                here = {name, codec} <= measured["curves"].keys()
                row.append(bd(measured, codec, name, *ends) if here else "–")
        rows.append(row)
    head = [f"{where}, {low:g} to {high:g} dB" for low, high in INTERVALS for where in WHERE]
    return "\n\n".join(
        [
            f"## {codec} on other photographs",
            f"{len(validation['pictures'])} photographs of the training data that its split holds "
            "out: no weight was trained on them, but training was watched, and settings chosen, by "
            "them. BD-rate by PSNR, mean curves.",
            f"    {validation['command']}",
            markdown(["against", *head], rows),
        ]
    )


def looks_table(report: dict[str, Any], codec: str, labels: dict[str, str]) -> str:
    rows = [
        [labels[row["reference"]], used(report, codec, row["reference"], LOOKS)]
        + [f"{percent(row['mean_curve'])} ({interval(row['mean_curve'])})"]
        + [mean_interval(row["per_image"])]
        for row in report["bd_rate"]
        if (row["codec"], row["metric"]) == (codec, LOOKS)
    ]
    low, high = report["intervals"][LOOKS]
    head = ["against", f"{low:g} to {high:g}", "all that both reach", "per picture: mean (95 %)"]
    return markdown(head, rows)


def metric_table(report: dict[str, Any], codec: str, labels: dict[str, str]) -> str:
    metrics = [m for m in report["metrics"] if m["id"] not in ("psnr", *PANEL)]
    found = {(r["reference"], r["metric"]): r for r in report["bd_rate"] if r["codec"] == codec}
    references = dict.fromkeys(r for r, _ in found)
    rows = [
        [labels[name], *(percent(found[name, m["id"]]["mean_curve"]) for m in metrics)]
        for name in references
    ]
    return markdown(["against", *(m["label"] for m in metrics)], rows)


def points_table(report: dict[str, Any], codec: str) -> str:
    shown = [m for m in report["metrics"] if m["id"] not in PANEL]
    rows = []
    for point in report["curves"][codec]:
        values = [point["metrics"][m["id"]] for m in shown]
        cells = ["" if value is None else f"{value:.5g}" for value in values]
        rows.append([f"`{point['setting']}`", f"{point['bpp']:.4f}", *cells])
    return markdown(["rate", "bpp", *(m["label"] for m in shown)], rows)


def equal_tables(report: dict[str, Any], codec: str, labels: dict[str, str]) -> str:
    parts = []
    for group in equal_groups(report):
        if group[0]["codec"] != codec:
            continue
        side, others = group[0]["thumbnail"], list(group[0]["references"])
        rows = []
        metric = LOOKS if LOOKS in group[0]["metrics"] else FIDELITY
        unit = " dB" if metric == FIDELITY else ""
        for setting, n_bytes, count, means in equal_rows(group, metric):
            cells = []
            for mean, never, factor in means:
                cell = "" if mean is None else f"{mean:+.2f}{unit}"
                if never:
                    cell += f" (of {never} of {count} the smallest file is {factor:.1f} times ours)"
                cells.append(cell.strip())
            rows.append([f"`{setting}`", f"{n_bytes:.0f}", *cells])
        what = f"Thumbnails of {side} x {side}" if side else "Whole pictures"
        what += ", SSIMULACRA2" if metric == LOOKS else ", PSNR"
        parts.append(
            f"{what}:\n\n" + markdown(["rate", "bytes", *(labels[n] for n in others)], rows)
        )
    return "\n\n".join(parts)


def speed_table(report: dict[str, Any], labels: dict[str, str]) -> str:
    def split(parts: dict[str, float] | None) -> str:
        return "" if parts is None else ", ".join(f"{k} {v:.0f}" for k, v in parts.items())

    rows = [
        [
            labels.get(r["codec"], r["codec"]),
            r["setting"],
            f"{r['encode_mps']:.2f}",
            f"{r['decode_mps']:.2f}",
        ]
        + [split(r["encode_ms"]), split(r["decode_ms"])]
        for r in report["speed"]
    ]
    return markdown(["codec", "setting", "encode MP/s", "decode MP/s", "ms", "ms"], rows)


def speed_section(report: dict[str, Any], labels: dict[str, str]) -> list[str]:
    return [
        "One process, one thread, medians on one picture, from pixels in memory to bytes in memory "
        "and back, on an idle machine. `network`: analysis or synthesis; `prior`: the exact "
        "networks; `entropy`: the range coder; `io`, on top: files. "
        f"Peak memory {report['memory']['peak_rss_mib']} MiB.",
        speed_table(report, labels),
    ]


def checks_table(checks: dict[str, Any]) -> str:
    labels = {"psnr": "PSNR", "ssimulacra2": "SSIMULACRA2"}
    monotone, speed, line = checks["monotone"], checks["speed"], checks["command_line"]
    threads, huge, small = checks["threads"], checks["huge"], checks["small"]
    targets, db = checks["targets"], checks["targets"]["34dB"]
    used = ", ".join(
        f"{rate} {100 * t['least_used']:.2f} to {100 * t['most_used']:.2f} %"
        for rate, t in targets.items()
        if rate != "34dB"
    )
    missed = f"; refused on {', '.join(db['missed'])}" if db["missed"] else ""
    rows = [
        [
            "more bits give more bytes, more PSNR and more SSIMULACRA2: neighbouring rates of the "
            "tables below, on every picture, for both aims",
            "; ".join(
                f"{labels[metric]}: {found['pairs']} pairs, {found['broken']} broken"
                for metric, found in monotone.items()
            ),
        ],
        [
            "a file has at most 1.005 times its ideal bits, and 40 bytes",
            f"largest excess {checks['overhead']['largest_excess_bytes']:.1f} bytes",
        ],
        ["`0.25bpp`, `12kB`, `1bpp`: never larger, at least 98 % used", used],
        [
            "`34dB`: at least that, within 0.2 dB",
            f"{db['least_over_db']:+.3f} to {db['most_over_db']:+.3f} dB{missed}",
        ],
        [
            "warm, two threads, `7bit`: encode 2 MP/s, decode 3 MP/s",
            f"{speed['7bit']['encode_mp_s']:.2f} and {speed['7bit']['decode_mp_s']:.2f} MP/s",
        ],
        [
            "the same at `9bit`: 1.33 and 2 MP/s",
            f"{speed['9bit']['encode_mp_s']:.2f} and {speed['9bit']['decode_mp_s']:.2f} MP/s",
        ],
        ["cold `vqcodec decode`: 3 s", f"{line['cold_decode_seconds']:.2f} s"],
        ["`vqcodec info`: 0.3 s", f"{line['cold_info_seconds']:.2f} s"],
        [
            f"{line['large_megapixels']:.0f} megapixels at the default rate, a quality, in under "
            "2 GiB",
            f"encode {line['large_encode_mib']:.0f} MiB ({line['large_encode_seconds']:.0f} s), "
            f"decode {line['large_decode_mib']:.0f} MiB ({line['large_decode_seconds']:.0f} s)",
        ],
        [
            "100 megapixels at `7bit` in under 3 GiB, by a process of its own",
            f"encode {huge['encode_mib']:.0f} MiB ({huge['encode_seconds']:.0f} s), "
            f"decode to PNG {huge['decode_png_mib']:.0f} MiB ({huge['decode_png_seconds']:.0f} s), "
            f"to PPM {huge['decode_ppm_mib']:.0f} MiB ({huge['decode_ppm_seconds']:.0f} s), "
            f"1024x1024 of it {huge['decode_region_mib']:.0f} MiB "
            f"({huge['decode_region_seconds']:.0f} s)",
        ],
        [
            "`--jobs 2` on two cores: 1.6 times the speed of one process with one thread",
            f"{checks['many']['ratio']:.2f} times",
        ],
        [
            "small pictures encoded together, of their speed alone (`7bit`, one thread)",
            ", ".join(f"{side} {row['ratio']:.2f} times" for side, row in small.items()),
        ],
        [
            "how often the encoder's choice of codes depends on the number of threads (`8bit`)",
            f"{threads['files_that_differ']} of {threads['files']} files differ",
        ],
    ]
    return markdown(["claim", "measured"], rows)


def results(report: dict[str, Any], checks: dict[str, Any], validation: dict[str, Any]) -> str:
    machine, labels = report["machine"], {c["id"]: c["label"] for c in report["codecs"]}
    own = [c["id"] for c in report["codecs"] if c["own"]]
    best = own[0]
    settings = markdown(
        ["codec", "settings"], [[c["label"], c["settings"]] for c in report["codecs"]]
    )
    where = (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, no GPU; Python {machine['python']}, "
        f"torch {machine['torch']}, Pillow {machine['pillow']}"
    )
    parts = [
        "# Results",
        "Made by `make results` from `bench.json`, `validation.json` and `checks.json` in "
        "`benchmarks/`. "
        f"Measured {report['date']} with vqcodec {report['vqcodec']} on {where}. "
        f"{len(report['images'])} Kodak pictures, never used in training. All bytes are those of "
        "finished files; PSNR is over RGB of 8-bit pixels; a curve is the mean bpp and the mean "
        "quality of each setting.",
        "\n".join(f"- {line['text']}" for line in report["headline"]),
        f"    {report['command']}\n"
        "    python benchmarks/check.py KODAK --results benchmarks/bench.json "
        "--out benchmarks/checks.json",
        "![SSIMULACRA2 and PSNR against bits per pixel](rate-distortion.png)",
        settings,
    ]
    for codec in own:
        parts += [
            f"## BD-rate of {labels[codec]}",
            "Looks, by SSIMULACRA2: over what people use, all that both reach, of each picture.",
            looks_table(report, codec, labels),
            "Looks: the panel, by all that both reach (similarities in dB).",
            panel_table(report, codec, labels),
            "Fidelity: PSNR.",
            "PCHIP of log rate over PSNR, never extrapolated; in brackets the interval that both "
            "curves reach. Negative: fewer bytes at equal PSNR.",
            bd_table(report, codec, labels),
            "By other metrics, mean curves, over all that both reach (similarities in dB):",
            metric_table(report, codec, labels),
            points_table(report, codec),
        ]
    parts += [
        f"## Equal size, {labels[best]}",
        "How much more than the best file of the reference that is not larger; where its smallest "
        "file is larger still, how often and by how much.",
        equal_tables(report, best, labels),
    ]
    if report["speed"]:
        parts += ["## Speed", *speed_section(report, labels)]
    parts += [
        validation_section(report, validation, "photo-2"),
        "## What else was checked",
        checks_table(checks),
    ]
    extra = DOCS / "results-notes.md"
    return "\n\n".join([*parts, extra.read_text(encoding="utf-8").strip()]) + "\n"


def main() -> None:
    report = json.loads((HERE / "bench.json").read_text(encoding="utf-8"))
    checks = json.loads((HERE / "checks.json").read_text(encoding="utf-8"))
    validation = json.loads((HERE / "validation.json").read_text(encoding="utf-8"))
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    (DOCS / "results.md").write_text(results(report, checks, validation), encoding="utf-8")
    (DOCS / "rate-distortion.png").write_bytes(plot(report))
    readme = HERE.parent / "README.md"
    text, n = re.subn(
        r"(?s)(<!-- results -->\n).*?(\n<!-- end of results -->)",
        lambda m: m[1] + readme_table(report, labels) + m[2],
        readme.read_text(encoding="utf-8"),
    )
    if n != 1:
        raise SystemExit("README.md has no place for the results")
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
