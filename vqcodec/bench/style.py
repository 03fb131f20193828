"""How plots look: the colours and the type of the pages, large enough to be read at 600 pixels.

Curves are named where they end and not in a legend over the data. Needs matplotlib.
"""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

# Those of page.css, for light pages.
COLOURS = (
    "#0b5cad", "#c04a00", "#00795a", "#a8327a", "#806200", "#5a6470", "#6340c4", "#111111",
)  # fmt: skip
INK, SOFT, RULE, PAGE = "#1b2127", "#57616b", "#d5dae0", "#ffffff"
MARKS = "os^DvPX*"
SIZE = 11.5  # points, of text; figures are WIDTH inches wide
WIDTH, DPI = 7.2, 160


def figure(width: float = WIDTH, height: float = 4.4) -> Figure:
    """In inches."""
    made = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAGE)
    FigureCanvasAgg(made)
    return made


def axes(of: Figure, y: str, x: str = "", place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    """With what y is above its axis, as on the pages, and what x is below the end of its own."""
    made: Axes = of.add_subplot(*place)
    made.set_title(y, loc="left", fontsize=SIZE, color=INK, pad=10)
    made.set_xlabel(x, loc="right", fontsize=SIZE, color=INK)
    made.tick_params(labelsize=SIZE - 1, colors=SOFT, length=0, pad=6)
    made.grid(color=RULE, linewidth=0.8)
    made.set_axisbelow(True)
    for name, spine in made.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(SOFT)
    return made


def log_rates(of: Axes) -> None:
    """Powers of two along x."""
    of.set_xscale("log", base=2)
    of.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    of.xaxis.set_minor_locator(NullLocator())


def name_ends(of: Axes, ends: Sequence[tuple[str, float, str, bool]]) -> None:
    """Names at the right of the axes: (name, y where its curve ends, colour, bold), apart."""
    low, high = of.get_ylim()
    span = (high - low) * 1.35 * SIZE / 72 / (of.get_position().height * of.figure.get_figheight())  # type: ignore[union-attr]
    places: list[float] = []
    order = sorted(ends, key=lambda end: end[1])
    for _, y, _, _ in order:
        places.append(max(y, places[-1] + span) if places else y)
    top = high - span / 2
    for i in reversed(range(len(places))):  # from above again: none higher than the axes
        places[i] = min(places[i], top)
        top = places[i] - span
    for (name, y, colour, bold), place in zip(order, places, strict=True):
        of.annotate(
            name,
            (1, (y - low) / (high - low)),
            (1.035, (place - low) / (high - low)),
            "axes fraction",
            "axes fraction",
            color=colour,
            fontsize=SIZE,
            fontweight="bold" if bold else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 1,
            },
        )


def legend(of: Axes, columns: int) -> None:
    """Above the data, for bars, which have no ends."""
    of.legend(
        loc="lower right", bbox_to_anchor=(1, 1.01), ncols=columns, frameon=False,
        fontsize=SIZE - 1, labelcolor=INK, handlelength=1, columnspacing=1.2, borderpad=0,
    )  # fmt: skip


def png(of: Figure) -> bytes:
    """The same bytes for the same figure."""
    stream = io.BytesIO()
    of.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
