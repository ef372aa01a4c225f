"""``agrl compare``: two judges on the same examples, each a model or what one has written, side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from agrl.data.predictions import read_predictions
from agrl.errors import ConfigError
from agrl.relevance.comparison import align, compare, require_same_examples
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import Example
from agrl.report.comparison_page import write_comparison
from agrl.report.comparison_table import comparison_tables


class Side(Protocol):
    """One of the two: ``sets`` are its examples by set, known before anything is judged."""

    sets: dict[str, list[Example]]

    def predictions(self, console) -> dict[str, list[Prediction]]:
        """Set name -> its answers."""
        ...


class Written:
    """A prediction file in the place of a model. Raises DataError naming file, line and field."""

    def __init__(self, path: Path) -> None:
        self._found = read_predictions(path)
        self.sets = {name: [row.example for row in rows] for name, rows in self._found.items()}

    def predictions(self, console) -> dict[str, list[Prediction]]:
        return self._found


def is_file_of_predictions(path: Path) -> bool:
    """A file, there or not; anything else is the folder of a run or a model, or a hub name."""
    return path.is_file() or path.suffix == ".jsonl"


def compare_judges(
    a: Path,
    b: Path,
    overrides: list[str],
    console,
    json_file: Path | None = None,
    html_file: Path | None = None,
    shown: int = 20,
    logs: Path = Path("runs/compare"),
) -> dict[str, Any]:
    """Compare, print and write; returns ``agrl.relevance.comparison.compare`` with the names of ``a`` and ``b``.

    ``logs``: the folder whose ``logs`` the actors of models write to. Raises AgrlError by name, before anything is
    judged where the examples of the two differ.
    """
    sides = _sides((a, b), overrides, logs)
    require_same_examples(*(side.sets for side in sides))
    found = {"a": str(a), "b": str(b), **compare(align(*(side.predictions(console) for side in sides)), shown)}
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if html_file:
        write_comparison(html_file, found)
    for table in comparison_tables(found):
        console.print(table)
    for what, file in (("All numbers", json_file), ("Page", html_file)):
        if file:
            console.print(f"{what}: {file}", soft_wrap=True)
    return found


def _sides(paths: tuple[Path, Path], overrides: list[str], logs: Path) -> list[Side]:
    models = [path for path in paths if not is_file_of_predictions(path)]
    if not models:
        if overrides:
            raise ConfigError(f"{overrides[0]}: two prediction files have no settings", hint="leave it out")
        return [Written(path) for path in paths]
    from agrl.driver.evaluation.evaluate_model import Judge, evaluation_config, is_run  # heavy, and only models need it

    like = next((path for path in models if is_run(path)), None)
    return [
        Judge.load(replace(evaluation_config(path, overrides, like), run=str(logs)))
        if path in models
        else Written(path)
        for path in paths
    ]
