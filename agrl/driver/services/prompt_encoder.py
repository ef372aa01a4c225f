"""Prompts as token ids, encoded once for each text, and checked against the length limit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from agrl.config.schema import Config, TaskConfig
from agrl.data.pool import Pool
from agrl.errors import DataError
from agrl.models.positions import check_positions
from agrl.models.tokens import (
    TemplateArgs,
    check_round_trip,
    encode_prompt,
    encode_response,
    load_tokenizer,
    ordinary_text,
)
from agrl.relevance.hints import max_hint_level
from agrl.relevance.prompt import Messages, render_prompt
from agrl.relevance.records import Example, Judgement, Order
from agrl.relevance.response import render_response, sample_responses
from agrl.relevance.rulebook import RuleBook, load_rulebook

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CACHED_PROMPTS = 16_384  # a few kilobytes each
TRIED = 64  # examples of a pool's beginning that are tried before it is used


class PromptEncoder:
    """Turns examples into prompt ids and judgements into response ids, always the same way.

    ``template_args``: what the tokenizer's chat template is given beside the messages. Raises ModelError for a
    tokenizer that does not give a response of the rule book back as it was.
    """

    def __init__(
        self,
        book: RuleBook,
        tokenizer: PreTrainedTokenizerBase,
        task: TaskConfig,
        template_args: TemplateArgs = None,
    ) -> None:
        self.book, self.tokenizer, self.task = book, tokenizer, task
        self._template_args = template_args
        self._encode = lru_cache(CACHED_PROMPTS)(self._encoded)  # by text: ids are unique within one file only
        # in every order: where line breaks are lost, the lines of a prompt are no lines either
        responses = [text for order in Order for text in sample_responses(book, order)]
        check_round_trip(tokenizer, responses, template_args)

    @classmethod
    def load(cls, config: Config) -> PromptEncoder:
        """The encoder of a run: its rule book, and its model's tokenizer.

        Raises RuleBookError or ModelError, also for a model with fewer positions than the limits of ``config.task``.
        """
        check_positions(config.model.path, config.task.max_prompt_tokens, config.task.max_response_tokens)
        book, tokenizer = load_rulebook(config.task.rulebook), load_tokenizer(config.model.path)
        return cls(book, tokenizer, config.task, config.model.chat_template_args)

    def prompt(self, example: Example, hint_level: int = 0) -> np.ndarray:
        """int32 [P]: the prompt of an example, with the gold hint of a level."""
        messages = render_prompt(self.book, example, self.task.order, self.task.prompt_style, hint_level)
        try:
            return self._encode(messages)
        except DataError as error:
            raise DataError(f"example {example.id!r}: {error}", hint=error.hint) from error

    def _encoded(self, messages: Messages) -> np.ndarray:
        return np.asarray(encode_prompt(self.tokenizer, messages, self._template_args), np.int32)

    def response(self, judgement: Judgement) -> tuple[str, np.ndarray]:
        """The text of a judgement and its ids, int32 [T], end token included."""
        stated = render_response(self.book, judgement, self.task.order)
        text = ordinary_text(self.tokenizer, stated, self._template_args)
        return text, np.asarray(encode_response(self.tokenizer, text, self._template_args), np.int32)

    def fitting(self, examples: Sequence[Example], hinted: bool) -> list[Example]:
        """The examples that fit (``fits``). Raises DataError when none does."""
        kept = [e for e in examples if self.fits(e, hinted)]
        if examples and not kept:
            raise DataError(
                f"no prompt fits in task.max_prompt_tokens={self.task.max_prompt_tokens}: the first has "
                f"{self._longest(examples[0], hinted)} tokens",
                hint="raise task.max_prompt_tokens, or shorten the prompt in the rule book",
            )
        return kept

    def first_fitting(self, pool: Pool, hinted: bool) -> list[Example]:
        """Those of the pool's first examples that fit. Raises DataError when none does."""
        return self.fitting(pool.take(range(min(TRIED, len(pool)))), hinted)

    def fits(self, example: Example, hinted: bool) -> bool:
        """Whether its prompt (with its fullest hint when ``hinted``) is within ``task.max_prompt_tokens``."""
        return self._longest(example, hinted) <= self.task.max_prompt_tokens

    def _longest(self, example: Example, hinted: bool) -> int:
        return len(self.prompt(example, max_hint_level(self.book, example) if hinted else 0))
