"""Which engine gets which request of a batch, and when: decisions alone, without calls, clocks or engines.

A batch is dealt in one of two ways. ``FixedDealing``: request i to engine i modulo their number, all at once, so that
what an engine decodes together is the same in every run. ``FreeDealing``: each engine gets a window of requests, as
many as its share of what is left to do (its speed among all speeds), and more whenever it has finished some; in the end
engines that have nothing left copy what a slow one has not finished, and whoever is first counts. Seeds make the
samples of a request the same whoever draws them.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.generation import Generation, GenerationRequest, Progress

LOOK_AHEAD = 2  # windows of what an engine decodes together: as much again waits in it, so that no place stays empty
SLOWER = 1.25  # times: so much slower, or later, must an engine be before another does its work once more


@dataclass
class Hand:
    """What one engine has to do, and has done of this batch. ``share``: its speed, 1 for the median engine."""

    share: float = 1.0
    held: dict[str, GenerationRequest] = field(default_factory=dict)  # the oldest first
    dropped: list[str] = field(default_factory=list)  # finished by another one, which it has yet to be told
    overtaken: bool = False  # whether another one has finished any of it
    tokens: int = 0  # sampled, of unfinished requests too
    begun: float = 0.0  # tokens that each of its unfinished requests has so far, on average
    seconds: float = 0.0  # at work

    def drop(self, name: str) -> None:
        """Another one has finished a request that it holds."""
        del self.held[name]
        self.dropped.append(name)
        self.overtaken = True

    @property
    def rate(self) -> float:
        """Tokens a second in this batch, 0 when nothing is known."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class Dealing(ABC):
    """One batch under way. ``engines``: those that can be given work."""

    def __init__(self, requests: Sequence[GenerationRequest], engines: Sequence[int]) -> None:
        self.left = len(requests)  # not yet finished by anybody
        self.hands = {index: Hand() for index in engines}
        self.copied = 0
        self._done: set[str] = set()

    @abstractmethod
    def take(self, index: int) -> list[GenerationRequest]:
        """What engine ``index`` is to be given now. It holds it from now on."""

    @abstractmethod
    def lose(self, index: int) -> None:
        """Engine ``index`` is gone, with all that it held."""

    def join(self, index: int) -> None:
        """An engine that was lost is there again."""
        self.hands.setdefault(index, Hand())

    def abandon(self, index: int) -> None:  # noqa: B027
        """An engine that was lost will not come back."""

    def is_busy(self, index: int) -> bool:
        return index in self.hands and bool(self.hands[index].held)

    def take_dropped(self, index: int) -> list[str]:
        """Requests that engine ``index`` need not go on with, each told once."""
        dropped, self.hands[index].dropped = self.hands[index].dropped, []
        return dropped

    def copy_from(self, index: int) -> tuple[int, list[GenerationRequest]] | None:
        """An engine that has nothing left, and what it is to do beside engine ``index``; it holds it from now on."""
        return None

    def answer(self, index: int, progress: Progress) -> list[Generation]:
        """Engine ``index`` has done something; returns what nobody else had finished before."""
        hand = self.hands[index]
        hand.tokens += progress.tokens
        hand.begun = progress.begun
        hand.seconds += progress.seconds
        first = []
        for generation in progress.generations:
            hand.held.pop(generation.request_id, None)
            if generation.request_id not in self._done:
                self._done.add(generation.request_id)
                self.left -= 1
                first.append(generation)
                self._finished(index, generation)
        return first

    def _finished(self, index: int, generation: Generation) -> None:  # noqa: B027
        """Something is finished for the first time."""


class FixedDealing(Dealing):
    """By position; a lost engine's requests wait for its successor, or go to the others when it has none."""

    def __init__(self, requests: Sequence[GenerationRequest], engines: Sequence[int]) -> None:
        super().__init__(requests, engines)
        self._waiting: dict[int, list[GenerationRequest]] = {}
        self._deal(requests)

    def _deal(self, requests: Sequence[GenerationRequest]) -> None:
        engines = sorted(self.hands)
        for place, index in enumerate(engines):
            self._waiting[index] = self._waiting.get(index, []) + list(requests[place :: len(engines)])

    def take(self, index: int) -> list[GenerationRequest]:
        given = self._waiting.pop(index, [])
        self.hands[index].held |= {request.request_id: request for request in given}
        return given

    def lose(self, index: int) -> None:
        self._waiting[index] = [*self.hands.pop(index).held.values(), *self._waiting.get(index, [])]

    def abandon(self, index: int) -> None:
        self._deal(self._waiting.pop(index, []))


class FreeDealing(Dealing):
    """By windows. ``room``: sequences that an engine decodes together. ``speeds``: see ``Speeds``; 1 where not known.

    Every decision costs the same however many engines there are.
    """

    def __init__(
        self,
        requests: Sequence[GenerationRequest],
        engines: Sequence[int],
        room: int,
        speeds: dict[int, float] | None = None,
    ) -> None:
        super().__init__(requests, engines)
        for index, hand in self.hands.items():
            hand.share = (speeds or {}).get(index, 1.0)
        samples = max((request.n for request in requests), default=1)
        self._most = LOOK_AHEAD * max(1, room // samples)  # requests in one engine
        self._shares = sum(hand.share for hand in self.hands.values())
        self._queue = deque(requests)
        self._finished_tokens = 0
        self._holders: dict[str, list[int]] = {}
        self._idle: dict[int, None] = {}  # in the order in which they had nothing left
        self._first = self._deal()

    def _deal(self) -> dict[int, list[GenerationRequest]]:
        """The first windows: each request to the engine that would be through with it first, by the speeds. In turns
        where they are equal."""
        first: dict[int, list[GenerationRequest]] = {index: [] for index in self.hands}
        order = [(1 / hand.share, index) for index, hand in self.hands.items()]
        heapq.heapify(order)
        while self._queue and order:
            _, index = order[0]
            first[index].append(self._queue.popleft())
            if len(first[index]) >= self._window(index):
                heapq.heappop(order)
            else:
                heapq.heapreplace(order, ((len(first[index]) + 1) / self.hands[index].share, index))
        return first

    def take(self, index: int) -> list[GenerationRequest]:
        given, hand = self._first.pop(index, []), self.hands[index]
        while self._queue and len(hand.held) + len(given) < self._window(index):
            given.append(self._queue.popleft())
        self._give(index, given)
        if hand.held:
            self._idle.pop(index, None)
        else:
            self._idle[index] = None
        return given

    def _window(self, index: int) -> float:
        """As many requests as an engine may hold now: its share of what is left, if there is room for it."""
        return min(self._most, self.hands[index].share * self.left / self._shares)

    def _give(self, index: int, requests: Sequence[GenerationRequest]) -> None:
        for request in requests:
            self.hands[index].held[request.request_id] = request
            self._holders.setdefault(request.request_id, []).append(index)

    def copy_from(self, index: int) -> tuple[int, list[GenerationRequest]] | None:
        """None where ``index`` is as fast and has begun all that it holds. Otherwise, of its newest requests that
        nobody else has, a part for each engine, since the others will soon be idle, too; no more than would be first.
        """
        hand = self.hands[index]
        if not self._idle or not hand.held:
            return None
        alone = [request for name, request in hand.held.items() if len(self._holders[name]) == 1]
        helper = next(reversed(self._idle))
        its, own, others = self.hands[helper].rate, hand.rate, len(self.hands) - 1
        if own * SLOWER > its and len(hand.held) * LOOK_AHEAD <= self._most:
            return None
        in_time = self._seconds_left(index) * its / max(SLOWER * self._mean_tokens(), 1e-9)
        fair = len(alone) * its / max(own + others * its, 1e-9)
        if not (count := min(int(in_time), max(1, round(fair)), len(alone))):
            return None
        copies = alone[-count:]
        del self._idle[helper]
        self._give(helper, copies)
        self.copied += len(copies)
        return helper, copies

    def _mean_tokens(self) -> float:
        return self._finished_tokens / max(len(self._done), 1)

    def _seconds_left(self, index: int) -> float:
        """In which an engine would be through with what it holds, if its requests are of average length."""
        hand = self.hands[index]
        tokens = len(hand.held) * max(self._mean_tokens() - hand.begun, 0.0)
        return tokens / hand.rate if hand.rate else 1e9

    def _finished(self, index: int, generation: Generation) -> None:
        name = generation.request_id
        self._finished_tokens += generation.response_tokens
        for other in self._holders.pop(name):
            if other != index and other in self.hands:
                self.hands[other].drop(name)

    def lose(self, index: int) -> None:
        hand = self.hands.pop(index)
        self._shares -= hand.share
        self._idle.pop(index, None)
        for name, request in reversed([*hand.held.items(), *((r.request_id, r) for r in self._first.pop(index, []))]):
            holders = self._holders.get(name, [])
            if index in holders:
                holders.remove(index)
            if not holders:
                self._queue.appendleft(request)

    def join(self, index: int) -> None:
        super().join(index)
        self._shares += self.hands[index].share


class Speeds:
    """How fast each engine is, relative to the median one, from the batches so far.

    Differences of less than ``NOISE`` count as none: equal engines get equal work. An engine that could not be measured
    comes slowly back to 1, so that it is tried again.
    """

    NOISE, NEWEST, FORGETS, LEAST = 1.25, 0.5, 0.1, 0.02
    ENOUGH = 4  # requests an engine: with fewer, what each got differs too much

    def __init__(self) -> None:
        self._measured: dict[int, float] = {}

    def now(self) -> dict[int, float]:
        """Index -> speed."""
        return {index: 1.0 if 1 / self.NOISE < speed < self.NOISE else speed for index, speed in self._measured.items()}

    def learn(self, hands: dict[int, Hand], requests: int) -> None:
        """From a batch that has ended."""
        rates = {index: hand.rate for index, hand in hands.items() if hand.rate > 0}
        if requests < self.ENOUGH * len(hands) or not rates:
            return
        median = sorted(rates.values())[len(rates) // 2]
        for index in hands:
            old, new = self._measured.get(index), rates.get(index, 0.0) / median
            if not new:
                old = 1.0 if old is None else old
                self._measured[index] = old + self.FORGETS * (1.0 - old)
            else:
                speed = new if old is None else old + self.NEWEST * (new - old)
                self._measured[index] = max(speed, self.LEAST)

    def forget(self, index: int) -> None:
        """A new engine has its place."""
        self._measured.pop(index, None)
