"""A small catalogue, model and configuration for the end-to-end tests, and a console that keeps quiet."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.data.catalogue.build import make_catalogue
from agrl.data.catalogue.spec import CatalogueSpec
from agrl.driver.experiments.tiny_model import tiny_model
from agrl.models.build import TinyShape, train_tokenizer


def make_world(folder: Path, tied: bool = True) -> Path:
    """Data and a model that knows nothing, under ``folder``."""
    make_catalogue(folder / "data", CatalogueSpec(seed_rows=600, pool_rows=60, balanced_rows=16, wild_rows=16))
    shape = TinyShape(vocab_size=1024, hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128, tied=tied)
    tiny_model(folder / "model", folder / "data" / "seed.parquet", "relevance", "brief", shape)
    return folder


def published_model(folder: Path, family: str, vocabulary: int = 300) -> str:
    """A small random model, its files as those of its family are published; weights so large that a wrong one shows.

    ``gpt2``: transposed and tied weights, dropout, no prefix, masks beside the weights; ``experts``: each by itself.
    """
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, GPT2Config, Qwen3MoeConfig

    tokenizer = train_tokenizer(["search: red grinder"], vocabulary)
    ends = {"vocab_size": vocabulary, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.1}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "intermediate_size": 64}
    configs = {
        "gpt2": lambda: GPT2Config(**ends, n_embd=64, n_layer=2, n_head=2, n_positions=256, initializer_range=0.1),
        "experts": lambda: Qwen3MoeConfig(**ends, **size, **experts, num_key_value_heads=1, head_dim=32),
    }
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(configs[family]()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    if family == "gpt2":
        weights |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 256, 256) for layer in range(2)}
    save_file(weights, file, metadata={"format": "pt"})
    save_file({"tok_embeddings.weight": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    return str(folder)


def overrides(world: Path, run: Path, *more: str) -> list[str]:
    """What a command is given to train in this world: few, short steps."""
    data = world / "data"
    return [
        "experiment=agrl_tiny",
        f"run={run}",
        f"model.path={world / 'model'}",
        f"data.seed={data}/seed.parquet",
        f"data.train={data}/train.parquet",
        f"data.evaluation={{balanced: {data}/balanced.parquet, wild: {data}/wild.parquet}}",
        "trainer.steps=3",
        "trainer.prompts_per_step=4",
        "trainer.rollouts_per_prompt=4",
        "task.max_response_tokens=48",
        "guidance.warmup_steps=0",
        "guidance.replace=2",
        "learner.ranks=1",
        "learner.threads=1",
        "rollout.actors=1",
        "rollout.threads=1",
        "rollout.kv_cache_gib=0.1",
        "rollout.max_concurrent=32",
        "learner.timeout_s=120",
        "rollout.timeout_s=120",
        "sft.steps=60",
        "sft.batch_size=32",
        "sft.lr=5e-3",
        *more,
    ]


def config(world: Path, run: Path, *more: str) -> Config:
    return load_config(overrides(world, run, *more))


def silent() -> Console:
    return Console(file=io.StringIO(), width=120)
