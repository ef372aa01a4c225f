"""Low-rank updates: the merged weights are the model's, the start model is under them, and nothing else is trained."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, Qwen2Config, Qwen3MoeConfig
from transformers.pytorch_utils import Conv1D

from agrl.errors import ModelError
from agrl.models.adapters import add_adapters
from agrl.models.layout import pad_batch
from agrl.models.probe import probe
from learner.adapters import check_merge, served_beside, weights, without_adapters

LINEAR = (torch.nn.Linear, Conv1D)
SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
CONFIGS = {
    "tied": Qwen2Config(**SMALL, tie_word_embeddings=True),  # with biases, which are frozen
    "untied": Qwen2Config(**SMALL, tie_word_embeddings=False),
    "transposed": GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
    "experts": Qwen3MoeConfig(**SMALL, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24),
}


def make_model(name="tied"):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="sdpa")


@pytest.fixture(params=CONFIGS)
def pair(request):
    """A model, and the same with updates that are not zero."""
    plain, adapted = make_model(request.param), make_model(request.param)
    add_adapters(adapted, rank=2, alpha=6.0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    return plain, adapted


def test_at_first_it_is_the_model_that_it_was():
    plain, adapted = make_model(), make_model()
    add_adapters(adapted, rank=2, alpha=6.0)
    torch.testing.assert_close(probe(adapted, pad_batch), probe(plain, pad_batch), rtol=0, atol=0)


def test_merged_weights_make_the_same_model_under_the_names_of_the_plain_one(pair):
    plain, adapted = pair
    before = probe(plain, pad_batch)
    merged = {weight.name: weight.merged() for weight in weights(adapted)}
    assert list(merged) == [name for name, _ in plain.named_parameters()]
    changed = {n for n, p in plain.named_parameters() if not torch.equal(p, merged[n])}
    linear = {f"{n}.weight" for n, m in plain.named_modules() if isinstance(m, LINEAR) and n != "lm_head"}
    assert changed == linear | {n for n in merged if ".experts." in n or "mlp.gate." in n}
    plain.load_state_dict(merged, strict=False)
    torch.testing.assert_close(probe(plain, pad_batch), probe(adapted, pad_batch), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(probe(plain, pad_batch), before, atol=1e-2)


def test_only_the_updates_are_trained(pair):
    _, adapted = pair
    assert all(p.requires_grad == (".lora_" in name) for name, p in adapted.named_parameters())


def test_the_start_model_is_under_the_updates(pair):
    plain, adapted = pair
    with without_adapters(adapted):
        torch.testing.assert_close(probe(adapted, pad_batch), probe(plain, pad_batch))
    assert not torch.allclose(probe(adapted, pad_batch), probe(plain, pad_batch), atol=1e-2)
    assert all(p.requires_grad == (".lora_" in name) for name, p in adapted.named_parameters())


def test_a_model_without_adapters_has_its_own_weights():
    plain = make_model("untied")
    assert all(
        weight.merged().data_ptr() == p.data_ptr() for weight, p in zip(weights(plain), plain.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_merging_is_tried_and_leaves_the_model_as_it_was(name, monkeypatch):
    adapted = make_model(name)
    add_adapters(adapted, rank=2, alpha=6.0)
    before, random = {n: p.clone() for n, p in adapted.named_parameters()}, torch.get_rng_state()
    check_merge(adapted)
    assert all(torch.equal(p, before[n]) for n, p in adapted.named_parameters())
    assert torch.equal(torch.get_rng_state(), random)
    layer = next(module for module in adapted.modules() if hasattr(module, "get_delta_weight"))
    right = type(layer).get_delta_weight
    monkeypatch.setattr(type(layer), "get_delta_weight", lambda self, key: 1.5 * right(self, key))
    with pytest.raises(ModelError, match="cannot be merged into its weights"):
        check_merge(adapted)


def test_an_update_is_merged_in_the_precision_of_the_weight():
    adapted = make_model("transposed").to(torch.bfloat16)
    add_adapters(adapted, rank=2, alpha=6.0)
    layer = adapted.transformer.h[0].attn.c_attn
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.normal_(0, 0.2)
    found = {weight.name: weight for weight in weights(adapted)}["transformer.h.0.attn.c_attn.weight"]
    expected = layer.base_layer.weight.float() + 3.0 * (b.float() @ a.float()).T
    assert found.merged().dtype == torch.bfloat16
    torch.testing.assert_close(found.merged().float(), expected, rtol=2**-7, atol=1e-3)
    assert {id(part) for part in found.parts} == {id(layer.base_layer.weight), id(a), id(b)}


def test_buffers_that_are_saved_are_weights_too_and_those_that_are_not_are_none():
    plain = make_model()
    plain.model.register_buffer("saved", torch.ones(3))
    plain.model.register_buffer("unsaved", torch.ones(3), persistent=False)
    found = {weight.name: weight for weight in weights(plain)}
    assert "model.unsaved" not in found and found["model.saved"].parts == []
    assert torch.equal(found["model.saved"].merged(), torch.ones(3))


@pytest.mark.parametrize("name", CONFIGS)
def test_updates_of_plain_linear_layers_travel_as_two_factors_that_have_the_scale(name):
    adapted = make_model(name)
    assert not served_beside(adapted)
    add_adapters(adapted, rank=2, alpha=6.0)
    assert served_beside(adapted) == (name in ("tied", "untied"))
    if not served_beside(adapted):
        return
    for weight in (weight for weight in weights(adapted) if weight.adapted is not None):
        torch.nn.init.normal_(weight.adapted.lora_B["default"].weight)
        (a_name, a), (b_name, b) = weight.factors()
        assert {a_name, b_name} == {weight.name.replace("weight", f"lora_{part}.weight") for part in "AB"}
        torch.testing.assert_close(weight.tensor + b @ a, weight.merged(), rtol=1e-5, atol=1e-6)
