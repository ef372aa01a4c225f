"""What the rollout pool does when engines or the learner die in a broadcast, or have the wrong weights."""

import pytest

from agrl.errors import LearnerError, LearnerLost, WeightSyncError
from agrl.transport.collective import Meeting
from agrl.transport.parcel import TransferFailed
from tests.given_weights import GivenWeights, corrupt, small
from tests.unit.actors.fakes import EchoEngine, FragileRuntime
from tests.unit.actors.rollout_pools import SAMPLING, engines, make_pool, requests


def test_an_actor_that_did_not_take_the_weights_is_named():
    def on_start(name, life, service):
        service.ready().result().forgets_weights = name == "rollout-1"

    runtime = FragileRuntime(on_start)
    with pytest.raises(WeightSyncError, match="rollout-1 has weights of version -1, the learner gave version 5"):
        make_pool(runtime).broadcast(5, GivenWeights(runtime, small(a=1.0)))


def test_samples_of_an_old_version_are_refused():
    runtime = FragileRuntime()
    pool = make_pool(runtime, actors=1)
    pool.broadcast(1, GivenWeights(runtime, small(a=1.0)))
    pool._pool.services[0].ready().result().version = 0
    with pytest.raises(WeightSyncError, match="version 0"):
        list(pool.generate(requests(1), SAMPLING))


def test_an_actor_that_is_dead_before_a_broadcast_is_replaced_and_gets_the_weights():
    runtime = FragileRuntime()
    pool = make_pool(runtime)
    pool._pool.services[0].kill()
    pool.broadcast(2, GivenWeights(runtime, small(a=1.0)))
    assert {generation.version for generation, _ in pool.generate(requests(4), SAMPLING)} == {2}
    assert pool.metrics()["actors/rollout_restarts"] == 1.0


@pytest.mark.parametrize("bucket", [0, 1, 2])
def test_an_actor_that_dies_in_a_broadcast_does_not_disturb_the_others(bucket):
    def on_start(name, life, service):
        if name == "rollout-1" and life == 0:
            service.ready().result().dies_at_bucket = bucket

    runtime = FragileRuntime(on_start)
    pool, weights = make_pool(runtime, actors=3), GivenWeights(runtime, small(a=1.0, b=2.0, c=3.0), bucket_bytes=48)
    pool.broadcast(4, weights)
    for service in pool._pool.services:
        assert service.ready().result().version == 4 and len(service.ready().result().weights) == 3
    assert weights.passes == 2 and runtime.lives == {"rollout-0": 0, "rollout-1": 1, "rollout-2": 0}


def test_a_damaged_weight_is_named_with_actor_and_host():
    runtime = FragileRuntime()
    weights = GivenWeights(runtime, small(a=1.0, b=2.0), spoil=corrupt("b"))
    with pytest.raises(WeightSyncError, match=r"rollout-0: weight b arrived damaged on host \S+ \(127.0.0.1\)"):
        make_pool(runtime).broadcast(1, weights)


class Group(GivenWeights):
    """A learner whose group breaks in the first bucket. Its members read what it has, as if it came along the group."""

    broken = True

    def address(self):
        return "host:1"

    def open(self, transport, meeting):
        self.met, Member.learner = meeting, self

    def send(self, transport, adapters):
        return len(list(self.announced()))

    def announced(self):
        for number, (parcel,) in enumerate(self.parcels("object_store", adapters=False)):
            if self.broken and number:
                raise TransferFailed("the broadcast of bucket 0 failed")
            yield parcel.result()


class Member(EchoEngine):
    learner: Group

    def receive_weights(self, transport):
        for parcel in self.learner.announced():
            self.take_weights("object_store", parcel)


def test_a_group_that_breaks_with_a_dead_engine_is_healed_one_by_one_and_met_anew():
    def on_start(name, life, service):
        if name == "rollout-1" and life == 0:
            service.ready().result().dies_at_bucket = 0

    runtime = FragileRuntime(on_start)
    pool = make_pool(runtime, Member, actors=3, transport="collective")
    weights = Group(runtime, small(a=1.0, b=2.0), bucket_bytes=48)
    pool.broadcast(1, weights)
    assert weights.met == Meeting("host:1", 0, 4, 900.0)
    assert [engine.version for engine in engines(pool)] == [1, 1, 1] and runtime.lives["rollout-1"] == 1
    assert [len(engine.meetings) for engine in engines(pool)] == [1, 0, 1]  # the new one has met nobody
    weights.broken = False
    for version in (2, 3):
        pool.broadcast(version, weights)
        assert [engine.version for engine in engines(pool)] == [version] * 3
    assert [engine.meetings[-1].rank for engine in engines(pool)] == [1, 2, 3]
    assert [len(engine.meetings) for engine in engines(pool)] == [2, 1, 2]  # once for both


@pytest.mark.parametrize("met_before", [False, True])
def test_a_group_that_cannot_meet_because_an_engine_is_dead_is_healed_one_by_one(met_before):
    runtime = FragileRuntime()
    pool = make_pool(runtime, Member, actors=3, transport="collective")
    weights = Group(runtime, small(a=1.0, b=2.0), bucket_bytes=48)
    weights.broken = False
    if met_before:
        pool.broadcast(1, weights)
        weights.sender = "the learner, started anew"
    pool._pool.services[1].kill()
    for version in (2, 3):
        pool.broadcast(version, weights)
        assert [engine.version for engine in engines(pool)] == [version] * 3
    assert runtime.lives == {"rollout-0": 0, "rollout-1": 1, "rollout-2": 0}
    assert [engine.meetings[-1].rank for engine in engines(pool)] == [1, 2, 3], "with the third broadcast they meet"


def test_where_low_rank_updates_travel_alone_an_engine_that_is_dead_is_replaced():
    def on_start(name, life, service):
        service.ready().result().takes_adapters = True

    runtime = FragileRuntime(on_start)
    pool = make_pool(runtime)
    pool._pool.services[1].kill()
    weights = GivenWeights(runtime, small(a=1.0), served_beside=True, model_path="model")
    pool.broadcast(1, weights)
    assert [engine.version for engine in engines(pool)] == [1, 1] and runtime.lives["rollout-1"] == 1


def test_a_broadcast_along_a_group_is_a_call_to_each_engine_and_one_that_ends_it():
    called = []

    def on_start(name, life, service):
        call = service.call
        service.call = lambda method, *args: called.append((name, method)) or call(method, *args)

    runtime = FragileRuntime(on_start)
    pool = make_pool(runtime, Member, transport="collective")
    weights = Group(runtime, small(a=1.0, b=2.0, c=3.0), bucket_bytes=48)
    weights.broken = False
    pool.broadcast(1, weights)
    called.clear()
    pool.broadcast(2, weights)
    engines = ("rollout-0", "rollout-1")
    assert called == [(name, method) for method in ("receive_weights", "finish_weights") for name in engines]


def test_a_weight_that_is_damaged_along_a_group_is_named_though_the_group_breaks_for_the_others():
    def damaged(transport):
        raise WeightSyncError("weight b arrived damaged on host h")

    def on_start(name, life, service):
        if name == "rollout-1":
            service.ready().result().receive_weights = damaged

    runtime = FragileRuntime(on_start)
    pool = make_pool(runtime, Member, transport="collective")
    with pytest.raises(WeightSyncError, match="rollout-1: weight b arrived damaged on host h"):
        pool.broadcast(1, Group(runtime, small(a=1.0, b=2.0), bucket_bytes=48))


def test_a_group_that_breaks_though_everybody_lives_ends_the_run_by_name():
    runtime = FragileRuntime()
    pool = make_pool(runtime, Member, transport="collective")
    with pytest.raises(WeightSyncError, match="the broadcast of bucket 0 failed"):
        pool.broadcast(1, Group(runtime, small(a=1.0, b=2.0), bucket_bytes=48))


@pytest.mark.parametrize(
    ("takes", "path", "alone"), [(True, "model", True), (False, "model", False), (True, "x", False)]
)
def test_adapters_travel_alone_where_engines_take_them_and_have_the_model_under_them(takes, path, alone):
    runtime, asked = FragileRuntime(lambda name, life, service: None), []

    class Adapters(GivenWeights):
        def parcels(self, transport, adapters):
            asked.append(adapters)
            yield from super().parcels(transport, adapters)

    pool = make_pool(runtime)
    for engine in engines(pool):
        engine.takes_adapters = takes
    pool.broadcast(1, Adapters(runtime, small(a=1.0), model_path=path, served_beside=True))
    pool.broadcast(2, Adapters(runtime, small(a=1.0), model_path="model", served_beside=True))
    assert asked == [alone, alone]  # an engine that has had merged weights no longer has the model


def test_no_engine_is_started_anew_for_a_learner_that_has_died():
    class Dead(GivenWeights):
        def check_alive(self):
            raise LearnerError("learner-0 died with its host")

    runtime = FragileRuntime()
    pool = make_pool(runtime)
    pool.broadcast(1, Dead(runtime, small(a=1.0)))
    engines(pool)[1].dies_after = 1
    with pytest.raises(LearnerError, match="learner-0 died"):
        list(pool.generate(requests(6), SAMPLING))
    assert runtime.lives["rollout-1"] == 0


class Mortal(GivenWeights):
    """A learner that dies at its second bucket, in as many transfers as it has ``lives``."""

    lives = 2

    def parcels(self, transport, adapters):
        for number, parcel in enumerate(super().parcels(transport, adapters)):
            if number == 1 and self.lives:
                raise LearnerLost("learner-0 died")
            yield parcel

    def heal(self, error):
        if not isinstance(error, LearnerLost):
            raise error
        self.lives -= 1


@pytest.mark.parametrize("trains_meanwhile", [False, True])
@pytest.mark.parametrize("dies_at", [None, 0, 2])
def test_a_broadcast_whose_learner_is_lost_begins_again_also_where_an_engine_dies_in_it(trains_meanwhile, dies_at):
    runtime = FragileRuntime()
    pool = make_pool(runtime)
    engines(pool)[1].dies_at_bucket = dies_at
    weights = small(a=1.0, b=2.0, c=3.0)
    pool.broadcast(1, Mortal(runtime, weights, bucket_bytes=48, trains_meanwhile=trains_meanwhile))
    for engine in engines(pool):
        assert engine.version == 1
        assert {name: float(weight[0]) for name, weight in engine.weights.items()} == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert runtime.lives["rollout-1"] == (dies_at is not None)


@pytest.mark.parametrize("dies_in", ["generation", "broadcast"])
def test_a_new_engine_gets_the_weights_of_the_last_broadcast_when_the_learner_trains_meanwhile(dies_in):
    runtime, learner = FragileRuntime(), {"a": 1.0}
    weights = GivenWeights(runtime, lambda: small(**learner)(), trains_meanwhile=True)
    pool = make_pool(runtime)
    if dies_in == "broadcast":
        engines(pool)[1].dies_at_bucket = 0
    pool.broadcast(1, weights)
    learner["a"] = 2.0
    if dies_in == "generation":
        engines(pool)[1].dies_after = 1
    list(pool.generate(requests(6), SAMPLING))
    assert runtime.lives["rollout-1"] == 1
    assert [float(engine.weights["a"][0]) for engine in engines(pool)] == [1.0, 1.0]
    pool.broadcast(2, weights)
    assert [float(engine.weights["a"][0]) for engine in engines(pool)] == [2.0, 2.0]
