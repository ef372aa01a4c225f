"""The replay actor with a journal: when it dies, another one makes the same calls again and has the same state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

from actors.inline_service import InlinePending, InlineService
from actors.service import Pending, Service, ServiceDied
from agrl.errors import ActorError
from agrl.network import Host
from replay.core import ReplayCore

CHANGE_NOTHING = ("metrics", "recall", "save")
LONG = 500  # calls of a journal, after which it begins anew from a saved state


class JournaledReplay(Service):
    """Keeps what the replay actor was asked since its state was last saved in ``file``. It draws no numbers but from
    its own seed: the same calls bring it to the same state.

    ``start`` makes a fresh actor of what ``core`` makes. It may die ``restarts`` times; 0: no journal. A call returns
    when it is answered.
    """

    def __init__(
        self,
        start: Callable[[], Service],
        core: Callable[[], ReplayCore],
        file: Path,
        restarts: int,
        timeout_s: float,
        note: Callable[..., None] = lambda *_: None,
    ) -> None:
        self._core, self._note_state = core, note
        self._start, self._file, self._restarts, self._timeout_s = start, file, restarts, timeout_s
        self._service, self._lock, self._closed = start(), RLock(), False
        self.name, self.log_file = self._service.name, self._service.log_file
        self._saved = False  # whether the journal goes on from the file
        self._restart: tuple[str, tuple, dict] | None = None  # the last one: it says what the file is of
        self._calls: list[tuple[str, tuple, dict]] = []
        self._marked = 0
        self.lost = 0

    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        call = method, args, kwargs
        with self._lock:
            answer = InlinePending.of(lambda: self._answered(call))
            if self._restarts and method not in CHANGE_NOTHING:
                self._note(call)
        return answer

    def _note(self, call: tuple[str, tuple, dict]) -> None:
        method, *_ = call
        if method in ("restart", "load"):  # nothing of before matters
            self._calls, self._saved = [], False
        if method == "restart":
            self._restart = call
        self._calls.append(call)
        if method == "load":
            self._save()  # its file may not stay

    def mark(self) -> None:
        """A step is over: ``save_marked`` goes back to this state, and only now may a long journal begin anew."""
        with self._lock:
            if len(self._calls) >= LONG:
                self._save()
            self._marked = len(self._calls)

    def save_marked(self, file: Path) -> None:
        """Save the state of the last ``mark``, in this process: the actor has gone on since."""
        with self._lock:
            again = InlineService(self._core, self.name, (), {})
            self._repeat(again, self._calls[: self._marked])
            again.call("save", str(file)).result()

    def _save(self) -> None:
        partial = self._file.with_suffix(".partial.npz")
        self._answered(("save", (str(partial.absolute()),), {}))
        partial.replace(self._file)
        self._calls, self._saved, self._marked = [], True, 0

    def _answered(self, call: tuple[str, tuple, dict]) -> Any:
        method, args, kwargs = call
        while True:
            try:
                return self._service.call(method, *args, **kwargs).result()
            except ServiceDied as death:
                self._heal(death)

    def _heal(self, death: ServiceDied) -> None:
        while not self._closed and self._restarts:
            self.lost += 1
            if self.lost > self._restarts:
                raise ActorError(
                    f"{self.name} was lost {self.lost} times, more than replay.restarts={self._restarts} allows; last: "
                    f"{death}",
                    hint=death.hint,
                ) from death
            logging.getLogger(__name__).warning("%s; another one makes its last %d calls", death, len(self._calls))
            self._note_state(self.name, "dead", death)
            try:
                self._begin_anew()
                return self._note_state(self.name, "serving")
            except ServiceDied as again:
                death = again
        raise death

    def _begin_anew(self) -> None:
        self._service.kill()
        self._service = self._start()
        try:
            self._service.ready().result(self._timeout_s)
        except TimeoutError as error:
            raise ActorError(f"{self.name} was not ready, or found no place, within {self._timeout_s:g} s") from error
        self._repeat(self._service, self._calls)

    def _repeat(self, service: Service, calls: list[tuple[str, tuple, dict]]) -> None:
        if self._saved and self._restart:
            method, args, kwargs = self._restart
            service.call(method, *args, **kwargs).result()
        if self._saved:
            service.call("load", str(self._file.absolute())).result()
        for method, args, kwargs in calls:
            try:
                service.call(method, *args, **kwargs).result()
            except ServiceDied:
                raise
            except Exception:  # as it did the first time, when somebody was told
                continue

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of it, by its name."""
        return {self.name: {"restarts": float(self.lost)}}

    def aside(self, method: str, *args: Any) -> Pending:
        return self._service.aside(method, *args)

    def ready(self) -> Pending:
        return InlinePending.of(self._wait_ready)

    def _wait_ready(self) -> None:
        self._service.ready().result()
        self._note_state(self.name, "serving")

    def has_place(self) -> bool:
        return self._service.has_place()

    def host(self) -> Host | None:
        return self._service.host()

    def who(self) -> str:
        return self._service.who()

    def where(self) -> Pending:
        return self._service.where()

    def kill(self) -> None:
        """End it for good."""
        self._closed = True
        self._service.kill()
        self._file.unlink(missing_ok=True)
