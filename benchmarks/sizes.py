"""One RL step of every shipped size's architecture on the whole stack: real widths, random weights, few layers.

    python benchmarks/sizes.py [--sizes qwen3_0.6b,...] [--layers 2] [--dtype float32] [--json FILE]

Ray, vLLM and DeepSpeed on the CPU, with what conf/size says but for the lengths of a batch. The vocabulary is small, so
that the model fits into this machine's memory; where all weights with their optimizer state would not, low-rank updates
are trained. Random weights: no answer parses, so groups learn from the ground-truth trajectory. What is shown is that
each architecture is loaded, sampled from, trained, broadcast and exported; seconds are of a machine without a GPU.
``--dtype float32``: for a CPU without AVX-512, where a product in bfloat16 takes ten to a hundred times as long.
``rank_bytes``, ``engine_bytes``: the most memory of their own that these processes had, with their libraries, sampled
ten times a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

sys.path[0] = str(Path(__file__).parents[1])

from agrl.config.compose import load_config
from agrl.config.keys import choices, conf_folder
from agrl.config.schema import Config
from agrl.config.words import setting
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.driver.training import train
from agrl.machine import memory_bytes
from agrl.models.build import TinyShape
from agrl.placement.foresight import foresee
from agrl.placement.machines import described
from agrl.report.terminal import close_terminal, open_terminal

SIZES = [name for name in choices("size") if name.startswith("qwen3_")]
SHARE = (
    0.4  # of this machine's memory, that the learner may need: beside it are the engine and the weights on their way
)
LOOSE_GAP = 10.0  # nats: it is measured here, not judged


def shape_of(size: str, layers: int) -> TinyShape:
    """The size's own shape, with so many layers and no more tokens than the task has."""
    path = load_config([f"size={size}"]).model.path
    c = json.loads((conf_folder() / "models" / path / "config.json").read_text())
    return TinyShape(
        hidden_size=c["hidden_size"],
        layers=layers,
        heads=c["num_attention_heads"],
        kv_heads=c["num_key_value_heads"],
        head_size=c["head_dim"],
        intermediate_size=c["intermediate_size"],
        tied=c["tie_word_embeddings"],
    )


def configured(size: str, folder: Path, dtype: str = "", lora_rank: int = 0) -> Config:
    """A step of this size; ``dtype``: not the size's own."""
    data = folder / "data"
    return load_config(
        [
            f"size={size}",
            setting("run", folder / size),
            setting("model.path", folder / f"{size}-model"),
            setting("data.train", data / "train.parquet"),
            setting("data.evaluation", {"balanced": data / "balanced.parquet"}),
            f"model.lora_rank={lora_rank}",
            *([f"model.dtype={dtype}"] if dtype else []),
            "~model.chat_template_args.enable_thinking",  # the small tokenizer has no chat template
            "task.prompt_style=brief",
            "task.max_prompt_tokens=160",
            "task.max_response_tokens=32",
            "learner.micro_batch_tokens=1024",
            "learner.lr=1e-5",
            "learner.threads=1",  # threads of one process wait for each other where another process is busy, too
            "rollout.threads=1",
            "rollout.kv_cache_gib=0.25",
            "rollout.max_concurrent=16",
            "trainer.steps=1",
            "trainer.prompts_per_step=2",
            "trainer.rollouts_per_prompt=4",
            "trainer.max_idle_steps=0",
            f"sync.max_mean_gap={LOOSE_GAP}",
            "guidance.source=reference",
            "guidance.semantics=expert",
            "guidance.tau=1.0",
            "guidance.warmup_steps=0",
        ]
    )


KINDS = {"LearnerRank": "rank", "Rollout": "engine", "VLLM": "engine"}  # by what the names of processes have in them


class Watch:
    """The most memory of their own that the processes of a kind had at a time, while it is open: "rank", "engine"."""

    def __init__(self) -> None:
        self.bytes, self._done = {"rank": 0, "engine": 0}, threading.Event()

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            now = dict.fromkeys(self.bytes, 0)
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it has ended
                    kind = next((k for name, k in KINDS.items() if name in " ".join(process.cmdline())), None)
                    if kind:
                        memory = process.memory_info()
                        now[kind] += memory.rss - memory.shared
            self.bytes = {kind: max(most, now[kind]) for kind, most in self.bytes.items()}


def one_step(size: str, layers: int, folder: Path, dtype: str = "") -> dict[str, float | int | str]:
    """Make the model, train a step, and say what came out."""
    made = tiny_model(
        folder / f"{size}-model", folder / "data" / "seed.parquet", "relevance", "brief", shape_of(size, layers)
    )
    config, lora = configured(size, folder, dtype), 0
    planned = foresee(config, described(config)).memory.rank
    if planned.peak > SHARE * memory_bytes():
        lora = 32
        config = configured(size, folder, dtype, lora)
        planned = foresee(config, described(config)).memory.rank
    begin = time.perf_counter()
    with Watch() as watch:
        run = train(config, open_terminal(folder / f"{size}.log"))
    seconds = time.perf_counter() - begin
    (row,) = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    kept = ("loss/total", "grad_norm", "sync/gap_mean", "time/rollout", "time/learn", "time/broadcast", "time/step")
    shown = {name: row[name] for name in kept if name in row}
    return {
        "parameters": made["parameters"],
        "layers": layers,
        "vocabulary": made["vocabulary"],
        "dtype": config.model.dtype,
        "lora_rank": lora,
        "planned_rank_bytes": planned.peak,
        "rank_bytes": watch.bytes["rank"],
        "engine_bytes": watch.bytes["engine"],
        "run_s": seconds,
        **shown,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(SIZES), help="(%(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--dtype", default="", help="(the size's own)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what else the file has")
    args = parser.parse_args()
    found = json.loads(args.json.read_text())["sizes"] if args.json and args.json.exists() else {}
    for size in args.sizes.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_catalogue(folder / "data", CatalogueSpec(seed_rows=200, pool_rows=40, balanced_rows=4, wild_rows=4))
            try:
                step = one_step(size, args.layers, folder, args.dtype)
            finally:
                close_terminal()
        print(size, json.dumps(step, indent=1), flush=True)
        found[f"{size}, {step['dtype']}"] = step
        if args.json:
            args.json.write_text(json.dumps({"sizes": dict(sorted(found.items()))}, indent=1) + "\n")


if __name__ == "__main__":
    main()
