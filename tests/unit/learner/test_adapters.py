"""Low-rank updates: the merged weights are the model's, the start model is under them, and nothing else is trained."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from agrl.models.layout import pad_batch
from agrl.models.probe import probe
from learner.adapters import add_adapters, weights, without_adapters


def make_model(tied):
    torch.manual_seed(0)
    config = Qwen2Config(  # with biases, which are frozen
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        initializer_range=0.3,
        tie_word_embeddings=tied,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
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
    plain, adapted = make_model(True), make_model(True)
    add_adapters(adapted, rank=2, alpha=6.0)
    torch.testing.assert_close(probe(adapted, pad_batch), probe(plain, pad_batch), rtol=0, atol=0)


def test_merged_weights_make_the_same_model_under_the_names_of_the_plain_one(pair):
    plain, adapted = pair
    before = probe(plain, pad_batch)
    merged = {weight.name: weight.merged() for weight in weights(adapted)}
    assert list(merged) == [name for name, _ in plain.named_parameters()]
    changed = {n for n, p in plain.named_parameters() if not torch.equal(p, merged[n])}
    linear = {f"{n}.weight" for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    assert changed == linear
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
    plain = make_model(False)
    assert all(
        weight.merged().data_ptr() == p.data_ptr() for weight, p in zip(weights(plain), plain.parameters(), strict=True)
    )
