"""A learner step with shared prompts against padded batches: forward, loss and backward of the same groups.

    python benchmarks/packing.py [--quick] [--threads 1] [--repeats 7] [--json FILE]

A grid of prompt length, rollouts a prompt and response length (which vary by 30%), on a small Qwen3. The two take
turns, so that whatever else the machine does meets both; each ratio is of neighbours in time. Reported: the median
ratio and its quartiles, the median seconds, and the tokens that pass through the model.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.models.logprobs import PolicyModel
from agrl.models.shared_prompt import share_prompts
from learner.model import Model
from learner.throughput import ModelCost, Work

GRID = {"prompt": (64, 256, 768), "rollouts": (4, 8, 16), "response": (32, 64, 128)}
QUICK = {"prompt": (64, 256), "rollouts": (8,), "response": (32,)}
VOCABULARY = 2048


@dataclass
class Result:
    """``ratio``: padded over shared seconds, median and quartiles; tokens: those that pass through the model."""

    prompt: int
    rollouts: int
    response: int
    ratio: float
    ratio_low: float
    ratio_high: float
    padded_seconds: float
    shared_seconds: float
    padded_tokens: int
    shared_tokens: int


class Backward:
    """An engine that only computes gradients."""

    device = torch.device("cpu")

    def __init__(self, policy: PolicyModel) -> None:
        self.policy = policy

    def logprobs(self, batch, temperature, entropy_gradient=False):
        return self.policy(batch, temperature, entropy_gradient)


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


def step(model: Model, sequences: list[TrainSequence], budget: int) -> tuple[float, int]:
    """Seconds of planning, forward and backward, and the tokens that passed through the model."""
    begin = time.perf_counter()
    for micro in plan_minibatches(sequences, 1, 1, budget, shared=model.shared)[0].micro[0]:
        logprobs, _ = model.forward([sequences[i] for i in micro], 1.0)
        logprobs.mean().backward()
    model.engine.policy.zero_grad()
    return time.perf_counter() - begin, model.work.sums()["work_computed"]


def measure(policy: PolicyModel, shape: tuple[int, int, int], args: argparse.Namespace) -> Result:
    prompt, rollouts, response = shape
    groups = max(1, args.tokens // (rollouts * (prompt + response)))
    sequences = make_groups(groups, prompt, rollouts, response)
    models = [Model(Backward(policy), Work(ModelCost.of(policy.lm)), shared=shared) for shared in (False, True)]
    tokens = [step(model, sequences, args.budget)[1] for model in models]  # warm up
    rounds = range(args.repeats)
    seconds = np.array([[step(model, sequences, args.budget)[0] for model in models] for _ in rounds])
    low, ratio, high = np.percentile(seconds[:, 0] / seconds[:, 1], (25, 50, 75))
    return Result(*shape, ratio, low, high, *np.median(seconds, 0).tolist(), *tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two shapes instead of the grid")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=8192, help="unshared tokens of a step, about")
    parser.add_argument("--budget", type=int, default=2048, help="learner.micro_batch_tokens")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 32,
        num_key_value_heads=args.hidden // 64,
        head_dim=32,
        intermediate_size=3 * args.hidden,
        tie_word_embeddings=True,
    )
    lm = Qwen3ForCausalLM(config).train()
    assert not share_prompts(lm)
    print("prompt  G  response   times faster (quartiles)   padded s  shared s   tokens padded, shared")
    results = []
    for shape in product(*(QUICK if args.quick else GRID).values()):
        r = measure(PolicyModel(lm), shape, args)
        results.append(r)
        print(
            f"{r.prompt:6} {r.rollouts:2} {r.response:9}   {r.ratio:12.2f} ({r.ratio_low:.2f} - {r.ratio_high:.2f})"
            f"  {r.padded_seconds:9.2f} {r.shared_seconds:9.2f}   {r.padded_tokens:,}, {r.shared_tokens:,}",
            flush=True,
        )
    if args.json:
        about = {"python": platform.python_version(), "torch": torch.__version__}
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps(about | settings | {"results": [asdict(r) for r in results]}, indent=1))


if __name__ == "__main__":
    main()
