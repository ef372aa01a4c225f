"""The controller at scale: what the driver and the replay actor cost a step beside 8, 64 and 512 engines.

    python benchmarks/scale.py [--engines 8,64,512] [--groups 64,512,4096] [--steps 4] [--json FILE]
    python benchmarks/scale.py --engines 512 --groups 512 --max-staleness 1 [--json FILE]
    python benchmarks/scale.py --engines 512 --groups 64 --steps 200 --at-once --memory [--json FILE]

Real: the training loop and step, dealing, the weight broadcast's calls, Ray, the replay actor, the reward actors, the
recorder. Simulated: engines and learner ranks (`simulated.py`), which answer when a model of 8 billion weights would
on an H100 each. Two shares of a step are told:

- exposed: what it lasts beyond the slowest engine of each batch, the learner and the broadcast (``simulated_s``); with
  ``--max-staleness 1``, where generation is beside the learner, beyond the longer of the two and the broadcast;
- processor: the driver's processor time (all its threads) and the replay actor's, as a part of it and ``simulated_s``,
  as if nothing were hidden behind generation.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

import psutil

from actors.traffic import Traffic
from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.machine import usable_cpus
from benchmarks.crowd import SimulatedRuntime
from benchmarks.simulated import Model

ROLLOUTS = 16  # of a group
WARM = 1  # steps that do not count
MIB = 2**20


def world(folder: Path, groups: int) -> None:
    """A pool with prompts for two steps, and a tokenizer."""
    rows = CatalogueSpec(seed_rows=600, pool_rows=max(2 * groups, 200), balanced_rows=4, wild_rows=4)
    make_catalogue(folder / "data", rows)
    tiny_model(folder / "model", folder / "data" / "seed.parquet", "relevance", "full")


def configure(folder: Path, engines: int, groups: int, steps: int, args: argparse.Namespace) -> Config:
    settings = [
        f"run={folder}/run-{engines}-{groups}",
        f"model.path={folder}/model",
        f"data.train={folder}/data/train.parquet",
        f"data.evaluation={{wild: {folder}/data/wild.parquet}}",
        f"trainer.steps={steps}",
        f"trainer.max_staleness={args.max_staleness}",
        f"guidance.enabled={'false' if args.unguided else 'true'}",
        f"trainer.prompts_per_step={groups}",
        f"trainer.rollouts_per_prompt={ROLLOUTS}",
        f"rollout.actors={engines}",
        f"learner.ranks={engines}",
        f"reward.actors={args.rewards}",
        "task.max_prompt_tokens=1024",
        "task.max_response_tokens=1024",
        "sync.transport=collective",  # as between the hosts of a cluster
        "sync.check=false",  # ranks without a model have no log-probabilities to compare with
        "trainer.max_idle_steps=0",
        "learner.restarts=0",  # nor anything to take a snapshot of
        f"sft.batch_size={max(engines, 64)}",
    ]
    return load_config(settings)


class Watch:
    """Reads the clocks at every step's beginning, and at the end of the last. ``memory``: counts objects, too."""

    def __init__(self, memory: bool) -> None:
        self._memory = memory
        self.rows: list[dict[str, float]] = []
        self.metrics: list[dict[str, float]] = []
        self._replay: psutil.Process | None = None

    def read(self) -> None:
        self._replay = self._replay or self._find("ReplayCore")
        own, replay = psutil.Process(), self._replay
        times = replay.cpu_times()
        self.rows.append(
            {
                "wall": time.perf_counter(),
                "driver": time.process_time(),
                "main": time.thread_time(),
                "replay": times.user + times.system,
                "driver_mib": own.memory_info().rss / MIB,
                "replay_mib": replay.memory_info().rss / MIB,
                "objects": float(len(gc.get_objects())) if self._memory else 0.0,
            }
        )

    @staticmethod
    def _find(name: str) -> psutil.Process:
        """The process of the actor of a class."""
        found = [p for p in psutil.Process().children(recursive=True) if f"::{name}" in " ".join(p.cmdline())]
        return found[0]


@dataclass
class SlowestOf(Traffic):
    """Also the seconds of the slowest engine of every batch, added up: ``slowest_s``."""

    slowest_s: float = 0.0
    before: Counter[int] = field(default_factory=Counter)

    def end(self, *batch: Any) -> None:
        super().end(*batch)
        self.slowest_s += max((self.seconds - self.before).values(), default=0.0)
        self.before = self.seconds.copy()

    def metrics(self, actors: Any) -> dict[str, float]:
        return super().metrics(actors) | {"slowest_s": self.slowest_s}


def simulated_seconds(step: dict[str, float], beside: dict[str, float] | None, model: Model) -> float:
    """What the engines and the learner took for a step. ``beside``: of the step whose batch was generated meanwhile."""
    learner = step.get("learner/seconds", 0.0)
    working = max(beside["slowest_s"], learner) if beside else step["slowest_s"] + learner
    return working + model.broadcast_s


def train(config: Config, model: Model, console: Any, profile: cProfile.Profile | None, memory: bool) -> Watch:
    """The real loop over simulated engines."""
    from actors import rollout_pool
    from agrl.driver import pipeline as pipelines
    from agrl.driver import training as loop
    from agrl.driver.run import run as running
    from agrl.driver.services import services
    from agrl.driver.services.runtime import run_label

    watch, real_step = Watch(memory), pipelines.Pipeline.step

    def watched_step(pipeline: Any, step: int, beside: Any = None) -> Any:
        watch.read()
        if profile and step == WARM:
            profile.enable()
        result = real_step(pipeline, step, beside)
        watch.metrics.append(result.metrics)
        return result

    class Measured(running.Run):
        def evaluate(self, *about: Any) -> None:
            pass

        def finish(self, *about: Any) -> None:
            watch.read()

        def checkpoint(self, *args: Any, **kwargs: Any) -> None:
            pass

    threads = 2 * config.rollout.actors if model.waits else 1
    services.start_runtime = lambda c, run: SimulatedRuntime(model, threads, namespace="scale", run=run_label(run))
    rollout_pool.Traffic = SlowestOf
    pipelines.Pipeline.step, running.Run = watched_step, Measured
    loop.train(config, console)
    return watch


def one(folder: Path, engines: int, groups: int, args: argparse.Namespace) -> dict[str, Any]:
    """One size: medians over its steps."""
    import io

    from rich.console import Console

    model = Model(waits=not args.at_once)
    profile = cProfile.Profile(time.thread_time) if args.profile else None
    ahead = args.max_staleness  # beside the last step nothing is generated: it does not count
    config = configure(folder, engines, groups, WARM + args.steps + ahead, args)
    watch = train(config, model, Console(file=io.StringIO(), width=120), profile, args.memory)
    if profile:
        profile.disable()
        stats = pstats.Stats(profile, stream=sys.stderr)
        stats.sort_stats("tottime").print_stats(45).sort_stats("cumtime").print_stats(
            str(Path(__file__).parents[1]), 70
        )
    counted = slice(WARM, WARM + args.steps)
    between = list(zip(watch.rows[counted], watch.rows[WARM + 1 :], strict=False))

    def spent(name: str) -> float:
        return statistics.median(after[name] - before[name] for before, after in between)

    metrics = watch.metrics[counted]
    later = watch.metrics[WARM + 1 :] if ahead else [None] * args.steps
    seconds = statistics.median(simulated_seconds(m, b, model) for m, b in zip(metrics, later, strict=True))
    controller, wall = spent("driver") + spent("replay"), spent("wall")
    phases = [name for name in metrics[-1] if name.startswith(("time/", "ahead/"))]
    found = {
        "engines": engines,
        "groups": groups,
        "steps": args.steps,
        "max_staleness": args.max_staleness,
        "simulated_s": round(seconds, 3),
        "driver_cpu_s": round(spent("driver"), 3),
        "driver_main_thread_s": round(spent("main"), 3),
        "replay_cpu_s": round(spent("replay"), 3),
        "processor_share": round(controller / (seconds + controller), 4),
        "wall_s": round(wall, 3),
        "exposed_share": round(1 - seconds / wall, 4) if model.waits else None,
        "phases": {name: round(statistics.median(m.get(name, 0.0) for m in metrics), 3) for name in phases},
        "guided_share": round(metrics[-1].get("guide/share", 0.0), 4),
        "driver_mib": round(watch.rows[-1]["driver_mib"], 1),
        "replay_mib": round(watch.rows[-1]["replay_mib"], 1),
    }
    if args.memory:
        names = ("driver_mib", "replay_mib", "objects")
        found["memory"] = {name: [round(row[name], 1) for row in watch.rows] for name in names}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="8,64,512", help="sizes, as many learner ranks as engines (%(default)s)")
    parser.add_argument("--groups", default="64,512,4096", help=f"of {ROLLOUTS} rollouts, a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="that count, after one that does not (%(default)s)")
    parser.add_argument("--rewards", type=int, default=1, help="reward actors (%(default)s)")
    parser.add_argument("--max-staleness", type=int, default=0, help="1: generation beside training (%(default)s)")
    parser.add_argument("--unguided", action="store_true", help="no second generation, of hinted rollouts, in any step")
    parser.add_argument("--at-once", action="store_true", help="engines and learner do not wait as long as they say")
    parser.add_argument("--memory", action="store_true", help="also the memory at every step")
    parser.add_argument(
        "--profile", action="store_true", help="print where the driver's main thread spends its processor time"
    )
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--world", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)  # of one size, in this process
    args = parser.parse_args()
    engines, groups = ([int(n) for n in text.split(",")] for text in (args.engines, args.groups))
    if args.world:
        print(json.dumps(one(args.world, engines[0], groups[0], args)))
        return
    results: dict[str, Any] = {"cpus": usable_cpus(), "model": vars(Model()), "sizes": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        world(folder, max(groups))
        for number in engines:
            for group in groups:
                found = apart(folder, number, group, args)
                print("  ".join(f"{name} {value}" for name, value in found.items() if name != "memory"), flush=True)
                results["sizes"].append(found)
                if args.json:
                    args.json.write_text(json.dumps(results, indent=1) + "\n")


def apart(folder: Path, engines: int, groups: int, args: argparse.Namespace) -> dict[str, Any]:
    """One size in a process of its own: what the last one left behind is no part of it."""
    words = ["--world", folder, "--engines", engines, "--groups", groups, "--steps", args.steps]
    words += ["--rewards", args.rewards, "--max-staleness", args.max_staleness]
    flags = [
        f"--{name.replace('_', '-')}" for name in ("at_once", "memory", "profile", "unguided") if getattr(args, name)
    ]
    command = [sys.executable, __file__, *map(str, words), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
