"""``collective``: learner rank 0 and every worker of every engine in one torch.distributed group of their own.

Gloo on CPUs and NCCL on GPUs. Not the default group: DeepSpeed and vLLM have one each. Every wait has a time limit. A
member that fails leaves the group at once, which ends the waits of those that it is connected to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from agrl.network import this_host
from agrl.transport.parcel import Entry, Parcel, Receiver, Sender, TransferFailed
from agrl.transport.staging import Staging, flat_bytes, split

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
        host, _, port = meeting.address.rpartition(":")
        limit = timedelta(seconds=meeting.timeout_s)
        try:
            store = TCPStore(host, int(port), meeting.world, meeting.rank == 0, limit, wait_for_workers=False)
            self._group = _backend(PrefixStore("agrl-weights", store), meeting, limit, device)
            self._store = store
            self.wait(self._group.barrier(), "the group's first barrier")
        except Exception as error:
            self.abort()
            raise TransferFailed(
                f"the {meeting.world} members that exchange weights did not meet at {meeting.address} within "
                f"{meeting.timeout_s:g} s: member {meeting.rank} on host {this_host()} says: {error}",
                hint="can every host reach that address? sync.transport=object_store needs no group",
            ) from error

    def broadcast(self, flat: torch.Tensor) -> Any:
        """Start to send ``flat`` from member 0 to all others, or to fill it from there; to be given to ``wait``."""
        from torch.distributed import BroadcastOptions

        options = BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        return self._group.broadcast([flat], options)

    def wait(self, work: Any, what: str) -> None:
        """Wait until ``work`` is done. Raises TransferFailed, and leaves the group, when it fails or takes too long."""
        deadline, nap = time.monotonic() + self.meeting.timeout_s, NAP_S[0]
        try:
            while not work.is_completed():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it took longer than {self.meeting.timeout_s:g} s")
                time.sleep(nap)
                nap = min(2 * nap, NAP_S[1])
            work.wait()
        except Exception as error:
            self.abort()
            raise TransferFailed(
                f"{what} failed on host {this_host()} (member {self.meeting.rank} of {self.meeting.world}): {error}",
                hint="an engine that died or a link that broke does that; the logs of the run say which",
            ) from error

    def abort(self) -> None:
        """Leave, whatever is under way."""
        group, self._group = getattr(self, "_group", None), None
        if group is not None:
            with suppress(Exception):  # it may be broken already
                group.abort()


def _backend(store: Any, meeting: Meeting, limit: timedelta, device: torch.device) -> Any:
    import torch.distributed as dist

    if device.type == "cuda":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = limit
        return dist.ProcessGroupNCCL(store, meeting.rank, meeting.world, options)
    return dist.ProcessGroupGloo(store, meeting.rank, meeting.world, limit)


class CollectiveSender(Sender):
    """A parcel is told first, then broadcast while the next bucket is gathered."""

    def __init__(self, group: Group, capacity: int) -> None:
        self.group, self._staging = group, Staging(capacity, group.device)
        self._under_way: tuple[Any, str] | None = None

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._staging.hold(tensor)

    def send(self, number: int, entries: tuple[Entry, ...]) -> Parcel:
        self.finish()
        flat = self._staging.take()
        if flat.is_cuda:
            torch.cuda.current_stream().synchronize()  # NCCL has a stream of its own
        self._under_way = self.group.broadcast(flat), f"the broadcast of bucket {number}"
        return Parcel(number, entries)

    def finish(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            self.group.wait(*under_way)

    def close(self) -> None:
        self.group.abort()


class CollectiveReceiver(Receiver):
    def __init__(self, group: Group) -> None:
        self.group = group

    def receive(self, parcels: Sequence[Parcel]) -> list[torch.Tensor]:
        parcel = parcels[0]
        flat = torch.empty(flat_bytes(parcel.entries), dtype=torch.uint8, device=self.group.device)
        self.group.wait(self.group.broadcast(flat), f"to receive bucket {parcel.number}")
        return split(flat, parcel.entries)

    def close(self) -> None:
        self.group.abort()
