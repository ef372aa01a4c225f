"""The rollout actors as one: requests spread over them, results streaming back, new weights, the dead replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.engine import RolloutEngine
from actors.engine_sleep import EngineSleep
from actors.generation import EngineSettings, Generation, GenerationRequest, SamplingSettings
from actors.pool import NoPlace, ServicePool
from actors.runtime import Runtime, wait_any
from actors.service import ServiceDied, Stream
from actors.weight_sync import WeightSource, WeightSync
from agrl.errors import AgrlError


@dataclass
class Traffic:
    """What the engines generated. ``seconds``: of each actor's engine."""

    seconds: Counter[int] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    response_tokens: int = 0

    def count(self, actor: int, generation: Generation) -> None:
        self.seconds[actor] += generation.seconds
        self.prompt_tokens += generation.prompt_tokens
        self.cached_tokens += generation.cached_tokens
        self.response_tokens += sum(len(sample.ids) for sample in generation.samples)

    def metrics(self) -> dict[str, float]:
        """``rollout/*``; empty when nothing was generated."""
        if not self.prompt_tokens:
            return {}
        slowest = max(self.seconds.values())
        return {
            "rollout/engine_seconds": slowest,
            "rollout/tokens_per_s": self.response_tokens / max(slowest, 1e-9),
            "rollout/prefix_cache_hits": self.cached_tokens / self.prompt_tokens,
        }


class RolloutPool:
    """``actors`` engines of one model. They load in the background; ``ready`` waits for them.

    An actor that dies, hangs for ``timeout_s`` seconds or breaks is replaced up to ``restarts`` times: the new one gets
    the current weights and the requests that the old one left unfinished. Where no host has room for one, the others go
    on. ``transport``: of new weights, see ``agrl.transport``.
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
        engine: type = RolloutEngine,
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
            env=settings.environment(),
        )
        self._timeout_s, self._inline = timeout_s, runtime.mode == "inline"
        self._traffic = Traffic()
        self._sync = WeightSync(self._pool, model_path, transport, settings.tensor_parallel, timeout_s)
        self._sleep = EngineSleep(self._pool, self._sync, timeout_s)

    def ready(self) -> None:
        """Wait until every engine is loaded. Raises ModelError, ConfigError or ActorError."""
        self._pool.ready()

    def generate(
        self, requests: Sequence[GenerationRequest], sampling: SamplingSettings
    ) -> Iterator[tuple[Generation, int]]:
        """Every request's generation as it finishes, with the index of the actor that made it.

        Request i goes to actor i modulo their number: fixed, so that a run can be repeated. Read it to its end: what is
        not read is generated nevertheless. Raises ActorError when an actor is lost too often, ClusterError when no host
        has room for the last one, WeightSyncError when one samples from weights of another version than the last
        broadcast.
        """
        self._sleep.end()
        left: list[dict[str, GenerationRequest]] = [{} for _ in range(len(self._pool))]
        streams: dict[Stream, int] = {}
        self._deal(requests, left, streams, sampling)
        while streams:
            ready = wait_any(list(streams), self._timeout_s)
            for stream in ready or list(streams):
                if stream not in streams:  # of an actor that is lost
                    continue
                index = streams[stream]
                try:
                    if not ready:
                        raise TimeoutError(
                            f"{self._pool.services[index].who()} gave no result for {self._timeout_s:g} s"
                        )
                    generation = next(stream).result(self._timeout_s)
                except StopIteration:
                    del streams[stream]
                except Exception as error:
                    if not self._can_heal(error):
                        raise
                    self._resend(stream, streams, left, sampling, error)
                else:
                    self._sync.check_version(index, generation.version)
                    if sampling.logprobs:
                        self._traffic.count(index, generation)
                    del left[index][generation.request_id]
                    yield generation, index

    def _can_heal(self, error: Exception) -> bool:
        """Whether a new engine may do better: not when the request is at fault, nor for someone with a debugger."""
        return isinstance(error, ServiceDied) or not (isinstance(error, AgrlError) or self._inline)

    def _deal(self, requests: Sequence[GenerationRequest], left: list[dict], streams: dict, sampling: Any) -> None:
        for position, index in enumerate(self._pool.present):
            self._send(index, requests[position :: len(self._pool.present)], left, streams, sampling)

    def _send(self, index: int, requests: Sequence, left: list[dict], streams: dict, sampling: Any) -> None:
        if requests:
            left[index] |= {request.request_id: request for request in requests}
            streams[self._pool.services[index].stream("generate", list(requests), sampling)] = index

    def _resend(self, stream: Stream, streams: dict, left: list[dict], sampling: Any, cause: Exception) -> None:
        """Replace the actor of a stream; what it left undone goes to the new one, or to the others without one."""
        index = streams[stream]
        for lost in [its for its, of in streams.items() if of == index]:
            del streams[lost]
        undone, left[index] = list(left[index].values()), {}
        try:
            self._sync.replace(index, cause)
        except NoPlace:
            self._deal(undone, left, streams, sampling)
        else:
            self._send(index, undone, left, streams, sampling)

    def broadcast(self, version: int, weights: WeightSource) -> None:
        """Give every actor the learner's weights, which are of ``version``; see ``WeightSync.broadcast``."""
        with self._sleep.woken():
            self._sync.broadcast(version, weights)

    def sleep(self) -> None:
        """Leave the GPUs to others, until the next broadcast or request."""
        self._sleep.begin()

    def info(self) -> list[dict[str, Any]]:
        """What each engine says of itself, see ``RolloutEngine.info``."""
        return [self._pool.services[index].call("info").result(self._timeout_s) for index in self._pool.present]

    def metrics(self) -> dict[str, float]:
        """Restarts since the start, and the traffic of rollouts for training since this was last called."""
        traffic, self._traffic = self._traffic, Traffic()
        restarts, absent = float(sum(self._pool.replaced)), float(len(self._pool.absent))
        return {"actors/rollout_restarts": restarts, "actors/rollout_absent": absent} | traffic.metrics()

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of each actor, by name."""
        return self._pool.gauges()

    def close(self) -> None:
        """End all actors."""
        self._pool.close()
