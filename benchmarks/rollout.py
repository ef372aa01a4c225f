"""Grouped generation in AGRL's rollout actors against vLLM's own offline `LLM.generate`: the same model and requests.

    python benchmarks/rollout.py [--model tiny] [--device cpu] [--prompts 32] [--rollouts 16] [--json FILE]

Random weights, random prompts, responses that nearly always reach the limit (an untrained model seldom samples the
end), seeded sampling with log-probabilities. The actor is a process of its own behind Ray, the other side another
process; they take turns, and the one that waits uses no CPU. Reported: response tokens a second of both, the ratio and
its spread, and the prefix-cache hits of the actor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

import numpy as np

from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.placement import Bundle, Group, Seat
from actors.rollout_pool import RolloutPool
from actors.runtime import Runtime
from agrl.models.build import make_tiny_model
from benchmarks.shapes import SHAPES


def settings(args: argparse.Namespace) -> EngineSettings:
    return EngineSettings(
        dtype=args.dtype,
        kv_cache_gib=2.0,
        max_model_len=args.prompt + args.response,
        gpu_memory_utilization=0.4,  # two engines share the device
        threads=args.threads,
    )


def requests(args: argparse.Namespace, round_: int) -> list[GenerationRequest]:
    generator = np.random.default_rng(round_)
    prompts = generator.integers(2, 250, (args.prompts, args.prompt)).astype(np.int32)
    return [GenerationRequest(str(i), prompt, args.rollouts, seed=i) for i, prompt in enumerate(prompts)]


def offline(args: argparse.Namespace, folder: str) -> None:
    """The other process: a round for each line of standard input, tokens and seconds on standard output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.environ.update(settings(args).environment())
    on_cpu = args.device == "cpu"
    if on_cpu:
        os.environ.update(TORCHDYNAMO_DISABLE="1", VLLM_CPU_KVCACHE_SPACE="2")
    from vllm import LLM, SamplingParams

    device = {"block_size": 32, "enforce_eager": True, "enable_chunked_prefill": False} if on_cpu else {}
    llm = LLM(
        folder,
        dtype=args.dtype,
        max_model_len=args.prompt + args.response,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        gpu_memory_utilization=0.4,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
        **device,
    )
    answers.write("ready\n")
    for line in sys.stdin:
        asked = requests(args, int(line))
        llm.reset_prefix_cache()
        begin = time.perf_counter()
        params = [SamplingParams(n=args.rollouts, seed=r.seed, max_tokens=args.response, logprobs=0) for r in asked]
        outputs = llm.generate([{"prompt_token_ids": r.prompt_ids.tolist()} for r in asked], params, use_tqdm=False)
        seconds = time.perf_counter() - begin
        tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
        answers.write(json.dumps([tokens, seconds]) + "\n")
    os._exit(0)


def ours(pool: RolloutPool, args: argparse.Namespace, round_: int) -> tuple[int, float]:
    begin = time.perf_counter()
    generations = [g for g, _ in pool.generate(requests(args, round_), SamplingSettings(max_tokens=args.response))]
    return sum(len(s.ids) for g in generations for s in g.samples), time.perf_counter() - begin


def compare(args: argparse.Namespace, folder: str) -> dict:
    runtime = Runtime("local")
    seat = Seat("rollout-0", gpus=0.5 if args.device == "cuda" else 0.0)
    runtime.reserve([Group("rollout engine", "--device", (Bundle((seat,)),))])
    pool = RolloutPool(runtime, folder, settings(args), timeout_s=600, log_dir=Path(folder))
    pool.ready()
    command = [sys.executable, __file__, *sys.argv[1:], "--offline", folder]
    with (Path(folder) / "offline.log").open("w") as log:
        other = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
        )
    if not other.stdout.readline():
        raise RuntimeError((Path(folder) / "offline.log").read_text()[-2000:])
    speeds = []
    for round_ in range(args.rounds + 1):
        tokens, seconds = ours(pool, args, round_)
        other.stdin.write(f"{round_}\n")
        other_tokens, other_seconds = json.loads(other.stdout.readline())
        if round_:  # the first warms up
            speeds.append((tokens / seconds, other_tokens / other_seconds))
    metrics = pool.metrics()
    other.stdin.close()
    other.wait(60)
    pool.close()
    runtime.shutdown()
    ratios = [a / b for a, b in speeds]
    return {
        "actor_tokens_per_s": statistics.median(a for a, _ in speeds),
        "offline_tokens_per_s": statistics.median(b for _, b in speeds),
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "prefix_cache_hits": metrics["rollout/prefix_cache_hits"],
        "engine_tokens_per_s": metrics["rollout/tokens_per_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=384, help="tokens (default: %(default)s)")
    parser.add_argument("--response", type=int, default=64, help="tokens (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--offline", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.offline:
        return offline(args, args.offline)
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"search: red grinder {i}, not electric\n" for i in range(200)]
        make_tiny_model(Path(folder), texts, SHAPES[args.model])
        found = compare(args, folder)
    low, high = found["ratio_spread"]
    print(
        f"{found['actor_tokens_per_s']:,.0f} response tokens a second in the actor, "
        f"{found['offline_tokens_per_s']:,.0f} offline: {found['ratio']:.2f} ({low:.2f} to {high:.2f}); "
        f"prefix-cache hits {found['prefix_cache_hits']:.0%}"
    )
    if args.json:
        arguments = {k: v for k, v in vars(args).items() if k not in ("json", "offline")}
        args.json.write_text(json.dumps({"settings": arguments} | found, indent=1))


if __name__ == "__main__":
    main()
