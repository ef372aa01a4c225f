"""Calls to many services, read in the order in which they end, each at the same price however many there are."""

from __future__ import annotations

import queue
import time
from collections.abc import Hashable
from typing import Any

from actors.service import Pending


class Calls:
    """Calls under way, a few for each key."""

    def __init__(self) -> None:
        self._ended: queue.SimpleQueue[tuple[Hashable, Any]] = queue.SimpleQueue()
        self._under_way: dict[Hashable, list[Any]] = {}
        self.left = 0  # of all keys: calls that have not been read yet
        self.heard: dict[Hashable, float] = {}  # when a key last answered, or was first asked, monotonic s

    def add(self, key: Hashable, pending: Pending) -> None:
        """``next`` gives ``pending`` when it can be read without waiting."""
        if not self._under_way.get(key):
            self.heard[key] = time.monotonic()
        self._under_way.setdefault(key, []).append(pending)
        self.left += 1
        pending.on_done(lambda: self._ended.put((key, pending)))

    def count(self, key: Hashable) -> int:
        """How many of its calls have not been read yet."""
        return len(self._under_way.get(key, ()))

    def forget(self, key: Hashable) -> None:
        """Its calls are not wanted any more."""
        self.left -= len(self._under_way.pop(key, ()))

    def next(self, seconds: float) -> tuple[Hashable, Pending] | None:
        """The next one that ends; None after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                key, pending = self._ended.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if pending in self._under_way.get(key, ()):  # else it has been forgotten
                self._under_way[key].remove(pending)
                self.left -= 1
                self.heard[key] = time.monotonic()
                return key, pending

    def silent(self, seconds: float) -> list[Hashable]:
        """The keys with calls under way that have not answered for so long."""
        before = time.monotonic() - seconds
        return [key for key, calls in self._under_way.items() if calls and self.heard[key] <= before]
