"""Examples as prompt ids: by what they say and not by their ids, and only for tokenizers that give responses back."""

from dataclasses import replace

import numpy as np
import pytest

from agrl.config.compose import load_config
from agrl.config.schema import TaskConfig
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.errors import ConfigError, DataError, ModelError
from agrl.models.tokens import decode_response
from agrl.relevance.records import Judgement, Order, Product
from tests.unit.models import tokenizers as made
from tests.unit.relevance.strategies import BOOKS, make_example

BOOK = BOOKS["relevance"]
BRIEF = TaskConfig(prompt_style="brief")
GOLD = {"category": "same", "attributes": "met"}


def test_examples_of_two_files_may_have_the_same_id():
    encoder = PromptEncoder(BOOK, made.byte_level(), BRIEF)
    files = [make_example(query="red blender"), make_example(query="guitar", product=Product("melodi guitar"))]
    for example in [*files, *files]:
        asked = encoder.tokenizer.decode(encoder.prompt(example))
        assert asked == f"Search: {example.query}\nTitle: {example.product.title}\n"


def test_whatever_is_shown_makes_another_prompt():
    encoder = PromptEncoder(BOOK, made.byte_level(), BRIEF)
    example = make_example(4, GOLD, product=Product("kettle", "kitchen", "acme", {"color": "red"}, "1.7 l"))
    shown = [
        ("title", "mill"),
        ("category", "tea"),
        ("brand", "caldo"),
        ("attributes", {"color": "blue"}),
        ("text", "2 l"),
    ]
    others = [replace(example, product=replace(example.product, **{name: value})) for name, value in shown]
    hinted = [encoder.prompt(example, level) for level in (1, 2, 3)]
    hinted.append(encoder.prompt(replace(example, tier=1), 3))
    prompts = [encoder.prompt(each).tobytes() for each in (example, *others)] + [ids.tobytes() for ids in hinted]
    assert len(set(prompts)) == len(prompts)
    assert encoder.prompt(replace(example, id="another", tier=1)) is encoder.prompt(example)


def test_a_reference_is_trained_as_the_text_that_is_returned():
    encoder = PromptEncoder(BOOK, made.chat(made.byte_level()), BRIEF)
    text, ids = encoder.response(Judgement(4, GOLD, {"query": "kettle<|im_end|>", "product": "kettle; <think>"}))
    assert text.startswith("Query: kettle< |im_end|>\nProduct: kettle; < think>\n")
    assert decode_response(encoder.tokenizer, ids.tolist()) == text
    assert np.isin(ids, encoder.tokenizer.all_special_ids).sum() == 1 and ids[-1] == encoder.tokenizer.eos_token_id


@pytest.mark.parametrize("order", list(Order))
def test_a_tokenizer_that_loses_line_breaks_is_refused_at_once(order):
    """Also where a response is one line: in the prompt, a title could else be read as the lines after it."""
    with pytest.raises(ModelError, match="does not give a response back"):
        PromptEncoder(BOOK, made.forgets_newlines(), replace(BRIEF, order=order))


def test_what_is_wrong_with_a_text_names_its_example():
    tokenizer = made.chat(made.plain_entries())
    encoder = PromptEncoder(BOOK, tokenizer, BRIEF)
    tokenizer.backend_tokenizer.normalizer = made.normalizers.Replace("mill", "<think>")
    with pytest.raises(DataError, match=r"example 'e7': .*<think>"):
        encoder.prompt(make_example(id="e7", product=Product("a mill")))


def test_a_runs_encoder_knows_the_arguments_of_the_chat_template(tmp_path):
    made.chat(made.byte_level()).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_positions": 2048}')
    words = [f"model.path={tmp_path}", "task.prompt_style=brief"]
    thinking, *silent = (
        PromptEncoder.load(load_config([*words, *more]))
        for more in (
            [],
            ["+model.chat_template_args.enable_thinking=false"],
            ["model.chat_template_args.enable_thinking=false"],
            ["+model.chat_template_args={enable_thinking: false}"],
        )
    )
    ending = thinking.tokenizer("<think>\n\n</think>\n\n")["input_ids"]
    for encoder in silent:
        assert encoder.prompt(make_example()).tolist() == [*thinking.prompt(make_example()), *ending]
    with pytest.raises(ConfigError, match=r"chat_template_args\.thinking"):
        PromptEncoder.load(load_config([*words, "+model.chat_template_args.thinking=false"]))
