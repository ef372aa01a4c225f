"""The words ``key=value`` of a command line, made ready for Hydra: text is text, whatever it looks like.

Hydra's grammar would read ``run=20261126_1200`` as a number and refuse ``run=größe``. So the value of a key that holds
text never reaches it: a mark goes in its place, and the finished configuration gets the text back. Hydra still
decides about order, groups and the prefixes ``+``, ``++`` and ``~``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agrl.config.keys import NONE, TEXTS, Kind, choices, followed, groups, kind_of, unknown_key
from agrl.errors import ConfigError

WORD = re.compile(r"(\+\+|\+|~)?([^=]*)(?:=(.*))?", re.DOTALL)
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
ENTRY = rf"\s*({QUOTED}|[^:,{{}}'\"]+):\s*({QUOTED}|[^,{{}}'\"]+)"
MAPPING = re.compile(rf"\{{\s*(?:{ENTRY}(?:,{ENTRY})*)?\s*\}}", re.DOTALL)
PLAIN = re.compile(r"[\w./-]+")  # text that needs no quotes in a word
NAME = re.compile(r"(?!(?:null|true|false|inf|nan)$)[a-z_][a-z0-9_-]*", re.IGNORECASE | re.ASCII)  # the same for Hydra
MARK = re.compile(r"agrl_text_(\d+)_")


class Texts:
    """Texts that Hydra and OmegaConf must not read, each behind a mark; equal texts have the same one."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """The mark that stands for ``text``."""
        return self._marks.setdefault(text, f"agrl_text_{len(self._marks)}_")

    def hide_value(self, key: str, value: Any) -> Any:
        """The mark of a value that is text; any other as it is."""
        return self.hide(value) if isinstance(value, str) else value

    def hide_name(self, name: Any) -> Any:
        """A name in a mapping: itself where Hydra can read it, so that it meets the same name in a file."""
        plain = not isinstance(name, str) or (NAME.fullmatch(name) and not MARK.search(name))
        return name if plain else self.hide(name)

    def show(self, text: str) -> str:
        """``text`` with the hidden ones in the place of their marks."""
        hidden = list(self._marks)
        return MARK.sub(lambda mark: hidden[int(mark[1])] if int(mark[1]) < len(hidden) else mark[0], text)


def hydra_words(word: str, texts: Texts) -> list[str]:
    """What Hydra is to be told in the place of one word. Raises ConfigError that names the word."""
    prefix, key, value = WORD.fullmatch(word).groups()  # type: ignore[union-attr] # every string is matched
    if key in groups():
        return [_group(word, key, value, taken_out=prefix == "~")]
    kind = kind_of(key)
    if kind is None and (value is not None or prefix == "~"):
        raise unknown_key(key)
    if value is None and prefix != "~":
        raise ConfigError(f"{word!r} is not a setting", hint="settings have the form key=value")
    if kind is Kind.entry:
        mapping, name = _entry(key)
        key = f"{mapping}.{texts.hide_name(name)}"
    if kind in (Kind.entry, Kind.value):
        prefix = prefix or "++"  # a name is set or added: only keys of the schema can be misspelt
    if prefix != "~":
        return _set(word, prefix or "", key, value, texts)
    if value is not None:
        raise ConfigError(f"{word}: what is taken out needs no value", hint=f"write {word.partition('=')[0]}")
    return [f"~{key}"]


def _set(word: str, prefix: str, key: str, value: str, texts: Texts) -> list[str]:
    kind = kind_of(key)
    if kind is Kind.text_or_null and value == "null":
        return [word]
    if kind in TEXTS:
        return [f"{prefix}{key}={texts.hide(as_text(word, value))}"]
    if kind is Kind.texts:
        found = ", ".join(f"{texts.hide_name(n)}: {texts.hide(t)}" for n, t in _mapping(word, value).items())
        filled = f"{key}={{{found}}}"
        # without a prefix the mapping is replaced, where Hydra would add to it
        return [f"{prefix}{filled}"] if prefix else [f"++{key}=null", f"++{filled}"]
    if kind is Kind.section and not value.startswith("{"):
        raise ConfigError(f"{word}: {key} is a section", hint=f"set its keys: {key}.NAME=VALUE")
    return [_readable(f"{prefix}{key}={value}", key, value)]


def key_of(word: str) -> str:
    """The key or group that a word is about."""
    return WORD.fullmatch(word)[2]  # type: ignore[index] # every string is matched


def value_of(word: str) -> str:
    """The text that a word gives its key; "" when it gives none."""
    return _unquoted(word.partition("=")[2])


def setting(key: str, value: str | Path | Mapping[str, str | Path]) -> str:
    """The word that sets ``key`` to a text, or to a mapping of texts, whatever characters they have."""
    if isinstance(value, Mapping):
        return f"{key}={{{', '.join(f'{quoted(name)}: {quoted(text)}' for name, text in value.items())}}}"
    return f"{key}={quoted(value)}"


def quoted(text: str | Path) -> str:
    """``text`` as the value of a word: in quotes unless it is plain. ``as_text`` takes them off again."""
    text = str(text)
    if PLAIN.fullmatch(text) and text != "null":
        return text
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text) + "'"


def as_text(word: str, value: str) -> str:
    """The text that a value stands for: itself, or without the quotes round the whole of it, read as Hydra does.

    Raises ConfigError naming the word when it is empty or cannot be written as UTF-8.
    """
    text = _unquoted(value)
    if not text:
        raise ConfigError(f"{word} has no value", hint="give one, or leave the word out")
    require_utf8(text)
    return text


def require_utf8(text: str) -> None:
    """Raises ConfigError showing a text that has bytes of another encoding: no file could hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise ConfigError(f"{shown} is not UTF-8", hint="rename the file or folder") from None


def _unquoted(value: str) -> str:
    value = value.strip() if re.fullmatch(rf"\s*(?:{QUOTED})\s*", value, re.DOTALL) else value
    if not re.fullmatch(QUOTED, value, re.DOTALL):
        return value
    # backslashes count only before a quote of the same kind: two stand for one, an odd one keeps the quote
    return re.sub(rf"(\\+)({value[0]}|\Z)", lambda m: m[1][: len(m[1]) // 2] + m[2], value[1:-1])


def _entry(key: str) -> tuple[str, str]:
    """``data.evaluation.v1.2`` -> ``data.evaluation``, ``v1.2``."""
    names = key.split(".")
    mapping = next(i for i in range(len(names)) if kind_of(".".join(names[:i])) is Kind.texts)
    return ".".join(names[:mapping]), ".".join(names[mapping:])


def _mapping(word: str, value: str) -> dict[str, str]:
    """``{name: FILE, ...}``; names and files may be in quotes."""
    if not MAPPING.fullmatch(value.strip()):
        raise ConfigError(
            f"{word}: expected {{NAME: FILE, NAME: FILE}}",
            hint="a name or file with commas, colons, braces or quotes in it goes in quotes: {NAME: 'FILE'}; "
            f"one by itself is set by {word.partition('=')[0].lstrip('+')}.NAME=FILE",
        )
    found = re.findall(ENTRY, value, re.DOTALL)
    return {as_text(word, name.strip()): as_text(word, text.strip()) for name, text in found}


def _group(word: str, group: str, value: str | None, taken_out: bool) -> str:
    """The choice of a group. ``+`` makes no difference: every group is there, if only as null."""
    if taken_out or value == "null":
        return f"{group}={NONE}" if followed(group) else f"~{group}"
    name, known = _unquoted(value or ""), choices(group)
    if name not in known:
        wrong = f"there is no conf/{group}/{name}.yaml" if name else "it names none"
        raise ConfigError(f"{word}: {wrong}", hint=f"{group}=NAME chooses one of {', '.join(known)}")
    return f"{group}='{name}'"


def _readable(word: str, key: str, value: str) -> str:
    """The word itself, when Hydra can read it as one value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        several = OverridesParser.create().parse_override(word).is_sweep_override()
    except HydraException:
        raise ConfigError(
            f"{word}: the value of {key} cannot be read",
            hint=f"text with such characters goes in quotes, and these in the shell's: \"{key}='...'\"",
        ) from None
    if several:
        raise ConfigError(f"{word}: {key} takes one value", hint="a run has one configuration; start several runs")
    return word
