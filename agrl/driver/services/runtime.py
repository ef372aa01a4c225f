"""Where the services of a command run, as its configuration says."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from actors.lease import Lease
from actors.runtime import Runtime
from agrl.config.schema import Config, RayMode
from agrl.driver.services.preflight import check_hosts
from agrl.placement.foresight import check_gpus
from agrl.placement.machines import wanted_gpus
from agrl.placement.places import SERVICES, placement_groups


def start_runtime(
    config: Config, run: Path, services: Collection[str] = SERVICES, kept: Lease | None = None, resume: bool = False
) -> Runtime:
    """Start or join Ray (nothing with ``ray=inline``), with places reserved for the services and every host looked at.

    ``kept``: by which lease services outlive this process; with ``resume`` those are taken over that another one left.

    Raises ActorError when Ray cannot be had; ClusterError when the cluster cannot be joined or has no room, or one of
    its hosts lacks something; ConfigError when the memory of a GPU is too small.
    """
    c = config.ray
    runtime = Runtime(c.mode.value, c.address, c.cpus, c.namespace, run_label(run))
    try:
        if kept:
            runtime.keep(kept, resume)
        runtime.reserve(placement_groups(config, services))
        if wanted_gpus(config, services):
            check_gpus(config, runtime, services)
        if c.mode == RayMode.cluster:
            check_hosts(config, runtime, run)
        runtime.take_over()
    except BaseException:
        runtime.shutdown()
        raise
    return runtime


def run_label(folder: str | Path) -> str:
    """What a run is called in metrics: the whole path of its folder, which no other run of a cluster has."""
    return str(Path(folder).absolute())
