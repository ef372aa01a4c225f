"""``collective``: learner rank 0 and every worker of every engine in one torch.distributed group of their own.

Gloo on CPUs and NCCL on GPUs. Not the default group: DeepSpeed and vLLM have one each. Every wait has a time limit. A
member that fails leaves the group at once, which ends the waits of those that it is connected to.

A bucket goes along the members in a chain, in pieces: each hands a piece on while it gets the next, so that no link
carries a bucket twice. NCCL's broadcast does that; Gloo's sends a bucket over the first link as often as there are
branches, so over Gloo the chain is made here.

The group itself says what comes, so that nobody has to be told by another way: before each bucket go the length of its
list of weights and that list, and a length of 0 is the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, Protocol
from weakref import WeakSet

import torch

from agrl.network import this_host
from agrl.transport.parcel import Entry, Parcel, Receiver, Sender, TransferFailed
from agrl.transport.staging import Arrivals, Staging, flat_bytes, split

PIECE_BYTES = 4 * 2**20
NAP_S = (5e-5, 2e-3)  # between two looks at a broadcast under way: the first, and the longest


@dataclass(frozen=True)
class Meeting:
    """Where the group meets, and what a member is in it. ``timeout_s``: of every wait."""

    address: str  # "host:port" of rank 0, the learner's
    rank: int
    world: int
    timeout_s: float

    def member(self, index: int) -> Meeting:
        """The same meeting for the member that comes ``index`` after this one."""
        return Meeting(self.address, self.rank + index, self.world, self.timeout_s)


class Group:
    """One member's part of the group. Raises TransferFailed when not all meet within the time limit."""

    def __init__(self, meeting: Meeting, device: torch.device) -> None:
        from torch.distributed import PrefixStore, TCPStore

        self.meeting, self.device = meeting, device
        self._chains: WeakSet[Chain] = WeakSet()
        host, _, port = meeting.address.rpartition(":")
        limit = timedelta(seconds=meeting.timeout_s)
        try:
            store = TCPStore(host, int(port), meeting.world, meeting.rank == 0, limit, wait_for_workers=False)
            self._group = _backend(PrefixStore("agrl-weights", store), meeting, limit, device)
            self._store = store
            first = torch.zeros(1, device=device)  # connections are made now, and on the right GPU
            self.wait(Polled(self._group.allreduce([first])), "the first exchange of the group")
        except Exception as error:
            self.abort()
            raise TransferFailed(
                f"the {meeting.world} members that exchange weights did not meet at {meeting.address} within "
                f"{meeting.timeout_s:g} s: member {meeting.rank} on host {this_host()} says: {error}",
                hint="can every host reach that address? sync.transport=object_store needs no group",
            ) from error

    def broadcast(self, flat: torch.Tensor, what: str) -> Work:
        """Start to send ``flat`` from member 0 to all others, or to fill it from there; to be given to ``wait``.

        Raises TransferFailed, which says ``what`` failed, and leaves the group.
        """
        with self._leaving(what):
            if self.device.type == "cpu":
                chain = Chain(self._group, flat)
                self._chains.add(chain)
                chain.start()
                return chain
            from torch.distributed import BroadcastOptions

            options = BroadcastOptions()
            options.rootRank, options.rootTensor = 0, 0
            return Polled(self._group.broadcast([flat], options))

    def wait(self, work: Work, what: str) -> None:
        """Wait until ``work`` is done. Raises TransferFailed, and leaves the group, when it fails or takes too long."""
        with self._leaving(what):
            work.wait(time.monotonic() + self.meeting.timeout_s)

    @contextmanager
    def _leaving(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.abort()
            raise TransferFailed(
                f"{what} failed on host {this_host()} (member {self.meeting.rank} of {self.meeting.world}, time limit "
                f"{self.meeting.timeout_s:g} s): {error}",
                hint="an engine that died or a link that broke does that; the logs of the run say which",
            ) from error

    def abort(self) -> None:
        """Leave, whatever is under way."""
        group, self._group = getattr(self, "_group", None), None
        for chain in self._chains:  # Gloo's connections end only with the last that refers to them
            chain.drop()
        if group is not None:
            with suppress(Exception):  # it may be broken already
                group.abort()


class Work(Protocol):
    """A broadcast under way."""

    def wait(self, deadline: float) -> None:
        """Return when it is done, or raise what befell it or TimeoutError; ``deadline``: by ``time.monotonic``."""
        ...


class Polled:
    """Work of NCCL, which would wait for ever, looked at again and again."""

    def __init__(self, work: Any) -> None:
        self._work = work

    def wait(self, deadline: float) -> None:
        nap = NAP_S[0]
        while not self._work.is_completed():
            if time.monotonic() > deadline:
                raise TimeoutError("it is not done")
            time.sleep(nap)
            nap = min(2 * nap, NAP_S[1])
        self._work.wait()


class Chain:
    """A bucket on its way through this member: the first sends its pieces on, the others when they have come."""

    def __init__(self, group: Any, flat: torch.Tensor) -> None:
        self._group, self._pieces = group, flat.split(PIECE_BYTES)
        self._coming, self._sent = [], []
        self._before, self._after = group.rank() - 1, group.rank() + 1

    def start(self) -> None:
        for number, piece in enumerate(self._pieces):
            if self._before < 0:
                self._send(number)
            else:
                self._coming.append(self._group.recv([piece], self._before, number))

    def _send(self, number: int) -> None:
        if self._after < self._group.size():
            self._sent.append(self._group.send([self._pieces[number]], self._after, number))

    def wait(self, deadline: float) -> None:
        for number in range(len(self._coming)):  # no work in a variable, which the error of a failed one would keep
            self._coming[number].wait(_left(deadline))
            self._send(number)
        for number in range(len(self._sent)):
            self._sent[number].wait(_left(deadline))

    def drop(self) -> None:
        """Refer no longer to the group, though somebody may still refer to this."""
        self._group, self._coming, self._sent = None, [], []


def _left(deadline: float) -> timedelta:
    return timedelta(seconds=max(deadline - time.monotonic(), 0.001))


def _backend(store: Any, meeting: Meeting, limit: timedelta, device: torch.device) -> Any:
    import torch.distributed as dist

    if device.type == "cuda":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = limit
        return dist.ProcessGroupNCCL(store, meeting.rank, meeting.world, options)
    return dist.ProcessGroupGloo(store, meeting.rank, meeting.world, limit)


class CollectiveSender(Sender):
    """Each bucket is announced and broadcast while the next one is gathered."""

    def __init__(self, group: Group, capacity: int) -> None:
        self.group, self._staging = group, Staging(capacity, group.device)
        self._under_way: list[tuple[Work, str]] = []

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._staging.hold(tensor)

    def send(self, number: int, entries: tuple[Entry, ...]) -> Parcel:
        self._wait()
        listed = torch.frombuffer(bytearray(_listed(entries)), dtype=torch.uint8).to(self.group.device)
        self._start(f"the broadcast of bucket {number}", self._length(listed), listed, self._staging.take())
        return Parcel(number, entries)

    def finish(self) -> None:
        self._wait()
        self._start("the end of the broadcast", self._length(()))
        self._wait()

    def _length(self, listed: Sequence) -> torch.Tensor:
        return torch.tensor([len(listed)], device=self.group.device)

    def _start(self, what: str, *flats: torch.Tensor) -> None:
        if self.group.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # NCCL has a stream of its own
        for flat in flats:
            self._under_way.append((self.group.broadcast(flat, what), what))

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, []
        for work in under_way:
            self.group.wait(*work)

    def close(self) -> None:
        self.group.abort()


class CollectiveReceiver(Receiver):
    def __init__(self, group: Group) -> None:
        self.group, self._arrivals = group, Arrivals(group.device)

    def announced(self) -> Iterator[Parcel]:
        """The buckets of a broadcast, each to be given to ``receive`` before the next. Raises TransferFailed."""
        for number in count():
            length = torch.zeros(1, dtype=torch.int64, device=self.group.device)
            if not (nbytes := int(self._fill(length, number))):
                return
            listed = self._fill(torch.empty(nbytes, dtype=torch.uint8, device=self.group.device), number)
            yield Parcel(number, _entries(listed.cpu().numpy().tobytes()))

    def receive(self, parcels: Sequence[Parcel]) -> list[torch.Tensor]:
        parcel = parcels[0]
        return split(self._fill(self._arrivals.get(flat_bytes(parcel.entries)), parcel.number), parcel.entries)

    def _fill(self, flat: torch.Tensor, number: int) -> torch.Tensor:
        what = f"to receive bucket {number}"
        self.group.wait(self.group.broadcast(flat, what), what)
        return flat

    def close(self) -> None:
        self.group.abort()


def _listed(entries: Sequence[Entry]) -> bytes:
    """JSON, of which nothing can be run on its way back, as pickled bytes from a network could."""
    return json.dumps([(entry.name, entry.dtype, entry.shape, entry.bits) for entry in entries]).encode()


def _entries(listed: bytes) -> tuple[Entry, ...]:
    return tuple(Entry(name, dtype, tuple(shape), value) for name, dtype, shape, value in json.loads(listed))
