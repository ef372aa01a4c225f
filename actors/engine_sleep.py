"""Rollout engines that leave their GPUs to the learner for its turn, and take them back with its new weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from actors.pool import NoPlace, ServicePool
from actors.service import ServiceDied
from actors.weight_sync import WeightSync

WEIGHTS, KV_CACHE = "weights", "kv_cache"  # the parts that an engine wakes by, in this order


class EngineSleep:
    """Puts all engines of a pool to sleep and wakes them. ``timeout_s``: for each call to an engine.

    An engine that is lost meanwhile is replaced, and its successor does what it was asked.
    """

    def __init__(self, pool: ServicePool, sync: WeightSync, timeout_s: float) -> None:
        self._pool, self._sync, self._timeout_s = pool, sync, timeout_s
        self._asleep = self._weights_kept = False

    def begin(self) -> None:
        """Free what the engines hold of their GPUs; their weights are kept in main memory only where a broadcast does
        not bring all of them."""
        if not self._asleep:
            self._weights_kept = not self._sync.brings_all_weights
            self._on_all("sleep", self._weights_kept)
            self._asleep = True

    @contextmanager
    def woken(self) -> Iterator[None]:
        """Round a broadcast: engines that sleep get room for weights before it, and for their KV cache after it, when
        the learner has freed what it gathered."""
        if self._asleep:
            self._on_all("wake", WEIGHTS)
        yield
        if self._asleep:
            self._on_all("wake", KV_CACHE)
            self._asleep = False

    def end(self) -> None:
        """Wake the engines with the weights of the last broadcast, whether they kept them or not."""
        if self._asleep:
            with self.woken():
                if not self._weights_kept:
                    self._sync.repeat()

    def _on_all(self, method: str, *args: Any) -> None:
        pending = {index: self._pool.services[index].call(method, *args) for index in self._pool.present}
        for index, call in pending.items():
            try:
                call.result(self._timeout_s)
            except (ServiceDied, TimeoutError) as error:
                with suppress(NoPlace):  # the others go on
                    self._sync.replace(index, error)
                    self._pool.services[index].call(method, *args).result(self._timeout_s)
