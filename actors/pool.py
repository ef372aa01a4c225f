"""Several services of one kind, each replaced when it dies, up to a limit."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from actors.runtime import Runtime
from actors.service import Service, ServiceDied
from agrl.errors import ActorError, ClusterError

PLACE_S = 10.0  # to wait for a host with room for a new actor: Ray finds one in a moment, or there is none


class NoPlace(ClusterError):
    """A lost service cannot be replaced, because no host has room for it; the others go on without it."""


class ServicePool:
    """``size`` services of ``cls`` named KIND-0, KIND-1, ...; each may die ``restarts`` times.

    ``timeout_s``: how long a new one may take to be built. ``log_dir``: gets one KIND-N.log each. ``built``: the state
    of one that has just been built, see ``Runtime.note``. ``least``: with fewer that have a place, the pool gives up.
    """

    def __init__(
        self,
        runtime: Runtime,
        kind: str,
        cls: type,
        args: tuple,
        *,
        size: int,
        restarts: int,
        timeout_s: float,
        log_dir: Path | None,
        env: dict[str, str] | None = None,
        built: str = "serving",
        least: int = 1,
    ) -> None:
        self.kind, self.timeout_s = kind, timeout_s
        self._runtime, self._cls, self._args, self._env = runtime, cls, args, env
        self._restarts, self._log_dir, self._closed, self._state = restarts, log_dir, False, built
        self.deaths, self.replaced = [0] * size, [0] * size
        self.absent: set[int] = set()  # those without a place
        self._given_up: set[int] = set()  # absent ones for which no place is looked for any more
        self._least = least
        self._waiting: dict[int, Service] = {}  # for a place, that of an absent one
        self._cpu_share = runtime.most_on_a_host([self.name(index) for index in range(size)])
        self.services = [self._start(index) for index in range(size)]

    def __len__(self) -> int:
        return len(self.services)

    @property
    def present(self) -> list[int]:
        """Those that can be given work."""
        return [index for index in range(len(self)) if index not in self.absent]

    def name(self, index: int) -> str:
        return f"{self.kind}-{index}"

    def note(self, index: int, state: str) -> None:
        """One has this state from now on, see ``Runtime.note``."""
        self._runtime.note(self.name(index), state)

    def gauges(self) -> dict[str, dict[str, float]]:
        """By name, how often each has been replaced."""
        return {self.name(index): {"restarts": float(times)} for index, times in enumerate(self.replaced)}

    def ready(self) -> None:
        """Wait until all are built. Raises what a constructor raised, ActorError for one that dies or hangs in it."""
        deadline = time.monotonic() + self.timeout_s
        for index in range(len(self)):
            self._wait_built(index, deadline - time.monotonic())

    def replace(self, index: int, cause: Exception, counts: bool = True) -> Service:
        """Start the service anew in place of a dead (or hung, or broken) one; returns it when it is built.

        ``counts``: as a death. Raises ActorError, naming it and the cause, when it has died more often than it may;
        NoPlace when no host has room for it, from when on it is absent; ClusterError when too few are left then.
        """
        while True:
            if self._closed:
                raise ActorError(f"{self.name(index)} was stopped") from cause
            self._runtime.lost(self.name(index), cause)
            self.services[index].kill()
            self.deaths[index] += counts
            self.replaced[index] += 1
            if self.deaths[index] > self._restarts:
                raise ActorError(
                    f"{self.name(index)} was lost {self.deaths[index]} times, more than the {self._restarts} restarts "
                    f"that {self.kind}.restarts allows; last: {cause}",
                    hint=getattr(cause, "hint", ""),
                ) from cause
            self.services[index] = self._start(index)
            try:
                self._wait_built(index, self.timeout_s)
            except ServiceDied as again:
                cause, counts = again, True
            except NoPlace as error:
                raise self._give_up(index, cause, error) from cause
            else:
                return self.services[index]

    def returned(self) -> list[int]:
        """The absent ones that have come back, because a host has room for them (again): they are built, and present.

        Waits for nothing; ask now and then. One that fails there, say for want of the model, stays absent: a warning
        says why, it counts as a death, and no other one is tried when it has died more often than it may.
        """
        back = []
        for index in sorted(self.absent - self._given_up):
            if index not in self._waiting:
                self._waiting[index] = self._start(index)
                continue
            try:
                self._waiting[index].ready().result(0.0)
            except TimeoutError:
                continue
            except Exception as error:  # of whatever kind: the run does without it so far
                self._not_back(index, self._waiting.pop(index), error)
                continue
            self.services[index] = self._waiting.pop(index)
            self.absent.discard(index)
            self.note(index, self._state)
            back.append(index)
        if back:
            names = ", ".join(self.name(index) for index in back)
            say = "%s found a place again; the run goes on with %d of %d"
            logging.getLogger(__name__).warning(say, names, len(self.present), len(self))
        return back

    def _not_back(self, index: int, service: Service, error: Exception) -> None:
        found_place, host = service.has_place(), service.host()
        service.kill()
        if isinstance(error, ServiceDied) and not found_place:  # the host went again: that is no fault of this one
            return
        self._runtime.note(self.name(index), "dead", error)
        self.deaths[index] += 1
        then = "it is tried again"
        if self.deaths[index] > self._restarts:
            self._given_up.add(index)
            then = f"given up, after {self.deaths[index]} deaths: {self.kind}.restarts={self._restarts}"
        name = f"{self.name(index)} on {host}" if host else self.name(index)
        say = "%s found a place but did not start: %s: %s; %s; the run goes on with %d of %d"
        what = type(error).__name__, error, then, len(self.present), len(self)
        logging.getLogger(__name__).warning(say, name, *what)

    def _give_up(self, index: int, cause: Exception, error: NoPlace) -> ClusterError:
        self.services[index].kill()
        self.absent.add(index)
        said = f"{cause}; {error}"
        if not self.present:
            return ClusterError(f"{said}; it was the last of the {self.kind} actors", hint=error.hint)
        if len(self.present) < self._least:
            return ClusterError(
                f"{said}; {len(self.present)} of the {self.kind} actors are left, fewer than "
                f"{self.kind}.min_actors={self._least}",
                hint=error.hint,
            )
        logging.getLogger(__name__).warning("%s; the run goes on with %d of %d", said, len(self.present), len(self))
        return NoPlace(said, hint=error.hint)

    def close(self) -> None:
        """Stop all; from now on none is replaced."""
        self._closed = True
        for service in (*self.services, *self._waiting.values()):
            service.kill()

    def _start(self, index: int) -> Service:
        log_file = self._log_dir / f"{self.name(index)}.log" if self._log_dir else None
        about = {"env": self._env, "cpu_share": self._cpu_share, "log_file": log_file}
        return self._runtime.start(self._cls, self.name(index), *self._args, **about)

    def _wait_built(self, index: int, seconds: float) -> None:
        service, deadline = self.services[index], time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                service.ready().result(min(PLACE_S, left))
                return self.note(index, self._state)
            except TimeoutError as error:
                if not service.has_place():
                    raise NoPlace(
                        f"{service.name} found no place: no host has room for it any more",
                        hint="a host may have left the cluster, or another job holds its room: `ray status` says more",
                    ) from error
                if left <= PLACE_S:
                    raise ActorError(
                        f"{service.who()} was not ready within {self.timeout_s:g} s",
                        hint=f"its log is {service.log_file}; {self.kind}.timeout_s may be too short",
                    ) from error
