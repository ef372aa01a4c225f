"""The rollout actors as one: requests spread over them, results streaming back, new weights, the dead replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from actors.batch import Batch
from actors.dispatch import Dealing, FixedDealing, FreeDealing, Speeds
from actors.engine import RolloutEngine
from actors.engine_sleep import EngineSleep
from actors.generation import EngineSettings, Generation, GenerationRequest, Progress, SamplingSettings
from actors.pool import ServicePool
from actors.runtime import Runtime
from actors.stream import Stream
from actors.traffic import Traffic
from actors.weight_sync import WeightSource, WeightSync


class RolloutPool:
    """``actors`` engines of one model. They load in the background; ``ready`` waits for them.

    An actor that dies, hangs for ``timeout_s`` seconds or breaks is replaced up to ``restarts`` times: the new one gets
    the current weights and the requests that the old one left unfinished. Where no host has room for one, the others
    go on, ``min_actors`` of them at least, and it comes back when a host has room again. ``transport``: of new weights,
    see ``agrl.transport``. ``dealing``: of requests, "fixed" or "free", see ``actors.dispatch``; "auto" is free where
    there are several actors. ``streams``: requests come at any time and from several threads, new weights while some
    are unfinished; ``actors.open_dealing`` then says who gets what.
    """

    def __init__(
        self,
        runtime: Runtime,
        model_path: str,
        settings: EngineSettings,
        *,
        actors: int = 1,
        restarts: int = 3,
        timeout_s: float = 1800.0,
        log_dir: Path | None = None,
        transport: str = "object_store",
        dealing: str = "auto",
        engine: type = RolloutEngine,
        streams: bool = False,
        min_actors: int = 1,
    ) -> None:
        self._pool = ServicePool(
            runtime,
            "rollout",
            engine,
            (model_path, settings),
            size=actors,
            restarts=restarts,
            timeout_s=timeout_s,
            log_dir=log_dir,
            least=min_actors,
            env=settings.environment(),
            built="stale",
        )
        self._timeout_s, self._inline = timeout_s, runtime.mode == "inline"
        self._traffic, self._speeds, self._room = Traffic(), Speeds(), settings.max_concurrent
        self._free = dealing == "free" or (dealing == "auto" and actors > 1 and not self._inline)
        self._sync = WeightSync(self._pool, model_path, transport, settings.tensor_parallel, timeout_s)
        self._sleep = EngineSleep(self._pool, self._sync, timeout_s)
        self._stream, self._told = None, time.monotonic()
        if streams:
            self._stream = Stream(self._pool, self._sync, self._room, timeout_s=timeout_s, count=self._count)

    def ready(self) -> None:
        """Wait until every engine is loaded. Raises ModelError, ConfigError or ActorError."""
        self._pool.ready()
        self._told = time.monotonic()

    def generate(
        self, requests: Sequence[GenerationRequest], sampling: SamplingSettings
    ) -> Iterator[tuple[Generation, int]]:
        """Every request's generation as it finishes, with the index of the actor that made it.

        Who gets which request: see ``actors.dispatch``. Read it to its end. Raises ActorError when an actor is lost too
        often, ClusterError when no host has room for the last one, WeightSyncError when one samples from weights of
        another version than the last broadcast.
        """
        if self._stream:
            yield from self._stream.generate(requests, sampling)
            return
        self._sleep.end()
        dealing = self._deal(requests)
        batch = Batch(
            self._pool,
            self._sync,
            dealing,
            sampling,
            timeout_s=self._timeout_s,
            heals=not self._inline,
            count=(self._traffic if sampling.logprobs else Traffic()).count,
        )
        began = ended = time.monotonic()
        for item in batch.results():
            ended = time.monotonic()
            yield item
        if self._free:
            self._speeds.learn(dealing.hands, len(requests))
        if sampling.logprobs:
            self._traffic.end(ended - began, len(self._pool.present), len(requests), dealing.copied)

    def _deal(self, requests: Sequence[GenerationRequest]) -> Dealing:
        if self._free:
            return FreeDealing(requests, self._pool.present, self._room, self._speeds.now())
        return FixedDealing(requests, self._pool.present)

    def broadcast(self, version: int, weights: WeightSource) -> None:
        """Give every actor the learner's weights, which are of ``version``; see ``WeightSync.broadcast``."""
        absent = set(self._pool.absent)
        with self._sleep.woken(), self._stream.paused() if self._stream else nullcontext():
            self._sync.broadcast(version, weights)
        if self._stream:
            self._stream.join(sorted(absent - self._pool.absent))

    @property
    def stream(self) -> Stream:
        """For requests whose answers nobody waits for in turn; only where the pool ``streams``."""
        assert self._stream is not None, "a pool that does not stream answers one batch after another"
        return self._stream

    def _count(self, index: int, progress: Progress, first: list[Generation]) -> None:
        self._traffic.count(index, progress, first)
        self._traffic.requests += len(first)

    @property
    def version(self) -> int:
        """Of the weights that the actors have."""
        return self._sync.version

    def sleep(self) -> None:
        """Leave the GPUs to others, until the next broadcast or request."""
        self._sleep.begin()

    def info(self) -> list[dict[str, Any]]:
        """What each engine says of itself, see ``RolloutEngine.info``."""
        return [self._pool.services[index].call("info").result(self._timeout_s) for index in self._pool.present]

    def metrics(self) -> dict[str, float]:
        """Restarts since the start, and the traffic of rollouts for training since this was last called."""
        traffic, self._traffic = self._traffic, Traffic()
        if self._stream:
            now, then = time.monotonic(), self._told
            traffic.offered_s, self._told = (now - then) * len(self._pool.present), now
        restarts, absent = float(sum(self._pool.replaced)), float(len(self._pool.absent))
        waits = traffic.metrics(self._pool.present)
        return {"actors/rollout_restarts": restarts, "actors/rollout_absent": absent} | waits

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of each actor, by name."""
        return self._pool.gauges()

    def close(self) -> None:
        """End all actors."""
        if self._stream:
            self._stream.close()
        self._pool.close()
