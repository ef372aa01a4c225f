"""What the pools do when no host has room for the replacement of a lost actor."""

import logging

import numpy as np
import pytest

from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.inline_service import InlinePending
from actors.reward_pool import RewardPool
from actors.rollout_pool import RolloutPool
from actors.service import ServiceDied
from agrl.errors import ClusterError, ModelError
from agrl.network import this_host
from agrl.relevance.records import Order, RewardMode
from agrl.relevance.rulebook import load_rulebook
from tests.given_weights import GivenWeights, small
from tests.unit.actors.fakes import EchoEngine, FragileRuntime

SAMPLING = SamplingSettings()


def crowded(*dying: str, after: int = 1) -> FragileRuntime:
    """Engines that die after so many generations, on a cluster without room for new ones."""

    def on_start(name, life, service):
        if life > 0:
            service.ready = lambda: InlinePending(error=TimeoutError())
            service.has_place = lambda: False
        elif name in dying:
            service.ready().result().dies_after = after

    return FragileRuntime(on_start)


def requests(n: int) -> list[GenerationRequest]:
    return [GenerationRequest(str(i), np.array([i, i], np.int32), n=2) for i in range(n)]


def make_pool(runtime: FragileRuntime, actors: int, restarts: int = 3) -> RolloutPool:
    return RolloutPool(runtime, "model", EngineSettings(), actors=actors, restarts=restarts, engine=EchoEngine)


def test_the_others_do_the_work_of_an_engine_without_a_place_and_that_is_said_once(caplog):
    runtime = crowded("rollout-1")
    pool = make_pool(runtime, 3)
    with caplog.at_level(logging.WARNING):
        first = list(pool.generate(requests(9), SAMPLING))
        pool.broadcast(1, GivenWeights(runtime, small(w=2.0)))
        second = list(pool.generate(requests(9), SAMPLING))
    for found in (first, second):
        assert sorted(int(generation.request_id) for generation, _ in found) == list(range(9))
    assert {actor for _, actor in second} == {0, 2} and {g.version for g, _ in second} == {1}
    assert [record.getMessage() for record in caplog.records] == [
        "engine killed by the test; rollout-1 found no place: no host has room for it any more; the run "
        "goes on with 2 of 3"
    ]
    assert pool.metrics()["actors/rollout_absent"] == 1.0


def roomy_again(pool: RolloutPool, index: int) -> None:
    """A host with room for an absent one has appeared."""
    service = pool._pool._waiting[index]
    del service.ready, service.has_place


def test_an_engine_comes_back_with_the_present_weights_when_there_is_room_for_it(caplog):
    runtime = crowded("rollout-1")
    pool = make_pool(runtime, 2)
    list(pool.generate(requests(6), SAMPLING))
    for version in (1, 2):
        pool.broadcast(version, GivenWeights(runtime, small(w=float(version))))
        assert pool.metrics()["actors/rollout_absent"] == 1.0, "there is no room yet"
    roomy_again(pool, 1)
    with caplog.at_level(logging.WARNING):
        pool.broadcast(3, GivenWeights(runtime, small(w=3.0)))
    assert caplog.records[-1].getMessage() == "rollout-1 found a place again; the run goes on with 2 of 2"
    found = list(pool.generate(requests(8), SAMPLING))
    assert {actor for _, actor in found} == {0, 1} and {g.version for g, _ in found} == {3}
    assert pool.metrics()["actors/rollout_absent"] == 0.0


def test_one_that_dies_while_it_waits_for_a_place_is_asked_for_again():
    runtime = crowded("rollout-1")
    pool = make_pool(runtime, 2)
    list(pool.generate(requests(6), SAMPLING))
    pool.broadcast(1, GivenWeights(runtime, small(w=1.0)))
    pool._pool._waiting[1].ready = lambda: InlinePending(error=ServiceDied("killed by the test"))
    for version in (2, 3):
        pool.broadcast(version, GivenWeights(runtime, small(w=1.0)))
    assert 1 in pool._pool._waiting and pool._pool.present == [0]


def fails_there(pool: RolloutPool, index: int, error: Exception) -> None:
    """A host with room for an absent one has appeared, on which its constructor fails."""
    service = pool._pool._waiting[index]
    service.ready = lambda: InlinePending(error=error)
    del service.has_place


def broadcast(pool: RolloutPool, runtime: FragileRuntime, version: int) -> None:
    pool.broadcast(version, GivenWeights(runtime, small(w=float(version))))


@pytest.mark.parametrize("error", [ModelError("no such folder: model"), ImportError("vllm"), ServiceDied("killed")])
def test_one_that_fails_on_the_host_with_room_stays_away_and_is_tried_again(caplog, error):
    runtime = crowded("rollout-1")
    pool = make_pool(runtime, 2)
    list(pool.generate(requests(6), SAMPLING))
    broadcast(pool, runtime, 1)
    fails_there(pool, 1, error)
    with caplog.at_level(logging.WARNING):
        broadcast(pool, runtime, 2)
    assert caplog.records[-1].getMessage() == (
        f"rollout-1 on {this_host()} found a place but did not start: {type(error).__name__}: {error}; it is tried "
        "again; the run goes on with 1 of 2"
    )
    assert pool._pool.present == [0] and pool._pool.deaths == [0, 2] and runtime.states["rollout-1"] == "dead"
    assert {actor for _, actor in pool.generate(requests(4), SAMPLING)} == {0}
    broadcast(pool, runtime, 3)
    roomy_again(pool, 1)
    broadcast(pool, runtime, 4)
    found = list(pool.generate(requests(8), SAMPLING))
    assert {actor for _, actor in found} == {0, 1} and {g.version for g, _ in found} == {4}


def test_one_that_fails_more_often_than_it_may_is_given_up_which_is_said_once(caplog):
    runtime = crowded("rollout-1")
    pool = make_pool(runtime, 2, restarts=2)
    list(pool.generate(requests(6), SAMPLING))
    with caplog.at_level(logging.WARNING):
        for version in range(1, 9):
            broadcast(pool, runtime, version)
            if 1 in pool._pool._waiting:
                fails_there(pool, 1, ModelError("no such folder: model"))
    assert [message.split("; ")[1] for message in caplog.messages if "did not start" in message] == [
        "it is tried again",
        "given up, after 3 deaths: rollout.restarts=2",
    ]
    assert runtime.lives["rollout-1"] == 3, "the engine, its replacement without a place, two that failed"
    assert {actor for _, actor in pool.generate(requests(4), SAMPLING)} == {0}
    assert pool.metrics()["actors/rollout_absent"] == 1.0


def test_fewer_engines_than_wanted_end_the_run_by_name():
    pool = RolloutPool(crowded("rollout-1"), "model", EngineSettings(), actors=3, engine=EchoEngine, min_actors=3)
    with pytest.raises(ClusterError, match=r"2 of the rollout actors are left, fewer than rollout.min_actors=3"):
        list(pool.generate(requests(9), SAMPLING))


def test_an_heir_that_is_lost_too_leaves_the_rest_to_the_last_one():
    pool = make_pool(crowded("rollout-1", "rollout-2", after=2), 3)
    found = [generation.request_id for generation, _ in pool.generate(requests(12), SAMPLING)]
    assert sorted(map(int, found)) == list(range(12))


def test_the_last_engine_without_a_place_ends_the_run_by_name():
    pool = make_pool(crowded("rollout-0"), 1)
    with pytest.raises(ClusterError, match=r"rollout-0 found no place: .* it was the last of the rollout actors"):
        list(pool.generate(requests(4), SAMPLING))


class Scorer:
    def __init__(self, *_):
        self.dies = False

    def score(self, items):
        if self.dies:
            raise ServiceDied("scorer killed by the test")
        return [f"score of {item}" for item in items]


def test_the_work_of_a_scorer_without_a_place_is_done_by_the_others():
    runtime = crowded()
    book = load_rulebook("relevance").source
    pool = RewardPool(runtime, book, Order.think_then_respond, RewardMode.rules, actors=2, worker=Scorer)
    pool.ready()
    pool._pool.services[0].ready().result().dies = True
    tickets = [pool.submit([str(i), str(i)]) for i in range(4)]
    assert [pool.collect(ticket) for ticket in tickets] == [[f"score of {i}"] * 2 for i in range(4)]
    assert pool._pool.present == [1]
