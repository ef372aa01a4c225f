"""Text to token ids and back, the same way everywhere: SFT, rollouts, guidance and evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from agrl.errors import ConfigError, DataError, ModelError
from agrl.models.chat import PROBE, ChatTemplate
from agrl.models.control_tokens import ControlTokens
from agrl.relevance.prompt import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@lru_cache(maxsize=4)
def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name. Raises ModelError when there is none or it has no end token."""
    from transformers import AutoTokenizer

    try:
        # mistral_format: Mistral's own format has no chat template, and lies beside the one that has
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, mistral_format=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no tokenizer could be loaded from {path!r}: {error}",
            hint="give model.path=FOLDER of a Hugging Face model, fetch one with `agrl model get`, or make a small "
            "one with `agrl model make`",
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {path!r} has no end-of-sequence token, so responses could never end",
            hint="tokenizer_config.json of its folder names it as eos_token",
        )
    return tokenizer


TemplateArgs = Mapping[str, Any] | None
"""What a chat template is given beside the messages: ``model.chat_template_args``."""


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, template_args: TemplateArgs = None
) -> list[int]:
    """Prompt ids: through the tokenizer's chat template where it has one, else system and user text, a line each.

    Without a template the prompt begins with what the tokenizer puts before any text (BOS). The messages become
    ordinary tokens, whatever they say; control tokens come from the template alone. Raises ModelError for a template
    that fails, ConfigError for arguments that it does not know, DataError for text that cannot be kept ordinary.
    """
    return _wording(tokenizer, template_args).prompt(messages)


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str, template_args: TemplateArgs = None) -> list[int]:
    """Ids of ``ordinary_text(text)``, end-of-sequence token included. Raises as ``encode_prompt`` does."""
    return _wording(tokenizer, template_args).response(text)


def ordinary_text(tokenizer: PreTrainedTokenizerBase, text: str, template_args: TemplateArgs = None) -> str:
    """The text that is tokenized: ``text`` with whatever could become a control token broken up by a space."""
    return _wording(tokenizer, template_args).control.broken_up(text)


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of response ids without special tokens, spaces left as they are."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def check_round_trip(
    tokenizer: PreTrainedTokenizerBase, responses: Iterable[str], template_args: TemplateArgs = None
) -> None:
    """Raises ModelError when a response is another text after encoding and decoding: it could never be parsed."""
    for text in responses:
        back = decode_response(tokenizer, encode_response(tokenizer, text, template_args))
        if back != text:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(text, back, strict=False))
            at = len(list(same))
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path!r} does not give a response back: {text!r} becomes "
                f"{back!r}; the first difference is {text[at : at + 12]!r}, which becomes {back[at : at + 12]!r}",
                hint="such responses could never be parsed: take a model of another tokenizer, or change the labels or "
                "verdicts that are lost in the rule book",
            )


class _Wording:
    """How a tokenizer's prompts and responses are made; all that holds for every text is found out once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_args: Mapping[str, Any]) -> None:
        self.tokenizer = tokenizer
        self._chat = ChatTemplate(tokenizer, template_args) if tokenizer.chat_template else None
        if template_args and not self._chat:
            raise ConfigError(
                f"model.chat_template_args is set, but the tokenizer of {tokenizer.name_or_path!r} has no chat template"
            )
        self._opening = [] if self._chat else _opening(tokenizer)
        self.control = ControlTokens(tokenizer, self._chat.probe(system=True) if self._chat else "")
        self._frames: dict[bool, list[int]] = {}
        self._head = lru_cache(maxsize=64)(self._found_head)

    def prompt(self, messages: Messages) -> list[int]:
        """See ``encode_prompt``."""
        system, user = (self.control.broken_up(text) for text in messages)
        text, (head, first) = self._text(Messages(system, user)), self._head(system)
        ids = [*first, *self._ids(text[len(head) :])] if text.startswith(head) else self._ids(text)
        self._refuse_control_tokens(ids, self._frame(bool(system)), user)
        return [*self._opening, *ids]

    def response(self, text: str) -> list[int]:
        """See ``encode_response``."""
        ids = self._ids(self.control.broken_up(text))
        self._refuse_control_tokens(ids, [], text)
        return [*ids, self.tokenizer.eos_token_id]

    def _found_head(self, system: str) -> tuple[str, list[int]]:
        """What all prompts with this system message begin with, and its ids: most of a prompt, tokenized once.

        It ends where the last line before the user's message begins, too far from what differs for a token to reach
        across. Empty where the tokenizer gives other ids for the two parts than for the whole.
        """
        text = self._text(Messages(system, PROBE.user))
        before = text[: text.rfind(PROBE.user)]
        head = before[: before.rstrip().rfind("\n") + 1]
        ids = self._ids(head) if head else []
        return (head, ids) if self._ids(text) == [*ids, *self._ids(text[len(head) :])] else ("", [])

    def _text(self, messages: Messages) -> str:
        return self._chat.render(messages) if self._chat else "".join(part + "\n" for part in messages if part)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _frame(self, system: bool) -> list[int]:
        """The control tokens of any prompt: those that the template writes."""
        if system not in self._frames:
            text = self._chat.probe(system) if self._chat else self._text(PROBE)
            self._frames[system] = self.control.among(self._ids(text))
        return self._frames[system]

    def _refuse_control_tokens(self, ids: list[int], expected: list[int], text: str) -> None:
        if (found := self.control.among(ids)) != expected:
            extra = self.tokenizer.convert_ids_to_tokens(list(Counter(found) - Counter(expected)))
            raise DataError(
                f"the tokenizer makes control tokens ({', '.join(extra)}) of the text {text[:200]!r}",
                hint="leave the example out: it would end the model's turn, or begin another one",
            )


def _wording(tokenizer: PreTrainedTokenizerBase, template_args: TemplateArgs) -> _Wording:
    # a tokenizer can be given another template or more tokens while it is in use
    return _cached_wording(
        tokenizer, json.dumps(template_args or {}, sort_keys=True), str(tokenizer.chat_template), len(tokenizer)
    )


@lru_cache(maxsize=8)
def _cached_wording(tokenizer: PreTrainedTokenizerBase, template_args: str, template: str, size: int) -> _Wording:
    return _Wording(tokenizer, json.loads(template_args))


def _opening(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text: a BOS, several tokens, or none. Raises ModelError when unclear."""
    bare, whole = (tokenizer(PROBE.user, add_special_tokens=add)["input_ids"] for add in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    raise ModelError(f"the tokenizer of {tokenizer.name_or_path!r} encodes a text differently with its special tokens")
