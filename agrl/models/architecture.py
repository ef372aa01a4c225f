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
    """Counts of a causal language model; they are numbers, not bytes.

    ``parameters``: of the model without low-rank updates, a tied output layer once. ``embedding``: of its table of
    tokens; ``largest``: of its largest weight; ``block``: of its largest decoder block; ``small``: of all weights that
    ZeRO-3 keeps whole. ``intermediate``: the width of the feed-forward layer, of a block with experts that of those a
    token passes. ``query_norm``: whether queries and keys are normed. ``experts``: of a block, 0 for a dense model.
    ``adapters``: of the low-rank updates of rank ``lora_rank``, with ``small_adapters`` and ``largest_adapter``.
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
    query_norm: bool = False
    experts: int = 0
    experts_per_token: int = 0
    lora_rank: int = 0
    adapters: int = 0
    small_adapters: int = 0
    largest_adapter: int = 0

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
    heads, experts = config.num_attention_heads, _first(config, EXPERTS)
    blocks = next((m for m in lm.get_decoder().children() if hasattr(m, "__len__") and len(m)), None)
    if blocks is None:  # BERT's are in its encoder
        raise ModelError(
            f"{name!r} is a {type(lm).__name__}, which has no decoder blocks",
            hint="give model.path=FOLDER of a Hugging Face causal language model",
        )
    per_token = _first(config, ("num_experts_per_tok",)) if experts else 0
    intermediate = _first(config, ("intermediate_size",)) or 4 * config.hidden_size
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
        kv_heads=_first(config, ("num_key_value_heads",)) or heads,
        head_dim=_first(config, ("head_dim",)) or config.hidden_size // heads,
        intermediate=per_token * (_first(config, ("moe_intermediate_size",)) or intermediate) or intermediate,
        vocabulary=lm.get_output_embeddings().weight.shape[0],
        tied=lm.get_output_embeddings().weight is lm.get_input_embeddings().weight,
        query_norm=any("q_norm" in name for name, _ in lm.named_parameters()),
        experts=experts,
        experts_per_token=per_token,
    )


EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # how configurations call it


def _first(config: PretrainedConfig, keys: tuple[str, ...]) -> int:
    """The first of these keys that a configuration has, 0 for none."""
    return next((found for key in keys if (found := getattr(config, key, None))), 0)


def _with_adapters(plain: Architecture, lm: PreTrainedModel, rank: int) -> Architecture:
    import torch

    before = {id(p) for p in lm.parameters()}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of peft, for experts that a model has under other names
        add_adapters(lm, rank, alpha=1.0)
    sizes = [p.numel() for p in lm.parameters() if id(p) not in before]
    small = sum(n for n in sizes if n <= SMALL)
    return replace(plain, lora_rank=rank, adapters=sum(sizes), small_adapters=small, largest_adapter=max(sizes))
