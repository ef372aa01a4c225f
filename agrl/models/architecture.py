"""The shape of a model and how many parameters it has, from its configuration alone: no weights are read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from agrl.errors import ModelError
from agrl.models.adapters import add_adapters
from agrl.models.build import load_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Architecture:
    """Counts of a causal language model; all ``*parameters`` are numbers, not bytes.

    ``parameters``: all of the model without low-rank updates, a tied output layer once. ``adapters``: of its updates of
    rank ``lora_rank``. ``embedding``: of the table of tokens. ``largest``: of the largest single weight;
    ``block``: of the largest decoder block. ``small``: of the weights of at most 100,000 numbers, which ZeRO-3 keeps
    whole; ``small_adapters``: of such among the updates. ``experts``: of a block, 0 for a dense model.
    """

    name: str
    parameters: int
    embedding: int
    largest: int
    block: int
    small: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    experts: int = 0
    experts_per_token: int = 0
    lora_rank: int = 0
    adapters: int = 0
    small_adapters: int = 0

    @property
    def trainable(self) -> int:
        """The parameters that are trained: the adapters, or all."""
        return self.adapters if self.lora_rank else self.parameters

    @property
    def kv_elements(self) -> int:
        """Numbers that the KV cache holds of one token: a key and a value a layer and KV head."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def kv_bytes(self, dtype: str) -> int:
        """Bytes of the KV cache of one token, over all shards of an engine."""
        return self.kv_elements * BYTES[dtype]


SMALL = 100_000
"""Weights of at most so many numbers are kept whole by every rank in ZeRO-3: DeepSpeed's default of
``stage3_param_persistence_threshold``."""


@lru_cache(maxsize=16)
def read_architecture(model_path: str, lora_rank: int = 0) -> Architecture:
    """The architecture of a model folder or hub name, built without memory for its weights (torch's meta device).

    ``lora_rank``: of low-rank updates, put where the learner puts them. Raises ModelError naming the model.
    """
    return architecture_of(load_config(model_path), model_path, lora_rank)


def architecture_of(config: PretrainedConfig, name: str, lora_rank: int = 0) -> Architecture:
    """The same from a Hugging Face configuration. Raises ModelError for one that is no causal language model."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            lm = AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"the configuration of {name!r} makes no causal language model: {error}",
            hint="give model.path=FOLDER of a Hugging Face causal language model",
        ) from error
    plain = _counted(lm, name)
    return plain if not lora_rank else _with_adapters(plain, lm, lora_rank)


def _counted(lm: PreTrainedModel, name: str) -> Architecture:
    config = lm.config.get_text_config()
    sizes = [p.numel() for p in lm.parameters()]  # each once, tied ones too
    heads = config.num_attention_heads
    blocks = next(m for m in lm.get_decoder().children() if hasattr(m, "__len__") and len(m))
    experts = next((n for key in EXPERTS if (n := getattr(config, key, None))), 0)
    return Architecture(
        name=name,
        parameters=sum(sizes),
        embedding=lm.get_input_embeddings().weight.numel(),
        largest=max(sizes),
        block=max(sum(p.numel() for p in block.parameters()) for block in blocks),
        small=sum(n for n in sizes if n <= SMALL),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocabulary=lm.get_output_embeddings().weight.shape[0],
        tied=lm.get_output_embeddings().weight is lm.get_input_embeddings().weight,
        experts=experts,
        experts_per_token=(getattr(config, "num_experts_per_tok", None) or 0) if experts else 0,
    )


EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # how configurations call it


def _with_adapters(plain: Architecture, lm: PreTrainedModel, rank: int) -> Architecture:
    import torch

    before = {id(p) for p in lm.parameters()}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of peft, for experts that a model has under other names
        add_adapters(lm, rank, alpha=1.0)
    sizes = [p.numel() for p in lm.parameters() if id(p) not in before]
    return replace(plain, lora_rank=rank, adapters=sum(sizes), small_adapters=sum(n for n in sizes if n <= SMALL))
