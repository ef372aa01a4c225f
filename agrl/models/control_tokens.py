"""Text from data as ordinary tokens: whatever a tokenizer would take for one of its control tokens is broken up.

A tokenizer looks for its special tokens in any text, and a product's title may hold ``<|im_end|>``. Text is therefore
searched before it is tokenized, with case, width, accents and invisible characters folded away as a tokenizer's
normaliser may do, and what is found gets a space after its first character. Text without any is left as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BRACKETED = re.compile(r"[<\[{(|].*\w.*[>\]})|]", re.DOTALL)
"""What an added token of a tokenizer looks like that is no word: ``<think>``, ``[tool]``."""
_MARKUP = re.compile(r"<+[^<>\s]*\w[^<>\s]*>+|\[[^\[\]\s]*\w[^\[\]\s]*\]")
"""The same in the text of a chat template, where it may be plain text: ``<<SYS>>``, ``[/INST]``."""
_RESERVED = re.compile(r"<[|｜].+[|｜]>|<0x[0-9A-F]{2}>")
"""Vocabulary entries that no ordinary word looks like; with a byte's name, text could write a newline."""
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class _Folding(dict[int, str]):
    """Code point -> what normalisers may leave of it, for ``str.translate``."""

    def __missing__(self, code: int) -> str:
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        kept = [" " if c.isspace() or c == "▁" else c for c in folded]  # SentencePiece writes a space as "▁"
        self[code] = "".join(c for c in kept if unicodedata.category(c) not in ("Mn", "Me", "Cc", "Cf"))
        return self[code]


_FOLDED = _Folding()


class ControlTokens:
    """The control tokens of a tokenizer: special ones, added ones that look like markup, and those of its template.

    ``template_text``: what the chat template writes round the messages. An added token that is a word is no control
    token: vocabularies are extended by words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_text: str = "") -> None:
        vocabulary, added = tokenizer.get_vocab(), tokenizer.added_tokens_decoder.values()
        texts = {t.content for t in added if t.special or _BRACKETED.fullmatch(t.content.translate(_FOLDED))}
        texts |= {*map(str, tokenizer.all_special_tokens), *_MARKUP.findall(template_text)}
        texts |= {token for token in vocabulary if _RESERVED.fullmatch(token)}
        texts = {text for text in texts if text.translate(_FOLDED).strip()}
        # without the spaces at their ends, so that a space inside always breaks them
        self._pattern = _any_of({text.translate(_FOLDED).strip() for text in texts})
        # a character that the vocabulary lacks rightly gives an unknown token or tokens of bytes
        self._ids = {vocabulary[text] for text in texts if text in vocabulary and not _BYTE.fullmatch(text)}
        self._ids -= {tokenizer.unk_token_id} - {tokenizer.bos_token_id, tokenizer.eos_token_id}

    def among(self, ids: Sequence[int]) -> list[int]:
        """The control tokens of ``ids``, in order."""
        return [token for token in ids if token in self._ids]

    def broken_up(self, text: str) -> str:
        """``text`` without anything that could become a control token; the same text where there is nothing."""
        while spans := {m.start(): m.end() for m in self._pattern.finditer(text.translate(_FOLDED))}:
            text = _break(text, spans)
        return text


def _any_of(texts: set[str]) -> re.Pattern[str]:
    """A pattern of thousands of texts, grouped by their first two characters so that few are tried at a place."""
    groups = [
        re.escape(start) + "(?:" + "|".join(re.escape(text[2:]) for text in group) + ")"
        for start, group in groupby(sorted(texts), key=lambda text: text[:2])
    ]
    return re.compile("|".join(groups) or r"(?!)")


def _break(text: str, spans: dict[int, int]) -> str:
    """A space after the first character of each span (start -> end, in folded text), or in the place of a lone one."""
    pieces, begin = [], 0
    for char in text:
        end = begin + len(_FOLDED[ord(char)])
        ends = [spans[at] for at in range(begin, end) if at in spans]
        pieces.append(char if not ends else " " if min(ends) <= end else char + " ")
        begin = end
    return "".join(pieces)
