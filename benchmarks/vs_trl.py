"""A training step of AGRL against TRL's GRPOTrainer: same model, prompts, rewards, loss, sampling and optimizer.

    python benchmarks/vs_trl.py [--workloads relevance short long] [--rounds 3] [--steps 3] [--json FILE]
    python benchmarks/vs_trl.py --device cuda --model qwen3-0.6b

Each side is a process of its own that keeps its engine and optimizer; the two take turns, ``--steps`` steps each, so
that whatever else the machine does meets both, and the one that waits uses no CPU. A ratio is TRL's median seconds of a
step over AGRL's in one round; reported are the median of the rounds' ratios and their spread. The first steps of each
side warm it up and count only as learning. Both start from the same model, which a short supervised training on the
same prompts has taught the form of an answer: so rewards differ within a group and every group is trained on.

The loss is DAPO's (token mean, no KL), one optimizer step a batch. TRL can generate with vLLM in its own process, with
transformers' continuous batching, or with transformers' plain generation; ``--trl auto`` tries each and takes the one
with the fastest step, in one process with all threads or in a process a thread (data parallel), with large
micro-batches or with such as fit a CPU's caches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

import psutil

from benchmarks.shapes import SHAPES
from benchmarks.workloads import WORKLOADS, Workload, make_world

HOPELESS = 3  # times the fastest: not tried for a second step
HERE = Path(__file__).parent
GENERATION = ("vllm", "continuous", "transformers")  # TRL's three: vLLM in its process, and transformers' two


class Side:
    """One of the two processes."""

    def __init__(self, script: str, job: dict[str, Any], log: Path) -> None:
        self.log = log
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job['processes']}"]
        launcher = several if job["processes"] > 1 else []
        command = [sys.executable, *launcher, str(HERE / script), json.dumps(job)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log.open("w")}
        self.process = subprocess.Popen(command, text=True, bufsize=1, cwd=HERE.parent, **pipes)
        self.peak, self.rows, self.watching = 0, [], True
        threading.Thread(target=self._watch, daemon=True).start()
        self._answer()

    def steps(self, count: int) -> list[dict[str, Any]]:
        """Train ``count`` steps."""
        self.process.stdin.write(f"{count}\n")
        found = [self._answer() for _ in range(count)]
        self.rows += found
        return found

    def close(self) -> None:
        self.process.stdin.close()
        for end in (lambda: None, self.process.terminate, self.process.kill):
            end()
            try:
                self.process.wait(30)
                return
            except subprocess.TimeoutExpired:
                continue

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{self.log.stem} ended, exit code {self.process.wait()}; its log ends:\n{tail}")
        return json.loads(line)

    def _watch(self) -> None:
        """The most memory that the process and its children have at once: resident, shared pages once each.

        Looking stops them, for more than a tenth of the time, so it ends before steps are timed.
        """
        try:
            root = psutil.Process(self.process.pid)
            while self.watching and self.process.poll() is None:
                self.peak = max(self.peak, sum(_memory(p) for p in [root, *root.children(recursive=True)]))
                time.sleep(0.5)
        except psutil.Error:
            return


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def compare(name: str, work: Workload, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    job = {
        "overrides": make_world(folder, work, args),
        "folder": str(folder),
        "threads": args.threads,
        "device": args.device,
        "prompts": work.prompts,
        "rollouts": work.rollouts,
        "response": work.response,
    }
    trl, way = start_trl(job, folder, [way for way in ways(work, args) if args.trl in ("auto", way.generation)])
    ours = Side("agrl_side.py", job | {"processes": 1}, folder / "agrl.log")
    sides = {"trl": trl, "agrl": ours}
    try:
        for side in sides.values():
            side.steps(args.warmup)
            side.watching = False
        ratios, seconds = [], {which: [] for which in sides}
        for _ in range(args.rounds):
            medians = {}
            for which, side in sides.items():
                found = [row["seconds"] for row in side.steps(args.steps)]
                seconds[which] += found
                medians[which] = statistics.median(found)
            ratios.append(medians["trl"] / medians["agrl"])
            print(f"  {name}: TRL {medians['trl']:.2f} s, AGRL {medians['agrl']:.2f} s a step", flush=True)
    finally:
        for side in sides.values():
            side.close()
    return {
        "workload": vars(work),
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "trl_way": vars(way),
        **{which: about(side, seconds[which], args.warmup) for which, side in sides.items()},
    }


@dataclass(frozen=True)
class Way:
    """TRL's: how it generates, in how many data-parallel processes, which share the threads, and how many sequences
    it learns from at once."""

    generation: str
    processes: int
    micro_batch: int

    def __str__(self) -> str:
        several = f"{self.processes} process{'es' * (self.processes > 1)}"
        return f"{self.generation} generation, {several}, micro-batches of {self.micro_batch}"


def ways(work: Workload, args: argparse.Namespace) -> list[Way]:
    on_gpu, batch, length = args.device == "cuda", work.prompts * work.rollouts, work.prompt + work.response
    processes = [1] if on_gpu else sorted({1, args.threads})
    limits = {max(1, tokens // length) for tokens in ((32768,) if on_gpu else (8192, 2048))}
    micro = [max(n for n in range(1, limit + 1) if batch % n == 0) for limit in sorted(limits, reverse=True)]
    return [Way(*way) for way in product(GENERATION, processes, micro)]


def start_trl(job: dict[str, Any], folder: Path, ways: list[Way]) -> tuple[Side, Way]:
    """TRL in the way that makes the fastest step of those that run, each tried for one step.

    How it generates and in how many processes is tried first, then the micro-batches of the fastest.
    """
    first = {(way.generation, way.processes): way for way in reversed(ways)}
    fastest: dict[Way, float] = {}
    for way in first.values():
        if seconds := _try(job, folder, way, HOPELESS * min(fastest.values(), default=float("inf"))):
            fastest[way] = seconds
    if not fastest:
        raise RuntimeError(f"TRL does not run here; its logs are in {folder}")
    best = min(fastest, key=fastest.get)
    for way in ways:
        same = (way.generation, way.processes) == (best.generation, best.processes)
        if same and way not in fastest and (seconds := _try(job, folder, way)):
            fastest[way] = seconds
    best = min(fastest, key=fastest.get)
    return Side("trl_side.py", job | vars(best), _log(folder, best)), best


def _try(job: dict[str, Any], folder: Path, way: Way, limit: float = float("inf")) -> float | None:
    """Seconds of a step after one that warms up, of that where it takes over ``limit``; None where it does not run."""
    side = None
    try:
        side = Side("trl_side.py", job | vars(way), _log(folder, way))
        seconds = side.steps(1)[0]["seconds"]
        if seconds < limit:
            seconds = side.steps(1)[0]["seconds"]
    except RuntimeError as error:
        lines = [line.strip(" =") for line in str(error).splitlines()]
        print(f"  TRL with {way} does not run here: {[line for line in lines if line][-1]}", flush=True)
        return None
    finally:
        if side is not None:
            side.close()
    print(f"  TRL with {way}: {seconds:.1f} s a step", flush=True)
    return seconds


def _log(folder: Path, way: Way) -> Path:
    return folder / f"trl-{way.generation}-{way.processes}-{way.micro_batch}.log"


def about(side: Side, seconds: list[float], warmup: int) -> dict[str, Any]:
    timed = side.rows[-len(seconds) :]
    phases = {name: statistics.median(row["phases"].get(name, 0.0) for row in timed) for name in timed[0]["phases"]}
    spent = [sum(row["phases"].values()) for row in timed]
    overhead = [1 - used / row["seconds"] for used, row in zip(spent, timed, strict=True)]
    rewards = [row["reward"] for row in side.rows]
    third = max(1, len(rewards) // 3)
    found = {
        "seconds_per_step": statistics.median(seconds),
        "phases": phases,
        "overhead_fraction": statistics.median(overhead),
        "peak_rss_mib": side.peak / 2**20,
        "reward_first": statistics.fmean(rewards[:third]),
        "reward_last": statistics.fmean(rewards[-third:]),
    }
    if "trained_groups" in timed[0]:
        found["trained_groups"] = statistics.fmean(row["trained_groups"] for row in timed)
        found["figures"] = {k: statistics.median(r["figures"][k] for r in timed) for k in timed[0]["figures"]}
    return found


def sentence(name: str, r: dict[str, Any]) -> str:
    """A comparison in words."""
    low, high = r["ratio_spread"]
    rewards = [f"{r[side]['reward_first']:.2f} -> {r[side]['reward_last']:.2f}" for side in ("trl", "agrl")]
    return (
        f"{name}: AGRL {r['ratio']:.1f} times faster a step ({low:.1f} to {high:.1f}), "
        f"{r['agrl']['seconds_per_step']:.1f} s against {r['trl']['seconds_per_step']:.1f} s of TRL with "
        f"{Way(**r['trl_way'])}; overhead {r['agrl']['overhead_fraction']:.1%}; memory "
        f"{r['agrl']['peak_rss_mib']:,.0f} against {r['trl']['peak_rss_mib']:,.0f} MiB; reward {rewards[1]} against "
        f"{rewards[0]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["relevance", "short", "long"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps of a side in a round")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--sft-steps", type=int, default=150)
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side (%(default)s)")
    parser.add_argument("--trl", choices=("auto", *GENERATION), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found = {}
    for name in args.workloads:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = compare(name, WORKLOADS[name], args, Path(folder))
        print(sentence(name, found[name]), flush=True)
        if args.json:
            settings = {k: v for k, v in vars(args).items() if k != "json"}
            versions = {"python": platform.python_version(), "trl": version("trl"), "cpus": os.cpu_count()}
            args.json.write_text(json.dumps(versions | {"settings": settings, "workloads": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
