"""Where the services of a command run, as its configuration says."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from actors.runtime import Runtime
from agrl.config.schema import Config, RayMode
from agrl.driver.placement import SERVICES, placement_groups
from agrl.driver.preflight import check_hosts


def start_runtime(config: Config, run: Path, services: Collection[str] = SERVICES) -> Runtime:
    """Start or join Ray (nothing with ``ray=inline``), with places reserved for the services and every host looked at.

    Raises ActorError when Ray cannot be had; ClusterError when the cluster cannot be joined or has no room, or one of
    its hosts lacks something.
    """
    runtime = Runtime(config.ray.mode.value, config.ray.address, config.ray.cpus, config.ray.namespace)
    try:
        runtime.reserve(placement_groups(config, services))
        if config.ray.mode == RayMode.cluster:
            check_hosts(config, runtime, run)
    except BaseException:
        runtime.shutdown()
        raise
    return runtime
