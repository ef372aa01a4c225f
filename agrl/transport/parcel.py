"""What travels: the weights of a model in parcels of bounded size, each weight with its checksum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agrl.errors import WeightSyncError
from agrl.network import this_host
from agrl.transport.checksum import bits

BUCKET_BYTES = 128 * 2**20
ALIGNMENT = 16  # bytes: of every weight in a buffer, whatever its type
Named = Iterable[tuple[str, torch.Tensor]]


class TransferFailed(WeightSyncError):
    """Weights did not arrive, because somebody who takes part is gone or late; it may be tried again."""


@dataclass(frozen=True)
class Entry:
    """One weight of a parcel. ``dtype``: torch's name. ``bits``: its checksum where the learner has it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: int

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True)
class Parcel:
    """One bucket. ``content``: what the transport sends along with the list of weights, or where to find it."""

    number: int
    entries: tuple[Entry, ...]
    content: Any = None


class Sender(ABC):
    """The learner's end. A bucket is held, weight by weight, and then sent; no more than two are there at a time."""

    @abstractmethod
    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        """Keep what ``tensor`` is now for the next ``send``; returns what is kept."""

    @abstractmethod
    def send(self, number: int, entries: tuple[Entry, ...]) -> Parcel:
        """Let go what is held. May return while it travels; the next but one ``send`` comes when it was taken."""

    def finish(self) -> None:  # noqa: B027
        """Wait until the last bucket has left. Raises TransferFailed."""

    def close(self) -> None:  # noqa: B027
        """Give back connections and memory."""


class Receiver(ABC):
    """The end of one worker of an engine."""

    @abstractmethod
    def receive(self, parcels: Sequence[Parcel]) -> list[torch.Tensor]:
        """The weights of a bucket, in the order of its entries. ``parcels``: as each learner rank sends it.

        What they are stays as long as they are referred to. Raises WeightSyncError, TransferFailed.
        """

    def close(self) -> None:  # noqa: B027
        """Give back connections and memory."""


def pack(named: Named, sender: Sender, bucket_bytes: int = BUCKET_BYTES) -> Iterator[Parcel]:
    """Send named weights in buckets of at most ``bucket_bytes`` bytes (a larger weight makes a bucket of its own).

    Each weight counts with what aligns the next one.

    Weights are read one by one, each needed only until the next is read: a source that gathers sharded ones never holds
    more than one of them whole beside the buckets.
    """
    entries: list[tuple[str, torch.Tensor]] = []
    number = size = 0
    for name, tensor in named:
        if entries and size + aligned(tensor.nbytes) > bucket_bytes:
            yield sender.send(number, _entries(entries))
            entries, size, number = [], 0, number + 1
        entries.append((name, sender.hold(tensor)))
        size += aligned(tensor.nbytes)
        del tensor  # before the next one is gathered
    if entries:
        yield sender.send(number, _entries(entries))
    sender.finish()


def _entries(held: list[tuple[str, torch.Tensor]]) -> tuple[Entry, ...]:
    sums = bits(tensor for _, tensor in held)
    return tuple(
        Entry(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), value)
        for (name, tensor), value in zip(held, sums, strict=True)
    )


def unpack(parcels: Sequence[Parcel], receiver: Receiver) -> Iterator[tuple[str, torch.Tensor]]:
    """Receive a bucket: its weights by name, each compared with the learner's before it is given; see ``checked``."""
    return checked(parcels[0], receiver.receive(parcels))


def checked(parcel: Parcel, tensors: Sequence[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights by name. Raises WeightSyncError at one whose checksum is not the learner's, naming it and this host.

    On a CPU each is summed up just before it is given, and whoever copies it finds it in the caches; on another device
    all are, before the first, so that it need not wait for the CPU once a weight.
    """
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    sums = (value for tensor in tensors for value in bits([tensor])) if on_cpu else iter(bits(tensors))
    for entry, tensor, found in zip(parcel.entries, tensors, sums, strict=True):
        if found != entry.bits:
            raise WeightSyncError(
                f"weight {entry.name} arrived damaged on host {this_host()}: its checksum is {found:08x}, the "
                f"learner's {entry.bits:08x} (bucket {parcel.number})",
                hint="the run can be resumed from its last checkpoint; if it happens again, look at the memory and the "
                "network of that host, or choose another sync.transport",
            )
        yield entry.name, tensor


def shaped(entry: Entry, data: torch.Tensor) -> torch.Tensor:
    """The weight in its bytes, uint8 [bytes]. Raises WeightSyncError when they are not those of its shape."""
    if data.nbytes != entry.nbytes:
        layout = f"{entry.dtype}{list(entry.shape)}"
        raise WeightSyncError(f"weight {entry.name}: {data.nbytes} bytes arrived, {layout} needs {entry.nbytes}")
    return data.view(getattr(torch, entry.dtype)).reshape(entry.shape)


def aligned(size: int) -> int:
    """``size`` bytes with those that fill them up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def is_adapter(name: str) -> bool:
    """Whether a weight is part of a low-rank update, which travels beside the model and not merged into it."""
    return ".lora_" in name
