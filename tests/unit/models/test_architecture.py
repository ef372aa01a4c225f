"""A model counted from its configuration alone is the model that the learner loads and gives adapters."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from agrl.errors import ModelError
from agrl.models.adapters import add_adapters
from agrl.models.architecture import SMALL, architecture_of, read_architecture

SMALL_SHAPE = {
    "vocab_size": 900,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 896,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
CONFIGS = {
    "qwen3": Qwen3Config(**SMALL_SHAPE, head_dim=64, tie_word_embeddings=True),
    "untied": Qwen3Config(**SMALL_SHAPE, head_dim=64, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**SMALL_SHAPE),
    "llama": LlamaConfig(**SMALL_SHAPE),
    "experts": Qwen3MoeConfig(**SMALL_SHAPE, **EXPERTS),
}


def loaded(name):
    return AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_the_loaded_model(name):
    sizes = {n: p.numel() for n, p in loaded(name).named_parameters()}
    found = architecture_of(CONFIGS[name], name)
    assert found.parameters == found.trainable == sum(sizes.values())
    assert found.largest == max(sizes.values())
    assert found.embedding == 900 * 128 and found.tied == (name == "qwen3")
    assert found.block == sum(n for key, n in sizes.items() if ".layers.0." in key)
    assert found.small == sum(n for n in sizes.values() if n <= SMALL) < found.parameters
    assert found.query_norm == (name in ("qwen3", "untied", "experts"))
    assert (found.experts, found.intermediate) == ((4, 2 * 64) if name == "experts" else (0, 896))


@pytest.mark.parametrize("name", CONFIGS)
def test_adapters_are_where_the_learner_puts_them(name):
    lm = loaded(name)
    add_adapters(lm, rank=3, alpha=6.0)
    sizes = [p.numel() for p in lm.parameters() if p.requires_grad]
    found = architecture_of(CONFIGS[name], name, lora_rank=3)
    assert found.trainable == found.adapters == sum(sizes) > 0
    assert found.largest_adapter == max(sizes)
    assert found.parameters == architecture_of(CONFIGS[name], name).parameters


def test_a_token_of_the_cache_is_a_key_and_a_value_a_layer_and_head():
    found = architecture_of(CONFIGS["qwen3"], "qwen3")
    assert found.kv_bytes("bfloat16") == 2 * 2 * 2 * 64 * 2


def test_a_folder_needs_no_weights_and_nothing_large_is_made(tmp_path):
    large = Qwen3Config(hidden_size=5120, num_hidden_layers=64, num_attention_heads=64, intermediate_size=25600)
    large.save_pretrained(tmp_path)
    assert read_architecture(str(tmp_path)).parameters > 30e9


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        read_architecture(str(tmp_path))
