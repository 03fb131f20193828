"""Plots and sheets of pictures as PNG. Needs matplotlib."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from vqcodec import image
from vqcodec.bench import style

LEAST = 96  # pixels of the side of a picture that is shown


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    *,
    log_x: bool = False,
) -> bytes:
    """A curve (xs, ys) for each name."""
    figure = style.figure()
    axes = style.axes(figure, y, x)
    ends = []
    for number, (name, (xs, ys)) in enumerate(curves.items()):
        colour = style.COLOURS[number % len(style.COLOURS)]
        marker = style.MARKS[number % len(style.MARKS)] if len(xs) < 40 else None
        axes.plot(xs, ys, marker=marker, markersize=4, color=colour)
        ends.append((name, float(ys[-1]), colour, False))
    if log_x:
        style.log_rates(axes)
    if len(curves) > 1:
        style.name_ends(axes, ends)
    return style.png(figure)


def bars(groups: Mapping[str, Mapping[str, float | None]], y: str) -> bytes:
    """For each name a group of bars, which have names too and the same ones in each group."""
    kinds = list(dict.fromkeys(kind for group in groups.values() for kind in group))
    figure = style.figure(max(style.WIDTH, 0.3 * len(groups) * len(kinds)))
    axes = style.axes(figure, y)
    for number, kind in enumerate(kinds):
        heights = [group.get(kind) or 0 for group in groups.values()]
        places = np.arange(len(groups)) + number / (len(kinds) + 1)
        colour = style.COLOURS[number % len(style.COLOURS)]
        axes.bar(places, heights, 1 / (len(kinds) + 1), align="edge", label=kind, color=colour)
    middle = len(kinds) / (len(kinds) + 1) / 2
    axes.set_xticks(
        np.arange(len(groups)) + middle, list(groups), rotation=90 if len(groups) > 8 else 0
    )
    axes.grid(axis="x", visible=False)
    if len(kinds) > 1:
        style.legend(axes, columns=min(4, len(kinds)))
    return style.png(figure)


def heat_maps(maps: Mapping[str, np.ndarray], unit: str) -> bytes:
    """Matrices with their numbers as colours, each with a scale of its own."""
    columns = min(2, len(maps))  # more could not be read at 600 pixels
    rows = -(-len(maps) // columns)
    figure = style.figure(height=(3.2 if columns > 1 else 5.6) * rows)
    for number, (name, values) in enumerate(maps.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        shown = axes.imshow(
            values, interpolation="nearest", vmin=min(0.0, float(np.nanmin(values)))
        )
        axes.set_title(name, loc="left", fontsize=style.SIZE, color=style.INK)
        axes.tick_params(labelsize=style.SIZE - 2, colors=style.SOFT, length=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        bar = figure.colorbar(shown)
        bar.set_label(unit, fontsize=style.SIZE - 1, color=style.INK)
        bar.ax.tick_params(labelsize=style.SIZE - 2, colors=style.SOFT, length=0)
        bar.outline.set_visible(False)
        if values.shape[0] <= 12:
            for (i, j), value in np.ndenumerate(values):
                if np.isnan(value):
                    continue
                ink = "k" if value > 0.6 * np.nanmax(values) else "w"
                text = f"{value:.2f}" if abs(value) >= 0.005 else "0"
                size = min(9, 36 / values.shape[1] * (3 - columns) * 2)
                axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=size)
    return style.png(figure)


def beside(pictures: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> bytes:
    """Pictures (h, w, 3) uint8 of one size; under them as many maps of cells, with their scales."""
    height, width = next(iter(pictures.values())).shape[:2]
    columns = len(pictures)
    inches = style.WIDTH
    figure = style.figure(inches, 2 * (inches / columns * 0.85 * height / width + 0.45))
    for number, (name, values) in enumerate([*pictures.items(), *maps.items()]):
        axes = figure.add_subplot(2, columns, number + 1)
        axes.set_title(name, loc="left", fontsize=style.SIZE, color=style.INK)
        axes.set_axis_off()
        if number < columns:
            axes.imshow(values)
            continue
        # A few cells of the largest values would leave the others dark
        shown = axes.imshow(
            values, interpolation="nearest", vmin=0, vmax=max(np.quantile(values, 0.99), 1e-9),
            extent=(0, width, height, 0),
        )  # fmt: skip
        bar = figure.colorbar(shown, extend="max", shrink=0.9)
        bar.ax.tick_params(labelsize=style.SIZE - 2, colors=style.SOFT, length=0)
        bar.outline.set_visible(False)
    return style.png(figure)


def rows(named: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """Rows of equally many pictures (h, w, 3) uint8 of one size, each with its name before it."""
    columns = len(next(iter(named.values())))
    sheet = image.contact_sheet(
        [magnified(picture) for row in named.values() for picture in row], columns=columns
    )
    height, width = sheet.shape[:2]
    margin = 20 + 8 * max(map(len, named))
    figure = Figure(figsize=((margin + width) / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((margin / (margin + width), 0, width / (margin + width), 1))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    middles = (np.arange(len(named)) + 0.5) * height / len(named)
    axes.set_yticks(middles, list(named), fontsize=9, color=style.INK)
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    return style.png(figure)


def sheet(pictures: Sequence[np.ndarray]) -> bytes:
    """Pictures (h, w, 3) uint8 of one size, side by side."""
    stream = io.BytesIO()
    imsave(stream, image.contact_sheet([magnified(x) for x in pictures]), format="png")
    return stream.getvalue()


def magnified(pixels: np.ndarray) -> np.ndarray:
    """Small pictures with each pixel several times."""
    times = max(1, LEAST // pixels.shape[0])
    return pixels.repeat(times, 0).repeat(times, 1)
