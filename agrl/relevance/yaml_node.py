"""A mapping of a YAML file that knows where it stands, so that every refusal names the file and the key."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

import yaml

from agrl.errors import RuleBookError


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key overwrite an earlier one without a word; a rule book must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below, by the base class
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(source: str) -> Any:
    """Plain YAML, refusing a key that stands twice in one mapping. Raises yaml.YAMLError."""
    return yaml.load(source, Loader=_UniqueKeyLoader)


class Node:
    """A mapping, with the file and the dotted key it comes from. Its readers raise RuleBookError."""

    def __init__(self, value: Any, where: str, path: str = "") -> None:
        self.where, self.path = where, path
        self.used: set[Hashable] = set()
        self.children: dict[Hashable, Node] = {}
        self.value = value if isinstance(value, dict) else self.fail("must be a mapping of names to values")

    def fail(self, problem: str, key: Hashable = None, hint: str = "") -> NoReturn:
        """Raises RuleBookError about this mapping, or about one of its keys."""
        place = ".".join(str(part) for part in (self.path, key) if part not in ("", None))
        raise RuleBookError(f"{self.where}: {place + ': ' if place else ''}{problem}", hint=hint)

    def get(self, key: Hashable) -> Any:
        """The value of a key that must be there."""
        self.used.add(key)
        if key not in self.value:
            self.fail("is missing", key, hint="every key is explained in docs/rulebook.md")
        return self.value[key]

    def child(self, key: Hashable) -> Node:
        """A mapping inside this one (the same object each time, so that the keys read are counted together)."""
        if key not in self.children:
            path = f"{self.path}.{key}" if self.path else str(key)
            self.children[key] = Node(self.get(key), self.where, path)
        return self.children[key]

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """All mappings inside this one, by name."""
        for key in self.value:
            yield self.name(key), self.child(key)

    def items(self, key: str) -> Iterator[Node]:
        """The mappings of a list, numbered from 1."""
        entries = self.get(key)
        if not isinstance(entries, list):
            self.fail("must be a list", key)
        for number, entry in enumerate(entries, start=1):
            path = f"{self.path}.{key}[{number}]" if self.path else f"{key}[{number}]"
            node = self.children[(key, number)] = Node(entry, self.where, path)
            yield node

    def text(self, key: Hashable, blank: bool = False) -> str:
        """A string, not empty unless ``blank``."""
        value = self.get(key)
        if not isinstance(value, str):
            self.fail(f"must be text, not {value!r}", key, hint="put it in quotes")
        if not value.strip() and not blank:
            self.fail("is empty", key)
        return value

    def label(self, key: str) -> str:
        """The label of a response line: one line, no colon."""
        label = self.text(key)
        if label != label.strip() or "\n" in label or ":" in label:
            self.fail(f"{label!r} cannot label a line", key, hint="a label is one line without a colon")
        return label

    def name(self, key: Hashable) -> str:
        """A key of this mapping that names something (YAML reads a bare yes, no or 1 as something else than text)."""
        if not isinstance(key, str):
            self.fail(f"the name {key!r} is not text", hint="put it in quotes")
        if not key or key != key.strip() or "\n" in key:
            self.fail(f"the name {key!r} is not one line of text without spaces around it")
        return key

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(f"must be a finite number, not {value!r}", key)
        return float(value)

    def choice(self, key: str, allowed: tuple) -> Any:
        """One of the allowed values."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, Hashable) or value not in allowed:
            self.fail(f"{value!r} is not known", key, hint=f"one of: {', '.join(map(str, allowed))}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """One string or a list of strings."""
        value = self.get(key)
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(entry, str) for entry in values):
            self.fail(f"must be a name or a list of names, not {value!r}", key, hint="put names in quotes")
        return tuple(values)

    def refuse_unknown(self) -> None:
        """Refuses keys that nothing has read, here and below: a misspelt key must not be ignored."""
        for key in self.value:
            if key not in self.used:
                close = get_close_matches(str(key), [str(name) for name in self.used], n=1)
                self.fail("is not a known key", key, hint=f"did you mean {close[0]!r}?" if close else "remove it")
        for node in self.children.values():
            node.refuse_unknown()
