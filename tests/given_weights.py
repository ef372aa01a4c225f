"""Weights that a test gives to a rollout pool, in the place of a learner's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch

from actors.runtime import Runtime
from actors.service import Pending
from agrl.transport.object_store import ObjectStoreSender
from agrl.transport.parcel import Named, Parcel, pack


@dataclasses.dataclass
class GivenWeights:
    """A ``WeightSource`` of ``named``, through the object store. ``spoil``: what happens to each parcel on its way."""

    runtime: Runtime
    named: Callable[[], Named]
    bucket_bytes: int = 100_000
    spoil: Callable[[Parcel], Parcel] = lambda parcel: parcel
    model_path: str = ""
    served_beside: bool = False
    trains_meanwhile: bool = False
    passes: int = 0
    sender: str = "the learner"

    def check_alive(self) -> None:
        pass

    def heal(self, error: Exception) -> None:
        raise error

    def parcels(self, transport: str, adapters: bool) -> Iterator[list[Pending]]:
        assert transport == "object_store"
        self.passes += 1
        for parcel in pack(self.named(), ObjectStoreSender(), self.bucket_bytes):
            yield [self.runtime.put(self.spoil(parcel))]


def corrupt(name: str) -> Callable[[Parcel], Parcel]:
    """Flips one bit of the weight ``name`` under way."""

    def spoil(parcel: Parcel) -> Parcel:
        content = [data.copy() for data in parcel.content]
        for entry, data in zip(parcel.entries, content, strict=True):
            if entry.name == name:
                data[len(data) // 2] ^= 4
        return dataclasses.replace(parcel, content=content)

    return spoil


def small(**named: float) -> Callable[[], Named]:
    """Weights of ten numbers each."""
    return lambda: [(name, torch.full((10,), value)) for name, value in named.items()]
