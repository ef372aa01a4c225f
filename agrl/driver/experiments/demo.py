"""The whole product at a small size: data, model, supervised start, adaptive guided RL, evaluation, report."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from agrl.clock import Clock
from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.config.words import setting
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.disk import write_whole
from agrl.driver.experiments.sft import supervised
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.driver.folder.lock import LOCK, locked
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.training import train
from agrl.errors import ConfigError
from agrl.report.progress import phase
from agrl.report.terminal import log_to, terminal_before_log

MARK = ".agrl-demo"
SHOWN = ("accuracy", "macro_f1", "good_bad_f1", "parse_rate", "rule_adherence", "right_tier_wrong_verdict")


def demo(out: Path, seed: int, overrides: list[str], debug: bool, fresh: bool = False) -> dict[str, Any]:
    """Run everything under ``out``; returns what summary.json holds.

    A demo there that has no trained model yet is begun anew, another only when ``fresh``. Raises the AgrlError that
    names the trouble.
    """
    console = terminal_before_log(debug)
    rl, sft = _configs(out, seed, overrides)
    _refuse_others(out, fresh)
    with locked(out):
        _refuse_others(out, fresh)  # again: another process may have had it until now
        _make_room(out, console)
        log_to(out / "logs" / "driver.log")
        try:
            return _demo(out, seed, rl, sft, console)
        except KeyboardInterrupt as stop:
            if not RunFolder(out).latest():  # what the supervised start alone has said is no help here
                stop.hint = "the same command begins anew"
            raise


def _demo(out: Path, seed: int, rl: Config, sft: Config, console) -> dict[str, Any]:
    clock, began = Clock(), time.perf_counter()
    with (
        phase(
            console, "Making the catalogue: queries, products, gold judgements, a teacher that does not know the rules"
        ),
        clock("data"),
    ):
        make_catalogue(out / "data", CatalogueSpec(seed=seed))
    with phase(console, "Making a tiny language model that knows nothing"), clock("model"):
        made = tiny_model(
            out / "start", out / "data" / "seed.parquet", rl.task.rulebook, rl.task.prompt_style, seed=seed
        )
    console.print(f"  {made['parameters']:,} parameters, {made['vocabulary']:,} tokens")
    console.rule("Supervised cold start on the teacher's reasoning", style="dim")
    with clock("sft"):
        supervised(sft, console)
    console.rule("Adaptive guided reinforcement learning", style="dim")
    with clock("agrl"):
        train(rl, console, prepared=True)
    return _summarise(out, clock, time.perf_counter() - began)


def _configs(out: Path, seed: int, overrides: list[str]) -> tuple[Config, Config]:
    data = out / "data"
    common = [
        "experiment=agrl_tiny",
        f"trainer.seed={seed}",
        setting("data.seed", data / "seed.parquet"),
        setting("data.train", data / "train.parquet"),
        setting("data.evaluation", {name: data / f"{name}.parquet" for name in ("balanced", "wild")}),
        *overrides,
    ]
    rl = load_config([*common, setting("run", out), setting("model.path", out / "sft" / "model")])
    sft = load_config([*common, setting("run", out / "sft"), setting("model.path", out / "start")])
    return rl, sft


def _refuse_others(out: Path, fresh: bool) -> None:
    """Refuse a folder that holds something else than a demo, or unless ``fresh`` one that has been trained."""
    if _content(out) and not (out / MARK).is_file():
        raise ConfigError(f"{out} holds something that is not a demo", hint="give another folder with --out")
    if fresh:
        return
    instead = "--fresh deletes it and begins anew, --out FOLDER keeps it"
    if (out / "summary.json").is_file():
        raise ConfigError(f"{out} holds a finished demo", hint=f"look at {out / 'report.html'}; {instead}")
    if RunFolder(out).latest():
        raise ConfigError(
            f"{out} holds a demo that was not finished", hint=f"{RunFolder(out).how_to_go_on()}; {instead}"
        )


def _make_room(out: Path, console) -> None:
    """Empty the folder of an earlier demo."""
    if earlier := [path for path in _content(out) if path.name != MARK]:
        console.print(f"Beginning anew: deleting the demo that {out} holds", markup=False, soft_wrap=True)
        for path in earlier:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (out / MARK).touch()


def _content(out: Path) -> list[Path]:
    return [path for path in out.iterdir() if path.name != LOCK] if out.is_dir() else []


def _summarise(out: Path, clock: Clock, wall_s: float) -> dict[str, Any]:
    path = out / "summary.json"
    run = json.loads(path.read_text())
    ends = {"sft": run.pop("before"), "agrl": run.pop("after")}
    summary = {
        name: {set_name: {key: metrics[key] for key in SHOWN} for set_name, metrics in sets.items()}
        for name, sets in ends.items()
    }
    summary |= {
        "phases": clock.seconds,
        "rl_phases": run["phases"],
        "steps": run["steps"],
        "version": run["version"],
        "wall_s": wall_s,
    }
    write_whole(path, json.dumps(summary, indent=2) + "\n")
    return summary
