"""Which engine gets which of the requests that keep coming: decisions alone, as in ``actors.dispatch``."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from actors.dispatch import LOOK_AHEAD, Dealing
from actors.generation import Generation, GenerationRequest, Progress


class OpenDealing(Dealing):
    """A batch without an end: each engine holds as many samples as its part of all that are not finished, and no more
    than it can decode together and have waiting. ``room``: sequences that an engine decodes together."""

    def __init__(self, engines: Sequence[int], room: int) -> None:
        super().__init__([], engines)
        self._most, self._queue = LOOK_AHEAD * room, deque()
        self._samples = 0  # of all unfinished requests

    def add(self, requests: Sequence[GenerationRequest]) -> None:
        """More to do; their ids must be new."""
        self._queue.extend(requests)
        self.left += len(requests)
        self._samples += sum(request.n for request in requests)

    def withdraw(self, names: Sequence[str]) -> list[int]:
        """These are not wanted any more; returns the engines that hold some of them."""
        told, wanted = [], set(names)
        for request in [request for request in self._queue if request.request_id in wanted]:
            self._queue.remove(request)
            self._forget(request)
        for index, hand in self.hands.items():
            for name in wanted & hand.held.keys():
                self._forget(hand.held.pop(name))
                hand.dropped.append(name)
                told.append(index)
        return sorted(set(told))

    def take(self, index: int) -> list[GenerationRequest]:
        held, given = self.hands[index].held, []
        fair = math.ceil(self._samples / len(self.hands))
        holds = sum(request.n for request in held.values())
        while self._queue and holds < min(self._most, fair):
            request = self._queue.popleft()
            held[request.request_id] = request
            holds += request.n
            given.append(request)
        return given

    def lose(self, index: int) -> None:
        self._queue.extendleft(reversed(self.hands.pop(index).held.values()))

    def answer(self, index: int, progress: Progress) -> list[Generation]:
        held, first = self.hands[index].held, []
        for generation in progress.generations:
            request = held.pop(generation.request_id, None)
            if request is not None:  # else it has been withdrawn
                self._forget(request)
                first.append(generation)
        return first

    def _forget(self, request: GenerationRequest) -> None:
        self.left -= 1
        self._samples -= request.n
