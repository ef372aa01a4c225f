"""Packed and shared-prompt rows against padded batches: are log-probabilities and gradient the same, and how fast?

    python benchmarks/gpu/packing.py [--model tiny] [--device cpu] [--dtype float32] [--json FILE]

On a GPU shared prompts go through FlexAttention, on a CPU through PyTorch's flash kernel; packed rows of whole
sequences through the masks of transformers. Reported for each: the largest difference of a log-probability in nats,
that of the gradient relative to its norm, and how many times faster forward and backward are.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

import torch
from transformers import AutoModelForCausalLM

from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.models.build import model_config
from agrl.models.logprobs import PolicyModel
from agrl.models.packing import choose_packing
from benchmarks.learner import VOCABULARY, Backward, make_groups, shape_of, step
from benchmarks.shapes import SHAPES
from learner.model import Model
from learner.throughput import ModelCost, Work

GROUPS = ((200, 3, 60), (5, 1, 90), (384, 8, 64))  # prompt, rollouts, response
BUDGET = 8192


def build(args: argparse.Namespace, wanted: str) -> tuple[Model, str]:
    """The same random model each time, prepared for a layout; and why that is not the wanted one."""
    torch.manual_seed(0)
    config = model_config(SHAPES[args.model], VOCABULARY)
    lm = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype), attn_implementation="sdpa")
    lm.to(args.device)
    packing, reason = choose_packing(lm, wanted, flex=args.device == "cuda")
    return Model(Backward(PolicyModel(lm.train())), Work(ModelCost.of(lm)), packing=packing), reason


def outcome(model: Model, sequences: list[TrainSequence]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all response tokens, in the order of the sequences, and a gradient."""
    found: dict[int, torch.Tensor] = {}
    for micro in plan_minibatches(sequences, 1, 1, BUDGET, packing=model.packing)[0].micro[0]:
        logprobs, _ = model.forward([sequences[i] for i in micro], 1.0)
        (logprobs.float() ** 2).sum().backward()
        lengths = [len(sequences[i].response_ids) for i in micro]
        found |= dict(zip(micro, logprobs.detach().float().split(lengths), strict=True))
    gradient = torch.cat([p.grad.float().flatten() for p in model.engine.policy.parameters()])
    model.engine.policy.zero_grad()
    return torch.cat([found[i] for i in range(len(sequences))]), gradient


def compare(args: argparse.Namespace, wanted: str, sequences: list[TrainSequence]) -> dict:
    padded, _ = build(args, "padded")
    packed, reason = build(args, wanted)
    (expected, expected_gradient), (logprobs, gradient) = (outcome(m, sequences) for m in (padded, packed))
    seconds = [min(step(m, sequences, BUDGET) for _ in range(args.repeats)) for m in (padded, packed)]
    return {
        "wanted": wanted,
        "packing": packed.packing,
        "reason": reason,
        "logprob_difference": float((logprobs - expected).abs().max()),
        "gradient_difference": float((gradient - expected_gradient).norm() / expected_gradient.norm()),
        "times_faster": seconds[0] / seconds[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--shapes", nargs="+", type=shape_of, metavar="PROMPTxROLLOUTSxRESPONSE", default=GROUPS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    sequences = [s for prompt, rollouts, response in args.shapes for s in make_groups(1, prompt, rollouts, response)]
    results = [compare(args, wanted, sequences) for wanted in ("shared", "packed")]
    for r in results:
        print(
            f"{r['packing']:7} {r['logprob_difference']:.1e} nats, gradient {r['gradient_difference']:.1e}, "
            f"{r['times_faster']:.2f} times faster than padded {r['reason']}"
        )
    if args.json:
        settings = {"model": args.model, "device": args.device, "dtype": args.dtype, "torch": torch.__version__}
        args.json.write_text(json.dumps(settings | {"results": results}, indent=1))


if __name__ == "__main__":
    main()
