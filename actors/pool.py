"""Several services of one kind, each replaced when it dies, up to a limit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from actors.runtime import Runtime
from actors.service import Service, ServiceDied
from agrl.errors import ActorError


class ServicePool:
    """``size`` services of ``cls`` named KIND-0, KIND-1, ...; each may die ``restarts`` times.

    ``timeout_s``: how long a new one may take to be built. ``log_dir``: gets one KIND-N.log each.
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
        **placement: Any,
    ) -> None:
        self.kind, self.timeout_s = kind, timeout_s
        self._runtime, self._cls, self._args, self._placement = runtime, cls, args, placement
        self._restarts, self._log_dir, self._closed = restarts, log_dir, False
        self.deaths, self.replaced = [0] * size, [0] * size
        self.services = [self._start(index) for index in range(size)]

    def __len__(self) -> int:
        return len(self.services)

    def name(self, index: int) -> str:
        return f"{self.kind}-{index}"

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

        ``counts``: as a death. Raises ActorError, naming it and the cause, when it has died more often than it may.
        """
        while True:
            if self._closed:
                raise ActorError(f"{self.name(index)} was stopped") from cause
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
            else:
                return self.services[index]

    def close(self) -> None:
        """Stop all; from now on none is replaced."""
        self._closed = True
        for service in self.services:
            service.kill()

    def _start(self, index: int) -> Service:
        log_file = self._log_dir / f"{self.name(index)}.log" if self._log_dir else None
        return self._runtime.start(self._cls, self.name(index), *self._args, log_file=log_file, **self._placement)

    def _wait_built(self, index: int, seconds: float) -> None:
        service = self.services[index]
        try:
            service.ready().result(max(seconds, 0.0))
        except TimeoutError as error:
            raise ActorError(
                f"{self.name(index)} was not ready within {self.timeout_s:g} s",
                hint=f"its log is {service.log_file}; Ray may have no free place for it (`agrl doctor`), or "
                f"{self.kind}.timeout_s is too short",
            ) from error
