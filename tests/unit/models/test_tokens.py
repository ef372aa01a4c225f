"""Prompts and responses as tokens: what the template says, and of the data ordinary tokens only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agrl.errors import ConfigError, DataError, ModelError
from agrl.models.build import END
from agrl.models.tokens import (
    _Wording,
    check_round_trip,
    decode_response,
    encode_prompt,
    encode_response,
    load_tokenizer,
    ordinary_text,
)
from agrl.relevance.prompt import Messages
from agrl.relevance.records import Order
from agrl.relevance.response import sample_responses
from tests.unit.models import tokenizers as made
from tests.unit.relevance.strategies import BOOKS

CONTROL = ["<|im_end|>", "<|im_start|>", "<|user|>", "<think>", "</think>", "<tool_call>", "<s>", "</s>", "<unk>", END]
PLAIN_CONTROL = ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"]  # of a template, but no tokens
HARMLESS = Messages("Judge.", "Search: red grinder\nTitle: crimson mill 3")
CASES = {f"{k} {t}": (k, t) for k in made.KINDS for t in made.TEMPLATES}


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def tokenizer(request):
    kind, template = request.param
    return made.chat(made.KINDS[kind](), made.TEMPLATES[template])


def in_other_dress(text):
    """A control token as a normaliser may still see it: in capitals, in full width, with accents or invisible signs."""
    wide = "".join(chr(ord(char) + 0xFEE0) for char in text)
    hidden = [text[:3] + char + text[3:] for char in ("\u200b", "\xad", "\u0301", "\ufeff", "\x01")]
    return st.sampled_from([text, text.upper(), wide, text.replace("_", "▁"), text[:4] + text + text[4:], *hidden])


ATTACKS = st.sampled_from(CONTROL + PLAIN_CONTROL).flatmap(in_other_dress)
WORDS = st.sampled_from(["kettle", " ", "é", "水", "🙂"])
TEXTS = st.lists(st.one_of(ATTACKS, ATTACKS, WORDS), min_size=1).map("".join)


def control_ids(tokenizer, ids):
    """Every special or added token, without those that any unknown character gives."""
    known = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(CONTROL)}
    known -= {tokenizer.unk_token_id, *tokenizer.convert_tokens_to_ids(made.BYTES)}
    return [token for token in ids if token in known]


@settings(max_examples=30)
@given(system=TEXTS, user=TEXTS)
def test_no_text_gives_a_control_token(tokenizer, system, user):
    expected = control_ids(tokenizer, encode_prompt(tokenizer, HARMLESS))
    assert control_ids(tokenizer, encode_prompt(tokenizer, Messages(system, user))) == expected
    assert control_ids(tokenizer, encode_response(tokenizer, user)[:-1]) == []


def test_the_tokenizers_do_find_control_tokens_in_text(tokenizer):
    """Without this the law above would hold of itself."""
    found = control_ids(tokenizer, tokenizer("kettle<|im_end|>red", add_special_tokens=False)["input_ids"])
    assert tokenizer.convert_ids_to_tokens(found) == ["<|im_end|>"]


def test_harmless_text_gives_the_tokens_of_the_template_and_no_others(tokenizer):
    if tokenizer.chat_template:
        system = [{"role": "system", "content": HARMLESS.system}]
        user = HARMLESS.user
        if tokenizer.chat_template not in (made.CHATML, made.INST):
            system, user = [], f"{HARMLESS.system}\n\n{HARMLESS.user}"
        chat = [*system, {"role": "user", "content": user}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert HARMLESS.system in text and HARMLESS.user in text
        assert encode_prompt(tokenizer, HARMLESS) == tokenizer(text, add_special_tokens=False)["input_ids"]
    text = "Query: red <b>grinder</b> [2 l] a < b > c; <3\nTier: 4"
    assert encode_response(tokenizer, text)[:-1] == tokenizer(text, add_special_tokens=False)["input_ids"]


LINES = st.sampled_from(["Judge.", "Tier: <4 | 3>", "a\n", "\n", "\n\n", " ", "  ", "\t", "é", "水", "12", "'s", "red"])


@settings(max_examples=30)
@given(system=st.lists(LINES).map("".join), users=st.lists(st.lists(LINES, min_size=1).map("".join), min_size=2))
def test_a_prompt_is_tokenized_as_if_nothing_were_known_of_its_beginning(tokenizer, system, users):
    wording = _Wording(tokenizer, {})
    for user in users:
        expected = wording._opening + wording._ids(wording._text(Messages(system, user)))
        assert encode_prompt(tokenizer, Messages(system, user)) == expected


def test_most_of_a_prompt_is_tokenized_once(tokenizer, monkeypatch):
    wording, given = _Wording(tokenizer, {}), []
    monkeypatch.setattr(wording, "_ids", lambda text, ids=wording._ids: given.append(text) or ids(text))
    system = "A rule.\n" * 50 + "Tier: <4 | 3>"
    for i in range(5):
        wording.prompt(Messages(system, f"Search: {i}"))
    reused = sum("A rule." not in text for text in given)
    assert reused >= 5 or isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.Metaspace)


def test_what_is_broken_up_can_still_be_read_and_is_what_is_tokenized():
    tokenizer = made.chat(made.byte_level())
    text = ordinary_text(tokenizer, f"kettle{END}[red]<THINK>")
    assert text == "kettle< |end|>[red]< THINK>"
    assert decode_response(tokenizer, encode_response(tokenizer, f"kettle{END}[red]<THINK>")) == text


def test_control_strings_of_a_template_are_broken_up_where_they_are_no_tokens():
    tokenizer = made.chat(made.byte_level(), made.INST)
    assert ordinary_text(tokenizer, "a [/INST] Tier: 4 [INST] b [sic]") == "a [ /INST] Tier: 4 [ INST] b [sic]"


def test_the_name_of_a_byte_writes_no_newline():
    tokenizer = made.plain_entries()
    newline = tokenizer.convert_tokens_to_ids("<0x0A>")
    assert newline in tokenizer("a <0x0A> b")["input_ids"]
    assert newline not in encode_response(tokenizer, "a <0x0A> b")


def test_added_words_stay_whole_and_lone_signs_give_way():
    tokenizer = made.byte_level()
    tokenizer.add_tokens(["kettle", "T-shirt"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["~", "USER:"]})
    assert ordinary_text(tokenizer, "kettle ~ T-shirt") == "kettle   T-shirt"
    words = tokenizer.convert_tokens_to_ids(["kettle", "T-shirt"])
    assert set(words) < set(encode_response(tokenizer, "kettle T-shirt"))
    assert ordinary_text(tokenizer, "user: USER:") == "u ser: U SER:"


def test_what_cannot_be_kept_ordinary_is_refused_and_not_passed_on():
    tokenizer = made.chat(made.plain_entries())
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("red", "<think>")
    with pytest.raises(DataError, match=r"control tokens \(<think>\) of the text 'Search: red"):
        encode_prompt(tokenizer, HARMLESS)
    with pytest.raises(DataError, match=r"control tokens \(<think>\)"):
        encode_response(tokenizer, "a red one")
    assert encode_response(tokenizer, "a blue one")


# ---- chat templates --------------------------------------------------------------------------------------------------


def prompt_text(template, messages=HARMLESS, **args):
    tokenizer = made.chat(made.byte_level(), template)
    return tokenizer.decode(encode_prompt(tokenizer, messages, args))


def test_prompts_use_the_chat_template_where_there_is_one():
    assert prompt_text(None, Messages("rules", "search: x")) == "rules\nsearch: x\n"
    user = "<|im_start|>user\nsearch: x<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(made.CHATML, Messages("rules", "search: x")) == f"<|im_start|>system\nrules<|im_end|>\n{user}"
    assert "system" not in prompt_text(made.CHATML, Messages("", "search: x"))


@pytest.mark.parametrize("template", [made.REFUSES_SYSTEM, made.FAILS_ON_SYSTEM], ids=["refuses", "fails"])
def test_a_refused_system_message_goes_before_the_users(template):
    expected = "<|im_start|>user\nrules\n\nsearch: x<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(template, Messages("rules", "search: x")) == expected
    assert "user\nsearch: x<" in prompt_text(template, Messages("", "search: x"))


def test_a_system_message_that_would_be_dropped_goes_before_the_users():
    # its token for the user takes the space round it
    assert prompt_text(made.DROPS_SYSTEM, Messages("rules", "search: x")) == "<|user|>rules\n\nsearch: x<|im_end|>"


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ raise_exception('never') }}", "TemplateError: never"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{{ messages[0].parts[0].text }}", "UndefinedError"),
        ("{{ bos_token }}assistant:", "leaves out the user's message"),
    ],
)
def test_another_fault_of_a_template_is_named(template, named):
    with pytest.raises(ModelError, match=rf"chat template of .*{named}"):
        prompt_text(template)


def test_template_arguments_reach_the_template():
    off = prompt_text(made.CHATML, enable_thinking=False)
    assert off == prompt_text(made.CHATML) + "<think>\n\n</think>\n\n"
    assert prompt_text(made.CHATML, enable_thinking=True) == prompt_text(made.CHATML)


def test_arguments_that_a_template_does_not_know_are_refused():
    with pytest.raises(ConfigError, match=r"chat_template_args\.enable_thinkin: .*knows no such name"):
        prompt_text(made.CHATML, enable_thinkin=False)
    with pytest.raises(ConfigError, match=r"chat_template_args\.add_generation_prompt"):
        prompt_text(made.CHATML, add_generation_prompt=False)
    with pytest.raises(ConfigError, match="has no chat template"):
        prompt_text(None, enable_thinking=False)


def test_a_mistral_folder_gives_the_tokenizer_that_has_a_chat_template(tmp_path):
    tokenizer = made.chat(made.byte_level())
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    (tmp_path / "tekken.json").write_text("{}")
    loaded = load_tokenizer(str(tmp_path))
    assert encode_prompt(loaded, HARMLESS) == encode_prompt(tokenizer, HARMLESS)


# ---- without a chat template -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("around", "before"),
    [("$A", []), ("<s> $A", ["<s>"]), ("$A </s>", []), ("<s> $A </s>", ["<s>"]), ("<unk> <s> $A", ["<unk>", "<s>"])],
)
def test_a_base_models_prompt_begins_as_its_tokenizer_begins_a_text(around, before):
    tokenizer = made.with_post_processor(made.unigram(), around)
    ids = encode_prompt(tokenizer, HARMLESS)
    text = f"{HARMLESS.system}\n{HARMLESS.user}\n"
    expected = [*tokenizer.convert_tokens_to_ids(before), *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert ids == expected
    assert encode_response(tokenizer, "a")[-1] == tokenizer.eos_token_id
    assert tokenizer.bos_token_id not in encode_response(tokenizer, "a")


def test_with_a_chat_template_the_template_decides():
    tokenizer = made.chat(made.byte_fallback(), made.INST)
    assert encode_prompt(tokenizer, HARMLESS).count(tokenizer.bos_token_id) == 1
    tokenizer.chat_template = made.CHATML
    assert tokenizer.bos_token_id not in encode_prompt(tokenizer, HARMLESS)


# ---- responses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram", "slow"])
@pytest.mark.parametrize("book", BOOKS.values(), ids=list(BOOKS))
def test_responses_come_back_as_they_were(kind, book):
    tokenizer = made.KINDS[kind]()
    for order in Order:
        responses = list(sample_responses(book, order))
        check_round_trip(tokenizer, responses)
        for line in book.layout(order):
            assert all(any(line.prefix + value in text for text in responses) for value in line.values or [""])


def word_level():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "Query": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("make", [made.forgets_newlines, made.folding, word_level])
def test_a_tokenizer_that_loses_the_form_of_a_response_is_refused(make):
    tokenizer, (text, *_) = make(), sample_responses(BOOKS["relevance"], Order.think_then_respond)
    back = decode_response(tokenizer, encode_response(tokenizer, text))
    with pytest.raises(ModelError, match="does not give a response back") as error:
        check_round_trip(tokenizer, [text])
    assert repr(text) in str(error.value) and repr(back) in str(error.value)


def test_the_first_difference_is_shown():
    with pytest.raises(ModelError, match=r"first difference is '\\nTier: 4', which becomes ' Tier: 4'"):
        check_round_trip(made.forgets_newlines(), ["Query: red\nTier: 4"])


@pytest.mark.parametrize("token", ["4", " 4", "Tier:", "\n"])
def test_labels_that_are_special_tokens_are_refused(token):
    tokenizer = made.byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": [token]})
    with pytest.raises(ModelError, match="does not give a response back"):
        check_round_trip(tokenizer, ["Category: same\nTier: 4"])
