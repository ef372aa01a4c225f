"""Services: plain classes that run as Ray actors, on this machine or a cluster, or in this very process.

``Service.call`` gives a ``Pending`` (a result to come), ``Service.stream`` a ``Stream`` of them from a generator
method. In mode ``inline`` the same interface runs the object in the driver's process, so that a debugger steps into it:
calls run at once, generators advance when they are read, and nothing can time out.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agrl.errors import ActorError, ConfigError


class ServiceDied(ActorError):
    """The process of a service is gone. The message names the service and the cause, the hint its log."""


class Pending(ABC):
    """A result to come. As an argument of another call it travels as its value, without passing through the driver."""

    @abstractmethod
    def result(self, timeout: float | None = None) -> Any:
        """The value; waits for it at most ``timeout`` seconds.

        Raises TimeoutError, ServiceDied when the process is gone, and whatever the method raised, as itself.
        """


class Stream(ABC):
    """The results of a generator method, each a ``Pending``, in the order in which they are yielded."""

    def __iter__(self) -> Iterator[Pending]:
        return self

    @abstractmethod
    def __next__(self) -> Pending:
        """The next result; waits until there is one. Raises ServiceDied when the process is gone."""


class Service(ABC):
    """A running object of a plain class. ``name`` is for people; ``log_file`` holds what its process prints."""

    name: str
    log_file: Path | None = None

    @abstractmethod
    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        """Start ``method``; calls to one service run one after another, in order."""

    @abstractmethod
    def stream(self, method: str, *args: Any, **kwargs: Any) -> Stream:
        """Start the generator method ``method``."""

    @abstractmethod
    def ready(self) -> Pending:
        """Done once the object is built; raises what its constructor raised."""

    @abstractmethod
    def kill(self) -> None:
        """End the process at once; what is pending raises ServiceDied."""


class Runtime:
    """Where services run: ``local`` (start Ray on this machine), ``cluster`` (join one) or ``inline`` (no Ray).

    ``address``: of the cluster, None or "auto" for the one this machine belongs to. ``cpus``: CPUs that a local Ray
    offers; 0 places every service without counting CPUs. Raises ActorError when Ray cannot be started or joined.
    """

    def __init__(self, mode: str = "local", address: str | None = None, cpus: int = 0, namespace: str = "agrl") -> None:
        self.mode = str(getattr(mode, "value", mode))
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
        return RayService(cls, name, args, kwargs, reserved, env, Path(log_file).absolute() if log_file else None)

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
