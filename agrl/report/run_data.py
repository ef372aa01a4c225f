"""Reads a run folder: what was configured, what was measured step by step, and how the model did before and after."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agrl.errors import DataError
from agrl.report.events import read_events
from agrl.report.recorder import METRICS, SAMPLES, read_jsonl

FIRST, LAST = "before", "after"  # the labels of the evaluations at the two ends of a training run
Evaluation = dict[str, Any]  # what agrl.relevance.metrics.evaluate returns, with "label", "set" and "model"


@dataclass
class RunData:
    """What a run folder holds; what the run has not written is empty.

    ``metrics``: phase -> rows of ``metrics.jsonl`` in order of step. ``evaluations``: set name -> label -> evaluation.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    rulebook: dict[str, Any] = field(default_factory=dict)
    rulebook_text: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    evaluations: dict[str, dict[str, Evaluation]] = field(default_factory=dict)

    @property
    def sets(self) -> list[str]:
        """The names of the held-out sets, those evaluated at both ends first."""
        return sorted(self.evaluations, key=lambda name: None in self.ends(name))

    @property
    def rl(self) -> list[dict[str, Any]]:
        """The rows of the reinforcement-learning phase."""
        return self.metrics.get("rl", [])

    def setting(self, key: str, default: Any = None) -> Any:
        """The configured value of a dotted key such as ``trainer.steps``."""
        node: Any = self.config
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                return default
            node = node[part]
        return node

    def ends(self, set_name: str) -> tuple[Evaluation | None, Evaluation | None]:
        """The evaluations before and after training on one set; None where there is none."""
        labels = self.evaluations.get(set_name, {})
        return labels.get(FIRST), labels.get(LAST)

    def series(self, name: str, phase: str = "rl") -> tuple[list[int], list[float]]:
        """Steps and values of one metric, without the steps that lack it."""
        rows = [row for row in self.metrics.get(phase, []) if row.get(name) is not None]
        return [row["step"] for row in rows], [row[name] for row in rows]

    def names(self, pattern: str, phase: str = "rl") -> list[str]:
        """The metric names that match a regular expression whole, in order of first appearance."""
        seen = dict.fromkeys(name for row in self.metrics.get(phase, []) for name in row)
        return [name for name in seen if re.fullmatch(pattern, name)]

    def evaluated_at(self, set_name: str, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values of a held-out metric: before training, at ``step-NNN`` evaluations, and after."""
        last = self.rl[-1]["step"] + 1 if self.rl else self.summary.get("steps", 0)
        at = {FIRST: 0, LAST: last}
        points = {}
        for label, evaluation in self.evaluations.get(set_name, {}).items():
            step = at.get(label) if label in at else _step_of(label)
            if step is not None and evaluation.get(metric) is not None:
                points[step] = evaluation[metric]
        return sorted(points), [points[step] for step in sorted(points)]


def read_run(path: Path) -> RunData:
    """Read a run folder.

    Raises ``DataError`` when the folder is not there, holds nothing of a run, or a file in it is malformed.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such run folder", hint="name a folder that `agrl sft` or `agrl train` has written")
    run = RunData(path)
    run.config_text = _text(path / "config.yaml")
    run.config = _parsed(path / "config.yaml", yaml.safe_load)
    run.rulebook = _parsed(path / "rulebook.yaml", yaml.safe_load)
    run.rulebook_text = _text(path / "rulebook.yaml")
    run.versions = _parsed(path / "versions.json", json.loads)
    run.summary = _parsed(path / "summary.json", json.loads)
    run.metrics = _metrics(path / METRICS)
    if "sft" not in run.metrics:  # a demo keeps its cold start in a run folder of its own
        run.metrics |= _metrics(path / "sft" / METRICS)
    run.samples = list(read_jsonl(path / SAMPLES)) if (path / SAMPLES).exists() else []
    run.events = read_events(path)
    run.evaluations = _evaluations(path / "evaluation")
    if not run.metrics and not run.evaluations:
        raise DataError(
            f"{path}: holds neither {METRICS} nor evaluation/*.json, so there is nothing to report",
            hint="name a folder that `agrl sft` or `agrl train` has written",
        )
    return run


def _metrics(path: Path) -> dict[str, list[dict[str, Any]]]:
    phases: dict[str, list[dict[str, Any]]] = {}
    for row in read_jsonl(path) if path.exists() else ():
        phases.setdefault(row.get("phase", "rl"), []).append(row)
    return {phase: sorted(rows, key=lambda row: row["step"]) for phase, rows in phases.items()}


def _evaluations(folder: Path) -> dict[str, dict[str, Evaluation]]:
    sets: dict[str, dict[str, Evaluation]] = {}
    for file in sorted(folder.glob("*.json")):
        evaluation = _parsed(file, json.loads)
        label, _, set_name = file.stem.rpartition("-")
        sets.setdefault(evaluation.get("set", set_name), {})[evaluation.get("label", label)] = evaluation
    return sets


def _step_of(label: str) -> int | None:
    match = re.fullmatch(r"step-(\d+)", label)
    return int(match.group(1)) if match else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _parsed(path: Path, parse) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = parse(_text(path))
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="delete the file, or write it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a mapping, found {type(value).__name__}")
    return value
