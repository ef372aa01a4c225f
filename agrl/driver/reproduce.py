"""``agrl reproduce``: the grid of methods, starts and seeds on services that stay up, resumable run by run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from agrl.config.compose import load_config
from agrl.config.schema import Config, RayMode
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.dpo import prefer
from agrl.driver.grid import METHODS, Cell, Grid, Kind
from agrl.driver.lanes import Schedule, run_side_by_side
from agrl.driver.loop import reinforce
from agrl.driver.run_folder import RunFolder
from agrl.driver.running import Run, Sets, load_data
from agrl.driver.services import Services, start_services
from agrl.driver.sft import imitate, load_references
from agrl.driver.tiny_model import tiny_model
from agrl.errors import ConfigError
from agrl.relevance.records import Example
from agrl.report.progress import board, duration, number, phase

MARK = "grid.json"
DONE = "cell.json"


def reproduce(out: Path, grid: Grid, overrides: list[str], console, lanes: int | None = None) -> None:
    """Run every cell that is not finished yet, ``lanes`` at a time. Raises the AgrlError that names the trouble."""
    words, files = prepare_data(out, grid, overrides, console)
    cells = [cell for cell in grid.cells() if METHODS[cell.method].files <= files.keys()]
    if left_out := sorted({*grid.methods} - {cell.method for cell in cells}):
        console.print(f"Left out, for want of the reasoning that they need: {', '.join(left_out)}")
    _mark(out, grid, overrides)
    finished = [cell for cell in cells if (cell.folder(out) / DONE).is_file()]
    todo = [cell for cell in cells if cell not in finished]
    if not todo:
        console.print(f"All {len(cells)} runs were finished before")
        return
    anyone = load_config([*words, "model.path=unused"])
    lanes = min(lanes or usual_lanes(anyone), len(todo))
    words = [*words, *share_of_threads(anyone, lanes)]
    configs = {cell: load_config([*words, *grid.overrides(cell, out, files)]) for cell in todo}
    for start in range(grid.starts):
        make_start(out, start, grid.first_seed + start, configs[todo[0]], files)
    base = replace(configs[todo[0]], model=replace(configs[todo[0]].model, path=str(out / "models" / "start-0")))
    data = load_data(base, hinted=True)
    console.print(f"{len(cells)} runs, {len(finished)} of them finished before; {lanes} at a time")
    folders = [out / "lanes" / str(lane) for lane in range(lanes)]
    with ExitStack() as stack:
        services = start_lanes(base, folders, data.pool, stack, console)
        bar, rows = stack.enter_context(
            board(console, "Runs", len(cells), len(finished), [f / "run.log" for f in folders])
        )

        def run(lane: int, cell: Cell) -> None:
            row = rows[lane]
            row.begin(str(cell))
            seconds = run_cell(services[lane], data.sets, cell, configs[cell], out, row)
            row.begin("")
            bar.advance(1)
            done = sum((cell.folder(out) / DONE).is_file() for cell in cells)
            console.print(
                f"[green]✓[/green] {done}/{len(cells)}  {cell}  [dim]{duration(seconds)}[/dim]  {_found(cell, out)}"
            )

        run_side_by_side(Schedule(todo, finished), lanes, run, give_up=lambda: [s.kill() for s in services])


def start_lanes(
    config: Config, folders: Sequence[Path], pool: Sequence[Example], stack: ExitStack, console
) -> list[Services]:
    """A set of services for each folder, which gets their logs; they load side by side. ``stack`` closes them."""
    services = []
    with phase(console, "Starting rollout, reward, replay and learner actors"):
        for folder in folders:  # the first starts Ray, and is closed last
            services.append(start_services(config, RunFolder(folder), pool))
            stack.callback(services[-1].close)
        for s in services:
            s.ready()
    return services


def usual_lanes(config: Config) -> int:
    """One a CPU, because a tiny model makes poor use of several; one where there are GPUs or a cluster."""
    alone = config.ray.mode == RayMode.local and not (config.rollout.gpus_per_actor or config.learner.gpus_per_rank)
    return min(4, len(os.sched_getaffinity(0))) if alone else 1


def share_of_threads(config: Config, lanes: int) -> list[str]:
    """What divides the CPUs of this machine among lanes, where the configuration leaves the number of threads open."""
    if lanes == 1 or config.ray.mode != RayMode.local:
        return []
    share = max(1, len(os.sched_getaffinity(0)) // lanes)
    free = {"rollout.threads": config.rollout.threads, "learner.threads": config.learner.threads}
    return [f"{key}={share}" for key, threads in free.items() if not threads]


def prepare_data(out: Path, grid: Grid, overrides: list[str], console) -> tuple[list[str], dict[str, str]]:
    """The overrides of every run and the data files by name: an experiment's own, else a catalogue made in OUT/data."""
    if any(word.startswith("experiment=") for word in overrides):
        data = load_config([*overrides, "model.path=unused"]).data
        return overrides, {"seed": data.seed, "train": data.train}
    folder = out / "data"
    if not (folder / "catalogue.json").is_file():  # written last
        with phase(console, "Making the catalogue"):
            make_catalogue(folder, CatalogueSpec(seed=grid.first_seed), controls=True)
    files = {name: str(folder / f"{name}.parquet") for name in ("seed", "train", "train_teacher", "train_true")}
    sets = f"data.evaluation={{balanced: {folder}/balanced.parquet, wild: {folder}/wild.parquet}}"
    common = ["experiment=agrl_tiny", f"data.seed={files['seed']}", f"data.train={files['train']}", sets]
    return [*common, *overrides], files


def make_start(out: Path, start: int, seed: int, config: Config, files: dict[str, str]) -> None:
    """A model that knows nothing, for one start; the tokenizer is the same for all."""
    folder = Cell("sft", start, 0).origin(out)
    if not (folder / "config.json").is_file():
        tiny_model(folder, files["seed"], config.task.rulebook, config.task.prompt_style, seed=seed)


def run_cell(services: Services, sets: Sets, cell: Cell, config: Config, out: Path, console) -> float:
    """One run of the grid, from its start model to its evaluation; ``cell.json`` says that it is finished.

    Returns its seconds.
    """
    folder = RunFolder(cell.folder(out))
    folder.clear()
    kind = METHODS[cell.method].kind
    services.restart(config)
    folder.start(config, services.book, resume=False)
    run = Run(services, folder, sets, console)
    if kind == Kind.preference:
        prefer(run)
    elif kind == Kind.reinforced:
        reinforce(run)
    else:
        fit(run)
    folder.drop_checkpoints()
    about: dict[str, Any] = {"method": cell.method, "start": cell.start, "seed": cell.seed, "wall_s": run.wall_s}
    phases = dict(run.phases) | run.clock.seconds
    (folder.path / DONE).write_text(json.dumps(about | {"phases": phases}, indent=2) + "\n")
    return run.wall_s


def fit(run: Run) -> None:
    """Supervised training on the running learner, then evaluation."""
    config, services = run.s.config, run.s
    sequences = load_references(config, services.encoder)
    with run.clock("learn"):
        imitate(config, services.learner, sequences, run.folder, run.console)
    with run.clock("broadcast"):
        services.rollouts.broadcast(services.learner.version, services.learner.weights())
    run.finish(config.sft.steps)


def _found(cell: Cell, out: Path) -> str:
    """What a finished run reached, in a few words."""
    found = RunFolder(cell.folder(out)).load_evaluation("after")
    return "macro-F1 " + ", ".join(f"{name} {number(metrics['macro_f1'])}" for name, metrics in found.items())


def _mark(out: Path, grid: Grid, overrides: list[str]) -> None:
    """Remember what a folder's grid is made of; refuse to mix another into it."""
    out.mkdir(parents=True, exist_ok=True)
    same = {"first_seed": grid.first_seed, "overrides": overrides}
    path = out / MARK
    if path.is_file():
        before = json.loads(path.read_text())
        if before != same:
            raise ConfigError(f"{out} holds the grid of {before}, not of {same}", hint="give another folder with --out")
    path.write_text(json.dumps(same) + "\n")
