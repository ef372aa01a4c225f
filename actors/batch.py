"""One batch of requests on its way through the engines: calls out, answers back, the dead replaced meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from actors.calls import Calls
from actors.dispatch import Dealing
from actors.generation import Generation, Pace, Progress, SamplingSettings
from actors.pool import NoPlace, ServicePool
from actors.service import Pending, Service, ServiceDied
from actors.threads import InThread
from actors.weight_sync import WeightSync
from agrl.errors import AgrlError

AHEAD = 2  # calls to an engine: it begins the second while the answer to the first travels
NUMBERS = itertools.count(1)  # of batches, in this process


class Batch:
    """Requests under way, by the decisions of ``dealing``.

    ``count(engine, progress, first)`` is told of every answer, and of what it finished that nobody else had before.
    An engine that dies, breaks or gives no answer for ``timeout_s`` is replaced in a thread, while the others work on.
    """

    def __init__(
        self,
        pool: ServicePool,
        sync: WeightSync,
        dealing: Dealing,
        sampling: SamplingSettings,
        *,
        timeout_s: float,
        heals: bool,
        count: Callable[[int, Progress, list[Generation]], None],
    ) -> None:
        self._pool, self._sync, self._dealing, self._sampling = pool, sync, dealing, sampling
        self._timeout_s, self._heals, self._count = timeout_s, heals, count
        self._number, self._calls = next(NUMBERS), Calls()
        self._pace = Pace(0.05 + 0.001 * len(pool), 0.1 + 0.01 * len(pool))  # many engines: fewer answers of each
        self._healing: set[int] = set()
        self._asked: dict[int, Service] = {}  # whom the calls under way are to
        self._look_at = time.monotonic() + timeout_s / 4

    def results(self) -> Iterator[tuple[Generation, int]]:
        """Every request's generation once, as it is finished, with the index of its engine.

        In the end no engine has anything of the batch left, and who was lost has been replaced.
        """
        try:
            for index in list(self._dealing.hands):
                self._feed(index)
            while self._dealing.left or self._healing:
                yield from self._next()
        finally:
            self._end()
        while self._calls.left:
            yield from self._next()  # no more of them, only that the engines have nothing left

    def _end(self) -> None:
        """Take out of the engines what is left in them: what others were first with, or all when something failed."""
        for index, hand in self._dealing.hands.items():
            if hand.held or hand.overtaken:
                self._pool.services[index].aside("end_batch", self._number)
                self._send(index, [])

    def _next(self) -> Iterator[tuple[Generation, int]]:
        """Read one answer."""
        ended = self._calls.next(min(self._timeout_s, max(self._look_at - time.monotonic(), 0.0)))
        if time.monotonic() >= self._look_at:
            self._find_hung()
        if ended is not None:
            yield from self._read(*ended)

    def _read(self, key: int, pending: Pending) -> Iterator[tuple[Generation, int]]:
        if key in self._healing:  # the thread that heals it has ended
            self._healed(key, pending)
            return
        try:
            progress: Progress = pending.result(self._timeout_s)
        except Exception as error:
            self._lose(key, error)
            return
        for generation in progress.generations:
            self._check(key, generation)
        first = self._dealing.answer(key, progress)
        self._count(key, progress, first)
        if self._dealing.left:
            self._feed(key)
        yield from ((generation, key) for generation in first)

    def _check(self, index: int, generation: Generation) -> None:
        self._sync.check_version(index, generation.version)

    def _feed(self, index: int) -> None:
        """Give an engine what is next, keep it at work while it holds something, and let others help it."""
        requests = self._dealing.take(index)
        wanted = AHEAD if self._dealing.is_busy(index) else 0
        while self._calls.count(index) < wanted or requests:
            self._send(index, requests)
            requests = []
        while helped := self._dealing.copy_from(index):
            self._send(*helped)

    def _send(self, index: int, requests: list) -> None:
        dropped, service = self._dealing.take_dropped(index), self._pool.services[index]
        call = service.call("advance", self._number, requests, self._sampling, self._pace, dropped)
        self._asked[index] = service
        self._calls.add(index, call)

    # ---- the lost -------------------------------------------------------------------------------------------------

    def _find_hung(self) -> None:
        self._look_at = time.monotonic() + self._timeout_s / 4
        for index in self._calls.silent(self._timeout_s):
            if index in self._dealing.hands:
                who = self._pool.services[index].who()
                self._lose(index, TimeoutError(f"{who} gave no result for {self._timeout_s:g} s"))

    def _lose(self, index: int, error: Exception) -> None:
        """Raises the error when a new engine would do no better: the request is at fault, or there is a debugger."""
        if not isinstance(error, ServiceDied) and (isinstance(error, AgrlError) or not self._heals):
            raise error
        self._calls.forget(index)
        self._dealing.lose(index)
        self._healing.add(index)
        lost = self._asked[index]
        self._calls.add(index, InThread(lambda: self._sync.heal(index, lost, error), "healing"))
        for other in list(self._dealing.hands):
            if not self._dealing.is_busy(other):
                self._feed(other)

    def _healed(self, index: int, healing: Pending) -> None:
        self._healing.discard(index)
        try:
            healing.result()
        except NoPlace:
            self._dealing.abandon(index)
            for other in list(self._dealing.hands):
                self._feed(other)
        else:
            self._dealing.join(index)
            self._feed(index)
