"""Rollout pools of stand-ins, for the tests of what they do."""

import numpy as np

from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from actors.runtime import Runtime
from tests.unit.actors.fakes import EchoEngine

SAMPLING = SamplingSettings()


def requests(n: int) -> list[GenerationRequest]:
    return [GenerationRequest(str(i), np.array([i, i], np.int32), n=2) for i in range(n)]


def make_pool(runtime: Runtime, engine: type = EchoEngine, actors: int = 2, restarts: int = 3, **more) -> RolloutPool:
    return RolloutPool(runtime, "model", EngineSettings(), actors=actors, restarts=restarts, engine=engine, **more)


def dying(lives: int, after: int, actor: str = "rollout-1"):
    """The first ``lives`` lives of an actor end after ``after`` generations of a call."""

    def on_start(name, life, service):
        if name == actor and life < lives:
            service.ready().result().dies_after = after

    return on_start


def engines(pool):
    return [service.ready().result() for service in pool._pool.services]
