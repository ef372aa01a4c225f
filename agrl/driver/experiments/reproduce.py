"""``agrl reproduce``: the grid of methods, starts and seeds on services that stay up, resumable run by run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from agrl.config.compose import load_config
from agrl.config.schema import Config, RayMode
from agrl.config.words import key_of, setting
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.experiments.grid import AT, Cell, Grid, Kind, method_of
from agrl.driver.experiments.grid_cell import is_finished, run_baseline, run_cell
from agrl.driver.experiments.labels import split_labels
from agrl.driver.experiments.lanes import Schedule, run_side_by_side
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.driver.folder.lock import locked
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run.run import TaskData, load_data
from agrl.driver.services.services import Services, start_services
from agrl.errors import AgrlError, ConfigError
from agrl.machine import usable_cpus
from agrl.report.progress import board, duration, number, phase, tick
from agrl.report.terminal import log_to

MARK = "grid.json"
GO_ON = "the same command goes on after the runs that are finished"


def reproduce(out: Path, grid: Grid, overrides: list[str], console, lanes: int | None = None) -> None:
    """Run every cell that is not finished yet, ``lanes`` at a time. Raises the AgrlError that names the trouble."""
    with locked(out):
        log_to(out / "logs" / "driver.log")
        try:
            _reproduce(out, grid, overrides, console, lanes)
        except KeyboardInterrupt as stop:
            stop.hint = GO_ON
            raise


def _reproduce(out: Path, grid: Grid, overrides: list[str], console, lanes: int | None) -> None:
    words, files = prepare_data(out, grid, overrides, console)
    for count in grid.labels:
        files |= split_labels(out / "data", files["train"], count, grid.first_seed)
    cells = [cell for cell in grid.cells() if method_of(cell.method).files <= grid.files_of(cell, files).keys()]
    if left_out := sorted({*grid.methods} - {cell.method.partition(AT)[0] for cell in cells}):
        console.print(f"Left out, for want of the reasoning that they need: {', '.join(left_out)}")
    _mark(out, grid, overrides)
    todo = [cell for cell in cells if not is_finished(cell, out)]
    anyone = load_config([*words, "model.path=unused"])
    lanes = max(1, min(lanes or usual_lanes(anyone), len(todo)))
    console.print(f"{len(cells)} runs, {len(cells) - len(todo)} of them finished before; {lanes} at a time")
    if not todo:
        return
    words = [*words, *share_of_cpus(anyone, lanes, words)]
    configs = {cell: load_config([*words, *grid.overrides(cell, out, files)]) for cell in todo}
    for start in range(0 if "model" in files else grid.starts):
        make_start(out, start, grid.first_seed + start, configs[todo[0]], files)
    first = files.get("model", str(out / "models" / "start-0"))
    base = replace(configs[todo[0]], model=replace(configs[todo[0]].model, path=first))
    run_all(out, cells, configs, base, load_data(base, True, console), lanes, console)


def run_all(
    out: Path, cells: Sequence[Cell], configs: dict[Cell, Config], base: Config, data: TaskData, lanes: int, console
) -> None:
    """Run the cells that have a configuration in ``configs``. ``base``: what the services are started with."""

    def tell(cell: Cell, seconds: float) -> None:
        count = sum(is_finished(c, out) for c in cells)
        console.print(tick(f"{count}/{len(cells)}  {cell}", duration(seconds), f"macro-F1 {reached(cell, out)}"))

    trained = [cell for cell in configs if method_of(cell.method).kind != Kind.baseline]
    for cell in [cell for cell in configs if cell not in trained]:
        tell(cell, run_baseline(data.sets, cell, configs[cell], out))
    if not trained:
        return
    folders = [out / "lanes" / str(lane) for lane in range(lanes)]
    with ExitStack() as stack:
        services = start_lanes(base, folders, data, stack, console)
        finished = [cell for cell in cells if is_finished(cell, out)]
        logs = [folder / "run.log" for folder in folders]
        bar, rows = stack.enter_context(board(console, "Runs", len(cells), len(finished), logs))

        def run(lane: int, cell: Cell) -> None:
            rows[lane].begin(str(cell))
            with naming(cell):
                seconds = run_cell(services[lane], data.sets, cell, configs[cell], out, rows[lane])
            rows[lane].begin("")
            bar.advance(1)
            tell(cell, seconds)

        run_side_by_side(Schedule(trained, finished), lanes, run, give_up=lambda: [s.kill() for s in services])


@contextmanager
def naming(cell: Cell) -> Iterator[None]:
    """An error of ours from inside says which run it ended, and how to go on."""
    try:
        yield
    except AgrlError as error:
        told = f"this was the run {cell}; {GO_ON}"
        error.hint = f"{error.hint}\n{told}" if error.hint else told
        raise


def start_lanes(config: Config, folders: Sequence[Path], data: TaskData, stack: ExitStack, console) -> list[Services]:
    """A set of services for each folder, which gets their logs; they load side by side. ``stack`` closes them."""
    services = []
    with phase(console, "Starting rollout, reward, replay and learner actors"):
        for folder in folders:  # the first starts Ray, and is closed last
            services.append(start_services(replace(config, run=str(folder)), RunFolder(folder), data.pool, data.hinted))
            stack.callback(services[-1].close)
        notices = {s.ready() for s in services} - {""}
    for notice in notices:
        console.print(notice)
    return services


def usual_lanes(config: Config) -> int:
    """One a CPU, because a tiny model makes poor use of several; one where there are GPUs or a cluster."""
    alone = config.ray.mode == RayMode.local and not (config.rollout.gpus_per_actor or config.learner.gpus_per_rank)
    return min(4, usable_cpus()) if alone else 1


def share_of_cpus(config: Config, lanes: int, words: Sequence[str] = ()) -> list[str]:
    """What divides this machine's CPUs among lanes: the processes and threads of a lane that ``words`` leave open.

    ``config``: what the words make on this machine.
    """
    if lanes == 1 or config.ray.mode != RayMode.local:
        return []
    share = max(1, usable_cpus() // lanes)
    ranks, actors = min(config.learner.ranks, share), min(config.rollout.actors, share)
    shares = {
        "learner.ranks": ranks,
        "learner.threads": share // ranks,
        "rollout.actors": actors,
        "rollout.threads": share // actors,
    }
    given = {word.partition("=")[0] for word in words}
    return [f"{key}={value}" for key, value in shares.items() if key not in given]


def prepare_data(out: Path, grid: Grid, overrides: list[str], console) -> tuple[list[str], dict[str, str]]:
    """The overrides of every run and the data files by name: an experiment's own, else a catalogue made in OUT/data.

    An experiment also has a model that all starts begin with, under the name "model".
    """
    if any(key_of(word) == "experiment" for word in overrides):
        config = load_config(overrides)
        return overrides, {"seed": config.data.seed, "train": config.data.train, "model": config.model.path}
    folder = out / "data"
    if not (folder / "catalogue.json").is_file():  # written last
        with phase(console, "Making the catalogue"):
            make_catalogue(folder, CatalogueSpec(seed=grid.first_seed), controls=True)
    files = {name: str(folder / f"{name}.parquet") for name in ("seed", "train", "train_teacher", "train_true")}
    common = [
        "experiment=agrl_tiny",
        setting("data.seed", files["seed"]),
        setting("data.train", files["train"]),
        setting("data.evaluation", {name: folder / f"{name}.parquet" for name in ("balanced", "wild")}),
    ]
    return [*common, *overrides], files


def make_start(out: Path, start: int, seed: int, config: Config, files: dict[str, str]) -> None:
    """A model that knows nothing, for one start; the tokenizer is the same for all."""
    folder = Cell("sft", start, 0).origin(out)
    if not (folder / "config.json").is_file():
        tiny_model(folder, files["seed"], config.task.rulebook, config.task.prompt_style, seed=seed)


def reached(cell: Cell, out: Path) -> str:
    """The macro-F1 of a finished run on every set, in a few words."""
    found = RunFolder(cell.folder(out)).load_evaluation("after")
    return ", ".join(f"{name} {number(metrics['macro_f1'])}" for name, metrics in found.items())


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
