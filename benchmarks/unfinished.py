"""Responses that new weights find unfinished: what `rollout.unfinished` costs, and how far off the other way is.

    python benchmarks/unfinished.py [--prompts 32] [--samples 8] [--steps 1,8] [--rounds 3] [--json FILE]

The tiny model after a short supervised start, and the same after so many steps of RL. One engine answers prompts of the
bundled catalogue by the first; in the middle it is given the second, and goes on. Printed for each way:

- ratio: seconds of the whole, over those without any new weights in the middle;
- drift, of the tokens after the update in responses begun before it: mean and largest difference between the
  log-probability under which a token was sampled and that of the Hugging Face model with the new weights, nats. With
  "recompute" that is what two programs differ by. Beside it what the update itself changed: the same of old and new.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

import numpy as np

from actors.generation import UNFINISHED, EngineSettings, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from actors.runtime import Runtime
from agrl.config.compose import resumed_config
from agrl.data.files import read_examples
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.models.build import load_model
from benchmarks.busy import agrl, world
from learner.export import as_published
from tests.given_weights import GivenWeights
from tests.reference import logprobs

SAMPLING = SamplingSettings(temperature=1.0, max_tokens=192, logprobs=True)


def trained(folder: Path, words: list[str], steps: int) -> str:
    """The start after so many steps of RL."""
    run = folder / f"after-{steps}"
    settings = [f"run={run}", f"model.path={folder}/start/model", f"trainer.steps={steps}", "data.max_evaluation=2"]
    if agrl("train", *words, *settings).wait():
        raise SystemExit(f"see {run}/logs")
    return str(run / "model")


def prompts(folder: Path, count: int) -> list[np.ndarray]:
    """Of the pool's first examples, as a run gives them to its engines."""
    encoder = PromptEncoder.load(resumed_config(folder / "start"))
    return [encoder.prompt(example) for example in read_examples(folder / "data" / "train.parquet")[:count]]


@dataclass
class Engine:
    """One, with what may be given to it."""

    pool: RolloutPool
    runtime: Runtime
    version: int = 0

    def take(self, model) -> None:
        """Weights of a version more."""
        self.version += 1
        self.pool.broadcast(
            self.version, GivenWeights(self.runtime, lambda: as_published(model, model.named_parameters()))
        )

    def answer(self, asked: Sequence[GenerationRequest], new=None, after_s: float = 0.0) -> tuple[float, list]:
        """Seconds until all is answered, and the answers; ``after_s`` later it is given the weights of ``new``."""
        sink, began = SimpleQueue(), time.monotonic()
        self.pool.stream.ask(asked, SAMPLING, sink)
        if new is not None:
            time.sleep(after_s)
            self.take(new)
        found = []
        for _ in asked:
            answer = sink.get()
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer[0])
        return time.monotonic() - began, found


def drift(answers: list, asked: Sequence[GenerationRequest], old, new, version: int) -> dict[str, float]:
    """Of the tokens that came after the update to ``version``, in responses begun before it."""
    prompt_of, off, moved, whole = {r.request_id: r.prompt_ids for r in asked}, [], [], 0
    for generation in answers:
        for sample in generation.samples:
            first = sum(tokens for v, tokens in sample.spans if v < version)
            if not 0 < first < len(sample.ids):
                continue
            by_old, by_new = (logprobs(m, prompt_of[generation.request_id], sample.ids)[first:] for m in (old, new))
            off += [*np.abs(sample.logprobs[first:] - by_new)]
            moved += [*np.abs(by_old - by_new)]
            whole += 1
    if not off:
        raise SystemExit("nothing was in the middle when the weights came: ask for more --samples")
    found = {"drift_mean": np.mean(off), "drift_max": np.max(off), "update_mean": np.mean(moved)}
    return {name: float(value) for name, value in found.items()} | {"responses": whole, "tokens": len(off)}


def compare(folder: Path, start: str, news: dict[int, str], args: argparse.Namespace) -> list[dict]:
    """A row for each way and each of ``news``, the models by their steps."""
    drawn, models = prompts(folder, args.prompts), {steps: load_model(path, "float32") for steps, path in news.items()}
    old, runtime, rows = load_model(start, "float32"), Runtime("local"), []
    engines = {}
    for way in UNFINISHED:
        settings = EngineSettings("float32", 0.5, 1024, args.prompts * args.samples, threads=1, unfinished=way)
        pool = RolloutPool(runtime, start, settings, timeout_s=300, streams=True)
        pool.ready()
        engines[way] = Engine(pool, runtime)
    for steps, new in models.items():
        took: dict[str, list[float]] = {way: [] for way in UNFINISHED}
        last = {}
        for number in range(args.rounds):
            asked = [
                GenerationRequest(f"{i}", ids, args.samples, seed=1000 * number + i) for i, ids in enumerate(drawn)
            ]
            for way, engine in engines.items():  # in turns: what the machine does besides is alike for both
                engine.take(old)
                plain, _ = engine.answer(asked)
                seconds, answers = engine.answer(asked, new, plain / 2)
                took[way].append(seconds / plain)
                last[way] = drift(answers, asked, old, new, engine.version)
        rows += [{"unfinished": w, "steps": steps, "ratio": statistics.median(took[w])} | last[w] for w in UNFINISHED]
    runtime.shutdown()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32, help="of the pool (%(default)s)")
    parser.add_argument("--samples", type=int, default=8, help="of each (%(default)s)")
    parser.add_argument("--steps", default="1,8", help="of RL between the two models (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way (%(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unfinished-") as name:
        folder = Path(name)
        words = world(folder)
        news = {steps: trained(folder, words, steps) for steps in map(int, args.steps.split(","))}
        rows = compare(folder, str(folder / "start" / "model"), news, args)
    for row in rows:
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if args.json:
        about = {"machine": platform.processor() or platform.machine(), "prompts": args.prompts, "n": args.samples}
        args.json.write_text(json.dumps({"rows": rows, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
