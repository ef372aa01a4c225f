"""Two buffers in turns: one bucket is gathered in one while the bucket before it leaves from the other."""

from __future__ import annotations

from collections.abc import Sequence

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
