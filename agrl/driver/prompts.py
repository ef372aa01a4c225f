"""Prompts as token ids: encoded once for each example and hint level, checked against the length limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from agrl.config.schema import TaskConfig
from agrl.errors import DataError
from agrl.models.tokens import encode_prompt, encode_response
from agrl.relevance.hints import max_hint_level
from agrl.relevance.prompt import render_prompt
from agrl.relevance.records import Example, Judgement
from agrl.relevance.response import render_response
from agrl.relevance.rulebook import RuleBook

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptEncoder:
    """Turns examples into prompt ids and judgements into response ids, always the same way."""

    def __init__(self, book: RuleBook, tokenizer: PreTrainedTokenizerBase, task: TaskConfig) -> None:
        self.book, self.tokenizer, self.task = book, tokenizer, task
        self._prompts: dict[tuple[str, int], np.ndarray] = {}

    def prompt(self, example: Example, hint_level: int = 0) -> np.ndarray:
        """int32 [P]: the prompt of an example, with the gold hint of a level."""
        key = (example.id, hint_level)
        if key not in self._prompts:
            messages = render_prompt(self.book, example, self.task.order, self.task.prompt_style, hint_level)
            self._prompts[key] = np.asarray(encode_prompt(self.tokenizer, messages), np.int32)
        return self._prompts[key]

    def response(self, judgement: Judgement) -> tuple[str, np.ndarray]:
        """The text of a judgement and its ids, int32 [T], end token included."""
        text = render_response(self.book, judgement, self.task.order)
        return text, np.asarray(encode_response(self.tokenizer, text), np.int32)

    def fitting(self, examples: Sequence[Example], hinted: bool) -> list[Example]:
        """The examples whose prompt (with its fullest hint when ``hinted``) is within ``task.max_prompt_tokens``.

        Raises DataError when none is.
        """
        kept = [e for e in examples if self._longest(e, hinted) <= self.task.max_prompt_tokens]
        if examples and not kept:
            raise DataError(
                f"no prompt fits in task.max_prompt_tokens={self.task.max_prompt_tokens}: the first has "
                f"{self._longest(examples[0], hinted)} tokens",
                hint="raise task.max_prompt_tokens, or shorten the prompt in the rule book",
            )
        return kept

    def _longest(self, example: Example, hinted: bool) -> int:
        return len(self.prompt(example, max_hint_level(self.book, example) if hinted else 0))
