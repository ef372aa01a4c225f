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
with the fastest step, in one process with all threads or in a process a thread (data parallel).
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

import psutil

from agrl.config.compose import load_config
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.data.files import read_examples, write_examples
from agrl.driver.prompts import PromptEncoder
from agrl.driver.sft import supervised
from agrl.driver.tiny_model import tiny_model
from agrl.models.tokens import load_tokenizer
from agrl.relevance.records import Example
from agrl.relevance.rulebook import load_rulebook
from agrl.report.terminal import close_terminal, open_terminal
from benchmarks.shapes import SHAPES

HERE = Path(__file__).parent
FILLER = "box"  # a word of the catalogue: one token
GENERATION = ("vllm", "continuous", "transformers")  # TRL's three: vLLM in its process, and transformers' two


@dataclass(frozen=True)
class Workload:
    """``prompt`` tokens exactly, ``response`` tokens at most, ``prompts`` a step with ``rollouts`` each."""

    prompt: int
    rollouts: int
    response: int
    prompts: int


WORKLOADS = {
    "relevance": Workload(384, 16, 64, 16),
    "short": Workload(64, 8, 64, 32),
    "long": Workload(768, 16, 96, 8),
}


ON_GPU = [  # both services on one GPU, taking turns
    "model.dtype=bfloat16",
    "rollout.gpus_per_actor=0.5",
    "rollout.gpu_memory_utilization=0.4",
    "learner.gpus_per_rank=0.5",
    "learner.micro_batch_tokens=32768",
    "sync.max_mean_gap=0.05",
]


def make_world(folder: Path, work: Workload, args: argparse.Namespace) -> list[str]:
    """Data whose prompts have exactly the length asked for, and a start; returns the overrides of the RL run."""
    make_catalogue(folder / "made", CatalogueSpec(seed_rows=1500, pool_rows=800, balanced_rows=16, wild_rows=16))
    data = {name: folder / f"{name}.parquet" for name in ("seed", "train", "balanced")}
    tiny_model(folder / "model", folder / "made" / "seed.parquet", "relevance", "brief", SHAPES[args.model])
    overrides = [
        "experiment=agrl_tiny",
        f"run={folder / 'sft'}",
        f"model.path={folder / 'model'}",
        f"data.seed={data['seed']}",
        f"data.train={data['train']}",
        f"data.evaluation={{balanced: {data['balanced']}, wild: {data['balanced']}}}",
        f"task.max_prompt_tokens={work.prompt}",
        f"task.max_response_tokens={work.response}",
        "learner.micro_batch_tokens=8192",
        f"learner.threads={args.threads}",
        f"rollout.threads={args.threads}",
        f"sft.steps={args.sft_steps}",
        f"sft.lr={3e-3 if args.model == 'tiny' else 3e-4}",
        "sft.hints=false",
        "sft.batch_size=16",
        *(ON_GPU if args.device == "cuda" else []),
    ]
    config = load_config(overrides)
    encoder = PromptEncoder(load_rulebook("relevance"), load_tokenizer(config.model.path), config.task)
    for name, path in data.items():
        rows = [e for e in read_examples(folder / "made" / f"{name}.parquet") if not e.hint_level]
        write_examples(path, [filled(encoder, e, work.prompt) for e in rows if fits(encoder, e, work.prompt)])
    supervised(config, open_terminal(folder / "world.log"))
    close_terminal()
    return [
        *overrides,
        f"model.path={folder / 'sft' / 'model'}",
        "algorithm=grpo_rrs",
        "loss=dapo",
        "learner.optimizer_steps_per_batch=1",
        "learner.kl_coef=0",
        "learner.schedule=constant",
        f"learner.lr={3e-4 if args.model == 'tiny' else 1e-5}",
        "replay.sampling=uniform",
        "reward.mode=rules",
        f"trainer.prompts_per_step={work.prompts}",
        f"trainer.rollouts_per_prompt={work.rollouts}",
        "trainer.steps=10000",
    ]


def fits(encoder: PromptEncoder, example: Example, length: int) -> bool:
    return len(encoder.prompt(filler(example, 1))) <= length


def filled(encoder: PromptEncoder, example: Example, length: int) -> Example:
    """The example with a description that makes its prompt exactly ``length`` tokens long."""
    missing = length - len(encoder.prompt(filler(example, 1)))
    found = filler(example, 1 + missing)
    actual = len(encoder.prompt(found))
    assert actual == length, f"{actual} tokens instead of {length}: the filler is not one token"
    return replace(found, id=example.id)


def filler(example: Example, words: int) -> Example:
    text = " ".join([FILLER] * words)
    return replace(example, id=f"{example.id}+{words}", product=replace(example.product, text=text))


class Side:
    """One of the two processes."""

    def __init__(self, script: str, job: dict[str, Any], log: Path) -> None:
        self.log = log
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job['processes']}"]
        launcher = several if job["processes"] > 1 else []
        command = [sys.executable, *launcher, str(HERE / script), json.dumps(job)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log.open("w")}
        self.process = subprocess.Popen(command, text=True, bufsize=1, cwd=HERE.parent, **pipes)
        self.peak, self.rows = 0, []
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
        """The most memory that the process and its children have had at once: resident, shared pages once each."""
        try:
            root = psutil.Process(self.process.pid)
            while self.process.poll() is None:
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
    limit = args.trl_micro_batch or max(1, (32768 if args.device == "cuda" else 8192) // (work.prompt + work.response))
    batch = work.prompts * work.rollouts
    job = {
        "overrides": make_world(folder, work, args),
        "folder": str(folder),
        "threads": args.threads,
        "device": args.device,
        "prompts": work.prompts,
        "rollouts": work.rollouts,
        "response": work.response,
        "micro_batch": max(n for n in range(1, limit + 1) if batch % n == 0),
    }
    trl, generation = start_trl(job, folder, args.trl)
    ours = Side("agrl_side.py", job | {"processes": 1}, folder / "agrl.log")
    sides = {"trl": trl, "agrl": ours}
    try:
        for side in sides.values():
            side.steps(args.warmup)
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
        "trl_generation": generation,
        "trl_micro_batch": job["micro_batch"],
        **{which: about(side, seconds[which], args.warmup) for which, side in sides.items()},
    }


def start_trl(job: dict[str, Any], folder: Path, how: str) -> tuple[Side, str]:
    """TRL as it is asked for, or in the way that makes the fastest step of those that run, each tried for one step.

    A way: how it generates, and in how many data-parallel processes, which share the threads.
    """
    ways = [(generation, processes) for generation in GENERATION for processes in sorted({1, job["threads"]})]
    ways = [way for way in ways if how in ("auto", way[0]) and (job["device"] == "cpu" or way[1] == 1)]
    best: tuple[float, Side, str] | None = None
    for generation, processes in ways:
        name = f"{generation} generation, {processes} process{'es' * (processes > 1)}"
        log = folder / f"trl-{generation}-{processes}.log"
        try:
            side = Side("trl_side.py", job | {"generation": generation, "processes": processes}, log)
            side.steps(1)  # warms up
            seconds = side.steps(1)[0]["seconds"]
        except RuntimeError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1]
            print(f"  TRL with {name} does not run here: {reason}", flush=True)
            continue
        print(f"  TRL with {name}: {seconds:.1f} s a step", flush=True)
        if best is None or seconds < best[0]:
            best, side = (seconds, side, name), best and best[1]
        if side is not None:
            side.close()
    if best is None:
        raise RuntimeError(f"TRL does not run here; its logs are in {folder}")
    return best[1:]


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
        f"{r['trl_generation']}; overhead {r['agrl']['overhead_fraction']:.1%}; memory "
        f"{r['agrl']['peak_rss_mib']:,.0f} against {r['trl']['peak_rss_mib']:,.0f} MiB; reward {rewards[1]} against "
        f"{rewards[0]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps of a side in a round")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--sft-steps", type=int, default=150)
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side (%(default)s)")
    parser.add_argument("--trl", choices=("auto", *GENERATION), default="auto")
    parser.add_argument("--trl-micro-batch", type=int, default=0, help="sequences (default: 8,192 tokens; GPU: 32,768)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found = {}
    for name in args.workloads:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = compare(name, WORKLOADS[name], args, Path(folder))
        print(sentence(name, found[name]), flush=True)
    if args.json:
        import trl

        settings = {k: v for k, v in vars(args).items() if k != "json"}
        about_machine = {"python": platform.python_version(), "trl": trl.__version__, "cpus": os.cpu_count()}
        args.json.write_text(json.dumps(about_machine | {"settings": settings, "workloads": found}, indent=1))


if __name__ == "__main__":
    main()
