"""A learner step with shared prompts against padded batches: forward, loss and backward of the same groups.

    python benchmarks/learner.py [--quick] [--shapes 4096x4x512] [--model tiny] [--device cpu] [--json FILE]

A grid of prompt length, rollouts a prompt and response length (which vary by 30%). The two take turns, so that whatever
else the machine does meets both; each ratio is of neighbours in time. Reported: the median ratio and its quartiles, the
median seconds, the tokens that pass through the model, the share of the device's peak that the model's own operations
make up, and on a GPU the most memory that was allocated.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, in which this file would hide the package learner

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.models.build import model_config
from agrl.models.logprobs import PolicyModel
from agrl.models.shared_prompt import share_prompts
from benchmarks.shapes import SHAPES
from learner.model import Model
from learner.throughput import ModelCost, Work, peak_operations

GRID = {"prompt": (64, 256, 384, 768), "rollouts": (4, 8, 16), "response": (32, 64, 128)}
QUICK = {"prompt": (64, 384), "rollouts": (8,), "response": (64,)}
VOCABULARY = 2048


@dataclass
class Side:
    """Medians of one way to lay out a step."""

    seconds: float
    tokens: int
    flop_utilisation: float
    peak_memory_mib: float


@dataclass
class Result:
    """``ratio``: padded over shared seconds, median and quartiles."""

    prompt: int
    rollouts: int
    response: int
    ratio: float
    ratio_quartiles: tuple[float, float]
    padded: Side
    shared: Side


class Backward:
    """An engine that only computes gradients."""

    def __init__(self, policy: PolicyModel) -> None:
        self.policy, self.device = policy, policy.lm.device

    def logprobs(self, batch, temperature, entropy_gradient=False):
        return self.policy(batch.to(self.device), temperature, entropy_gradient)


def make_groups(groups: int, prompt: int, rollouts: int, response: int) -> list[TrainSequence]:
    """Groups with a prompt each; lengths are uniform within 30% of the given ones."""
    generator = np.random.default_rng(0)
    draw = lambda n: generator.integers(0, VOCABULARY, int(n * generator.uniform(0.7, 1.3)), dtype=np.int32)  # noqa: E731
    found = []
    for _ in range(groups):
        ids = draw(prompt)
        for answer in (draw(response) for _ in range(rollouts)):
            found.append(TrainSequence(ids, answer, np.zeros(len(answer), np.float32)))
    return found


def step(model: Model, sequences: list[TrainSequence], budget: int) -> float:
    """Seconds of planning, forward and backward."""
    begin = time.perf_counter()
    for micro in plan_minibatches(sequences, 1, 1, budget, packing=model.packing)[0].micro[0]:
        logprobs, _ = model.forward([sequences[i] for i in micro], 1.0)
        logprobs.mean().backward()
    model.engine.policy.zero_grad()
    if model.engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(policy: PolicyModel, shape: tuple[int, int, int], args: argparse.Namespace) -> Result:
    prompt, rollouts, response = shape
    sequences = make_groups(max(1, args.tokens // (rollouts * (prompt + response))), *shape)
    cost = ModelCost.of(policy.lm)
    models = [Model(Backward(policy), Work(cost), packing=packing) for packing in ("padded", "shared")]
    work, memory = [], []
    for model in models:  # warm up
        if args.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step(model, sequences, args.budget)
        work.append(model.work.sums())
        memory.append(torch.cuda.max_memory_allocated() / 2**20 if args.device == "cuda" else float("nan"))
    seconds = np.array([[step(model, sequences, args.budget) for model in models] for _ in range(args.repeats)])
    low, ratio, high = np.percentile(seconds[:, 0] / seconds[:, 1], (25, 50, 75))
    peak = peak_operations(args.dtype, args.device)
    sides = [
        Side(taken, done["work_computed"], done["work_operations"] / taken / peak, most)
        for taken, done, most in zip(np.median(seconds, 0).tolist(), work, memory, strict=True)
    ]
    return Result(*shape, ratio, (low, high), *sides)


def shape_of(text: str) -> tuple[int, int, int]:
    prompt, rollouts, response = text.split("x")
    return int(prompt), int(rollouts), int(response)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two shapes instead of the grid")
    parser.add_argument("--shapes", nargs="+", type=shape_of, metavar="PROMPTxROLLOUTSxRESPONSE", help="these instead")
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=8192, help="unshared tokens of a step, about")
    parser.add_argument("--budget", type=int, default=2048, help="learner.micro_batch_tokens")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = model_config(SHAPES[args.model], VOCABULARY)
    lm = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype), attn_implementation="sdpa")
    lm.to(args.device).train()
    assert not share_prompts(lm, flex=args.device == "cuda")
    print(f"{lm.num_parameters() / 1e6:,.1f} million parameters, on {args.device}")
    print("prompt  G  response   times faster (quartiles)   padded s  shared s   tokens padded, shared   FLOP use")
    results = []
    for shape in args.shapes or product(*(QUICK if args.quick else GRID).values()):
        r = measure(PolicyModel(lm), shape, args)
        results.append(r)
        print(
            f"{r.prompt:6} {r.rollouts:2} {r.response:9}   {r.ratio:12.2f} ({r.ratio_quartiles[0]:.2f} - "
            f"{r.ratio_quartiles[1]:.2f})  {r.padded.seconds:9.2f} {r.shared.seconds:9.2f}   {r.padded.tokens:,}, "
            f"{r.shared.tokens:,}   {r.padded.flop_utilisation:.0%}, {r.shared.flop_utilisation:.0%}",
            flush=True,
        )
    if args.json:
        about = {"python": platform.python_version(), "torch": torch.__version__}
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps(about | settings | {"results": [asdict(r) for r in results]}, indent=1))


if __name__ == "__main__":
    main()
