"""The table of a grid of runs: every method with intervals, and a fixed family of paired comparisons. Pure, and seeded.

docs/reproduce.md explains every field.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from agrl.report.grid import START, TRAINING, UPPER_BOUND, Cell, label
from agrl.report.statistics import Runs, holm, sign_flip_p, summarise, summarise_nested

Table = dict[str, Any]

FAMILY = (
    ("grpo", START),
    ("grpo_rrs", "grpo"),
    ("grpo_agr", "grpo"),
    ("agrl", "grpo"),
    ("agrl", "grpo_rrs"),
    ("agrl", "grpo_agr"),
    ("agrl", "dpo"),
    ("agrl", START),
)
"""The comparisons, fixed before any run: the first method minus the second."""

COMPARED = ("macro_f1", "rule_adherence")
SEEDS, STARTS, BOTH = "seeds", "starts", "starts and seeds"  # what an interval was resampled over
ENOUGH = 6  # pairs under which no p-value of the exact test can come under 0.05

EXPLAINED = {
    "accuracy": "share of answers whose tier is the gold tier",
    "macro_f1": "F1 of each tier, averaged over the tiers present in gold",
    "good_bad_f1": "tiers 4 and 3 against 2 and 1: mean of the F1 of both sides",
    "rule_adherence": "share of answers whose tier is what the decision table gives for the stated verdicts",
    "parse_rate": "share of answers that parse",
    "right_tier_wrong_verdict": "share of answers with the right tier but a wrong verdict: right for the wrong reason",
    "dead_group_share": "share of groups without a right rollout, mean over the last third of the steps",
    "zero_advantage_share": "share of groups whose rewards are all equal, mean over the last third of the steps",
    "gradient_variance": "variance over steps of the gradient norm before clipping",
    "reward_variance": "variance over steps of the mean reward without its trend: half that of the first differences",
    "response_tokens": "response tokens sampled in all steps, before guidance",
    "trained_tokens": "response tokens with a loss in all steps",
    "seconds": "wall time of the run with its evaluations, without the start of its services",
}


def tabulate(cells: Sequence[Cell]) -> Table:
    """The table of finished runs (by method, as ``read_cells`` gives them), ready for JSON."""
    methods = {name: list(runs) for name, runs in groupby(cells, key=lambda cell: cell.method)}
    sets = sorted({name for cell in cells for name in cell.sets})
    metrics = {name: _names([cell.sets.get(name, {}) for cell in cells]) for name in sets}
    figures = _names([cell.training for cell in cells])
    return {
        "labels": {name: label(name) for name in methods},
        "cells": {name: len(runs) for name, runs in methods.items()},
        "starts": sorted({cell.start for cell in cells}),
        "seeds": sorted({cell.seed for cell in cells if cell.method != START}),
        "sets": sets,
        "methods": {
            name: {group: {m: _statistic(_runs(runs, group, m)) for m in metrics[group]} for group in sets}
            | {TRAINING: {m: _statistic(_runs(runs, TRAINING, m)) for m in figures}}
            for name, runs in methods.items()
        },
        "comparisons": _comparisons(methods, sets),
        "metrics_explained": {m: _explain(m) for m in dict.fromkeys([m for s in sets for m in metrics[s]] + figures)},
    }


def notes(table: Table) -> list[str]:
    """What a reader must know to read the numbers rightly."""
    pairs = [c["n"] for sets in table["comparisons"].values() for metrics in sets.values() for c in metrics.values()]
    kind = BOTH if len(table["starts"]) > 1 else SEEDS
    found = [
        f"Mean ± standard deviation over runs [95 % bootstrap interval of the mean over {kind}]. All runs are measured "
        "on the same held-out examples: how much others would change the numbers is not in the intervals.",
        "Bold: the best mean of a column. Whether it is better beyond chance is for the comparisons to say.",
    ]
    if kind == SEEDS:
        found.append("There is one start: the intervals say nothing of what another start would give.")
    if pairs:
        found.append(
            "Comparisons pair runs of the same start and seed; the start itself is paired with every seed. p: a "
            "sign-flip test over the pairs, for these runs. p (Holm): corrected for the comparisons within a set and "
            "metric."
        )
    if pairs and min(pairs) < ENOUGH:
        found.append(f"With n pairs no p-value is under 2^(1−n): with fewer than {ENOUGH} none can be under 0.05.")
    if UPPER_BOUND in table["cells"]:
        found.append("The upper bound learns from true reasoning, which no other method sees; it is not compared.")
    if None in [values["mean"] for sets in table["methods"].values() for m in sets.values() for values in m.values()]:
        found.append("–: does not apply to the method, or was not measured; in no statistic.")
    return found


def _statistic(runs: Runs) -> dict[str, Any]:
    """Mean, sd, interval and number of runs; over the seeds alone where there is but one start."""
    if not runs:
        return {"mean": None, "sd": None, "ci95": None, "n": 0, "interval_over": None}
    found, starts = summarise_nested(runs), {start for start, _ in runs}
    interval = found.interval if len(starts) > 1 else summarise(list(runs.values())).interval
    over = SEEDS if len(starts) == 1 else STARTS if len(starts) == len(runs) else BOTH
    return {
        "mean": found.mean,
        "sd": found.sd,
        "ci95": interval and list(interval),
        "n": found.n,
        "interval_over": interval and over,
    }


def _comparisons(methods: dict[str, list[Cell]], sets: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Name -> set -> metric -> the paired difference; only those with at least one pair."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for group in sets:
        for metric in COMPARED:
            family = {}
            for b, a in FAMILY:
                runs = [_runs(methods.get(name, []), group, metric) for name in (b, a)]
                if pairs := _differences(*runs, shared=a == START):
                    family[f"{b}-{a}"] = _statistic(pairs) | {"p": sign_flip_p(list(pairs.values()))}
            corrected = holm([values["p"] for values in family.values()])
            for (name, values), p in zip(family.items(), corrected, strict=True):
                found.setdefault(name, {}).setdefault(group, {})[metric] = values | {"p_holm": p}
    return {name: found[name] for b, a in FAMILY if (name := f"{b}-{a}") in found}


def _differences(b: Runs, a: Runs, shared: bool) -> Runs:
    """B minus A of the same start and seed; ``shared``: A has one run a start, the partner of all seeds of B."""
    if shared:
        of_start = {start: value for (start, _), value in a.items()}
        a = {key: of_start[key[0]] for key in b if key[0] in of_start}
    return {key: value - a[key] for key, value in b.items() if key in a}


def _runs(cells: Sequence[Cell], group: str, metric: str) -> Runs:
    """(start, seed) -> value, of the runs that have one."""
    values = {
        (cell.start, cell.seed): (cell.training if group == TRAINING else cell.sets.get(group, {})).get(metric)
        for cell in cells
    }
    return {key: value for key, value in values.items() if value is not None}


def _names(measured: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for values in measured for name in values))


def _explain(metric: str) -> str:
    if metric.startswith("f1_"):
        return f"F1 of tier {metric.removeprefix('f1_')} against the others"
    if metric.startswith("verdict_"):
        criterion = metric.removeprefix("verdict_")
        return f"share of right verdicts on the criterion {criterion}, over the examples with a gold verdict"
    return EXPLAINED[metric]
