"""Small tokenizers and chat templates of the kinds that published models have."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from agrl.models.build import train_tokenizer

TEXTS = [
    f"Search: red grinder {i}\nTitle: crimson mill {i}; kettle\nQuery: one; two 3\nProduct: b - >\nCategory: same\n"
    "Attributes: met partial unmet\nTier: 4 3 2 1 substitute accessory unrelated\nsystem user assistant im_start <|/[]"
    for i in range(60)
] + [" ".join(map(chr, range(33, 127)))]
RESERVED = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No.') }}{% endif %}" + CHATML
DROPS_SYSTEM = (
    "{% for m in messages if m['role'] == 'user' %}<|user|>\n{{ m['content'] | trim }}{% endfor %}<|im_end|>\n"
)
FAILS_ON_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['parts'] | first | upper + 1 }}{% endif %}" + CHATML
)
INST = (
    "{{ bos_token }}[INST] {% if messages[0]['role'] == 'system' %}<<SYS>>\n{{ messages[0]['content'] }}\n<</SYS>>\n\n"
    "{% endif %}{{ messages[-1]['content'] }} [/INST]"
)
TEMPLATES = {
    "none": None,
    "chatml": CHATML,
    "refuses": REFUSES_SYSTEM,
    "drops": DROPS_SYSTEM,
    "fails": FAILS_ON_SYSTEM,
    "inst": INST,
}


def _trained(model, trainer, pre_tokenizer, decoder, normalizer=None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _fast(tokenizer)


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2, Qwen and Llama 3 have."""
    return train_tokenizer(TEXTS, 600)


def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral have; a BOS before every text."""
    tokenizer = _trained(
        models.BPE(byte_fallback=True, unk_token="<unk>"),
        trainers.BpeTrainer(vocab_size=900, special_tokens=RESERVED + BYTES, show_progress=False),
        pre_tokenizers.Metaspace(prepend_scheme="always"),
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
    )
    return with_post_processor(tokenizer, "<s> $A")


def unigram(normalizer=None) -> PreTrainedTokenizerFast:
    """As SentencePiece makes them (T5, XGLM, Gemma's kin)."""
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=RESERVED, unk_token="<unk>", show_progress=False)
    return _trained(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace(), normalizer)


def folding() -> PreTrainedTokenizerFast:
    """One that folds width, case, accents and invisible characters before it looks for its tokens."""
    steps = [normalizers.Nmt(), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    return unigram(normalizers.Sequence(steps))


def forgets_newlines() -> PreTrainedTokenizerFast:
    """As the SentencePiece default normaliser does: a newline becomes a space."""
    return unigram(normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]))


def plain_entries() -> PreTrainedTokenizerFast:
    """One whose control tokens are entries of the vocabulary like any other."""
    characters = sorted({char for text in TEXTS for char in text} - {" "} | {"▁"})
    entries = [*RESERVED, "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|user|>", "[INST]", *BYTES]
    vocabulary = [(entry, 0.0) for entry in entries] + [(char, -5.0) for char in characters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return _fast(tokenizer)


def slow() -> PreTrainedTokenizerBase:
    """One that is written in Python, without offsets; an end token after every text."""
    return ByT5Tokenizer()


KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "byte_level": byte_level,
    "byte_fallback": byte_fallback,
    "unigram": unigram,
    "folding": folding,
    "plain_entries": plain_entries,
    "slow": slow,
}


def chat(tokenizer: PreTrainedTokenizerBase, template: str | None = CHATML) -> PreTrainedTokenizerBase:
    """The tokenizer with control tokens of every sort, special and not, and a template."""
    special = [AddedToken(text, normalized=False) for text in ("<|im_start|>", "<|im_end|>")]
    special.append(AddedToken("<|user|>", lstrip=True, rstrip=True, normalized=True))
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>"), "<tool_call>"])
    tokenizer.chat_template = template
    return tokenizer


def with_post_processor(tokenizer: PreTrainedTokenizerFast, single: str) -> PreTrainedTokenizerFast:
    """The tokenizer with special tokens put round every text: ``single`` is such as "<s> $A </s>"."""
    names = [(name, tokenizer.convert_tokens_to_ids(name)) for name in single.split() if name != "$A"]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=names)
    return tokenizer
