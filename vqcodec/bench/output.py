"""Views of a report: the terminal, CSV, and a plot for documents."""

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


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
    """Tables of the mean curves, BD-rates, equal sizes and speeds."""
    n = len(report["images"])
    console.print(f"{n} picture{'s' * (n != 1)}; {_machine(report['machine'])}")
    labels = {c["id"]: c["label"] for c in report["codecs"]}
    for codec in (c["id"] for c in report["codecs"] if c["own"]):
        for metric in report["metrics"]:
            chosen = (codec, metric["id"])
            rows = [r for r in report["bd_rate"] if (r["codec"], r["metric"]) == chosen]
            title = f"BD-rate of {codec} by {metric['label']}: bytes at equal quality, in %"
            if rows:
                _print(console, title, _bd_table(rows, labels))
    for rows in equal_groups(report):
        title = f"{rows[0]['codec']} against the best file that is not larger"
        _print(console, f"{title}{_thumbnail(rows)}", _equal_table(rows, labels))
    if report["speed"]:
        title = "Speed in MP/s; ours in ms: network + prior + entropy, and files"
        _print(console, title, _speed_table(report, labels))
    for row in report["codecs"]:
        console.print(f"{row['label']}: {row['settings']}", style="dim", highlight=False)


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


def plot(report: dict[str, Any], metric: str, theme: str = "light") -> bytes:
    """The mean curves as PNG. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink = {"light": "#1f2328", "dark": "#e6edf3"}[theme]
    figure = Figure(figsize=(7.2, 4.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    markers = iter("osD^vPX*<>hd8p")
    for codec in report["codecs"]:
        points = [p for p in report["curves"][codec["id"]] if p["metrics"][metric] is not None]
        axes.plot(
            [p["bpp"] for p in points],
            [p["metrics"][metric] for p in points],
            marker=next(markers),
            markersize=4,
            linewidth=2.2 if codec["own"] else 1.2,
            label=codec["label"],
            zorder=3 if codec["own"] else 2,
        )
    described = next(m for m in report["metrics"] if m["id"] == metric)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("bits per pixel, of finished files", color=ink)
    unit = f", {described['unit']}" if described["unit"] else ""
    axes.set_ylabel(f"{described['label']}{unit}", color=ink)
    n = len(report["images"])
    axes.set_title(f"Mean of {n} picture{'s' * (n != 1)}, {report['date']}", color=ink, fontsize=10)
    axes.tick_params(colors=ink)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", transparent=theme == "dark")
    return stream.getvalue()


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
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _curve_table(report: dict[str, Any], codec: str) -> Table:
    titles = [m["label"] + (f" {m['unit']}" if m["unit"] else "") for m in report["metrics"]]
    table = _table("rate", "bpp", *titles)
    for point in report["curves"][codec]:
        values = ["" if v is None else f"{v:.5g}" for v in point["metrics"].values()]
        table.add_row(point["setting"], f"{point['bpp']:.4f}", *values)
    return table


def _bd_table(rows: Sequence[dict[str, Any]], labels: dict[str, str]) -> Table:
    table = _table("against", "curve", "over", "n", "mean (95 %)", "median")
    for row in rows:
        each = row["per_image"]
        missing = each["no_overlap"]
        table.add_row(
            labels[row["reference"]],
            percent(row["mean_curve"]),
            interval(row["mean_curve"]),
            f"{each['count']}" + (f" of {each['count'] + missing}" if missing else ""),
            mean_interval(each),
            "" if each["median"] is None else f"{each['median']:+.1f}",
        )
    return table


def equal_groups(report: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Rows of whole pictures, and of each size of thumbnail."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in report["equal_size"]:
        groups.setdefault((row["codec"], _thumbnail([row])), []).append(row)
    return list(groups.values())


def equal_means(rows: Sequence[dict[str, Any]], reference: str) -> tuple[float | None, int, float]:
    """(mean PSNR difference where the reference got as small, how often it did not, and then by
    which factor its smallest file was larger in the mean)."""
    gains, factors = [], []
    for row in rows:
        other = row["references"][reference]
        if other["too_large"]:
            factors.append(other["bytes"] / row["bytes"])
        elif row["psnr"] is not None and other["psnr"] is not None:
            gains.append(row["psnr"] - other["psnr"])
    mean = statistics.fmean(gains) if gains else None
    return mean, len(factors), statistics.fmean(factors) if factors else 0.0


def equal_rows(
    group: Sequence[dict[str, Any]],
) -> Iterator[tuple[str, float, int, list[tuple[float | None, int, float]]]]:
    """For each rate of a group its name, mean bytes, number of pictures, and for each reference
    ``equal_means``."""
    for setting in dict.fromkeys(row["setting"] for row in group):
        same = [row for row in group if row["setting"] == setting]
        means = [equal_means(same, name) for name in group[0]["references"]]
        yield setting, statistics.fmean(row["bytes"] for row in same), len(same), means


def _thumbnail(rows: Sequence[dict[str, Any]]) -> str:
    side = rows[0]["thumbnail"]
    return f", thumbnails of {side}x{side}" if side else ""


def _equal_table(rows: Sequence[dict[str, Any]], labels: dict[str, str]) -> Table:
    table = _table("rate", "bytes", *(labels[name] for name in rows[0]["references"]))
    for setting, n_bytes, count, means in equal_rows(rows):
        cells = []
        for mean, never, factor in means:
            gain = "" if mean is None else f"{mean:+.2f} dB"
            if never:
                gain += f"\n{never}/{count} cannot: {factor:.1f}x"
            cells.append(gain.strip())
        table.add_row(setting, f"{n_bytes:.0f}", *cells)
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
