"""Two buffers in turns: one bucket is gathered in one while the bucket before it leaves from the other."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch

from agrl.transport.parcel import Entry, aligned, shaped


class Staging:
    """Flat memory of at least ``capacity`` bytes a bucket, on ``device``."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._capacity, self._device = capacity, device
        self._buffers: list[torch.Tensor | None] = [None, None]
        self._turn = self._used = 0

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy ``tensor`` behind what is there; returns the copy. A bucket's first weight may be of any size."""
        begin, end = self._used, self._used + tensor.nbytes
        buffer = self._buffers[self._turn]
        if buffer is None or len(buffer) < end:
            if begin:
                raise ValueError("a bucket is larger than its buffer")
            self._buffers[self._turn] = None  # freed before the larger one is there
            buffer = torch.empty(max(self._capacity, aligned(end)), dtype=torch.uint8, device=self._device)
            self._buffers[self._turn] = buffer
        copy = buffer[begin:end].view(tensor.dtype).view(tensor.shape)
        copy.copy_(tensor.detach())
        self._used = aligned(end)
        return copy

    def take(self) -> torch.Tensor:
        """The bytes that are held, uint8 [bytes]; from now on the other buffer is filled."""
        flat = self._buffers[self._turn][: self._used]
        self._turn, self._used = 1 - self._turn, 0
        return flat


class Arrivals:
    """Memory for buckets that arrive: what nothing refers to any more is filled again.

    Memory of a CPU that is asked for anew is cold: its pages come one by one, which takes longer than to copy into it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lent: list[tuple[np.ndarray, weakref.ref]] = []  # memory, and what was made of it the last time

    def get(self, nbytes: int) -> torch.Tensor:
        """uint8 [nbytes], of any values."""
        if self._device.type != "cpu":
            return torch.empty(nbytes, dtype=torch.uint8, device=self._device)  # torch keeps such memory itself
        free = [i for i, (memory, used) in enumerate(self._lent) if used() is None]
        fitting = next((i for i in free if len(self._lent[i][0]) >= nbytes), None)
        if fitting is None:
            self._lent = [lent for i, lent in enumerate(self._lent) if i not in free]
            memory = np.empty(nbytes, np.uint8)
        else:
            memory = self._lent.pop(fitting)[0]
        lent = memory[:nbytes]  # torch keeps it as long as any tensor of it is there
        self._lent.append((memory, weakref.ref(lent)))
        return torch.from_numpy(lent)


def flat_bytes(entries: Sequence[Entry]) -> int:
    """Bytes of a bucket in a buffer."""
    return sum(aligned(entry.nbytes) for entry in entries)


def split(flat: torch.Tensor, entries: Sequence[Entry]) -> list[torch.Tensor]:
    """The weights in the bytes of a bucket, as views."""
    found, begin = [], 0
    for entry in entries:
        found.append(shaped(entry, flat[begin : begin + entry.nbytes]))
        begin += aligned(entry.nbytes)
    return found
