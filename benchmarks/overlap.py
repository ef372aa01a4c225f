"""Generation beside training: how much of the shorter one is hidden behind the longer one.

    python benchmarks/overlap.py [--steps 12] [--rounds 2] [--json FILE] [key=value ...]
    python benchmarks/overlap.py --rounds 0 --target 0.55 --steps 50

The tiny model after a short supervised start, on the bundled catalogue, the demo's RL settings. Engines are pinned to
one CPU and learner ranks to another (every thread of them), so that each has the same power alone and beside the other;
driver, scorers and replay actor go where there is room. Modes take turns: sync (trainer.max_staleness=0), lockstep (1),
free (trainer.overlap=free, 2).

The efficiency of a step is max(generation, training) / step, from what the run logs of it: 1 when the shorter of the
two costs nothing. In the mode free, whose batches do not belong to steps, it is that of the sums over the run. The
first two steps of a run do not count, nor, in free, the last, beside which nothing is generated. Bar: 0.9 for both.

With ``--target`` a run of each mode besides, from the same start, until its macro-F1 on 200 held-out pairs, balanced
over tiers, is that high; one that does not get there goes to its end. Seconds are from the beginning of the first step
to the end of the step that made those weights, with the evaluations before it in every mode: between two steps in sync,
beside training in the others. The demo has 50 steps, which set its learning rates.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from agrl.driver.step import GENERATION
from benchmarks.busy import agrl, world

MODES = {
    "sync": ["trainer.max_staleness=0"],
    "lockstep": ["trainer.max_staleness=1"],
    "free": ["trainer.max_staleness=2", "trainer.overlap=free"],
}
AHEAD = 3  # batches that the mode free is ahead of training at most
PLACES = {"RolloutEngine": 0, "LearnerRank": 1}  # class of an actor -> its CPU
SKIPPED = 2  # steps at the start of a run
TRAINING = ("learn", "broadcast")
HELD_OUT, PAIRS = "balanced", 200  # the set of a target, and how much of it
FEW = 16  # held-out pairs, where nobody asks for their scores
TOLD_TO_STOP = 128 + signal.SIGTERM


def pin(root: psutil.Process) -> None:
    """Put every thread of the actors below ``root`` on their CPU."""
    for process in root.children(recursive=True):
        try:
            words = " ".join(process.cmdline())
            cpu = next((cpu for name, cpu in PLACES.items() if f"ray::{name}" in words), None)
            if cpu is None:
                continue
            for each in (process, *process.children(recursive=True)):
                for thread in each.threads():
                    os.sched_setaffinity(thread.id, {cpu})
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue


def run_once(
    folder: Path, name: str, words: Sequence[str], enough: Callable[[Path], bool] = lambda run: False
) -> list[dict[str, float]]:
    """The metrics of every step of a run with pinned actors, which is told to stop when it is ``enough``."""
    run = folder / name
    process = agrl("train", f"run={run}", *words)
    while process.poll() is None:
        if enough(run):
            process.terminate()
            process.wait()
            break
        pin(psutil.Process(process.pid))  # threads come as they are needed
        time.sleep(0.5)
    if process.returncode not in (0, TOLD_TO_STOP):
        raise SystemExit(f"{name} ended with {process.returncode}: see {run}/logs")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def figures(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Of each step that counts: seconds of generation, of training, of the step, and the efficiency."""
    found = []
    for row, after in list(itertools.pairwise(rows))[SKIPPED:]:
        own = sum(row.get(f"time/{phase}", 0.0) for phase in GENERATION)
        generation = after.get("ahead/step", own)  # in lockstep the next batch is what was generated beside this step
        training, step = sum(row.get(f"time/{phase}", 0.0) for phase in TRAINING), row["time/step"]
        efficiency = max(generation, training) / step
        found.append({"generation": generation, "training": training, "step": step, "efficiency": efficiency})
    return found


def free_figures(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """The same of a free-running run as a whole, a step on average."""
    counted = rows[SKIPPED:-AHEAD]
    generation = sum(row["ahead/step"] - row.get("ahead/idle", 0.0) for row in rows[SKIPPED + AHEAD - 1 : -1])
    training = sum(row[f"time/{phase}"] for row in counted for phase in TRAINING)
    step = sum(row["time/step"] for row in counted)
    sums = {"generation": generation, "training": training, "step": step}
    return [{k: v / len(counted) for k, v in sums.items()} | {"efficiency": max(generation, training) / step}]


def scores(run: Path, steps: int) -> dict[int, float]:
    """Steps done -> macro-F1 of the weights then, of what has been evaluated; ``steps``: of the whole run."""
    files = {int(f.stem.split("-")[1]): f for f in sorted(run.glob(f"evaluation/step-*-{HELD_OUT}.json"))}
    after = run / "evaluation" / f"after-{HELD_OUT}.json"
    files |= {steps: after} if after.exists() else {}
    return {done: json.loads(file.read_text())["macro_f1"] for done, file in files.items()}


def to_target(folder: Path, mode: str, words: Sequence[str], args: argparse.Namespace) -> dict[str, float | None]:
    """Steps and seconds of a run of ``mode`` to the target, None where it does not get there; its macro-F1 then."""
    data = f"data.evaluation={{{HELD_OUT}: {folder}/data/{HELD_OUT}.parquet}}"
    words = [*words, data, f"data.max_evaluation={PAIRS}", f"trainer.evaluate_every={args.every}", *MODES[mode]]
    enough = lambda run: any(score >= args.target for score in scores(run, args.steps).values())  # noqa: E731
    rows = run_once(folder, f"{mode}-target", [*words, *args.settings], enough)
    found = scores(folder / f"{mode}-target", args.steps)
    steps = min((done for done, score in found.items() if score >= args.target), default=None)
    if steps is None:
        return {"macro_f1": max(found.values()), "seconds": None, "steps": None}
    began = rows[0]["time"] - rows[0]["time/step"]
    return {"macro_f1": found[steps], "seconds": rows[steps - 1]["time"] - began, "steps": steps}


def say_target(mode: str, found: dict[str, float | None], sync: dict[str, float | None], target: float) -> None:
    if found["seconds"] is None:
        print(f"{mode:9}  never reached {target:g}, {found['macro_f1']:.3f} at best")
        return
    ratio = f", {found['seconds'] / sync['seconds']:.2f} of sync" if sync["seconds"] else ""
    print(f"{mode:9}  {found['macro_f1']:.3f} after {found['steps']} steps, {found['seconds']:.1f} s{ratio}")


def say(modes: dict[str, dict[str, float]]) -> None:
    for mode, median in modes.items():
        print(f"{mode:9}" + "".join(f"  {name} {value:.2f}" for name, value in median.items()))
    for mode in ("lockstep", "free"):
        print(f"a step in mode {mode} takes {modes[mode]['step'] / modes['sync']['step']:.2f} of one in mode sync")


def steps_of(folder: Path, words: Sequence[str], args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Mode -> the median of each figure over the steps of its runs, which take turns."""
    steps: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for number in range(args.rounds):
        for mode, own in MODES.items():
            rows = run_once(folder, f"{mode}-{number}", [*words, "data.max_evaluation=8", *own, *args.settings])
            steps[mode] += free_figures(rows) if mode == "free" else figures(rows)
    return {m: {k: statistics.median(s[k] for s in found) for k in found[0]} for m, found in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the runs")
    parser.add_argument("--steps", type=int, default=12, help="of a run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each mode (%(default)s); 0: only --target")
    parser.add_argument("--target", type=float, metavar="F1", help="also the time to this macro-F1, such as 0.55")
    parser.add_argument("--every", type=int, default=5, help="steps between evaluations for it (%(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    args = parser.parse_args()
    if (os.cpu_count() or 1) < len(PLACES):
        raise SystemExit("this takes two CPUs: one for the engines, one for the learner")
    with tempfile.TemporaryDirectory(prefix="overlap-") as name:
        folder = Path(name)
        words = [
            *world(folder, PAIRS if args.target else FEW),
            f"model.path={folder}/start/model",
            "learner.ranks=1",
            "rollout.actors=1",
        ]
        words += ["learner.threads=1", "rollout.threads=1", f"trainer.steps={args.steps}"]
        modes = steps_of(folder, words, args) if args.rounds else {mode: {} for mode in MODES}
        targets = {mode: to_target(folder, mode, words, args) for mode in MODES} if args.target else {}
    if args.rounds:
        say(modes)
    for mode, found in targets.items():
        say_target(mode, found, targets["sync"], args.target)
        modes[mode]["target"] = found
    if args.json:
        about = {"machine": platform.processor() or platform.machine(), "steps": args.steps, "rounds": args.rounds}
        args.json.write_text(json.dumps({"modes": modes, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
