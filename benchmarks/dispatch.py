"""How long a batch of rollouts takes, over what the speeds of its engines together allow: free and fixed dealing.

    python benchmarks/dispatch.py [--rounds 5] [--vllm] [--json FILE]

Three engines behind Ray that sleep instead of computing, so that their speeds are known and nothing else counts; all
alike, or one at a quarter of the speed; with more requests than they decode together (queues) or less (all at once).
The bound is all tokens over the sum of the speeds. The first batch of a pool, before which nobody knows who is slow, is
told apart. ``--vllm``: two real engines of one thread each and the tiny model, alike or one held back to a quarter; the
bound is then what two alike needed, by fixed dealing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

import numpy as np

from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from actors.runtime import Runtime
from agrl.models.build import make_tiny_model
from benchmarks.dispatch_engines import HeldBackEngine, SleepingEngine, lengths
from benchmarks.shapes import SHAPES

SPEEDS = {"alike": [1.0, 1.0, 1.0], "one at a quarter": [1.0, 0.25, 1.0]}
ROOMS = {"queues": 64, "all at once": 4096}  # sequences that an engine decodes together
SAMPLES, LONGEST = 8, 64


def requests(count: int, round_: int, prompt: int = 4) -> list[GenerationRequest]:
    generator = np.random.default_rng(round_)
    prompts = generator.integers(2, 250, (count, prompt)).astype(np.int32)
    return [GenerationRequest(str(i), ids, SAMPLES, seed=1000 * round_ + i) for i, ids in enumerate(prompts)]


def seconds(pool: RolloutPool, asked: list[GenerationRequest]) -> tuple[float, int]:
    """Of a batch, and its response tokens."""
    begin = time.perf_counter()
    tokens = sum(
        generation.response_tokens for generation, _ in pool.generate(asked, SamplingSettings(max_tokens=LONGEST))
    )
    return time.perf_counter() - begin, tokens


def summary(ratios: list[float], metrics: dict[str, float]) -> dict:
    names = ("idle_share", "least_share", "copied_share")
    later = ratios[1:] or ratios
    about = {"first": ratios[0], "ratio": statistics.median(later), "least": min(later), "most": max(later)}
    return about | {name: metrics[f"rollout/{name}"] for name in names}


def sleeping(runtime: Runtime, args: argparse.Namespace, speeds: list[float], room: int, dealing: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "speeds").write_text("\n".join(map(str, speeds)))
        pool = RolloutPool(
            runtime,
            folder,
            EngineSettings(max_concurrent=room),
            actors=len(speeds),
            timeout_s=60,
            dealing=dealing,
            engine=SleepingEngine,
        )
        pool.ready()
        ratios = []
        for round_ in range(args.rounds):
            asked = requests(args.requests, round_)
            tokens = sum(int(lengths(request, LONGEST).sum()) for request in asked)
            pool.metrics()
            ratios.append(seconds(pool, asked)[0] * sum(speeds) * SleepingEngine.RATE / tokens)
        found = summary(ratios, pool.metrics())
        pool.close()
    return found


def held_back(runtime: Runtime, args: argparse.Namespace) -> dict:
    """Two engines alike, then one of them at a quarter; both ways of dealing take turns in each round."""
    with tempfile.TemporaryDirectory() as folder:
        model, found = Path(folder) / "model", {}
        make_tiny_model(model, [f"search: red grinder {i}, not electric\n" for i in range(200)], SHAPES["tiny"])
        settings = EngineSettings(dtype="float32", kv_cache_gib=1.0, max_model_len=384 + LONGEST, threads=1)
        (Path(folder) / "numbers").mkdir()
        pool = RolloutPool(
            runtime, str(model), settings, actors=2, timeout_s=120, dealing="free", engine=HeldBackEngine
        )
        pool.ready()
        times: dict[tuple[str, str], list[float]] = {}
        metrics: dict[tuple[str, str], dict[str, float]] = {}
        for who, quarter in (("alike", False), ("one at a quarter", True)):  # speeds are kept from batch to batch
            for service in pool._pool.services:
                service.call("slow", quarter).result()
            for round_ in range(args.rounds + 1):
                for dealing in ("fixed", "free"):
                    pool._free = dealing == "free"
                    pool.metrics()
                    took, _ = seconds(pool, requests(args.requests // 3, round_, prompt=384))
                    if round_:  # the first warms up
                        times.setdefault((who, dealing), []).append(took)
                    metrics[who, dealing] = pool.metrics()
        pool.close()
    alike = statistics.median(times["alike", "fixed"])
    bound = {"alike": alike, "one at a quarter": alike * 2 / 1.25}
    for (who, dealing), took in times.items():
        found[f"vllm, {who}, {dealing}"] = summary([each / bound[who] for each in took], metrics[who, dealing])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="batches of each kind (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=96, help="of 8 samples, in a batch (default: %(default)s)")
    parser.add_argument("--vllm", action="store_true", help="real engines instead of sleeping ones")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    runtime, found = Runtime("local"), {}
    if args.vllm:
        found = held_back(runtime, args)
    else:
        for who, speeds in SPEEDS.items():
            for how, room in ROOMS.items():
                for dealing in ("fixed", "free"):
                    found[f"{who}, {how}, {dealing}"] = sleeping(runtime, args, speeds, room, dealing)
    runtime.shutdown()
    for name, row in found.items():
        print(
            f"{name:40} {row['ratio']:.2f} times the bound ({row['least']:.2f} to {row['most']:.2f}; the first "
            f"{row['first']:.2f}); waiting {row['idle_share']:.0%}, least {row['least_share']:.2f}, copied "
            f"{row['copied_share']:.0%}"
        )
    if args.json:
        kept = json.loads(args.json.read_text()) if args.json.is_file() else {}
        args.json.write_text(json.dumps(kept | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
