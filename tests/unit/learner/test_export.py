"""What leaves the learner has the names, shapes and settings of the folder that it came from; tried before training."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig, Qwen3MoeConfig

from agrl.errors import ModelError
from agrl.models.adapters import add_adapters
from agrl.models.build import TinyShape, load_config, load_model, make_tiny_model, train_tokenizer
from agrl.models.dropout import random_rates
from learner.adapters import weights
from learner.export import as_published, check_export, export, shapes
from learner.rank import LearnerRank, RankSettings

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "eos_token_id": 1,
    "bos_token_id": None,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "eos_token_id": 1, "bos_token_id": 1}
CONFIGS = {
    "gpt2": GPT2Config(**GPT),
    "experts": Qwen3MoeConfig(**SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24),
    "renamed_experts": MixtralConfig(**SMALL, num_local_experts=4, router_jitter_noise=0.1),
}
TOKENIZER = train_tokenizer(["search: red grinder"], 300)


@pytest.fixture(params=CONFIGS)
def folder(request, tmp_path):
    """As published: random rates above 0, the experts apart."""
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    config.vocab_size = len(TOKENIZER)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def named(lm):
    return [(weight.name, weight.merged()) for weight in weights(lm)]


def test_what_is_broadcast_has_the_names_and_values_of_the_file(folder):
    found = dict(as_published(lm := load_model(str(folder), "float32"), named(lm)))
    expected = load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weights_that_were_joined_are_taken_apart_one_by_one(folder):
    """So that no more than one of them need be whole at a time; without it the model is held at once."""
    lm = load_model(str(folder), "float32")
    asked = []

    def gathered():
        for name, tensor in named(lm):
            asked.append(name)
            yield name, tensor

    found = iter(as_published(lm, gathered()))
    next(found)
    assert len(asked) == 1
    assert len(list(found)) >= len(asked) - 1


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_an_export_is_the_folder_with_other_weights(folder, tmp_path, lora_rank):
    lm, rates = load_model(str(folder), "float32"), random_rates(load_config(str(folder)))
    if lora_rank:
        add_adapters(lm, lora_rank, 4.0)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    export(lm, TOKENIZER, tmp_path / "trained", named(lm), rates)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "trained"))
    assert {name: x.shape for name, x in after.items()} == {name: x.shape for name, x in before.items()}
    assert any(not torch.equal(after[name], before[name]) for name in before)
    again = load_model(str(tmp_path / "trained"), "float32")
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(named(again), named(lm), strict=True))
    read = lambda path: json.loads((path / "config.json").read_text())  # noqa: E731
    assert read(tmp_path / "trained") == read(folder)


def test_a_setting_that_cannot_be_saved_is_named_before_training(folder):
    (folder / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.6}')
    with pytest.raises(ModelError, match=r"(?s)could not be saved.*temperature"):
        LearnerRank(RankSettings(str(folder), "float32"), 0, 1).start(RankSettings(str(folder), "float32"))


def test_updates_that_do_not_merge_into_the_model_are_named_before_training(folder):
    lm = load_model(str(folder), "float32")
    plain = shapes(lm)
    name, shape = max(plain.items(), key=lambda pair: len(pair[1]))
    check_export(lm, TOKENIZER, plain, {})
    with pytest.raises(ModelError, match=rf"1 weights of a .* such as {name}"):
        check_export(lm, TOKENIZER, plain | {name: torch.Size([*shape, 1])}, {})
    with pytest.raises(ModelError, match=r"such as elsewhere: none instead of \[3\]"):
        check_export(lm, TOKENIZER, plain | {"elsewhere": torch.Size([3])}, {})


def test_a_model_in_bfloat16_is_exported_in_float32_where_it_was_trained_so(tmp_path):
    shape = TinyShape(vocab_size=300, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=48)
    make_tiny_model(tmp_path / "model", ["search: red grinder"], shape)
    load_model(str(tmp_path / "model"), "bfloat16").save_pretrained(tmp_path / "model")
    lm = load_model(str(tmp_path / "model"), "float32")
    export(lm, TOKENIZER, tmp_path / "trained", named(lm), {})
    assert {x.dtype for x in load_file(tmp_path / "trained" / "model.safetensors").values()} == {torch.float32}
    assert load_config(str(tmp_path / "trained")).dtype == torch.float32
