"""The ends of a transfer without DeepSpeed and vLLM: a learner rank that holds weights, an engine that copies them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from actors.runtime import Runtime
from agrl.driver.services.learner_weights import LearnerWeights
from agrl.network import this_host
from agrl.transport import parcel
from agrl.transport.checksum import MODULUS, bits
from agrl.transport.collective import Meeting
from agrl.transport.named import make_receiver
from agrl.transport.parcel import Parcel, unpack
from learner.outgoing import Outgoing
from learner.rank import LearnerRank

GPU_SHARE = 0.125  # of every process: all are on one GPU
LARGEST = 16 * 2**20  # bytes of one weight: that of a linear layer of 2048 x 2048 numbers of four bytes


def weights(nbytes: int, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights of ``nbytes`` bytes in all, no two of them alike."""
    count = max(1, nbytes // LARGEST)
    random = torch.randn(nbytes // count // dtype.itemsize, device=device)
    return {f"layer-{i}": (random * (i + 1)).to(dtype) for i in range(count)}


def verify(on: bool) -> None:
    """Whether this process sums up weights; where it does not, every sum is 0, and what remains is the transport."""
    parcel.bits = bits if on else lambda tensors: [0 for _ in tensors]


class Held:
    """What ``Outgoing`` needs of a training engine."""

    zero_stage, lm = 0, torch.nn.Identity()

    def __init__(self, *what: Any) -> None:
        self.device, self._weights = what[1], weights(*what)

    def full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self._weights.items()


class SendingRank(LearnerRank):
    """A learner rank with nothing but weights."""

    def __init__(self, nbytes: int, device: str, dtype: str) -> None:
        torch.set_num_threads(1)
        self.rank, self.world = 0, 2
        self.held = Held(nbytes, torch.device(device), getattr(torch, dtype))
        self.outgoing = Outgoing(self.held, 0)

    def verify(self, on: bool) -> None:
        verify(on)


class CopyingEngine:
    """Receives weights as a rollout engine does, and copies them into its own: the same checks, and no vLLM."""

    def __init__(self, nbytes: int, device: str, dtype: str) -> None:
        torch.set_num_threads(1)
        self._device, self.version, self._sent, self._buckets = torch.device(device), 0, 0, 0
        made = weights(nbytes, self._device, getattr(torch, dtype))
        self._parameters = {name: torch.zeros_like(tensor) for name, tensor in made.items()}
        self._receivers: dict[str, Any] = {}

    def info(self) -> dict[str, Any]:
        return {"adapters": False, "host": this_host().address}

    def open_transport(self, transport: str, meeting: Meeting | None) -> None:
        if transport in self._receivers:
            self._receivers.pop(transport).close()
        self._receivers[transport] = make_receiver(transport, self._device, meeting)

    def take_weights(self, transport: str, *parcels: Parcel) -> None:
        if transport not in self._receivers:
            self.open_transport(transport, None)
        if parcels[0].number == 0:
            self._sent, self._buckets = 0, 0
        self._buckets += 1
        for name, tensor in unpack(parcels, self._receivers[transport]):
            self._parameters[name].copy_(tensor)
        self._sent += sum(entry.bits for entry in parcels[0].entries)

    def receive_weights(self, transport: str) -> None:
        for bucket in self._receivers[transport].announced():
            self.take_weights(transport, bucket)

    def finish_weights(self, version: int, buckets: int) -> int:
        assert sum(parcel.bits(self._parameters.values())) % MODULUS == self._sent % MODULUS
        assert self._buckets == buckets
        return version

    def verify(self, on: bool) -> None:
        verify(on)


class Source(LearnerWeights):
    """The weights of a ``SendingRank`` in a process of its own."""

    def __init__(self, runtime: Runtime, *what: Any) -> None:
        self.rank = runtime.start(SendingRank, "learner-0", *what)
        self.rank.ready().result(300)
        call = lambda method, *args: self.rank.call(method, *args).result(300)  # noqa: E731
        super().__init__(
            SimpleNamespace(
                config=SimpleNamespace(
                    model=SimpleNamespace(path="", lora_rank=0),
                    learner=SimpleNamespace(zero_stage=0),
                    trainer=SimpleNamespace(max_staleness=0),
                ),
                ranks=[self.rank],
                on_first_rank=call,
                on_ranks=lambda ranks, method, *args: [call(method, *args) for _ in ranks],
            )
        )
