"""A runtime whose services misbehave on command, to test the pools' decisions without Ray and without waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from actors.generation import Generation, Pace, Progress, Sampled, SamplingSettings
from actors.inline_service import InlinePending, InlineService
from actors.runtime import Runtime
from actors.service import Pending, Service, ServiceDied
from agrl.transport.named import make_receiver
from agrl.transport.parcel import Parcel, unpack


class FragileRuntime(Runtime):
    """Inline, but healed like Ray; ``on_start(name, life, service)`` sees each start, lives counted from 0 a name."""

    def __init__(self, on_start: Callable[[str, int, Service], None] = lambda *_: None) -> None:
        super().__init__("inline")
        self.mode = "local"  # inline, the pools would not heal
        self.lives: dict[str, int] = {}
        self._on_start = on_start

    def start(self, cls: type, name: str, *args: Any, log_file: Any = None, **placement: Any) -> Service:
        life = self.lives[name] = self.lives.get(name, -1) + 1
        service = InlineService(cls, name, args, {})
        self._on_start(name, life, service)
        return service

    def put(self, value: Any) -> Pending:
        return InlinePending(value)


class EchoEngine:
    """Stands for RolloutEngine: its samples are the prompt's ids. ``dies_after``: generations before it dies, once."""

    def __init__(self, model_path: str, settings: Any) -> None:
        self.version, self.weights, self.served = 0, {}, []
        self.batch, self.in_hand, self.in_batch = 0, [], 0
        self.dies_after: int | None = None
        self.dies_at_bucket: int | None = None
        self.dies_asleep = False
        self.takes_adapters, self.meetings, self.host = False, [], "host"
        self.forgets_weights = False
        self.asleep, self.done = set(), []

    def advance(self, batch: int, requests: list, sampling: SamplingSettings, pace: Pace, drop: list[str]) -> Progress:
        """One request of those in hand."""
        assert not self.asleep
        if batch != self.batch:
            self.batch, self.in_hand, self.in_batch = batch, [], 0
            self.done.append("generate")
        self.in_hand = [request for request in self.in_hand + requests if request.request_id not in drop]
        if not self.in_hand:
            return Progress([])
        if self.in_batch == self.dies_after:
            raise ServiceDied("engine killed by the test")
        self.in_batch += 1
        request = self.in_hand.pop(0)
        self.served.append(request.request_id)
        ids = np.asarray(request.prompt_ids, np.int32)
        sample = Sampled(ids, np.zeros(len(ids), np.float32), "stop", f"{request.request_id} v{self.version}")
        tokens = request.n * len(ids)
        made = Generation(request.request_id, [sample] * request.n, self.version, tokens, tokens - len(ids))
        return Progress([made], tokens, 0.5)

    def end_batch(self, batch: int) -> None:
        self.in_hand = []

    def info(self) -> dict[str, Any]:
        return {"adapters": self.takes_adapters, "host": self.host}

    def open_transport(self, transport: str, meeting: Any) -> None:
        self.meetings.append(meeting)

    def take_weights(self, transport: str, *parcels: Parcel) -> None:
        assert "weights" not in self.asleep
        if parcels[0].number == 0:
            self.version, self.weights = -1, {}
            self.done.append("load")
        if parcels[0].number == self.dies_at_bucket:
            raise ServiceDied("engine killed by the test")
        self.weights |= dict(unpack(parcels, make_receiver(transport, torch.device("cpu"))))

    def sleep(self, keep_weights: bool) -> None:
        if self.dies_asleep:
            raise ServiceDied("engine killed by the test")
        self.done.append("sleep, weights kept" if keep_weights else "sleep")
        self.asleep = {"weights", "kv_cache"}
        self.weights = self.weights if keep_weights else {}

    def wake(self, part: str) -> None:
        self.done.append(f"wake {part}")
        self.asleep.discard(part)

    def finish_weights(self, version: int, buckets: int) -> int:
        if not self.forgets_weights:
            self.version = version
        return self.version
