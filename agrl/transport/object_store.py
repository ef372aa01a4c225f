"""``object_store``: the bytes themselves are in the parcel, and whoever carries it carries them.

Works wherever actors can be called, on one host through its shared memory: a bucket is copied into it once, and every
engine of the host loads from there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from agrl.transport.parcel import Entry, Parcel, Receiver, Sender, shaped


class ObjectStoreSender(Sender):
    """``lasting``: weights that are given stay as they are until the bucket was taken, and need no copy on a CPU."""

    def __init__(self, lasting: bool = False) -> None:
        self._lasting, self._held = lasting, []

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        kept = tensor.detach().to("cpu", copy=not self._lasting).contiguous()
        self._held.append(kept)
        return kept

    def send(self, number: int, entries: tuple[Entry, ...]) -> Parcel:
        held, self._held = self._held, []
        # bytes, because numpy has no bfloat16; numpy arrays cross a Ray boundary as they are
        return Parcel(number, entries, [tensor.reshape(-1).view(torch.uint8).numpy() for tensor in held])


class ObjectStoreReceiver(Receiver):
    def receive(self, parcels: Sequence[Parcel]) -> list[torch.Tensor]:
        parcel = parcels[0]
        return [shaped(entry, _tensor(data)) for entry, data in zip(parcel.entries, parcel.content, strict=True)]


def _tensor(data: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():  # torch warns of memory that cannot be written to; nobody writes to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(data)
