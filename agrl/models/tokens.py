"""Text to token ids and back, the same way everywhere: SFT, rollouts, guidance and evaluation."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from agrl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from agrl.relevance.prompt import Messages


@lru_cache(maxsize=4)
def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name. Raises ModelError when there is none or it has no end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no tokenizer could be loaded from {path!r}: {error}",
            hint="give model.path=FOLDER of a Hugging Face model, or make a small one with `agrl model make`",
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {path!r} has no end-of-sequence token, so responses could never end")
    return tokenizer


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Prompt ids: through the tokenizer's chat template where it has one, else system and user text, a line each."""
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": messages.user}]
        if messages.system:
            chat.insert(0, {"role": "system", "content": messages.system})
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    else:
        text = "".join(part + "\n" for part in (messages.system, messages.user) if part)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Response ids, end-of-sequence token included."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of response ids without special tokens, spaces left as they are."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
