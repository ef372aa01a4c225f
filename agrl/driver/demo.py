"""The whole product at a small size: data, model, supervised start, adaptive guided RL, evaluation, report."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.config.words import setting
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.clock import Clock
from agrl.driver.loop import train
from agrl.driver.sft import supervised
from agrl.driver.tiny_model import tiny_model
from agrl.errors import ConfigError
from agrl.report.progress import phase
from agrl.report.terminal import open_terminal

MARK = ".agrl-demo"
SHOWN = ("accuracy", "macro_f1", "good_bad_f1", "parse_rate", "rule_adherence", "right_tier_wrong_verdict")


def demo(out: Path, seed: int, overrides: list[str], debug: bool) -> dict[str, Any]:
    """Run everything under ``out`` (emptied first when an earlier demo wrote it); returns what summary.json holds."""
    _make_room(out)
    rl, sft = _configs(out, seed, overrides)
    console = open_terminal(out / "logs" / "driver.log", debug)
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
        train(rl, console)
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


def _make_room(out: Path) -> None:
    """Empty the folder of an earlier demo; refuse any other that holds something."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise ConfigError(f"{out} holds something that is not a demo", hint="give another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


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
    path.write_text(json.dumps(summary, indent=2) + "\n")
    return summary
