"""The finished runs of a grid of methods, starts and seeds on the same data, each as plain numbers.

A *start* is a supervised checkpoint that runs start from. A run folder lies at ``runs/METHOD/start-C/seed-S``; its
``cell.json`` is written last, so that only a folder with one is finished. docs/reproduce.md explains every number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agrl.errors import DataError
from agrl.report.run_data import LAST, Evaluation, read_run

START, UPPER_BOUND = "sft", "sft_true_reasoning"
METHODS = {
    "majority": "Commonest tier",
    "tfidf_logistic": "TF-IDF + logistic regression",
    START: "SFT",
    "sft_no_hints": "SFT without hinted rows",
    "dpo": "DPO",
    "grpo": "GRPO (sparse reward)",
    "grpo_rrs": "GRPO + RRS",
    "grpo_agr": "GRPO + AGR",
    "agrl": "AGRL",
    "agrl_no_hints": "AGRL from a start without hinted rows",
    "sft_teacher_reasoning": "SFT continued on the teacher's reasoning",
    "sft_tier_only": "SFT on the tier alone",
    "sft_verdicts": "SFT on verdicts and tier, without a reading",
    "ground_unguided": "Grounded, without hints",
    "ground": "Grounded",
    "ground_tier": "Grounded in tiers alone",
    "ground_again": "Grounded twice",
    UPPER_BOUND: "SFT on true reasoning (upper bound: more information than RL gets)",
}
"""The methods in the order of every table, with their labels; others follow under their own names."""

CELL, TRAINING = "cell.json", "training"
CURVES = ("train/accuracy", "reward/total_mean")
"""The metrics whose learning curves are kept."""

AGAIN = "delete the run folder and run the same command again"


@dataclass(frozen=True)
class Cell:
    """One finished run. A value is None where it could not be measured.

    ``sets``: held-out set -> metric -> value. ``training``: figure -> value. ``curves``: metric -> steps and values.
    """

    method: str
    start: int
    seed: int
    sets: dict[str, dict[str, float | None]] = field(default_factory=dict)
    training: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)


def read_cells(out: Path) -> list[Cell]:
    """The finished runs under ``out``, by method, start and seed.

    Raises DataError when there is none, or naming the file of one that cannot be read.
    """
    cells = [_read(path) for path in _folders(out) if (path / CELL).exists()]
    if not cells:
        raise DataError(
            f"{Path(out) / 'runs'}: no finished run, that is, no METHOD/start-C/seed-S/{CELL}",
            hint="run `agrl reproduce` with the same folder; it goes on where it was stopped",
        )
    return sorted(cells, key=lambda cell: (*place(cell.method), cell.start, cell.seed))


def unfinished(out: Path) -> list[str]:
    """The run folders that were begun and have no ``cell.json`` yet, relative to ``runs``."""
    begun = (path for path in _folders(out) if path.is_dir() and not (path / CELL).exists())
    return [path.relative_to(Path(out) / "runs").as_posix() for path in begun]


def place(method: str) -> tuple[int, str, int]:
    """The sort key of a method: in the order of ``METHODS``, then by name and number of labels."""
    known, (name, labels) = list(METHODS), named(method)
    return (known.index(name) if name in known else len(known)), name, labels


def named(method: str) -> tuple[str, int]:
    """The name of a method and how many labels it had, 0 for all: "ground@1000" is ground with 1,000."""
    name, _, labels = method.partition("@")
    return name, int(labels or 0)


def label(method: str) -> str:
    """What tables call a method."""
    name, labels = named(method)
    return METHODS.get(name, name) + (f", {labels:,} labels" if labels else "")


def quality(evaluation: Evaluation) -> dict[str, float | None]:
    """The metrics of one evaluation on one level: ``f1_4`` to ``f1_1`` by tier, ``verdict_<criterion>``."""
    whole = ("good_bad_f1", "rule_adherence", "parse_rate", "right_tier_wrong_verdict")
    tiers = sorted((evaluation.get("tier_f1") or {}).items(), reverse=True)
    verdicts = (evaluation.get("verdict_accuracy") or {}).items()
    return (
        {name: evaluation[name] for name in ("accuracy", "macro_f1")}  # every evaluation has these
        | {name: evaluation.get(name) for name in whole}
        | {f"f1_{tier}": value for tier, value in tiers}
        | {f"verdict_{criterion}": value for criterion, value in verdicts}
    )


def training(rows: Sequence[Mapping[str, Any]], wall_s: float) -> dict[str, float | None]:
    """Stability and cost from the rows of the RL phase in order of step; None where there is nothing to measure.

    Steps in which a metric was not measured are passed over. Variances have ddof 1.
    """
    last = rows[-math.ceil(len(rows) / 3) :] if rows else []
    return {
        "dead_group_share": _over(np.mean, last, "group/all_wrong"),
        "zero_advantage_share": _over(np.mean, last, "group/zero_advantage"),
        "gradient_variance": _over(_variance, rows, "grad_norm"),
        "reward_variance": _over(_detrended_variance, rows, "reward/total_mean"),
        "response_tokens": _over(np.sum, rows, "tokens/response"),
        "trained_tokens": _over(np.sum, rows, "tokens/trained"),
        "seconds": wall_s,
    }


def _variance(x: np.ndarray) -> float | None:
    return float(x.var(ddof=1)) if len(x) > 1 else None


def _detrended_variance(x: np.ndarray) -> float | None:
    """Half the variance of the first differences: the variance of independent noise on a straight trend.

    After von Neumann, Kent, Bellinson and Hart 1941, The mean square successive difference; their differences are not
    centred, ours are, which takes a straight trend out altogether.
    """
    spread = _variance(np.diff(x))
    return None if spread is None else spread / 2


def _over(what: Callable, rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = np.array([row[name] for row in rows if row.get(name) is not None], dtype=float)
    found = what(values) if len(values) else None
    return None if found is None else float(found)


def _folders(out: Path) -> list[Path]:
    return sorted((Path(out) / "runs").glob("*/start-*/seed-*"))


def _read(path: Path) -> Cell:
    about = _about(path / CELL)
    try:
        run = read_run(path)
        sets = {name: quality(run.evaluations[name][LAST]) for name in run.sets if LAST in run.evaluations[name]}
        figures = training(run.rl, about["wall_s"])
        curves = {name: run.series(name) for name in CURVES if run.series(name)[0]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON, but not what a run writes
        raise DataError(f"{path}: cannot be read: {type(error).__name__}: {error}", hint=AGAIN) from error
    if not sets:
        raise DataError(f"{path}: finished, but holds no evaluation/{LAST}-SET.json", hint=AGAIN)
    if TRAINING in sets:
        raise DataError(f"{path}: an evaluation set cannot be called {TRAINING!r} here", hint="rename the set")
    _check(path, sets | {TRAINING: figures})
    return Cell(about["method"], about["start"], about["seed"], sets, figures, curves)


def _about(file: Path) -> dict[str, Any]:
    """``cell.json``, which must be of the folder that it lies in: a copied one would count a run twice."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        kinds = {"method": str, "start": int, "seed": int, "wall_s": float}
        about = {name: kind(found[name]) for name, kind in kinds.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {type(error).__name__}: {error}", hint=AGAIN) from None
    named = (about["method"], f"start-{about['start']}", f"seed-{about['seed']}")
    if file.parts[-4:-1] != named:
        raise DataError(f"{file}: describes another run, {'/'.join(named)}", hint=AGAIN)
    return about


def _check(path: Path, groups: dict[str, dict[str, Any]]) -> None:
    for group, values in groups.items():
        for name, value in values.items():
            if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
                raise DataError(f"{path}: {name} of {group} is {value!r}, which is no measurement", hint=AGAIN)
