"""What it costs that lost learner ranks can be brought back: seconds of a snapshot, and of bringing them back.

    python benchmarks/snapshots.py [--sizes tiny 200m] [--ranks 1] [--json FILE]

A learner alone, without rollouts: ``step_s`` is one update, ``snapshot_s`` what the ranks then need for a snapshot
(``of_ranks_s``: without bringing it into the object store), which a run takes while its engines generate. ``lost_s``:
from the death of a rank to the end of the next update, less an update. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from actors.runtime import Runtime
from agrl.algorithms.batch import TrainSequence
from agrl.config.compose import load_config
from agrl.driver.services.learners import LearnerGroup
from agrl.models.build import TinyShape, make_tiny_model

SIZES = {
    "tiny": TinyShape(),
    "200m": TinyShape(
        hidden_size=1024, layers=14, heads=16, kv_heads=8, head_size=64, intermediate_size=2816, embeddings=32_000
    ),
}
PROMPT, RESPONSE = 160, 32


def batch(seed: int, sequences: int) -> list[TrainSequence]:
    """Groups of four that share a prompt."""
    generator = np.random.default_rng(seed)
    draw = lambda length: generator.integers(2, 290, length).astype(np.int32)  # noqa: E731
    prompts = [draw(PROMPT) for _ in range(-(-sequences // 4))]
    return [TrainSequence(prompts[i // 4], draw(RESPONSE), np.zeros(RESPONSE, np.float32)) for i in range(sequences)]


def timed(work) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 3)


def measure(runtime: Runtime, size: str, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    make_tiny_model(folder / size, [f"search: red grinder {i}\n" for i in range(50)], SIZES[size])
    words = [f"model.path={folder / size}", f"learner.ranks={args.ranks}", f"learner.zero_stage={args.zero_stage}"]
    config = load_config(["experiment=agrl_tiny", *words, f"learner.threads={args.threads}", "learner.restarts=9"])
    group = LearnerGroup(runtime, config, folder)
    group.setup()

    def update(seed: int = 0) -> None:
        sequences = batch(seed, args.sequences)
        group._train("train_sft", sequences, group._plan(sequences, 1), 1e-5)

    steps, snapshots, seconds = [], [], []
    for seed in range(args.rounds + 1):
        steps.append(timed(partial(update, seed)))
        snapshots.append(timed(lambda: (group.keep(), group._settle())))
        seconds.append(group._snapshots.takes_s)
    nbytes = sum(f.nbytes for part in group._snapshots.newest.parts for f in part.result().values())
    group.ranks[-1].kill()
    lost = timed(update)
    group.close()
    step = statistics.median(steps[1:])
    return {
        "mb": round(nbytes / 1e6, 1),
        "step_s": step,
        "snapshot_s": statistics.median(snapshots[1:]),
        "of_ranks_s": round(statistics.median(seconds[1:]), 3),
        "lost_s": round(lost - step, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--zero-stage", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=32, help="of an update (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found, runtime = {}, Runtime("local")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for size in args.sizes:
                found[size] = measure(runtime, size, args, Path(folder))
                print(size, found[size], flush=True)
    finally:
        runtime.shutdown()
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
