"""Views of a report: the terminal, CSV, and a plot for documents."""

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from vqcodec.bench.aims import FIDELITY, LOOKS
from vqcodec.bench.curves import INTERVALS
from vqcodec.metrics import PANEL


def percent(found: dict[str, Any]) -> str:
    """The BD-rate of a mean curve, in words where there is none."""
    return found["why"] if found["percent"] is None else f"{found['percent']:+.2f} %"


def interval(found: dict[str, Any]) -> str:
    return "" if found["percent"] is None else f"{found['low']:.4g} to {found['high']:.4g}"


def mean_interval(each: dict[str, Any]) -> str:
    """The mean BD-rate of pictures, with its interval where there is more than one."""
    if each["low95"] is None:
        return "" if each["mean"] is None else f"{each['mean']:+.1f}"
    return f"{each['mean']:+.1f} ({each['low95']:+.1f} to {each['high95']:+.1f})"


def print_report(report: dict[str, Any], console: Console) -> None:
    """Who wins at which aim; then tables of BD-rates, mean curves, equal sizes and speeds."""
    for line in report["headline"]:
        console.print(line["text"], style="bold", highlight=False)
    n = len(report["images"])
    console.print(f"{n} picture{'s' * (n != 1)}; {_machine(report['machine'])}", style="dim")
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    shown = shown_metric(report)
    for codec in (c for c in report["codecs"] if c["own"]):
        rows = [r for r in report["bd_rate"] if r["codec"] == codec["id"]]
        if rows:
            title = f"BD-rate of {codec['label']}: bytes at equal quality, mean curves, in %"
            _print(console, title, _overview(report, codec, labels))
            chosen = [r for r in rows if r["metric"] == shown["id"]]
            title = f"By {shown['label']}: over all that both reach, and of each picture"
            _print(console, title, _bd_table(chosen, labels))
        _print(console, f"Mean of {codec['label']}", _curve_table(report, codec["id"]))
    for group in equal_groups(report):
        title = f"{shown['label']} of {labels[group[0]['codec']]} minus that of the best file"
        title += f" that is not larger{_thumbnail(group)}"
        if any(row["metrics"].get(shown["id"]) is not None for row in group):
            _print(console, title, _equal_table(group, shown, labels))
    if report["speed"]:
        title = "Speed in MP/s; ours in ms: network + prior + entropy, and files"
        _print(console, title, _speed_table(report, labels))
    for row in report["codecs"]:
        console.print(f"{row['label']}: {row['settings']}", style="dim", highlight=False)


def shown_metric(report: dict[str, Any]) -> dict[str, Any]:
    """The metric of tables that show one: SSIMULACRA2, or else the first."""
    metrics: list[dict[str, Any]] = report["metrics"]
    return next((m for m in metrics if m["id"] == LOOKS), metrics[0])


def to_csv(report: dict[str, Any]) -> str:
    """A line for each picture, codec and setting."""
    names = [m["id"] for m in report["metrics"]]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(
        ["image", "width", "height", "codec", "setting", "bytes", "bpp", *names]
        + ["encode_s", "decode_s"]
    )
    for image in report["images"]:
        pixels = image["width"] * image["height"]
        for codec, points in image["points"].items():
            for p in points:
                lines.writerow(
                    [image["name"], image["width"], image["height"], codec, p["setting"]]
                    + [p["bytes"], round(8 * p["bytes"] / pixels, 6)]
                    + [p["metrics"][name] for name in names]
                    + [p["encode_s"], p["decode_s"]]
                )
    return text.getvalue()


def plot(report: dict[str, Any], metrics: Sequence[str] = ()) -> bytes:
    """The mean curves as PNG, a panel for each metric; by default of looks, and of fidelity below.

    As far as our codecs go, and of SSIMULACRA2 from 0 on. Needs matplotlib.
    """
    from vqcodec.bench import style

    known = [m["id"] for m in report["metrics"]]
    usual = [name for name in (LOOKS, FIDELITY) if name in known] or known[:1]
    chosen = list(metrics) or usual
    figure = style.figure(height=0.5 + 3.6 * len(chosen))
    for place, metric in enumerate(chosen, 1):
        described = next(m for m in report["metrics"] if m["id"] == metric)
        unit = f", {described['unit']}" if described["unit"] else ""
        last = place == len(chosen)
        axes = style.axes(
            figure,
            f"{described['label']}{unit}",
            "bits per pixel, of finished files" if last else "",
            (len(chosen), 1, place),
        )
        curves = {
            c["id"]: [
                (p["bpp"], p["metrics"][metric])
                for p in report["curves"][c["id"]]
                if p["metrics"][metric] is not None
            ]
            for c in report["codecs"]
        }
        own = [point for c in report["codecs"] if c["own"] for point in curves[c["id"]]]
        if not own:
            continue
        left, right = min(x for x, _ in own), max(x for x, _ in own)
        inside = [y for points in curves.values() for x, y in points if left <= x <= right]
        low, high = min(inside), max(inside)
        low = max(low, 0.0) if metric == LOOKS else low
        style.log_rates(axes)
        axes.set_xlim(left, right)
        axes.set_ylim(low - 0.03 * (high - low), high + 0.06 * (high - low))
        ends = []
        for i, codec in enumerate(report["codecs"]):
            points = curves[codec["id"]]
            if not points:
                continue
            colour = style.COLOURS[i % len(style.COLOURS)]
            xs, ys = zip(*points, strict=True)
            axes.plot(
                xs,
                ys,
                color=colour,
                marker=style.MARKS[i % len(style.MARKS)],
                markersize=5,
                markerfacecolor=colour if codec["own"] else style.PAGE,
                linewidth=2.75 if codec["own"] else 1.5,
                zorder=3 if codec["own"] else 2,
            )
            end = float(np.interp(min(right, xs[-1]), xs, ys))
            ends.append((codec["label"], end, colour, bool(codec["own"])))
        style.name_ends(axes, ends)
    n = len(report["images"])
    figure.suptitle(
        f"Mean of {n} picture{'s' * (n != 1)}, {report['date']}",
        x=0.01, ha="left", fontsize=style.SIZE - 1, color=style.SOFT,
    )  # fmt: skip
    return style.png(figure)


def _machine(machine: dict[str, Any]) -> str:
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores{gpu}, "
        f"Python {machine['python']}, torch {machine['torch']}, Pillow {machine['pillow']}"
    )


def _print(console: Console, title: str, table: Table) -> None:
    console.print(f"\n{title}", style="bold", highlight=False)
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _overview(report: dict[str, Any], codec: dict[str, Any], labels: dict[str, str]) -> Table:
    """A row for each reference: BD-rates in the intervals that people use, the panel, the rest."""
    used = [m for m in report["metrics"] if m["id"] in INTERVALS]
    rest = [m for m in report["metrics"] if m["id"] not in (*INTERVALS, *PANEL)]
    judges = [m for m in report["metrics"] if m["id"] in PANEL]
    of = codec["id"]
    rows = {(r["reference"], r["metric"]): r for r in report["bd_rate"] if r["codec"] == of}
    panels = {p["reference"]: p for p in report["panel"] if p["codec"] == of}
    titles = [f"{m['label']}\n{INTERVALS[m['id']][0]:g} to {INTERVALS[m['id']][1]:g}" for m in used]
    if panels:
        one = next(iter(panels.values()))
        n, left_out = len(one["each"]), len(one["left_out"])
        titles.append(f"panel\n{n} of {n + left_out}" if left_out else f"panel\nof {n}")
        judges = []
    table = _table("against", *titles, *(m["label"] for m in (*rest, *judges)))
    for reference in dict.fromkeys(r for r, _ in rows):
        cells = [_signed(rows[reference, m["id"]]["used"]["percent"]) for m in used]
        if panels:
            cells.append(_signed(panels[reference]["percent"]) if reference in panels else "")
        cells += [
            _signed(rows[reference, m["id"]]["mean_curve"]["percent"]) for m in (*rest, *judges)
        ]
        table.add_row(labels[reference], *cells)
    return table


def _signed(percent: float | None) -> str:
    return "" if percent is None else f"{percent:+.1f}"


def _curve_table(report: dict[str, Any], codec: str) -> Table:
    """Of each rate; only metrics outside the panel, which would be too wide."""
    shown = [m for m in report["metrics"] if m["id"] not in PANEL]
    titles = [m["label"] + (f" {m['unit']}" if m["unit"] else "") for m in shown]
    table = _table("rate", "bpp", *titles)
    for point in report["curves"][codec]:
        values = [point["metrics"][m["id"]] for m in shown]
        cells = ["" if v is None else f"{v:.5g}" for v in values]
        table.add_row(point["setting"], f"{point['bpp']:.4f}", *cells)
    return table


def _bd_table(rows: Sequence[dict[str, Any]], labels: dict[str, str]) -> Table:
    table = _table("against", "mean curve", "over", "mean of pictures (95 %)", "median")
    for row in rows:
        each = row["per_image"]
        some = f", {each['count']} pictures" if each["count"] and each["no_overlap"] else ""
        table.add_row(
            labels[row["reference"]],
            percent(row["mean_curve"]),
            interval(row["mean_curve"]),
            mean_interval(each) + some,
            "" if each["median"] is None else f"{each['median']:+.1f}",
        )
    return table


def equal_groups(report: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Rows of whole pictures, and of each size of thumbnail."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in report["equal_size"]:
        groups.setdefault((row["codec"], _thumbnail([row])), []).append(row)
    return list(groups.values())


def equal_means(
    rows: Sequence[dict[str, Any]], reference: str, metric: str
) -> tuple[float | None, int, float]:
    """(mean difference where the reference got as small, how often it did not, and then by which
    factor its smallest file was larger in the mean)."""
    gains, factors = [], []
    for row in rows:
        other = row["references"][reference]
        ours, theirs = row["metrics"].get(metric), other["metrics"].get(metric)
        if other["too_large"]:
            factors.append(other["bytes"] / row["bytes"])
        elif ours is not None and theirs is not None:
            gains.append(ours - theirs)
    mean = statistics.fmean(gains) if gains else None
    return mean, len(factors), statistics.fmean(factors) if factors else 0.0


def equal_rows(
    group: Sequence[dict[str, Any]], metric: str
) -> Iterator[tuple[str, float, int, list[tuple[float | None, int, float]]]]:
    """For each rate of a group its name, mean bytes, number of pictures, and for each reference
    ``equal_means``."""
    for setting in dict.fromkeys(row["setting"] for row in group):
        same = [row for row in group if row["setting"] == setting]
        means = [equal_means(same, name, metric) for name in group[0]["references"]]
        yield setting, statistics.fmean(row["bytes"] for row in same), len(same), means


def equal_cell(
    mean: float | None, never: int, factor: float, count: int, metric: dict[str, Any]
) -> str:
    """A difference, with a star where it leaves pictures out; NONE_SO_SMALL says which."""
    if mean is None:
        return f"larger, {factor:.1f}x" if never == count else ""
    digits = 2 if metric["unit"] else 1 if metric["id"] == LOOKS else 4
    return f"{mean:+.{digits}f}" + ("*" if never else "")


NONE_SO_SMALL = (
    "* without the pictures of which the smallest file of the reference is larger than ours; "
    "'larger, 1.3x': so it is with all of them, by that factor"
)


def _thumbnail(rows: Sequence[dict[str, Any]]) -> str:
    side = rows[0]["thumbnail"]
    return f", thumbnails of {side}x{side}" if side else ""


def _equal_table(
    rows: Sequence[dict[str, Any]], metric: dict[str, Any], labels: dict[str, str]
) -> Table:
    rates = list(equal_rows(rows, metric["id"]))
    table = _table("against", *(f"{setting}\n{n_bytes:.0f} B" for setting, n_bytes, _, _ in rates))
    cells = [[equal_cell(*m, count, metric) for m in means] for _, _, count, means in rates]
    for name, row in zip(rows[0]["references"], zip(*cells, strict=True), strict=True):
        table.add_row(labels[name], *row)
    if any(never for *_, means in rates for _, never, _ in means):
        table.caption = NONE_SO_SMALL
    return table


def _speed_table(report: dict[str, Any], labels: dict[str, str]) -> Table:
    table = _table("codec", "setting", "encode", "decode", "encode ms", "decode ms", "load s")

    def split(parts: dict[str, float] | None) -> str:
        if parts is None:
            return ""
        whole = "+".join(f"{parts[name]:.0f}" for name in ("network", "prior", "entropy"))
        return f"{whole}, {parts['io']:.0f}"

    for row in report["speed"]:
        table.add_row(
            labels[row["codec"]],
            row["setting"],
            f"{row['encode_mps']:.2f}",
            f"{row['decode_mps']:.2f}",
            split(row["encode_ms"]),
            split(row["decode_ms"]),
            "" if row["load_s"] is None else f"{row['load_s']:.2f}",
        )
    if report["memory"]:
        vram = report["memory"]["peak_vram_mib"]
        table.caption = f"peak memory {report['memory']['peak_rss_mib']} MiB" + (
            f", of the GPU {vram} MiB" if vram else ""
        )
    return table
