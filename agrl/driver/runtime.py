"""Where the services of a command run, as its configuration says."""

from __future__ import annotations

from actors.runtime import Runtime
from agrl.config.schema import Config


def start_runtime(config: Config) -> Runtime:
    """Start or join Ray, or nothing with ``ray=inline``. Raises ActorError when Ray cannot be had."""
    return Runtime(config.ray.mode.value, config.ray.address, config.ray.cpus, config.ray.namespace)
