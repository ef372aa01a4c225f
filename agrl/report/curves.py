"""Small, clean matplotlib plots: inline SVG that follows the page's light or dark colours, and PNG for documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import fill
from threading import RLock

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GRID = "#57606a", "#d8dee4"
SERIES = ("#2f6fde", "#d9730d", "#1f9d6b", "#8b5cf6", "#cf3f5b", "#0e9aa7", "#a3730f", "#7d8590")
"""The line colours; ``page.css`` holds a light and a dark variant of each under the same number."""

LIMIT = 4
"""The colour of a tolerance."""

BANDS = {
    "range": "from the lowest run to the highest",
    "sd": "one standard deviation of the runs (ddof 1) either way",
}
"""What the band of a curve over several runs can be."""

SIZE = (4.3, 2.5)  # inches; scaled to the width of its place on the page
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: the page's font, selectable
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # a name with two $ in it is no formula
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.7,
}


@dataclass(frozen=True)
class Line:
    """One curve. ``band``: half-width of a shaded band, same length as ``y``. ``colour``: index into ``SERIES``."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    band: Sequence[float] | None = None
    marks: bool = False  # few points: draw them, and do not smooth


def line_svg(
    lines: Sequence[Line], ylim: tuple[float, float] | None = None, log: bool = False, limit: float | None = None
) -> str:
    """Curves over training steps as inline SVG; noisy ones are drawn faint, with their moving average on top.

    ``limit``: the value of a dashed horizontal line, such as a tolerance. The page draws the legend.
    """
    with _axes() as (figure, axes):
        for line in lines:
            _draw(axes, line)
        if limit is not None:
            axes.axhline(limit, color=SERIES[LIMIT], linewidth=1, linestyle=(0, (4, 3)))
        if log:
            axes.set_yscale("log")
        if ylim is not None:
            axes.set_ylim(*_aired(ylim))
        elif not log:
            _frame(axes, [value for line in lines for value in line.y])
        return _svg(figure)


def stacked_svg(x: Sequence[float], parts: Sequence[Sequence[float]], colours: Sequence[int]) -> str:
    """Parts of a whole over training steps as stacked bars, in inline SVG; ``colours`` index ``SERIES``."""
    with _axes() as (figure, axes):
        base = np.zeros(len(x))
        for values, colour in zip(parts, colours, strict=True):
            axes.bar(
                x,
                values,
                bottom=base,
                width=1.0,
                color=SERIES[colour],
                edgecolor=SERIES[colour],
                linewidth=0.3,
            )
            base += np.asarray(values, dtype=float)
        return _svg(figure)


def spread_png(
    path: Path, panels: Mapping[str, Mapping[str, Sequence[Line]]], title: str = "", band: str = "range"
) -> None:
    """A PNG for a document: for every method the mean over its runs, with a band that the picture explains.

    ``panels``: label of the vertical axis -> method -> a curve for each run, all at the same steps; the panels stand
    side by side and share one legend. ``band``: a key of ``BANDS``. Raises ``ValueError`` for another band, or when the
    runs of one method have different steps.
    """
    with _axes(size=(6.4 if len(panels) == 1 else 4.6 * len(panels), 3.6), panels=len(panels)) as (figure, *all_axes):
        for axes, (ylabel, runs) in zip(all_axes, panels.items(), strict=True):
            _draw_spread(axes, runs, band)
            axes.set_xlabel("training step")
            axes.set_ylabel(ylabel)
        figure.get_layout_engine().set(wspace=0.06)
        all_axes[0].set_title(title, loc="left", fontsize=10, fontweight="bold")
        _legend_above(figure, all_axes[0])
        figure.supxlabel(spread_caption(band), x=0.01, ha="left", fontsize=8.5)
        _png(figure, path)


def spread_svg(runs: Mapping[str, Sequence[Line]], ylim: tuple[float, float] | None = None, band: str = "range") -> str:
    """The same as inline SVG for a page, which draws the legend and puts ``spread_caption`` under it."""
    with _axes() as (figure, axes):
        _draw_spread(axes, runs, band)
        if ylim is not None:
            axes.set_ylim(*_aired(ylim))
        return _svg(figure)


def dots_png(path: Path, rows: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> None:
    """A PNG of ``dots_svg`` for a document."""
    with _axes(size=_dots_size(rows)) as (figure, axes):
        _draw_dots(axes, rows)
        axes.set_xlabel(xlabel)
        if any(len(groups) > 1 for groups in rows.values()):
            _legend_above(figure, axes)
        _png(figure, path)


def dots_svg(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A row for each method with a dot for each run and a bar at their mean, as inline SVG; the page draws the legend.

    ``rows``: label -> group -> values. Each group has a colour, by order of first appearance, and a height in the row.
    """
    with _axes(size=_dots_size(rows)) as (figure, axes):
        _draw_dots(axes, rows)
        return _svg(figure)


def spread_caption(band: str = "range") -> str:
    """What the curves and bands of ``spread_png`` and ``spread_svg`` are. Raises ``ValueError`` for no known band."""
    if band not in BANDS:
        raise ValueError(f"unknown band {band!r}; there are {', '.join(BANDS)}")
    return f"Curves: mean over runs. Bands: {BANDS[band]}."


def moving_average(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of the last ``window`` values at each place (fewer at the start), float64 of the same length."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _draw(axes: Axes, line: Line) -> None:
    colour = SERIES[line.colour % len(SERIES)]
    if line.marks or len(line.y) < 12:
        axes.plot(line.x, line.y, color=colour, marker="o", markersize=3.5)
        return
    smooth = moving_average(line.y, max(3, len(line.y) // 12))
    if line.band is not None:
        band = moving_average(line.band, max(3, len(line.y) // 12))
        axes.fill_between(line.x, smooth - band, smooth + band, color=colour, alpha=0.13, linewidth=0)
    axes.plot(line.x, line.y, color=colour, alpha=0.28, linewidth=0.9)
    axes.plot(line.x, smooth, color=colour)


def _draw_spread(axes: Axes, runs: Mapping[str, Sequence[Line]], band: str) -> None:
    spread_caption(band)  # refuses an unknown band
    for colour, (label, lines) in enumerate(runs.items()):
        if any(list(line.x) != list(lines[0].x) for line in lines):
            raise ValueError(f"the runs of {label!r} were measured at different steps")
        values = np.array([line.y for line in lines], dtype=float)  # [runs, steps]
        mean, tone = values.mean(0), SERIES[colour % len(SERIES)]
        if len(lines) > 1:  # one run has no spread
            sd = values.std(0, ddof=1)
            low, high = (mean - sd, mean + sd) if band == "sd" else (values.min(0), values.max(0))
            axes.fill_between(lines[0].x, low, high, color=tone, alpha=0.18, linewidth=0)
        counted = f"{label} ({len(lines)} run{'s' if len(lines) > 1 else ''})"
        axes.plot(lines[0].x, mean, color=tone, label=counted)


def _dots_size(rows: Mapping) -> tuple[float, float]:
    return 6.4, 0.9 + 0.38 * len(rows)


def _draw_dots(axes: Axes, rows: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    groups = list(dict.fromkeys(group for values in rows.values() for group in values))
    for row, values in enumerate(rows.values()):
        for group, dots in values.items():
            i = groups.index(group)
            height = row + 0.5 * ((i + 0.5) / len(groups) - 0.5)
            axes.scatter(dots, [height] * len(dots), s=22, color=SERIES[i % len(SERIES)], alpha=0.8, linewidth=0)
        mean = np.mean([dot for dots in values.values() for dot in dots])
        axes.plot([mean, mean], [row - 0.36, row + 0.36], color=INK, linewidth=2)
    for i, group in enumerate(groups):
        axes.scatter([], [], s=22, color=SERIES[i % len(SERIES)], label=group)
    axes.set_yticks(range(len(rows)), [fill(label, 26) for label in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first on top
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _legend_above(figure: Figure, axes: Axes) -> None:
    """The names over the figure, in as many columns as its width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    for columns in range(min(5, len(labels)), 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _aired(ylim: tuple[float, float]) -> tuple[float, float]:
    """A little more than the range, so that curves at its ends are seen whole."""
    air = 0.02 * (ylim[1] - ylim[0])
    return ylim[0] - air, ylim[1] + air


def _frame(axes: Axes, values: Sequence[float]) -> None:
    """Some air round the curves; a constant must look constant, not like its rounding errors."""
    centre, span = float(np.mean(values)), float(np.ptp(values))
    if span < 1e-3 * abs(centre):
        axes.set_ylim(centre - 0.5 * abs(centre), centre + 0.5 * abs(centre))
    else:
        axes.margins(y=0.12)
    axes.yaxis.get_major_formatter().set_useOffset(False)


_ONE_AT_A_TIME = RLock()  # pyplot and its settings are one for all threads


@contextmanager
def _axes(size: tuple[float, float] = SIZE, panels: int = 1) -> Iterator[tuple[Figure, *tuple[Axes, ...]]]:
    """A figure and its ``panels`` axes side by side."""
    with _ONE_AT_A_TIME, plt.rc_context(_STYLE):
        figure, grid = plt.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
        for axes in grid[0]:
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        try:
            yield figure, *grid[0]
        finally:
            plt.close(figure)


def _png(figure: Figure, path: Path) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, facecolor="white")


def _svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element whose colours are the page's CSS variables."""
    out = StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)  # the page's font
    variables = {INK: "--ink-soft", GRID: "--line"} | {colour: f"--series-{i}" for i, colour in enumerate(SERIES)}
    for colour, variable in variables.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
