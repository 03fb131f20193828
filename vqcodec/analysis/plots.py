"""Plots and sheets of pictures as PNG. Needs matplotlib."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from vqcodec import image

LEAST = 96  # pixels of the side of a picture that is shown


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    *,
    log_x: bool = False,
) -> bytes:
    """A curve (xs, ys) for each name."""
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    for name, (xs, ys) in curves.items():
        axes.plot(xs, ys, marker="o" if len(xs) < 40 else None, markersize=3, label=name)
    if log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize=8)
    return _png(figure)


def bars(groups: Mapping[str, Mapping[str, float | None]], y: str) -> bytes:
    """For each name a group of bars, which have names too and the same ones in each group."""
    kinds = list(dict.fromkeys(kind for group in groups.values() for kind in group))
    figure = _figure(max(6.4, 0.25 * len(groups) * len(kinds)), 4.0)
    axes = figure.add_subplot(ylabel=y)
    for number, kind in enumerate(kinds):
        heights = [group.get(kind) or 0 for group in groups.values()]
        places = np.arange(len(groups)) + number / (len(kinds) + 1)
        axes.bar(places, heights, 1 / (len(kinds) + 1), align="edge", label=kind)
    middle = len(kinds) / (len(kinds) + 1) / 2
    turned = 90 if len(groups) > 8 else 0
    axes.set_xticks(np.arange(len(groups)) + middle, list(groups), rotation=turned, fontsize=8)
    if len(kinds) > 1:
        axes.legend(fontsize=8)
    return _png(figure)


def heat_maps(maps: Mapping[str, np.ndarray], unit: str) -> bytes:
    """Matrices with their numbers as colours, each with a scale of its own."""
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    figure = _figure(4.2 * columns, 3.6 * rows)
    for number, (name, values) in enumerate(maps.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        shown = axes.imshow(values, interpolation="nearest", vmin=min(0.0, float(values.min())))
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(shown, label=unit)
        if values.shape[0] <= 12:
            for (i, j), value in np.ndenumerate(values):
                ink = "k" if value > 0.6 * values.max() else "w"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=6)
    return _png(figure)


def rows(named: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """Rows of equally many pictures (h, w, 3) uint8 of one size, each with its name before it."""
    columns = len(next(iter(named.values())))
    sheet = image.contact_sheet(
        [magnified(picture) for row in named.values() for picture in row], columns=columns
    )
    height, width = sheet.shape[:2]
    margin = 16 + 7 * max(map(len, named))
    figure = Figure(figsize=((margin + width) / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((margin / (margin + width), 0, width / (margin + width), 1))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    middles = (np.arange(len(named)) + 0.5) * height / len(named)
    axes.set_yticks(middles, list(named), fontsize=8, family="monospace")
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return _png(figure)


def sheet(pictures: Sequence[np.ndarray]) -> bytes:
    """Pictures (h, w, 3) uint8 of one size, side by side."""
    stream = io.BytesIO()
    imsave(stream, image.contact_sheet([magnified(x) for x in pictures]), format="png")
    return stream.getvalue()


def magnified(pixels: np.ndarray) -> np.ndarray:
    """Small pictures with each pixel several times."""
    times = max(1, LEAST // pixels.shape[0])
    return pixels.repeat(times, 0).repeat(times, 1)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
