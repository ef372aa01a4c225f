"""What the rollout pool does when engines die or break."""

import pytest

from actors.generation import EngineSettings, SamplingSettings
from actors.runtime import Runtime
from agrl.errors import ActorError, DataError
from tests.given_weights import GivenWeights, small
from tests.unit.actors.fakes import EchoEngine, FragileRuntime
from tests.unit.actors.rollout_pools import SAMPLING, dying, engines, make_pool, requests


def test_requests_are_spread_in_a_fixed_way_and_all_come_back():
    pool = make_pool(FragileRuntime())
    results = {generation.request_id: (generation, actor) for generation, actor in pool.generate(requests(5), SAMPLING)}
    assert {key: actor for key, (_, actor) in results.items()} == {"0": 0, "1": 1, "2": 0, "3": 1, "4": 0}
    assert all(len(generation.samples) == 2 for generation, _ in results.values())
    assert list(pool.generate([], SAMPLING)) == []


def test_the_traffic_of_training_is_measured_from_call_to_call():
    pool = make_pool(FragileRuntime())
    list(pool.generate(requests(5), SAMPLING))
    assert pool.metrics() == {
        "actors/rollout_restarts": 0.0,
        "actors/rollout_absent": 0.0,
        "rollout/engine_seconds": 1.5,  # of actor 0, which has three of the five
        "rollout/tokens_per_s": 20 / 1.5,
        "rollout/prefix_cache_hits": 0.5,
        "rollout/idle_share": 0.0,  # they say that they worked for longer than it took
        "rollout/least_share": 0.8,  # of actor 1: 8 of 20 tokens, of two actors
        "rollout/copied_share": 0.0,
    }
    list(pool.generate(requests(5), SamplingSettings(temperature=0.0, logprobs=False)))  # an evaluation
    assert pool.metrics() == {"actors/rollout_restarts": 0.0, "actors/rollout_absent": 0.0}


@pytest.mark.parametrize("dealing", ["fixed", "free"])
def test_a_dead_actor_is_replaced_with_current_weights_and_only_its_unfinished_requests_are_sent_again(dealing):
    runtime = FragileRuntime(dying(lives=1, after=1))
    pool = make_pool(runtime, dealing=dealing)
    weights = GivenWeights(runtime, small(a=1.0, b=2.0), bucket_bytes=48)
    pool.broadcast(3, weights)
    texts = [generation.samples[0].text for generation, _ in pool.generate(requests(6), SAMPLING)]
    assert sorted(texts) == [f"{i} v3" for i in range(6)]
    assert pool.metrics()["actors/rollout_restarts"] == 1.0
    assert pool.gauges() == {"rollout-0": {"restarts": 0.0}, "rollout-1": {"restarts": 1.0}}
    other, healed = engines(pool)
    if dealing == "fixed":  # whoever is there again does what its predecessor left
        assert (other.served, healed.served) == (["0", "2", "4"], ["3", "5"])
    else:  # the other one has taken some of it meanwhile
        assert sorted(other.served + healed.served) == ["0", "2", "3", "4", "5"]
    assert {name: float(tensor[0]) for name, tensor in healed.weights.items()} == {"a": 1.0, "b": 2.0}
    assert healed.done[0] == "load"  # before it serves
    assert weights.passes == 2  # the learner is asked again: nobody keeps a copy of the model


def test_an_actor_that_dies_too_often_ends_the_run_by_name():
    pool = make_pool(FragileRuntime(dying(lives=99, after=0)), restarts=2, dealing="fixed")
    with pytest.raises(ActorError, match=r"rollout-1 was lost 3 times.*killed by the test"):
        list(pool.generate(requests(4), SAMPLING))


class BrokenOnce(EchoEngine):
    broken = True

    def advance(self, batch, requests, *more):
        if BrokenOnce.broken:
            BrokenOnce.broken = False
            raise RuntimeError("engine core failed")
        return super().advance(batch, requests, *more)


def test_an_engine_that_raises_is_replaced_too(monkeypatch):
    monkeypatch.setattr(BrokenOnce, "broken", True)
    pool = make_pool(FragileRuntime(), engine=BrokenOnce)
    assert len(list(pool.generate(requests(4), SAMPLING))) == 4
    assert pool.metrics()["actors/rollout_restarts"] == 1.0


def test_inline_an_engine_that_raises_shows_its_own_error(monkeypatch):
    monkeypatch.setattr(BrokenOnce, "broken", True)
    with pytest.raises(RuntimeError, match="engine core failed"):
        list(make_pool(Runtime("inline"), engine=BrokenOnce).generate(requests(1), SAMPLING))


class Choosy(EchoEngine):
    def advance(self, *_):
        raise DataError("prompt too long")


def test_an_error_of_the_request_is_not_healed():
    with pytest.raises(DataError, match="too long"):
        list(make_pool(FragileRuntime(), engine=Choosy).generate(requests(2), SAMPLING))


def test_a_closed_pool_ends_the_call_under_way_and_replaces_nobody():
    runtime = FragileRuntime()
    pool = make_pool(runtime)
    answers = pool.generate(requests(6), SAMPLING)
    next(answers)
    pool.close()
    with pytest.raises(ActorError, match=r"rollout-\d was stopped"):
        list(answers)
    assert set(runtime.lives.values()) == {0}


def test_engines_of_one_machine_share_its_cpus_unless_the_configuration_says_how_many_threads():
    pool = make_pool(FragileRuntime(), actors=3)
    assert pool._pool._cpu_share == 3
    assert "OMP_NUM_THREADS" not in EngineSettings().environment()
    assert EngineSettings(threads=2).environment()["OMP_NUM_THREADS"] == "2"
