"""How much of the device the learner uses: whole training calls with optimizer, supervised and RL, at long sequences.

    python benchmarks/gpu/mfu.py [--model tiny] [--device cpu] [--length 16384] [--steps 4] [--json FILE]

The operations are those of the model alone (learner/throughput.py). ``of_product``: over those of a large matrix
product on this device; ``mfu``: over what its maker states, as others give it. On one card prime-rl states 17 to 24 %
for supervised training of a model of 0.6B, and 11 % for RL with all its weights at 16K tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

import numpy as np
import torch

from actors.runtime import Runtime
from agrl.algorithms.batch import TrainSequence
from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.driver.services.learners import LearnerGroup
from agrl.models.build import make_tiny_model
from benchmarks.shapes import SHAPES
from learner.throughput import peak_operations

STATED = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}  # dense bfloat16 operations a second
ROLLOUTS = 4  # of a prompt


def configured(args: argparse.Namespace, folder: Path) -> Config:
    return load_config(
        [
            "experiment=agrl_tiny",
            "ray=inline",
            f"run={folder / 'run'}",
            f"model.path={folder / 'model'}",
            f"model.dtype={args.dtype}",
            f"model.gradient_checkpointing={str(args.checkpointing).lower()}",
            f"task.max_prompt_tokens={args.length // 8}",
            f"task.max_response_tokens={args.length - args.length // 8}",
            f"learner.micro_batch_tokens={args.length}",
            f"learner.gpus_per_rank={int(args.device == 'cuda')}",
            "learner.ranks=1",
            "rollout.actors=1",
            "learner.threads=0",
            "sync.check=false",
        ]
    )


def sequences(length: int, groups: int, rollouts: int, advantage: float) -> list[TrainSequence]:
    """Of ``length`` tokens each, an eighth of it prompt."""
    generator, prompt = np.random.default_rng(0), length // 8
    draw = lambda n: generator.integers(2, 250, n, dtype=np.int32)  # noqa: E731
    found = []
    for _ in range(groups):
        ids = draw(prompt)
        for i in range(rollouts):
            answer = draw(length - prompt)
            old = np.full(len(answer), -6.0, np.float32)
            found.append(TrainSequence(ids, answer, old, advantage if i % 2 else -advantage))
    return found


def measured(metrics: list[dict[str, float]], args: argparse.Namespace) -> dict:
    """Medians of the calls after the first."""
    kept = metrics[1:] or metrics
    median = lambda name: statistics.median(m[f"learner/{name}"] for m in kept)  # noqa: E731
    share = median("flop_utilisation")
    operations = share * peak_operations(args.dtype, args.device)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    stated = next((peak for card, peak in STATED.items() if card in name), None)
    return {
        "seconds": median("seconds"),
        "tokens_per_s": median("computed_tokens_per_s"),
        "operations_per_s": operations,
        "of_product": share,
        "mfu": operations / stated if stated else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--length", type=int, default=16384, help="tokens of a sequence (%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="after one that does not count (%(default)s)")
    parser.add_argument("--checkpointing", action="store_true", help="model.gradient_checkpointing")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(Path(folder) / "model", ["search: red grinder\n"] * 20, SHAPES[args.model])
        config = configured(args, Path(folder))
        learner = LearnerGroup(Runtime("inline"), config, Path(folder))
        print(learner.setup() or f"learner.packing={learner.packing}")
        supervised, policy = sequences(args.length // 4, 8, 1, 0.0), sequences(args.length, 1, ROLLOUTS, 1.0)
        results = {
            "sft": measured([learner.train_sft(supervised, 1e-6) for _ in range(args.steps + 1)], args),
            "rl": measured([learner.train_policy(policy, 1e-6) for _ in range(args.steps + 1)], args),
        }
    for kind, r in results.items():
        stated = f", {r['mfu']:.0%} of what its maker states" if r["mfu"] else ""
        print(f"{kind}: {r['tokens_per_s']:,.0f} tokens a second, {r['of_product']:.0%} of a large product{stated}")
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
        args.json.write_text(json.dumps(settings | {"device": device, "results": results}, indent=1))


if __name__ == "__main__":
    main()
