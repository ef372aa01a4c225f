"""Where services run: as Ray actors, on this machine or a cluster, or in this very process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.lease import Lease
from actors.placement import Group, Room
from actors.service import Pending, Service, ServiceDied
from agrl.errors import ConfigError
from agrl.network import Host

if TYPE_CHECKING:
    from actors.ray_hosts import Place
    from actors.ray_lease import Kept

TAKEN_OVER = "taken over from a driver that is gone"  # of a service that starts so


class Runtime:
    """Where services run: ``local`` (start Ray on this machine), ``cluster`` (join one) or ``inline`` (no Ray).

    ``address``: of the cluster, None or "auto" for the one this machine belongs to. ``cpus``: CPUs that a local Ray
    offers; 0 places every service without counting CPUs. ``run``: what the metrics of the services are labelled with.
    Raises ActorError when Ray cannot be started, ClusterError when the cluster cannot be joined.
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
        self.on_change: Callable[..., None] | None = None  # told each change of a service's state: see ``note``
        self.step: int | None = None  # of the run that is under way
        self._places: dict[str, Place] = {}  # of the actors for which there is something reserved, by their names
        self._services: dict[str, Service] = {}  # the last one started of each name
        self.states: dict[str, str] = {}  # as noted last, by the services' names
        self._kept: Kept | None = None
        if self.mode != "inline":
            from actors.ray_service import start_ray

            cluster = (address or "auto") if self.mode == "cluster" else None
            self._owns_ray = start_ray(cluster, cpus, namespace)

    def keep(self, lease: Lease, take_over: bool) -> None:
        """Let the services that the lease covers outlive this process, with all places; before anything is reserved.

        ``take_over``: go on with those that a driver before this one left, where they are what ``start`` would start.
        """
        from actors.ray_lease import Kept

        self._kept = Kept(lease, take_over)

    def take_over(self) -> None:
        """Wait until those services have ended what they were doing; once places are reserved."""
        if self._kept:
            self._kept.ask()

    @property
    def taken_over(self) -> list[str]:
        """Names of the services that a driver before this one started."""
        return self._kept.taken if self._kept else []

    @property
    def not_taken_over(self) -> dict[str, str]:
        """Why one that was left was ended, by its name."""
        return self._kept.refused if self._kept else {}

    def reserve(self, groups: Sequence[Group]) -> None:
        """Set aside what the actors of the groups take, on hosts that have it; ``start`` puts them there by name.

        CPUs only where they are counted. Raises ClusterError, naming every host, when there is no room.
        """
        if self.mode == "inline":
            return
        if not self._count_cpus:
            groups = [counted for group in groups if (counted := group.without_cpus()).bundles]
        if groups:
            from actors.ray_hosts import reserve

            self._places |= self._kept.reserve(groups) if self._kept else reserve(groups)

    def ask_hosts(self, function: Callable, *args: Any, seconds: float) -> dict[Host, Any]:
        """What a function of a module that uses nothing of the project returns on each host with a reserved place, or
        the error in its place."""
        from actors.ray_hosts import ask_hosts, hosts_by_node

        hosts = hosts_by_node()
        nodes = dict.fromkeys(place.node() for place in self._places.values())
        return {hosts[node]: answer for node, answer in ask_hosts(function, list(nodes), args, seconds).items()}

    def ask_everyone(self, function: Callable, *args: Any, seconds: float) -> list[tuple[Room, Any]]:
        """The same from every host of the cluster, with what it has and has free."""
        from actors.ray_hosts import ask_hosts, rooms

        found = rooms()
        answers = ask_hosts(function, list(found), args, seconds)
        return [(room, answers[node]) for node, room in found.items()]

    def most_on_a_host(self, actors: Sequence[str]) -> int:
        """How many of these actors share a host, at most; all of them where nothing is reserved."""
        nodes = Counter(self._places[name].node() if name in self._places else "" for name in actors)
        return max(nodes.values())

    def start(
        self,
        cls: type,
        name: str,
        *args: Any,
        env: dict[str, str] | None = None,
        cpu_share: int = 1,
        log_file: Path | str | None = None,
        **kwargs: Any,
    ) -> Service:
        """Build ``cls(*args, **kwargs)`` as a service, in its reserved place; ``Service.ready()`` waits for that.

        ``env`` is set, and the process's output sent to ``log_file``, before the module of ``cls`` is imported there
        (inline: the environment is set where it is not set already, the output stays). ``cpu_share``: processes that
        share the CPUs of its host; as many threads as that leaves are OpenMP's where ``env`` does not say.
        """
        service = self._start(cls, name, args, kwargs, dict(env or {}), cpu_share, log_file)
        self.note(name, "starting", TAKEN_OVER if service.taken_over else None)
        self._services[name] = service
        return service

    def note(self, name: str, state: str, cause: BaseException | str | None = None) -> None:
        """The service is ``starting``, ``stale`` (it has not the weights to serve from), ``serving``, ``suspect`` (it
        gives no answer, and is ended) or ``dead``."""
        self.states[name] = state
        if self.on_change is None:
            return
        host = self._services[name].host() if state != "starting" and name in self._services else None
        self.on_change(name, state, str(cause or ""), str(host or ""), self.step)

    def lost(self, name: str, cause: BaseException) -> None:
        """Note what ``cause`` says of a service that is to be replaced."""
        self.note(name, "dead" if isinstance(cause, ServiceDied) else "suspect", cause)

    def _start(
        self, cls: type, name: str, args: tuple, kwargs: dict, env: dict, cpu_share: int, log_file: Path | str | None
    ) -> Service:
        if self.mode == "inline":
            from actors.inline_service import InlineService

            for key, value in env.items():
                os.environ.setdefault(key, value)
            return InlineService(cls, name, args, kwargs)
        from actors.ray_service import RayService

        log_file = Path(log_file).absolute() if log_file else None
        kept = self._kept if self._kept and self._kept.lease.covers(name) else None
        return RayService(cls, name, args, kwargs, self._places.get(name), env, cpu_share, log_file, self.run, kept)

    def hosts(self) -> dict[str, Host]:
        """Where each service runs, by its name; without those that have no place yet."""
        return {name: host for name, service in self._services.items() if (host := service.host())}

    def put(self, value: Any) -> Pending:
        """Store a value once, to be given to several services."""
        if self.mode == "inline":
            from actors.inline_service import InlinePending

            return InlinePending(value)
        from actors.ray_results import put

        return put(value)

    def shutdown(self) -> None:
        """Give back what is reserved, and stop the Ray that this runtime started or leave the cluster.

        Every service that it started ends.
        """
        if self._kept:
            self._kept.end()
            self._places, self._kept = {}, None
        if self._places:
            from actors.ray_hosts import release

            release(self._places)
            self._places = {}
        if self._owns_ray:
            from actors.ray_service import stop_ray

            stop_ray()
            self._owns_ray = False


def wait_any(sources: Sequence[Pending], timeout: float | None = None) -> list[Pending]:
    """Those whose ``result`` need not wait; waits for the first one.

    Empty after ``timeout`` seconds. One whose service has died counts as ready, and raises when read.
    """
    from actors.inline_service import InlinePending

    inline = [source for source in sources if isinstance(source, InlinePending)]
    if inline or not sources:
        return inline
    from actors.ray_results import wait

    return wait(sources, timeout)
