"""A tokenizer's chat template: what it takes is tried once, before anything is trained or judged."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agrl.errors import ConfigError, ModelError
from agrl.relevance.prompt import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = Messages("systemprobe", "userprobe")
"""Neutral messages, found again in what a template makes of them."""


class ChatTemplate:
    """Messages as the text that a chat model was trained on.

    A template that refuses or drops a system message gets it before the user's text, a blank line between.
    ``arguments``: ``model.chat_template_args`` of the configuration. Raises ConfigError for an argument that the
    template does not know, ModelError for a template that fails or drops the user's text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
        self._tokenizer, self._arguments = tokenizer, dict(arguments)
        self._check_arguments()
        self._takes_system = self._keeps_system()

    def render(self, messages: Messages) -> str:
        """The text of a prompt, up to where the answer begins. Raises ModelError when the template fails."""
        if messages.system and not self._takes_system:
            messages = Messages("", f"{messages.system}\n\n{messages.user}")
        return self._apply(messages)

    def probe(self, system: bool) -> str:
        """The text of neutral messages. Raises ModelError when the user's is not in it."""
        text = self.render(PROBE if system else PROBE._replace(system=""))
        if PROBE.user not in text:
            raise ModelError(f"the chat template of {self._tokenizer.name_or_path!r} leaves out the user's message")
        return text

    def _keeps_system(self) -> bool:
        try:
            text = self._apply(PROBE)
        except ModelError:  # the same without a system message fails below, when it is for another reason
            text = ""
        kept = PROBE.system in text and PROBE.user in text
        if not kept:
            self._apply(PROBE._replace(system=""))
        return kept

    def _apply(self, messages: Messages) -> str:
        chat = [{"role": role, "content": text} for role, text in messages._asdict().items() if text]
        try:
            return self._tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, **self._arguments
            )
        except Exception as error:  # a template is a program of its own and may fail in any way
            raise ModelError(
                f"the chat template of {self._tokenizer.name_or_path!r} fails: {type(error).__name__}: {error}",
                hint="model.chat_template_args gives it what it asks for; a tokenizer without a template gets the "
                "system and the user text, a line each",
            ) from error

    def _check_arguments(self) -> None:
        own = inspect.signature(self._tokenizer.apply_chat_template).parameters.keys() - {"tools", "documents"}
        for name in self._arguments:
            if name in own or name in ("messages", "self"):
                raise ConfigError(f"model.chat_template_args.{name} is not an argument of a template")
            if not re.search(rf"\b{re.escape(name)}\b", self._source()):
                raise ConfigError(
                    f"model.chat_template_args.{name}: the chat template of {self._tokenizer.name_or_path!r} knows "
                    "no such name",
                    hint="the template is in tokenizer_config.json or chat_template.jinja of the model's folder",
                )

    def _source(self) -> str:
        try:
            return self._tokenizer.get_chat_template()
        except ValueError as error:  # several templates, and none is the default
            raise ModelError(f"{self._tokenizer.name_or_path!r}: {error}") from error
