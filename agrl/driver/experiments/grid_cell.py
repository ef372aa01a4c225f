"""One run of a grid: a method from its start model, or from nothing, to its evaluation."""

from __future__ import annotations

import json
import time
from pathlib import Path

from agrl.config.schema import Config
from agrl.data.pool import open_pool
from agrl.driver.evaluation.baselines import baseline
from agrl.driver.experiments.dpo import prefer
from agrl.driver.experiments.grid import AT, Cell, Kind, labels_of, method_of
from agrl.driver.experiments.ground import teach
from agrl.driver.experiments.sft import imitate, load_references
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run.run import Run, Sets
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.services import Services
from agrl.driver.training import reinforce
from agrl.relevance.rulebook import load_rulebook

DONE = "cell.json"
COMMANDS = {Kind.preference: "dpo", Kind.reinforced: "train", Kind.grounded: "ground"}
WORK = {Kind.preference: prefer, Kind.reinforced: reinforce, Kind.grounded: teach}


def is_finished(cell: Cell, out: Path) -> bool:
    """Whether the grid in ``out`` holds the run, whole."""
    return (cell.folder(out) / DONE).is_file()


def run_cell(services: Services, sets: Sets, cell: Cell, config: Config, out: Path, console) -> float:
    """One run of the grid, from its start model to its evaluation; ``cell.json`` says that it is finished.

    Returns its seconds.
    """
    folder = RunFolder(cell.folder(out))
    folder.clear()
    kind = method_of(cell.method).kind
    services.restart(config, open_pool(config.data.train))
    folder.start(config, services.book, command=COMMANDS.get(kind, "sft"))
    run = Run(services, folder, sets, console)
    WORK.get(kind, fit)(run)
    folder.drop_checkpoints()
    _finish(folder, cell, run.wall_s, dict(run.phases) | run.clock.seconds)
    return run.wall_s


def run_baseline(sets: Sets, cell: Cell, config: Config, out: Path) -> float:
    """A run without a language model, which needs no services. Returns its seconds."""
    folder, began = RunFolder(cell.folder(out)), time.perf_counter()
    folder.clear()
    book, training = load_rulebook(config.task.rulebook), list(open_pool(config.data.train))
    for name, metrics in baseline(cell.method.partition(AT)[0], book, training, sets, config.trainer.seed).items():
        folder.save_evaluation("after", name, metrics | {"label": "after", "set": name})
    seconds = time.perf_counter() - began
    _finish(folder, cell, seconds, {})
    return seconds


def _finish(folder: RunFolder, cell: Cell, wall_s: float, phases: dict[str, float]) -> None:
    about = {"method": cell.method, "start": cell.start, "seed": cell.seed, "wall_s": wall_s, "phases": phases}
    about["labels"] = labels_of(cell.method)
    (folder.path / DONE).write_text(json.dumps(about, indent=2) + "\n")


def fit(run: Run) -> None:
    """Supervised training on the running learner, then evaluation."""
    config, services = run.s.config, run.s
    sequences = load_references(config, services.encoder).sequences
    with run.clock("learn"):
        imitate(config, services.learner, sequences, run.folder, run.console)
    with run.clock("broadcast"):
        broadcast_weights(services.learner, services.rollouts)
    run.finish(config.sft.steps)
