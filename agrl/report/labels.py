"""What a label is worth: the runs of a grid whose methods knew some labels of the pool, by how many (``--labels``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agrl.report.grid import Cell, named
from agrl.report.statistics import Runs, summarise, summarise_nested

METRIC = "macro_f1"
OPPONENTS = ("sft_verdicts", "sft_tier_only")
"""What it is compared with: the same labels, supervised, without reasoning."""

Labels = dict[str, Any]


def by_labels(cells: Sequence[Cell]) -> Labels:
    """``methods``: name -> labels -> set -> metric -> mean, low, high (95 %), n; ``differences``: "METHOD-OTHER" ->
    labels -> set -> the same of the paired differences. Empty where no run knew its number of labels.

    Intervals resample starts and the seeds of each, or the seeds alone where there is one start.
    """
    runs = _runs(cells)
    methods: Labels = {}
    for (method, labels, name), found in runs.items():
        methods.setdefault(method, {}).setdefault(str(labels), {})[name] = {METRIC: _statistic(found)}
    differences: Labels = {}
    for (method, labels, name), found in runs.items():
        for other in OPPONENTS if method not in OPPONENTS else ():
            theirs = runs.get((other, labels, name), {})
            pairs = {key: value - theirs[key] for key, value in found.items() if key in theirs}
            if pairs:
                differences.setdefault(f"{method}-{other}", {}).setdefault(str(labels), {})[name] = _statistic(pairs)
    return {"methods": methods, "differences": differences} if methods else {}


def _runs(cells: Sequence[Cell]) -> dict[tuple[str, int, str], Runs]:
    found: dict[tuple[str, int, str], Runs] = {}
    for cell in cells:
        method, labels = named(cell.method)
        for name, metrics in cell.sets.items() if labels else ():
            if metrics.get(METRIC) is not None:
                found.setdefault((method, labels, name), {})[cell.start, cell.seed] = metrics[METRIC]
    return found


def _statistic(runs: Runs) -> dict[str, float | int | None]:
    starts = {start for start, _ in runs}
    found = summarise_nested(runs) if len(starts) > 1 else summarise(list(runs.values()))
    low, high = found.interval or (None, None)
    return {"mean": found.mean, "low": low, "high": high, "n": found.n}
