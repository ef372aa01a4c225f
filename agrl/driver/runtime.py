"""Where the services of a command run, as its configuration says."""

from __future__ import annotations

from pathlib import Path

from actors.runtime import Runtime
from agrl.config.schema import Config


def start_runtime(config: Config) -> Runtime:
    """Start or join Ray, or nothing with ``ray=inline``. Raises ActorError when Ray cannot be had."""
    c = config.ray
    return Runtime(c.mode.value, c.address, c.cpus, c.namespace, run_label(config.run))


def run_label(folder: str | Path) -> str:
    """What a run is called in metrics: the whole path of its folder, which no other run of a cluster has."""
    return str(Path(folder).absolute())
