"""The resolved configuration as YAML, as it lies in a run folder: what is read back is what was written."""

from __future__ import annotations

import dataclasses
import math
import re
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from agrl.config.schema import Config
from agrl.errors import ConfigError

FILE = "config.yaml"
PLAIN = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)  # never read as a number, date or structure


class _Dumper(yaml.SafeDumper):
    """Quotes every string that some reader of YAML could take for something else, such as ``1e5``."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def flat(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain values by dotted key, as it is overridden."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(f"{prefix}.{name}" if prefix else name, inner)
        else:
            found[prefix] = value

    walk("", _plain(dataclasses.asdict(config)))
    return found


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, as saved in a run folder."""
    plain = _plain(dataclasses.asdict(config))
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.name if isinstance(value, Enum) else value


def read_saved(run: Path) -> dict[str, Any]:
    """What ``run`` was started with. Raises ConfigError when it is not the folder of a run, or naming the file."""
    path = run / FILE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", hint="name the folder of a run that `agrl train` has started")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not the configuration of a run: expected keys with values")
    return found
