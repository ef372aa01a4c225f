"""The order in which engines give up their GPUs and take them back."""

import pytest

from actors.rollout_pool import RolloutPool
from actors.weight_sync import WeightSync
from tests.given_weights import GivenWeights, small
from tests.unit.actors.fakes import FragileRuntime
from tests.unit.actors.rollout_pools import SAMPLING, make_pool, requests


def engines(pool: RolloutPool) -> list:
    return [service.ready().result() for service in pool._pool.services]


def generate(pool: RolloutPool) -> list[str]:
    return [generation.samples[0].text for generation, _ in pool.generate(requests(2), SAMPLING)]


def test_a_broadcast_finds_room_for_weights_and_the_kv_cache_comes_back_after_it():
    runtime = FragileRuntime()
    pool = make_pool(runtime)
    weights = GivenWeights(runtime, small(a=1.0))
    pool.sleep()
    pool.broadcast(0, weights)
    pool.sleep()
    pool.sleep()  # a second turn of the learner before they have woken
    pool.broadcast(1, weights)
    assert generate(pool) == ["0 v1", "1 v1"]
    expected = [
        "sleep, weights kept",
        "wake weights",
        "load",
        "wake kv_cache",
    ]  # nobody would bring what it was built with
    expected += ["sleep", "wake weights", "load", "wake kv_cache", "generate"]
    assert [engine.done for engine in engines(pool)] == [expected] * 2


def test_requests_after_a_turn_without_a_broadcast_find_the_last_weights():
    runtime = FragileRuntime()
    pool = make_pool(runtime)
    pool.broadcast(3, GivenWeights(runtime, small(a=1.0)))
    pool.sleep()
    assert all(engine.weights == {} for engine in engines(pool))
    assert generate(pool) == ["0 v3", "1 v3"]
    assert all(list(engine.weights) == ["a"] for engine in engines(pool))


def test_before_any_broadcast_they_wake_with_what_they_were_built_with():
    pool = make_pool(FragileRuntime())
    pool.sleep()
    assert generate(pool) == ["0 v0", "1 v0"]
    assert engines(pool)[0].done == ["sleep, weights kept", "wake weights", "wake kv_cache", "generate"]


def test_where_low_rank_updates_travel_alone_the_model_stays_in_main_memory(monkeypatch):
    monkeypatch.setattr(WeightSync, "_served_beside", lambda *_: True)
    runtime = FragileRuntime()
    pool = make_pool(runtime)
    pool.broadcast(1, GivenWeights(runtime, small(a=1.0), served_beside=True))
    pool.sleep()
    generate(pool)
    assert engines(pool)[0].done == ["load", "sleep, weights kept", "wake weights", "wake kv_cache", "generate"]


@pytest.mark.parametrize("actor", ["rollout-0", "rollout-1"])
def test_one_that_dies_is_replaced_and_its_successor_sleeps_too(actor):
    def on_start(name, life, service):
        service.ready().result().dies_asleep = name == actor and life == 0

    runtime = FragileRuntime(on_start)
    pool = make_pool(runtime)
    pool.broadcast(1, GivenWeights(runtime, small(a=1.0)))
    pool.sleep()
    assert all(engine.asleep for engine in engines(pool))
    assert runtime.lives[actor] == 1
    pool.broadcast(2, GivenWeights(runtime, small(a=2.0)))
    assert generate(pool) == ["0 v2", "1 v2"]
