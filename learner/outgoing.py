"""A rank's weights on their way to the rollout engines, bucket by bucket, by whichever transport is asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

import torch
from torch import nn

from agrl.transport.collective import Meeting
from agrl.transport.named import FROM_EVERY_RANK, make_sender
from agrl.transport.parcel import BUCKET_BYTES, Entry, Named, Parcel, Sender, TransferFailed, pack
from learner.export import as_published


class Engine(Protocol):
    """Where the weights are: ``learner.engine.TrainingEngine``."""

    zero_stage: int

    @property
    def device(self) -> torch.device: ...

    @property
    def lm(self) -> nn.Module: ...

    def full_weights(self) -> Named: ...

    def adapters(self) -> Named: ...


class Outgoing:
    """The sending end of one learner rank. In ZeRO-3 all ranks gather together, whoever of them sends."""

    bucket_bytes = BUCKET_BYTES

    def __init__(self, engine: Engine, rank: int) -> None:
        self._engine, self._rank = engine, rank
        self._senders: dict[str, Sender] = {}
        self._buckets: Iterator[Parcel] = iter(())
        self.parcel: Parcel | None = None  # of the bucket that was gathered last

    def open(self, transport: str, meeting: Meeting | None) -> TransferFailed | None:
        """Connect; what was connected before is let go."""
        if old := self._senders.pop(transport, None):
            old.close()
        lasting, device = self._engine.zero_stage < 3, self._engine.device
        try:
            self._senders[transport] = make_sender(transport, device, meeting, lasting, self.bucket_bytes)
        except TransferFailed as failure:
            return failure
        return None

    def begin(self, transport: str, adapters: bool) -> None:
        """The next bucket is the first."""
        if isinstance(self._buckets, Generator):
            self._buckets.close()  # a broadcast that broke off still holds what it had gathered
        self.parcel = None
        if self._rank == 0 or transport in FROM_EVERY_RANK:
            if transport not in self._senders:
                self.open(transport, None)
            sender = self._senders[transport]
        else:
            sender = Bystander()
        self._buckets = pack(self._weights(adapters, sender), sender, self.bucket_bytes)

    def _weights(self, adapters: bool, sender: Sender) -> Named:
        if isinstance(sender, Bystander) and self._engine.zero_stage < 3:
            return ()  # nothing to gather
        if adapters:
            return self._engine.adapters()
        return as_published(self._engine.lm, self._engine.full_weights())

    def next(self) -> bool | TransferFailed:
        """Whether there is another bucket, now in ``parcel`` and on its way; or what befell those before it."""
        try:
            self.parcel = next(self._buckets, None)
        except TransferFailed as failure:
            self.parcel = None
            return failure
        return self.parcel is not None


class Bystander(Sender):
    """Of a rank that helps to gather and sends nothing."""

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.new_empty(0)

    def send(self, number: int, entries: tuple[Entry, ...]) -> Parcel:
        return Parcel(number, ())
