"""What each key of the configuration holds, found from the schema's types, and the groups that can be chosen."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from agrl.config.schema import Config
from agrl.errors import ConfigError

TAIL_CUTS = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
BIASED = (
    ": rollouts are sampled from the policy's whole distribution, because log-probabilities of a cut or penalised one "
    "would bias every ratio; rollout.temperature is taken into account"
)


class Kind(Enum):
    """What a key holds."""

    section = "section"
    text = "text"
    text_or_null = "text or null"
    texts = "texts by name"
    entry = "one of the texts of a mapping"
    value = "one of the values of a mapping"
    other = "a number, a switch or a choice"


TEXTS = (Kind.text, Kind.text_or_null, Kind.entry)


@cache
def kind_of(key: str) -> Kind | None:
    """The kind of what stands at ``key`` ("model.path"); None when there is no such key."""
    cls: type = Config
    names = key.split(".")
    for i, name in enumerate(names):
        held, last = typing.get_type_hints(cls).get(name), i + 1 == len(names)
        if dataclasses.is_dataclass(held):
            cls = typing.cast(type, held)
        elif held == dict[str, str]:
            return Kind.texts if last else Kind.entry
        elif held == dict[str, Any]:
            return Kind.other if last else Kind.value
        elif held is None or not last:
            return None
        elif held is str:
            return Kind.text
        else:
            return Kind.text_or_null if held == str | None else Kind.other
    return Kind.section


def unknown_key(key: str) -> ConfigError:
    """The error for a key that the schema does not have."""
    reason = BIASED if key.rpartition(".")[2] in TAIL_CUTS else ""
    near = difflib.get_close_matches(key, all_keys(), 1, cutoff=0.8)
    hint = f"did you mean {near[0]}?" if near else where_to_look()
    return ConfigError(f"unknown configuration key {key!r}{reason}", hint=hint)


@cache
def all_keys() -> list[str]:
    """Every section and every key, "model" and "model.path"."""
    sections = [(field.name, field.default_factory) for field in dataclasses.fields(Config)]
    inner = [
        f"{name}.{field.name}"
        for name, cls in sections
        if cls is not dataclasses.MISSING
        for field in dataclasses.fields(typing.cast(type, cls))
    ]
    return [*(name for name, _ in sections), *inner]


def map_texts(
    settings: Mapping[str, Any], change: Callable[[str, Any], Any], rename: Callable[[Any], Any], prefix: str = ""
) -> dict[str, Any]:
    """``settings`` with ``change(key, value)`` for every value whose key holds text, ``rename(name)`` for their names.

    Only the names of texts in a mapping are renamed: those of keys are the schema's.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        kind = kind_of(key)
        name = rename(name) if kind is Kind.entry else name
        if isinstance(value, Mapping):
            found[name] = map_texts(value, change, rename, f"{key}.")
        else:
            found[name] = change(key, value) if kind in TEXTS else value
    return found


def conf_folder() -> Path:
    """The folder of the shipped configuration groups and rule books."""
    return Path(str(files("conf")))


NONE = "none"  # the file of a group, where another one follows from it, that sets nothing
FOLLOWS = "optional "  # begins a group that nobody chooses: it follows from others, where there is a file for them


@cache
def groups() -> tuple[str, ...]:
    """The groups that can be chosen, in the order in which they are applied: a later one wins."""
    return tuple(name for entry in _defaults() for name in entry if not name.startswith(FOLLOWS))


def no_choice() -> list[dict[str, str | None]]:
    """The groups as Hydra's defaults with none of them chosen, and those that follow from what is then chosen."""
    return [{name: value if name.startswith(FOLLOWS) else None for name, value in e.items()} for e in _defaults()]


def followed(group: str) -> bool:
    """Whether another group follows from the choice of ``group``."""
    return any(f"${{{group}}}" in (value or "") for entry in _defaults() for value in entry.values())


def _defaults() -> list[dict[str, str | None]]:
    text = (conf_folder() / "config.yaml").read_text(encoding="utf-8")
    return [entry for entry in yaml.safe_load(text)["defaults"] if isinstance(entry, dict)]


def choices(group: str) -> list[str]:
    """The names that ``group=NAME`` may have."""
    folder = conf_folder() / group
    found = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return [name for name in found if name != NONE]


def where_to_look() -> str:
    """Where keys and groups are listed."""
    return f"docs/configuration.md lists every key; experiments to start from: {', '.join(choices('experiment'))}"
