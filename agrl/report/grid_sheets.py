"""A grid's table as sheets of cells, which the Markdown file, the page and the terminal all show."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.text import Text

from agrl.report.comparison_table import p_value
from agrl.report.evaluation_table import plain_table
from agrl.report.grid import TRAINING, UPPER_BOUND
from agrl.report.grid_statistics import COMPARED, Table
from agrl.report.tables import HEADLINE, LOWER_IS_BETTER

STABILITY = {
    "dead_group_share": "Dead groups",
    "zero_advantage_share": "Zero advantage",
    "gradient_variance": "Gradient variance",
    "reward_variance": "Reward variance",
}
COST = {
    "response_tokens": "Response tokens",
    "trained_tokens": "Tokens trained",
    "seconds": "Seconds",
}
NOTHING = "–"


@dataclass(frozen=True)
class Entry:
    """One cell: what counts, its deviation and interval where there are, and whether it is the best of its column."""

    text: str
    sd: str = ""
    interval: str = ""
    best: bool = False

    @property
    def more(self) -> str:
        """What is said beside ``text``."""
        return f"{self.sd} {self.interval}".strip()


@dataclass(frozen=True)
class Sheet:
    """A table with a title. ``rows``: the label of each, and an entry for every column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]


def sheets(table: Table) -> Iterator[tuple[str, list[Sheet]]]:
    """Every section of the results with its sheets; those without anything to show are left out."""
    yield "Results", [sheet for name in table["sets"] for sheet in _of_set(table, name)]
    if compared := list(_comparisons(table)):
        yield "Comparisons", compared
    training = [
        _methods(table, TRAINING, title, labels) for title, labels in (("Stability", STABILITY), ("Cost", COST))
    ]
    yield "Stability and cost", [sheet for sheet in training if sheet.rows]


def short(label: str) -> str:
    """A label without the explanation in its brackets."""
    return re.sub(r": [^)]*", "", label)


def markdown(sheet: Sheet) -> str:
    """The sheet as a Markdown table, without its title."""
    head = ["", *sheet.columns]
    lines = [head, ["---", *["--:"] * len(sheet.columns)]]
    for label, entries in sheet.rows:
        lines.append([label, *(f"{f'**{e.text}**' if e.best else e.text} {e.more}".strip() for e in entries)])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def grid_table(console: Console, table: Table) -> None:
    """Print the two metrics that are compared, of every method on every set, and their paired differences."""
    names = [(group, metric) for group in table["sets"] for metric in COMPARED]
    shown = plain_table("Mean ± sd over runs", "", "runs", *(f"{HEADLINE[m]}\n{group}" for group, m in names))
    columns = [_column(table, group, metric) for group, metric in names]
    for i, (method, n) in enumerate(table["cells"].items()):
        entries = [column[i] for column in columns]
        cells = [Text.assemble((e.text, "bold" if e.best else ""), f" {e.sd}" if e.sd else "") for e in entries]
        shown.add_row(short(table["labels"][method]), str(n), *cells)
    console.print(shown)
    if table["comparisons"]:
        shown = plain_table("Mean paired difference (p after Holm)", "", *(c.header for c in shown.columns[2:]))
        for name, sets in table["comparisons"].items():
            found = [sets.get(group, {}).get(metric) for group, metric in names]
            shown.add_row(_pair(table, name), *(_brief(values) if values else NOTHING for values in found))
        console.print(shown)


def _of_set(table: Table, name: str) -> Iterator[Sheet]:
    metrics = dict.fromkeys(m for method in table["methods"].values() for m in method[name])
    yield _methods(table, name, name, {m: HEADLINE[m] for m in HEADLINE if m in metrics})
    parts = {m: _part(m) for m in metrics if m.startswith(("f1_", "verdict_"))}
    if parts:
        yield _methods(table, name, f"{name} by tier and criterion", parts)


def _part(metric: str) -> str:
    kind, _, name = metric.partition("_")
    return f"F1 of tier {name}" if kind == "f1" else f"Verdict: {name}"


def _methods(table: Table, group: str, title: str, labels: Mapping[str, str]) -> Sheet:
    """A row for each method that has any of the metrics, a column for each metric."""
    rows = zip(table["cells"].items(), *(_column(table, group, metric) for metric in labels), strict=True)
    filled = tuple(
        (short(table["labels"][method]), (Entry(str(n)), *entries))
        for (method, n), *entries in rows
        if any(entry.text != NOTHING for entry in entries)
    )
    return Sheet(title, ("Runs", *labels.values()), filled)


def _column(table: Table, group: str, metric: str) -> list[Entry]:
    """One metric of every method; the best of those that can be compared is marked, costs have no best."""
    values = {name: method[group][metric] for name, method in table["methods"].items()}
    entries = {name: _entry(value, group) for name, value in values.items()}
    means = {n: v["mean"] for n, v in values.items() if v["mean"] is not None and n != UPPER_BOUND}
    if group != TRAINING and len(set(map(_share, means.values()))) > 1:  # all alike: none is best
        best = min(means.values()) if metric in LOWER_IS_BETTER else max(means.values())
        entries |= {n: replace(entries[n], best=True) for n, mean in means.items() if _share(mean) == _share(best)}
    return list(entries.values())


def _entry(value: Mapping[str, Any], group: str) -> Entry:
    if value["mean"] is None:
        return Entry(NOTHING)
    write = _figure(value["mean"]) if group == TRAINING else _share
    sd = "" if value["sd"] is None else f"± {write(value['sd'])}"
    return Entry(write(value["mean"]), sd, _between(value["ci95"], write))


def _comparisons(table: Table) -> Iterator[Sheet]:
    """A sheet for every set, a row for each pair of methods."""
    columns = tuple(name for metric in COMPARED for name in (HEADLINE[metric], "p", "p (Holm)", "Pairs"))
    for group in table["sets"]:
        rows = tuple(
            (_pair(table, name), tuple(entry for metric in COMPARED for entry in _difference(sets[group].get(metric))))
            for name, sets in table["comparisons"].items()
            if group in sets
        )
        if rows:
            yield Sheet(f"Differences on {group}", columns, rows)


def _pair(table: Table, name: str) -> str:
    return " − ".join(short(table["labels"][method]) for method in name.split("-"))


def _difference(values: Mapping[str, Any] | None) -> tuple[Entry, ...]:
    if values is None:
        return (Entry(NOTHING),) * 4
    difference = Entry(_signed(values["mean"]), interval=_between(values["ci95"], _signed))
    return difference, Entry(p_value(values["p"])), Entry(p_value(values["p_holm"])), Entry(str(values["n"]))


def _brief(values: Mapping[str, Any]) -> str:
    return f"{_signed(values['mean'])} ({p_value(values['p_holm'])})"


def _between(interval: Sequence[float] | None, write) -> str:
    return f"[{write(interval[0])}, {write(interval[1])}]" if interval else ""


def _share(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _figure(mean: float) -> Callable[[float], str]:
    """Writes a figure, its deviation and its interval with the decimals that show three digits of the mean."""
    decimals = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 3
    return lambda value: f"{value:,.{decimals}f}"
