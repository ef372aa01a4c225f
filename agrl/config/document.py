"""docs/configuration.md's table of keys, made from the schema itself: ``python -m agrl.config.document``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from omegaconf import MISSING

from agrl.config.schema import Config
from agrl.marked import write_part

PART = "keys"  # of the page, between its marks
FIELD = re.compile(r"^    (\w+): ([^=#]+?)(?: = .*?)?(?:  # (.*))?$")


def key_tables() -> str:
    """Markdown: a table for each section of the configuration, a row a key with type, default and meaning."""
    return "\n".join(_sections())


def _sections() -> Iterator[str]:
    for section in dataclasses.fields(Config):
        if section.name == "run":
            continue
        cls = section.default_factory
        yield f"### `{section.name}`\n"
        if cls.__doc__ and not cls.__doc__.startswith(cls.__name__):
            yield f"{cls.__doc__}\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        lines = [FIELD.match(line) for line in inspect.getsource(cls).splitlines()]
        about = {m[1]: (m[2].strip(), m[3] or "") for m in lines if m}
        for field in dataclasses.fields(cls):
            kind, meaning = about[field.name]
            yield f"| `{section.name}.{field.name}` | {kind.replace('|', 'or')} | {_default(field)} | {meaning} |"
        yield ""


def _default(field: dataclasses.Field) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    if value == MISSING:
        return "(required)"
    if isinstance(value, list):
        return f"`[{', '.join(map(_plain, value))}]`"
    return f"`{_plain(value)}`"


def _plain(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


if __name__ == "__main__":
    write_part(Path("docs/configuration.md"), PART, key_tables())
