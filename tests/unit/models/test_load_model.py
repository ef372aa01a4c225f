"""Folders as they are published load, whatever else lies in them; what is missing or broken is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from agrl.errors import ModelError
from agrl.models.build import TinyShape, load_model, make_tiny_model
from agrl.models.layout import pad_batch
from agrl.models.probe import probe

SHAPE = TinyShape(vocab_size=300, hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=48)


@pytest.fixture
def folder(tmp_path):
    make_tiny_model(tmp_path / "model", ["search: red grinder"], SHAPE)
    return tmp_path / "model"


def rewrite(folder, change):
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def same(folder, expected):
    torch.testing.assert_close(probe(load_model(str(folder), "float32"), pad_batch), expected)


def test_other_files_of_weights_do_not_count(folder):
    expected = probe(load_model(str(folder), "float32"), pad_batch)
    save_file({"tok_embeddings.weight": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    same(folder, expected)


def test_a_tied_head_may_be_in_the_file(folder):
    expected = probe(load_model(str(folder), "float32"), pad_batch)
    rewrite(folder, lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    same(folder, expected)


def test_weights_in_pickles_and_in_shards(folder, tmp_path):
    lm = load_model(str(folder), "float32")
    expected = probe(lm, pad_batch)
    lm.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    same(tmp_path / "sharded", expected)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    same(folder, expected)


def test_published_gpt2_has_no_prefix_and_more_than_weights(tmp_path):
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=32, n_layer=1, n_head=2, n_positions=16, eos_token_id=1))
    expected = probe(lm, pad_batch)
    lm.save_pretrained(tmp_path)
    masks = {"h.0.attn.bias": torch.ones(1, 1, 16, 16)}
    rewrite(tmp_path, lambda w: {name.removeprefix("transformer."): x for name, x in w.items()} | masks)
    same(tmp_path, expected)


def test_a_missing_weight_is_named_instead_of_drawn_at_random(folder):
    rewrite(folder, lambda w: {name: x for name, x in w.items() if "k_proj" not in name})
    with pytest.raises(ModelError, match=r"lacks 2 weights of a Qwen3ForCausalLM, such as model.layers.0.*k_proj"):
        load_model(str(folder), "float32")


@pytest.mark.parametrize("broken", ["truncated", "pointer", "shape"])
def test_a_broken_file_is_an_error_with_the_path(folder, broken):
    file = folder / "model.safetensors"
    if broken == "truncated":
        file.write_bytes(file.read_bytes()[:5000])
    elif broken == "pointer":  # what git leaves without its large files
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 1234\n")
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(ModelError, match=r"no causal language model could be loaded from .*model"):
        load_model(str(folder), "float32")
