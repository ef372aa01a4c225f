"""Writes the results of a grid of runs: ``table.json``, ``results.md``, ``results.html`` and two pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agrl.report.charts import Chart, spread
from agrl.report.curves import SERIES, Line, dots_png, dots_svg, moving_average, spread_png
from agrl.report.grid import CURVES, Cell, read_cells, unfinished
from agrl.report.grid_sheets import markdown, sheets, short
from agrl.report.grid_statistics import Table, notes, tabulate
from agrl.report.html import write_page
from agrl.report.labels import by_labels
from agrl.report.tables import HEADLINE

METRIC = "macro_f1"  # of the dot plots
WINDOW = 12  # a learning curve is averaged over 1 / WINDOW of its steps
BAND = "sd"  # with many runs their range would only show the luckiest and the unluckiest
CURVE_NAMES = {
    "train/accuracy": ("Training rollouts", "right tier, share of rollouts"),
    "reward/total_mean": ("Reward", "mean total reward"),
}
READING = (
    "Every curve is a moving average over a twelfth of the steps. Rewards of different methods can be on different "
    "scales: compare their shapes, not their heights."
)
Curves = dict[str, list[Line]]  # label of a method -> a curve for each run
Dots = dict[str, dict[str, list[float]]]  # label of a method -> start -> a value for each run


def write_results(out: Path, command: str) -> Table:
    """Write the results of the finished runs under ``out`` into it, and return the table (docs/reproduce.md).

    ``command``: the command line that the runs came from, shown as it is. Raises DataError as ``read_cells`` does.
    """
    out = Path(out)
    cells = read_cells(out)
    table = tabulate(cells) | {"command": command, "unfinished": unfinished(out)}
    table["notes"] = notes(table)
    (out / "table.json").write_text(json.dumps(table, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if labels := by_labels(cells):
        (out / "labels.json").write_text(json.dumps(labels, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    dots, curves = _dots(cells, table), _curves(cells, table)
    main = next(iter(dots))  # balanced, where there is such a set
    dots_png(out / "dots.png", dots[main], f"{HEADLINE[METRIC]}, {main}")
    if curves:
        spread_png(out / "curves.png", {CURVE_NAMES[metric][1]: runs for metric, runs in curves.items()}, band=BAND)
    (out / "results.md").write_text(_markdown(table, bool(curves)), encoding="utf-8")
    write_page(out / "results.html", "grid.html.j2", _context(table, dots, curves))
    return table


def _facts(table: Table) -> list[tuple[str, str]]:
    """What was run, as label and value."""
    facts = [
        ("Command", table["command"]),
        ("Methods", str(len(table["cells"]))),
        ("Runs", str(sum(table["cells"].values()))),
        ("Starts", str(len(table["starts"]))),
        ("Seeds", str(len(table["seeds"]))),
        ("Held-out sets", ", ".join(table["sets"])),
    ]
    left_out = ", ".join(table["unfinished"])
    return facts + ([("Not finished, left out", left_out)] if left_out else [])


def _markdown(table: Table, curves: bool) -> str:
    parts = ["# Results", "\n".join(f"- {label}: {_code(label, value)}" for label, value in _facts(table))]
    for name, found in sheets(table):
        parts.append(f"## {name}")
        for sheet in found:
            parts += [f"### {sheet.title}", markdown(sheet)]
    if curves:
        parts += ["## Learning curves", "![Learning curves](curves.png)", READING]
    parts += ["## Every run", "![Every run](dots.png)", _explained_dots(table)]
    parts += ["## Notes", "\n".join(f"- {note}" for note in table["notes"])]
    explained = "\n".join(f"- `{metric}`: {text}" for metric, text in table["metrics_explained"].items())
    return "\n\n".join([*parts, "## Metrics", explained]) + "\n"


def _code(label: str, value: str) -> str:
    return f"`{value}`" if label == "Command" else value


def _context(table: Table, dots: Mapping[str, Dots], curves: Mapping[str, Curves]) -> dict[str, Any]:
    """Everything that the template shows."""
    return {
        "title": "Methods compared",
        "facts": _facts(table),
        "dots": [_dot_chart(name, rows, table) for name, rows in dots.items()],
        "curves": [spread(*CURVE_NAMES[metric], runs, band=BAND) for metric, runs in curves.items()],
        "reading": READING,
        "sections": list(sheets(table)),
        "notes": table["notes"],
        "explained": table["metrics_explained"],
    }


def _dot_chart(name: str, rows: Dots, table: Table) -> Chart:
    starts = dict.fromkeys(start for values in rows.values() for start in values)
    legend = tuple((start, i % len(SERIES)) for i, start in enumerate(starts)) if len(starts) > 1 else ()
    return Chart(f"{HEADLINE[METRIC]} of every run", name, _explained_dots(table), dots_svg(rows), legend)


def _explained_dots(table: Table) -> str:
    starts = " A colour for each start." if len(table["starts"]) > 1 else ""
    return f"A dot for each run, a bar at the mean of the method.{starts}"


def _dots(cells: Sequence[Cell], table: Table) -> dict[str, Dots]:
    """The dots of every set; the balanced set first."""
    found: dict[str, Dots] = {}
    for name in sorted(table["sets"], key=lambda name: name != "balanced"):
        for cell in cells:
            value = cell.sets.get(name, {}).get(METRIC)
            if value is not None:
                row = found.setdefault(name, {}).setdefault(short(table["labels"][cell.method]), {})
                row.setdefault(f"start {cell.start}", []).append(value)
    return found


def _curves(cells: Sequence[Cell], table: Table) -> dict[str, Curves]:
    """Smooth curves of every metric, at the steps that all runs of a method have."""
    found: dict[str, Curves] = {}
    for metric in CURVES:
        measured: dict[str, list[dict[int, float]]] = {}
        for cell in cells:
            if metric in cell.curves:
                curve = dict(zip(*cell.curves[metric], strict=True))
                measured.setdefault(short(table["labels"][cell.method]), []).append(curve)
        for method, runs in measured.items():
            if steps := sorted(set.intersection(*map(set, runs))):
                lines = [Line(method, steps, _smooth([run[step] for step in steps])) for run in runs]
                found.setdefault(metric, {})[method] = lines
    return found


def _smooth(values: Sequence[float]) -> list[float]:
    return moving_average(values, max(1, len(values) // WINDOW)).tolist()
