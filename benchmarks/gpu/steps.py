"""Whole RL steps of the project itself at a real model's shape, learner and engine in turns on one GPU.

    python benchmarks/gpu/steps.py [--model tiny] [--device cpu] [--steps 4] [--transport object_store] [--json FILE]

Random weights: no answer parses, so groups learn from the ground-truth trajectory. Reported, medians over the steps
after the first: seconds by phase, the learner's share of the device, tokens a second of the engine, and the gap between
the engine's log-probabilities and the learner's, which in bfloat16 is the rounding of two implementations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.config.words import setting
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.driver.training import train
from agrl.report.terminal import close_terminal, open_terminal
from benchmarks.shapes import SHAPES

LOOSE_GAP = 10.0  # nats: it is measured here, not judged


def configured(args: argparse.Namespace, folder: Path) -> Config:
    data, gpus = folder / "data", int(args.device == "cuda")
    sets = {"balanced": data / "balanced.parquet", "wild": data / "balanced.parquet"}
    return load_config(
        [
            "experiment=agrl_tiny",
            setting("run", folder / "run"),
            setting("model.path", folder / "model"),
            setting("data.train", data / "train.parquet"),
            setting("data.evaluation", sets),
            f"model.dtype={args.dtype}",
            f"task.max_response_tokens={args.response}",
            f"trainer.steps={args.steps + 1}",
            f"trainer.prompts_per_step={args.prompts}",
            f"trainer.rollouts_per_prompt={args.rollouts}",
            "ray.placement=colocated",
            "learner.ranks=1",
            f"learner.gpus_per_rank={gpus}",
            f"learner.threads={args.threads}",
            f"learner.micro_batch_tokens={args.budget}",
            "rollout.actors=1",
            f"rollout.gpus_per_actor={gpus}",
            f"rollout.threads={args.threads}",
            "rollout.gpu_memory_utilization=0.5",
            f"sync.transport={args.transport}",
            f"sync.max_mean_gap={LOOSE_GAP}",
            "guidance.source=reference",
            "guidance.semantics=expert",
            "guidance.tau=1.0",
            "guidance.warmup_steps=0",
            "trainer.max_idle_steps=0",
        ]
    )


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of what says where the time went and what the device did."""
    kept = ("time/", "learner/", "rollout/tokens_per_s", "rollout/engine_seconds", "sync/gap", "tokens/trained")
    names = [name for name in rows[0] if name.startswith(kept)]
    return {name: statistics.median(row[name] for row in rows if name in row) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--steps", type=int, default=4, help="after one that does not count (%(default)s)")
    parser.add_argument("--prompts", type=int, default=32, help="of a step (%(default)s)")
    parser.add_argument("--rollouts", type=int, default=8, help="of a prompt (%(default)s)")
    parser.add_argument("--response", type=int, default=128, help="tokens at most (%(default)s)")
    parser.add_argument("--budget", type=int, default=32768, help="learner.micro_batch_tokens (%(default)s)")
    parser.add_argument("--transport", default="object_store", help="sync.transport (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of a process; 0: its share of the CPUs (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_catalogue(folder / "data", CatalogueSpec(seed_rows=200, pool_rows=400, balanced_rows=8, wild_rows=8))
        tiny_model(folder / "model", folder / "data" / "seed.parquet", "relevance", "brief", SHAPES[args.model])
        try:
            train(configured(args, folder), open_terminal(folder / "terminal.log"))
        finally:
            close_terminal()
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    found = medians([json.loads(line) for line in lines][1:])
    print(json.dumps(found, indent=1))
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps(settings | {"results": found}, indent=1))


if __name__ == "__main__":
    main()
