"""Calls to several engines that bring them weights: together, with one time limit, and without those that are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from actors.pool import ServicePool
from actors.service import Pending, ServiceDied
from agrl.errors import WeightSyncError
from agrl.transport.parcel import TransferFailed

AT_A_TIME = 2  # buckets that are on their way to an engine, or being gathered for it


class Transfer:
    """One transfer to some engines of a pool. ``missed``: the engines that were lost meanwhile, and by which error."""

    def __init__(self, pool: ServicePool, indices: Sequence[int], timeout_s: float) -> None:
        self._pool, self._left, self._timeout_s = pool, list(indices), timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._under_way: list[dict[int, Pending]] = []  # of calls to all, the oldest first
        self._buckets = 0
        self.missed: dict[int, Exception] = {}

    def call(self, method: str, arguments) -> None:
        """Call all that are left. ``arguments``: index -> what it is called with."""
        services = self._pool.services
        self._under_way.append({index: services[index].call(method, *arguments(index)) for index in self._left})

    def along_group(self, transport: str, send: Callable[[], int]) -> None:
        """All buckets as the learner announces them. ``send``: see ``WeightSource``. Raises TransferFailed."""
        self.call("receive_weights", lambda _: (transport,))
        self._buckets = send()

    def hand_over(self, transport: str, parcels: Iterator[list[Pending]]) -> None:
        """Bucket after bucket; while engines load one, the next is gathered."""
        for parcel in parcels:
            self._buckets += 1
            self.call("take_weights", lambda _, parcel=parcel: (transport, *parcel))
            if len(self._under_way) == AT_A_TIME:
                self.settle()
            if not self._left:
                return

    def finish(self, version: int) -> dict[int, int]:
        """Close the transfer; returns the version that each engine then says it has."""
        while self._under_way:
            self.settle()
        self.call("finish_weights", lambda _: (version, self._buckets))
        return self.settle()

    def give_up(self, failure: TransferFailed) -> None:
        """The learner's end has failed: nobody has all weights. Those that are dead are found to be so."""
        while self._under_way:
            self.settle()
        self.missed |= dict.fromkeys(self._left, failure)
        self._left = []

    def settle(self) -> dict[int, int]:
        """Wait for the oldest call; index -> result. Raises WeightSyncError by name of the engine."""
        found = {}
        for index, pending in self._under_way.pop(0).items():
            who = self._pool.services[index].who  # asked only where something failed: it asks Ray for the hosts
            try:
                found[index] = pending.result(max(self._deadline - time.monotonic(), 0.0))
            except TimeoutError as error:
                raise WeightSyncError(
                    f"{who()} did not take the weights within {self._timeout_s:g} s",
                    hint="look at its log and the learner's; rollout.timeout_s is the limit",
                ) from error
            except (ServiceDied, TransferFailed) as error:
                self._lose(index, error)
            except WeightSyncError as error:
                raise WeightSyncError(f"{who()}: {error}", hint=error.hint) from error
        return found

    def _lose(self, index: int, error: Exception) -> None:
        if index in self._left:
            self._left.remove(index)
        if not isinstance(self.missed.get(index), ServiceDied):
            self.missed[index] = error
