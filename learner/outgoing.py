"""A rank's weights on their way to the rollout engines, in buckets, by whichever transport is asked for.

Two ways: a transport that needs somebody to hand its parcels over is asked for one after another (``begin``, ``next``,
``parcel``); one whose receivers are connected sends all of them (``send``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Protocol

import torch
from torch import nn

from agrl.transport.collective import Meeting
from agrl.transport.named import FROM_EVERY_RANK, MEETING, make_sender
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

    def serve(self, engine: Engine) -> None:
        """The weights are those of another run from now on. Who has met stays connected, and is not told."""
        self._break_off()
        self._engine = engine
        self._senders = {name: sender for name, sender in self._senders.items() if name in MEETING}

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

    def send(self, transport: str, adapters: bool) -> int | TransferFailed:
        """All buckets: how many there were, or why they did not arrive."""
        self._break_off()
        sender = self._sender(transport)
        named = iter(self._weights(adapters, sender))
        try:
            return sum(1 for _ in pack(named, sender, self.bucket_bytes))
        except TransferFailed as failure:
            deque(named, maxlen=0)  # the other ranks know nothing of it: they gather to the end, and wait for this one
            return failure

    def begin(self, transport: str, adapters: bool) -> None:
        """The next bucket is the first."""
        self._break_off()
        sender = self._sender(transport)
        self._buckets = pack(self._weights(adapters, sender), sender, self.bucket_bytes)

    def _break_off(self) -> None:
        """Let go of what a broadcast that was not read to its end had gathered."""
        if isinstance(self._buckets, Generator):
            self._buckets.close()
        self.parcel = None

    def _sender(self, transport: str) -> Sender:
        if self._rank > 0 and transport not in FROM_EVERY_RANK:
            return Bystander()
        if transport not in self._senders:
            self.open(transport, None)
        return self._senders[transport]

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
