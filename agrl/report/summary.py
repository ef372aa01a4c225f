"""The table at the end of a run: what training changed on the held-out sets, and where everything is."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from agrl.report.plain import PlainTable
from agrl.report.progress import duration, number
from agrl.report.run_data import RunData, read_run
from agrl.report.tables import Change, headline


def summary_table(console: Console, run_dir: Path) -> None:
    """Print the end-of-run summary of a run folder. Raises ``DataError`` when the folder holds nothing of a run."""
    run = read_run(run_dir)
    if run.evaluations:
        console.print(_table(run))
    else:
        console.print(_last_values(run))
    if "wall_s" in run.summary:
        console.print(f"{run.summary.get('steps', '?')} steps; {duration(run.summary['wall_s'])} in all", style="dim")
    for what, name in (("Model", "model"), ("Report", "report.html"), ("Metrics", "metrics.jsonl")):
        if (run.path / name).exists():
            console.print(f"{what + ':':<9}{run.path / name}", soft_wrap=True)


def _table(run: RunData) -> PlainTable:
    table = PlainTable("Held-out sets", box=SIMPLE_HEAD)
    table.add_column("")
    for name in run.sets:
        before, after = run.ends(name)
        n = (after or before or next(iter(run.evaluations[name].values())))["n"]
        for column in (f"{name} (n={n:,})\nbefore", "\nafter", "\nchange"):
            table.add_column(column, justify="right")
    by_set = {name: {change.name: change for change in headline(run, name)} for name in run.sets}
    for metric in dict.fromkeys(metric for changes in by_set.values() for metric in changes):
        changes = [by_set[name].get(metric, Change(metric, None, None)) for name in run.sets]
        table.add_row(metric, *(cell for change in changes for cell in _cells(change)))
    return table


def _cells(change: Change) -> tuple[str, str, str | Text]:
    shown = ["" if value is None else f"{value:.3f}" for value in (change.before, change.after)]
    if change.delta is None:
        return (*shown, "")
    style = "green" if change.gain > 0 else "red" if change.gain < 0 else "dim"
    return (*shown, Text(f"{change.delta:+.3f}", style))


def _last_values(run: RunData) -> PlainTable:
    """For a run without evaluations (a supervised start): the first and the last value of what it measured."""
    table = PlainTable("Training", box=SIMPLE_HEAD)
    for column in ("", "first step", "last step"):
        table.add_column(column, justify="right" if column else "left")
    for phase in run.metrics:
        for name in run.names(r"(loss|reward|train)/\w+|grad_norm|lr", phase):
            values = run.series(name, phase)[1]
            table.add_row(name, number(values[0]), number(values[-1]))
    return table
