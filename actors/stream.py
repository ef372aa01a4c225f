"""Requests under way without an end: taken whenever they come, answered as they are finished, and not disturbed by new
weights, which the engines take between two decoding steps.

``actors.batch`` has the calls; here they are made by a thread, for whoever asks.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue

from actors.batch import Batch
from actors.generation import Generation, GenerationRequest, Progress, SamplingSettings
from actors.inline_service import InlinePending
from actors.open_dealing import OpenDealing
from actors.pool import ServicePool
from actors.weight_sync import WeightSync
from agrl.errors import ActorError

INBOX = "inbox"  # the key of what is no call to an engine: somebody has put something there
Answer = tuple[Generation, int] | BaseException


class Stream(Batch):
    """``room``: sequences that an engine decodes together; the rest as ``Batch``. ``close`` ends the thread."""

    def __init__(
        self,
        pool: ServicePool,
        sync: WeightSync,
        room: int,
        *,
        timeout_s: float,
        count: Callable[[int, Progress, list[Generation]], None],
    ) -> None:
        dealing = OpenDealing(pool.present, room)
        super().__init__(pool, sync, dealing, SamplingSettings(), timeout_s=timeout_s, heals=True, count=count)
        self._open = dealing
        self._names = itertools.count()
        self._inbox: SimpleQueue[tuple[str, list]] = (
            SimpleQueue()
        )  # ("ask", requests), ("withdraw", their names), ("join", engines)
        self._sinks: dict[str, tuple[str, SimpleQueue[Answer]]] = {}  # our name of a request -> the asker's, and its
        self._calling = threading.RLock()  # held while calls to engines go out
        self._lock, self._error, self._closed = threading.Lock(), None, False
        threading.Thread(target=self._run, name="stream", daemon=True).start()

    # ---- for everybody --------------------------------------------------------------------------------------------

    def ask(
        self, requests: Sequence[GenerationRequest], sampling: SamplingSettings, sink: SimpleQueue[Answer]
    ) -> list[str]:
        """Take requests; ``sink`` gets every generation, with the index of its engine, or the error that ended all.

        Returns the names by which ``withdraw`` knows them.
        """
        names = [str(next(self._names)) for _ in requests]
        own = [replace(r, request_id=name, sampling=sampling) for r, name in zip(requests, names, strict=True)]
        with self._lock:
            if self._error is not None:
                raise self._error
            self._sinks |= {name: (r.request_id, sink) for r, name in zip(requests, names, strict=True)}
        self._put("ask", own)
        return names

    def withdraw(self, names: Sequence[str]) -> None:
        """Do not go on with requests; the sink gets no more of them."""
        with self._lock:
            for name in names:
                self._sinks.pop(name, None)
        self._put("withdraw", list(names))

    def join(self, engines: Sequence[int]) -> None:
        """These have come back, with the present weights."""
        self._put("join", list(engines))

    def generate(
        self, requests: Sequence[GenerationRequest], sampling: SamplingSettings
    ) -> Iterator[tuple[Generation, int]]:
        """Every request's generation as it is finished. Raises what ended the stream."""
        sink: SimpleQueue[Answer] = SimpleQueue()
        self.ask(requests, sampling, sink)
        for _ in requests:
            answer = sink.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No call goes out meanwhile: whatever is called next comes between two decoding steps of every engine."""
        with self._calling:
            yield

    def close(self) -> None:
        """End the thread; whoever waits gets an error."""
        self._closed = True
        self._put("withdraw", [])

    def _put(self, what: str, things: list) -> None:
        self._inbox.put((what, things))
        self._calls.add(INBOX, InlinePending())

    # ---- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                for generation, index in self._next():
                    self._deliver(generation, index)
            raise ActorError("the rollout actors were stopped")
        except BaseException as error:
            with self._lock:
                self._error, waiting = error, list(self._sinks.values())
                self._sinks.clear()
            for sink in {id(sink): sink for _, sink in waiting}.values():
                sink.put(error)

    def _deliver(self, generation: Generation, index: int) -> None:
        with self._lock:
            name, sink = self._sinks.pop(generation.request_id, ("", None))
        if sink is not None:
            sink.put((replace(generation, request_id=name), index))

    def _read(self, key, pending) -> Iterator[tuple[Generation, int]]:
        if key != INBOX:
            yield from super()._read(key, pending)
            return
        what, things = self._inbox.get()
        if what == "ask":
            self._open.add(things)
            for index in list(self._dealing.hands):
                self._feed(index)
        elif what == "join":
            for index in things:
                self._dealing.join(index)
                self._feed(index)
        else:
            for index in self._open.withdraw(things):
                self._send(index, [])

    def _send(self, index: int, requests: list) -> None:
        with self._calling:
            super()._send(index, requests)

    def _check(self, index: int, generation: Generation) -> None:
        """It may have been finished before the last broadcast; that all engines took it is checked there."""
