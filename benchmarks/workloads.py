"""What benchmarks/vs_trl.py trains on: prompts of an exact length, and a start that knows the form of an answer."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from agrl.config.compose import load_config
from agrl.config.words import setting
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.data.files import read_examples, write_examples
from agrl.driver.experiments.sft import supervised
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.relevance.records import Example
from agrl.report.terminal import close_terminal, open_terminal
from benchmarks.shapes import SHAPES

FILLER = "box"  # a word of the catalogue: one token


@dataclass(frozen=True)
class Workload:
    """``prompt`` tokens exactly, ``response`` tokens at most, ``prompts`` a step with ``rollouts`` each."""

    prompt: int
    rollouts: int
    response: int
    prompts: int


WORKLOADS = {
    "relevance": Workload(384, 16, 64, 16),
    "short": Workload(64, 8, 64, 32),
    "long": Workload(768, 16, 96, 8),
    "toy": Workload(64, 4, 8, 4),  # whether it runs
}


ON_GPU = [  # both services on one GPU, taking turns
    "model.dtype=bfloat16",
    "rollout.gpus_per_actor=0.5",
    "rollout.gpu_memory_utilization=0.4",
    "learner.gpus_per_rank=0.5",
    "learner.micro_batch_tokens=32768",
    "sync.max_mean_gap=0.05",
]


def on_cpu(threads: int) -> list[str]:
    """An engine and a learner rank for each thread: processes of one thread need not wait for one another's."""
    return [f"rollout.actors={threads}", "rollout.threads=1", f"learner.ranks={threads}", "learner.threads=1"]


def make_world(folder: Path, work: Workload, args: argparse.Namespace) -> list[str]:
    """Data whose prompts have exactly the length asked for, and a start; returns the overrides of the RL run."""
    make_catalogue(folder / "made", CatalogueSpec(seed_rows=1500, pool_rows=800, balanced_rows=16, wild_rows=16))
    data = {name: folder / f"{name}.parquet" for name in ("seed", "train", "balanced")}
    tiny_model(folder / "model", folder / "made" / "seed.parquet", "relevance", "brief", SHAPES[args.model])
    overrides = [
        "experiment=agrl_tiny",
        setting("run", folder / "sft"),
        setting("model.path", folder / "model"),
        setting("data.seed", data["seed"]),
        setting("data.train", data["train"]),
        setting("data.evaluation", {"balanced": data["balanced"], "wild": data["balanced"]}),
        f"task.max_prompt_tokens={work.prompt}",
        f"task.max_response_tokens={work.response}",
        *(ON_GPU if args.device == "cuda" else on_cpu(args.threads)),
        f"sft.steps={args.sft_steps}",
        f"sft.lr={3e-3 if args.model == 'tiny' else 3e-4}",
        "sft.hints=false",
        "sft.batch_size=16",
    ]
    config = load_config(overrides)
    encoder = PromptEncoder.load(config)
    for name, path in data.items():
        rows = [e for e in read_examples(folder / "made" / f"{name}.parquet") if not e.hint_level]
        write_examples(path, [filled(encoder, e, work.prompt) for e in rows if fits(encoder, e, work.prompt)])
    try:
        supervised(config, open_terminal(folder / "world.log"))
    finally:
        close_terminal()
    return [
        *overrides,
        f"model.path={folder / 'sft' / 'model'}",
        "algorithm=grpo_rrs",
        "loss=dapo",
        "learner.optimizer_steps_per_batch=1",
        "learner.kl_coef=0",
        "learner.schedule=constant",
        f"learner.lr={3e-4 if args.model == 'tiny' else 1e-5}",
        "replay.sampling=uniform",
        "reward.mode=rules",
        f"trainer.prompts_per_step={work.prompts}",
        f"trainer.rollouts_per_prompt={work.rollouts}",
        "trainer.steps=10000",
    ]


def fits(encoder: PromptEncoder, example: Example, length: int) -> bool:
    return len(encoder.prompt(filler(example, 1))) <= length


def filled(encoder: PromptEncoder, example: Example, length: int) -> Example:
    """The example with a description that makes its prompt exactly ``length`` tokens long."""
    missing = length - len(encoder.prompt(filler(example, 1)))
    found = filler(example, 1 + missing)
    actual = len(encoder.prompt(found))
    assert actual == length, f"{actual} tokens instead of {length}: the filler is not one token"
    return replace(found, id=example.id)


def filler(example: Example, words: int) -> Example:
    text = " ".join([FILLER] * words)
    return replace(example, id=f"{example.id}+{words}", product=replace(example.product, text=text))
