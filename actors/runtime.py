"""Where services run: as Ray actors, on this machine or a cluster, or in this very process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.service import Pending, Service, Stream
from agrl.errors import ConfigError


class Runtime:
    """Where services run: ``local`` (start Ray on this machine), ``cluster`` (join one) or ``inline`` (no Ray).

    ``address``: of the cluster, None or "auto" for the one this machine belongs to. ``cpus``: CPUs that a local Ray
    offers; 0 places every service without counting CPUs. ``run``: what the metrics of the services are labelled with.
    Raises ActorError when Ray cannot be started or joined.
    """

    def __init__(
        self,
        mode: str = "local",
        address: str | None = None,
        cpus: int = 0,
        namespace: str = "agrl",
        run: str = "",
    ) -> None:
        self.mode, self.run = str(getattr(mode, "value", mode)), run
        if self.mode not in ("local", "cluster", "inline"):
            raise ConfigError(f"ray.mode: unknown mode {self.mode!r}", hint="use local, cluster or inline")
        self._count_cpus = self.mode == "cluster" or cpus > 0
        self._owns_ray = False
        if self.mode != "inline":
            from actors.ray_service import start_ray

            cluster = (address or "auto") if self.mode == "cluster" else None
            self._owns_ray = start_ray(cluster, cpus, namespace)

    def start(
        self,
        cls: type,
        name: str,
        *args: Any,
        gpus: float = 0,
        cpus: float = 0,
        env: dict[str, str] | None = None,
        log_file: Path | str | None = None,
        **kwargs: Any,
    ) -> Service:
        """Build ``cls(*args, **kwargs)`` as a service; returns at once, ``Service.ready()`` waits.

        ``env`` is set, and the process's output sent to ``log_file``, before the module of ``cls`` is imported there
        (inline: the environment is set where it is not set already, the output stays).
        """
        env = dict(env or {})
        if self.mode == "inline":
            from actors.inline_service import InlineService

            for key, value in env.items():
                os.environ.setdefault(key, value)
            return InlineService(cls, name, args, kwargs)
        from actors.ray_service import RayService

        reserved = {"num_gpus": gpus, "num_cpus": cpus if self._count_cpus else 0}
        log_file = Path(log_file).absolute() if log_file else None
        return RayService(cls, name, args, kwargs, reserved, env, log_file, self.run)

    def put(self, value: Any) -> Pending:
        """Store a value once, to be given to several services."""
        if self.mode == "inline":
            from actors.inline_service import InlinePending

            return InlinePending(value)
        from actors.ray_service import put

        return put(value)

    def shutdown(self) -> None:
        """Stop the Ray that this runtime started or leave the cluster, ending every service that it started."""
        if self._owns_ray:
            from actors.ray_service import stop_ray

            stop_ray()
            self._owns_ray = False


def wait_any(sources: Sequence[Pending | Stream], timeout: float | None = None) -> list[Pending | Stream]:
    """The sources that can be read now (``result`` or ``next``) without waiting; waits for the first one.

    Empty after ``timeout`` seconds. A source whose service has died counts as readable, and raises when read.
    """
    from actors.inline_service import InlinePending, InlineStream

    inline = [source for source in sources if isinstance(source, InlinePending | InlineStream)]
    if inline or not sources:
        return inline
    from actors.ray_service import wait

    return wait(sources, timeout)
