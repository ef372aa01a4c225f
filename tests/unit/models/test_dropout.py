"""Nothing is random in a model that trains, whatever its family calls it; and the configuration comes out as it was."""

import pytest
import torch
import transformers as T
from torch import nn

from agrl.errors import ModelError
from agrl.models.build import load_config, load_model
from agrl.models.dropout import check_repeatable, put_back, random_rates, set_rates, still
from agrl.models.layout import pad_batch
from agrl.models.logprobs import PolicyModel
from agrl.models.probe import probe, probe_batch

SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": None,
}
GROUPED = SMALL | {"num_key_value_heads": 1, "intermediate_size": 48}
GPT = {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
FAMILIES = {
    "modules": T.GPT2Config(**GPT),
    "functions": T.BloomConfig(**(GPT | {"hidden_size": 32}), hidden_dropout=0.1, attention_dropout=0.1),
    "layers": T.OPTConfig(
        **SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64, layerdrop=0.5, dropout=0.0
    ),
    "attention": T.LlamaConfig(**GROUPED, attention_dropout=0.3),
    "jitter": T.MixtralConfig(**GROUPED, num_local_experts=4, router_jitter_noise=0.4),
    "nested": T.DbrxConfig(
        **({"d_model": 32, "n_heads": 2, "n_layers": 2} | {k: SMALL[k] for k in ("vocab_size", "eos_token_id")}),
        attn_config={"kv_n_heads": 1, "rope_theta": 1e4, "clip_qkv": 8},
        ffn_config={"moe_jitter_eps": 0.4, "ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    ),
}


def saved(config, folder):
    """A model of the configuration, with weights large enough that what is dropped shows."""
    torch.manual_seed(0)
    lm = T.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    lm.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_computes_the_same_in_training_as_in_evaluation(family, tmp_path):
    path = saved(FAMILIES[family], tmp_path)
    random = T.AutoModelForCausalLM.from_pretrained(path)
    with pytest.raises(ModelError, match="in training"):
        check_repeatable(random)
    lm = load_model(path, "float32")
    check_repeatable(lm)
    expected, policy = probe(lm, pad_batch), PolicyModel(lm.train())
    for _ in range(3):
        torch.testing.assert_close(policy(probe_batch(lm, pad_batch))[0], expected)
    torch.testing.assert_close(probe(random, pad_batch), expected)  # the weights are the folder's


@pytest.mark.parametrize("family", FAMILIES)
def test_rates_are_put_back_while_a_configuration_is_written(family, tmp_path):
    path = saved(FAMILIES[family], tmp_path / "published")
    published = random_rates(load_config(path))
    assert published and all(rate > 0 for rate in published.values())
    lm = load_model(path, "float32")
    assert random_rates(lm.config) == {}
    with put_back(lm.config, published):
        lm.save_pretrained(tmp_path / "trained")
    assert random_rates(lm.config) == {}
    assert random_rates(load_config(str(tmp_path / "trained"))) == published


def test_rates_are_found_by_name_and_nothing_else_is_taken_for_one():
    config = T.GPT2Config(**GPT, attn_pdrop=0.0, extra={"mlp_dropout": 0.2}, drop_tokens=True, rope_theta=0.5)
    assert random_rates(config) == {
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "summary_first_dropout": 0.1,
        "extra.mlp_dropout": 0.2,
    }
    set_rates(config, {"extra.mlp_dropout": 0.0})
    assert config.extra == {"mlp_dropout": 0.0}


def test_dropout_that_no_key_knows_of_is_switched_off_or_named(tmp_path):
    lm = load_model(saved(FAMILIES["attention"], tmp_path), "float32")
    lm.model.layers[0].mlp = nn.Sequential(lm.model.layers[0].mlp, nn.Dropout(0.3))
    with pytest.raises(ModelError, match=r"found: Dropout\.p"):
        check_repeatable(lm)
    still(lm)
    check_repeatable(lm)
    assert lm.training is False
