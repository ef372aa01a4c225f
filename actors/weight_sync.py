"""The learner's weights into every rollout engine: in buckets, by the chosen transport, and again for who was lost.

Two ways: parcels are handed over, a call to each engine for every bucket; or learner and engines are a group, and all
buckets go along it in one call to each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from actors.pool import NoPlace, ServicePool
from actors.service import Pending, Service, ServiceDied
from actors.weight_transfer import Transfer
from agrl.errors import ActorError, LearnerLost, WeightSyncError
from agrl.transport.collective import Meeting
from agrl.transport.parcel import TransferFailed

HEALING = "object_store"  # by which a single engine gets weights, whatever the others get them by
GROUP_SHARE = 0.5  # of the time limit: a group gives up, and says why, before those who wait for its members do


class WeightSource(Protocol):
    """The learner's weights as they are now. They can be read until the next training call, as often as is needed."""

    model_path: str  # the folder that the learner began with
    served_beside: bool  # whether its low-rank updates may travel without the model; false where there are none
    trains_meanwhile: bool  # while engines use its weights: what a lost engine needs must have been stored before
    sender: Any  # of a group: another one once the learner was lost and started anew

    def check_alive(self) -> None:
        """Raise LearnerError when the learner cannot give its weights any more."""
        ...

    def heal(self, error: Exception) -> None:
        """Make good what broke a transfer, where that is a lost learner; else raise the error."""
        ...

    def address(self) -> str:
        """A free "host:port" of learner rank 0."""
        ...

    def open(self, transport: str, meeting: Meeting) -> None:
        """Join the group that the engines join. Raises TransferFailed."""
        ...

    def send(self, transport: str, adapters: bool) -> int:
        """All buckets along that group, to engines that receive them meanwhile: how many. Raises TransferFailed."""
        ...

    def parcels(self, transport: str, adapters: bool) -> Iterator[list[Pending]]:
        """Bucket after bucket, each a parcel of every learner rank that sends. The next is gathered when it is asked
        for. ``adapters``: low-rank updates alone. Raises TransferFailed."""
        ...


class WeightSync:
    """Brings weights to the engines of a pool, which were built from the model in ``model_path``.

    ``workers``: of each engine. ``timeout_s``: for one transfer to all.
    """

    def __init__(self, pool: ServicePool, model_path: str, transport: str, workers: int, timeout_s: float) -> None:
        self._pool, self._model_path, self._transport = pool, model_path, transport
        self._workers, self._timeout_s = workers, timeout_s
        self._group: list[Any] = []  # the learner's sender and the engines, once they have met
        self._source: WeightSource | None = None  # of the last broadcast
        self._adapters: bool | None = None  # whether low-rank updates travel alone; None: not yet decided
        self._turn = threading.RLock()  # a broadcast and the healing of an engine, which gets weights too
        self.version = 0

    def broadcast(self, version: int, source: WeightSource) -> None:
        """Give every engine the weights of ``version``; engines that die meanwhile are replaced and get them too.

        Raises WeightSyncError when one does not take them within the time limit, or has other weights in the end.
        """
        with self._turn:
            self._broadcast(version, source)

    def _broadcast(self, version: int, source: WeightSource) -> None:
        self._pool.returned()  # who has a place again takes part
        self.version = version
        self._source = source = StoredWeights(source) if source.trains_meanwhile else source
        self._adapters = self._adapters is not False and self._served_beside(source)
        missed = self._transfer(self._transport, self._pool.present)
        dead = {index: error for index, error in missed.items() if isinstance(error, ServiceDied)}
        if missed and not dead:
            raise next(iter(missed.values()))
        others = sorted(missed.keys() - dead.keys())  # of a group that broke
        again = self._transfer(HEALING, others) if others else {}
        for index, error in (dead | again).items():
            with suppress(NoPlace):  # the run goes on without it
                self.replace(index, error)
        if isinstance(source, StoredWeights):
            source.complete(self._adapters)

    @property
    def brings_all_weights(self) -> bool:
        """Whether a repeated broadcast would fill an engine that holds no weights: not before the first, and not with
        low-rank updates alone."""
        return self._adapters is False

    def repeat(self) -> None:
        """The last broadcast once more, to engines that did not keep what it brought."""
        self.broadcast(self.version, self._source)

    def heal(self, index: int, lost: Service, cause: Exception) -> None:
        """A new engine in place of ``lost``, if no broadcast has put one there already. Raises NoPlace."""
        with self._turn:
            if index in self._pool.absent:
                raise NoPlace(f"{self._pool.name(index)} found no place") from cause
            if self._pool.services[index] is lost:
                self.replace(index, cause)

    def replace(self, index: int, cause: Exception) -> None:
        """A new engine in place of a lost one, with the present weights before it serves. Raises NoPlace."""
        if self._source is not None:
            self._source.check_alive()  # a host may have taken both along: then no new engine is of use
        while True:
            self._pool.replace(index, cause)
            if self._source is None:  # it has just loaded the model's folder, as the others did
                return
            missed = self._transfer(HEALING, [index])
            if not missed:
                return
            cause = missed[index]

    def check_version(self, index: int, version: int) -> None:
        """Raise WeightSyncError when engine ``index`` has other weights than those of the last broadcast."""
        if version != self.version:
            raise WeightSyncError(
                f"{self._pool.name(index)} has weights of version {version}, the learner gave version {self.version}",
                hint="its samples are of another policy than the one in training; resume from the last checkpoint",
            )

    def _served_beside(self, source: WeightSource) -> bool:
        """Whether low-rank updates travel alone: into engines that can, and have the model which they are updates of.

        Once an engine has had merged weights it no longer has that model, so it stays with them.
        """
        if not source.served_beside or source.model_path != self._model_path:
            return False
        asked = Transfer(self._pool, self._pool.present, self._timeout_s)
        asked.call("info", lambda _: ())
        return all(about["adapters"] for about in asked.settle().values())  # who is dead is found to be so later

    def _transfer(self, transport: str, indices: Sequence[int]) -> dict[int, Exception]:
        """Bring the present weights to some engines; returns why each that does not have them has not.

        All of it is done again with a learner that was lost meanwhile and started anew.
        """
        while True:
            try:
                return self._transfer_once(transport, indices)
            except (LearnerLost, ActorError) as error:
                self._source.heal(error)

    def _transfer_once(self, transport: str, indices: Sequence[int]) -> dict[int, Exception]:
        transfer = Transfer(self._pool, indices, self._timeout_s)
        try:
            if transport == "collective":
                self._meet(transfer)
                transfer.along_group(transport, partial(self._source.send, transport, self._adapters))
            else:
                transfer.hand_over(transport, self._source.parcels(transport, self._adapters))
        except TransferFailed as failure:
            transfer.give_up(failure)
        for index, version in transfer.finish(self.version).items():
            self.check_version(index, version)
            self._pool.note(index, "serving")
        if transfer.missed:
            self._group = []
        return transfer.missed

    def _meet(self, transfer: Transfer) -> None:
        """A group of the learner and all engines, a new one where an engine has been replaced since the last."""
        present = self._pool.present
        members = [self._source.sender, *(self._pool.services[index] for index in present)]
        if self._group == members:
            return
        self._group = []
        world = 1 + self._workers * len(present)
        meeting = Meeting(self._source.address(), 0, world, self._timeout_s * GROUP_SHARE)
        along = {index: 1 + self._workers * place for place, index in enumerate(self._along(meeting, transfer))}
        transfer.call("open_transport", lambda index: ("collective", meeting.member(along[index])))
        self._source.open("collective", meeting)
        transfer.settle()
        if not transfer.missed:
            self._group = members

    def _along(self, meeting: Meeting, transfer: Transfer) -> list[int]:
        """The engines in an order in which a chain from the learner leaves each host once. Raises TransferFailed when
        one of them is gone."""
        transfer.call("info", lambda _: ())
        hosts = {index: about["host"] for index, about in transfer.settle().items()}
        if transfer.missed:
            raise TransferFailed("an engine was lost before it met the others")
        learner = meeting.address.rpartition(":")[0]
        return sorted(hosts, key=lambda index: (hosts[index] != learner, hosts[index], index))


class StoredWeights:
    """A ``WeightSource`` whose weights stay as they are when the learner trains on: once complete, Ray's object store
    holds them until the next broadcast."""

    def __init__(self, source: WeightSource) -> None:
        self._source, self._parcels, self._is_complete = source, [], False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def check_alive(self) -> None:
        if not self._is_complete:
            self._source.check_alive()

    def parcels(self, transport: str, adapters: bool) -> Iterator[list[Pending]]:
        if self._is_complete:
            yield from self._parcels
            return
        parcels = []
        for parcel in self._source.parcels(transport, adapters):
            parcels.append(parcel)
            yield parcel
        if transport == HEALING:
            self._parcels, self._is_complete = parcels, True

    def complete(self, adapters: bool) -> None:
        """Store all that no transfer has stored."""
        while not self._is_complete:
            try:
                deque(self.parcels(HEALING, adapters), maxlen=0)
            except (LearnerLost, ActorError) as error:
                self._source.heal(error)
