"""A GGUF file becomes the model that its own blocks stand for: weights, rotations, tokens, chat template."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agrl.models.gguf import convert, read_header
from agrl.models.usable import examine
from tests.gguf_files import TEMPLATE, TEXTS, tiny_llama, write_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model whose weights are those of the file, dequantised, its tokenizer, and the folder made of the file."""
    folder = tmp_path_factory.mktemp("gguf")
    lm, tokenizer = tiny_llama()
    file = folder / "tiny [Q4_1].gguf"
    weights = write_gguf(file, lm, tokenizer)
    (folder / "config.json").write_text("{}")  # of something else: what lies beside the file does not count
    assert max((weights[name] - weight).abs().max() for name, weight in lm.state_dict().items() if name in weights) > 0
    # weights in bfloat16, as in the folder; not the rotations, of which no folder has a copy
    lm.load_state_dict({name: weight.to(torch.bfloat16) for name, weight in weights.items()}, strict=False)
    assert read_header(file).parameters == lm.num_parameters()
    convert(file, folder / "model")
    return lm, tokenizer, folder / "model"


def test_logits_are_those_of_the_dequantised_model(model):
    expected, tokenizer, folder = model
    ids = torch.tensor([tokenizer(" ".join(TEXTS))["input_ids"]])
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(found(ids).logits, expected(ids).logits, rtol=0, atol=1e-6)
    assert found(ids).logits.std() > 0.1


def test_the_tokenizer_gives_the_same_ids_and_the_template(model):
    _, expected, folder = model
    found = AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, "a   3", "12  34\n\n5", "größe 日本"]:
        assert found(text, add_special_tokens=False)["input_ids"] == expected(text)["input_ids"]
    assert found.eos_token_id == expected.eos_token_id
    assert found.chat_template == TEMPLATE


def test_the_folder_is_one_that_a_run_takes(model):
    lm, _, folder = model
    found = examine(folder)
    assert (found.kind, found.parameters) == ("LlamaForCausalLM", lm.num_parameters())
    assert (found.dtype, found.positions, found.vocabulary) == ("bfloat16", 128, 320)
    assert found.chat_template and found.safetensors
    assert found.packing == ("shared", "")
    assert found.size == (folder / "model.safetensors").stat().st_size
