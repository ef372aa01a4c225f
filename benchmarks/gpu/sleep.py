"""A rollout engine that leaves its GPU and comes back: memory that it frees, seconds, and the same samples after it.

    python benchmarks/gpu/sleep.py [--model tiny] [--device cpu] [--json FILE]

Twice: with its weights kept in main memory, and discarded, so that a broadcast brings them. A CPU engine keeps its
memory; there the order of calls and the samples are what is tried.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[2])

import numpy as np
import torch

from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from actors.runtime import Runtime
from actors.service import Pending
from agrl.models.build import load_model, make_tiny_model
from agrl.transport.object_store import ObjectStoreSender
from agrl.transport.parcel import BUCKET_BYTES, pack
from benchmarks.shapes import SHAPES

PROMPT = 64


class Weights:
    """What the engine was built with, as a learner would give it."""

    model_path, served_beside, trains_meanwhile, sender = "", False, False, None

    def __init__(self, runtime: Runtime, path: str, dtype: str) -> None:
        self._runtime, self._lm = runtime, load_model(path, dtype)

    def check_alive(self) -> None:
        pass

    def heal(self, error: Exception) -> None:
        raise error

    def parcels(self, transport: str, adapters: bool) -> Iterator[list[Pending]]:
        named = [(name, weight.detach()) for name, weight in self._lm.named_parameters()]
        for parcel in pack(named, ObjectStoreSender(), BUCKET_BYTES):
            yield [self._runtime.put(parcel)]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def used_gib(device: str) -> float:
    """Of the GPU, by all processes; 0 on a CPU."""
    if device == "cpu":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--response", type=int, default=64, help="tokens (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    prompts = generator.integers(2, 250, (args.prompts, PROMPT)).astype(np.int32)
    requests = [GenerationRequest(str(i), prompt, 4, seed=i) for i, prompt in enumerate(prompts)]
    sampling = SamplingSettings(max_tokens=args.response)
    settings = EngineSettings(args.dtype, max_model_len=PROMPT + args.response, gpu_memory_utilization=0.5, sleeps=True)
    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(Path(folder), ["search: red grinder\n"] * 20, SHAPES[args.model])
        runtime = Runtime("inline")
        pool = RolloutPool(runtime, folder, settings)
        pool.ready()

        def samples() -> list[list[list[int]]]:
            found = {g.request_id: [s.ids.tolist() for s in g.samples] for g, _ in pool.generate(requests, sampling)}
            return [found[request.request_id] for request in requests]

        weights, before, results = Weights(runtime, folder, args.dtype), samples(), {}
        for version, kind in enumerate(("kept", "discarded")):
            awake = used_gib(args.device)
            fell, _ = timed(pool.sleep)
            asleep = used_gib(args.device)
            woke, _ = timed(lambda version=version: pool.broadcast(version, weights))
            results[kind] = {
                "sleep_s": fell,
                "broadcast_s": woke,
                "awake_gib": awake,
                "asleep_gib": asleep,
                "same_samples": samples() == before,
            }
    for kind, r in results.items():
        print(
            f"weights {kind}: {r['awake_gib']:.1f} GiB awake, {r['asleep_gib']:.1f} asleep; asleep after "
            f"{r['sleep_s']:.2f} s, awake with weights {r['broadcast_s']:.2f} s; same samples: {r['same_samples']}"
        )
    if args.json:
        about = {name: value for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps(about | {"results": results}, indent=1))
    if not all(r["same_samples"] for r in results.values()):
        sys.exit("the engine samples differently after it slept")


if __name__ == "__main__":
    main()
