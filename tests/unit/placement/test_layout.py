"""What would sit where: everyone in one place, no GPU given twice, and what a described cluster cannot hold."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.config.compose import load_config
from agrl.errors import ClusterError, ConfigError
from agrl.placement.layout import lay_out
from agrl.placement.machines import bytes_of, described, rate_of, wanted_gpus
from agrl.placement.table import names

BASE = load_config(["experiment=agrl_tiny", "model.path=m", "learner.ranks=1", "rollout.actors=1"])


def configured(*words):
    return load_config(["experiment=agrl_tiny", "model.path=m", "learner.ranks=1", "rollout.actors=1", *words])


def where(layout, service):
    return [(place.host, place.gpus) for place in layout.of(service)]


def changed(ranks, engines, per_engine, colocated):
    config = configured()
    config.learner.ranks, config.learner.gpus_per_rank = ranks, 1
    config.rollout.actors, config.rollout.gpus_per_actor = (ranks, 1) if colocated else (engines, per_engine)
    config.ray.placement = type(config.ray.placement)("colocated" if colocated else "separate")
    return config


@settings(deadline=None)
@given(
    ranks=st.integers(1, 20),
    engines=st.integers(1, 10),
    per_engine=st.sampled_from([1, 2, 4]),
    gpus=st.sampled_from([4, 8]),
    hosts=st.integers(1, 8),
    colocated=st.booleans(),
)
def test_every_actor_sits_in_one_place_and_no_gpu_is_given_twice(ranks, engines, per_engine, gpus, hosts, colocated):
    config = changed(ranks, engines, per_engine, colocated)
    try:
        layout = lay_out(config, described(config, hosts, gpus))
    except ClusterError:  # only where GPUs are short, or the ends of hosts too small for an engine in one piece
        assert wanted_gpus(config) + hosts * (per_engine - 1) > hosts * gpus
        return
    assert Counter(place.actor for place in layout.places) == Counter(
        [f"learner-{i}" for i in range(ranks)]
        + [f"rollout-{i}" for i in range(config.rollout.actors)]
        + [f"reward-{i}" for i in range(config.reward.actors)]
        + ["replay"]
    )
    held = Counter((place.host, gpu) for place in layout.places for gpu in place.gpus)
    assert all(host < hosts and gpu < gpus for host, gpu in held)
    assert set(held.values()) == {2 if colocated else 1}
    assert all(len(place.gpus) == config.rollout.gpus_per_actor for place in layout.of("rollout"))
    if colocated:
        assert where(layout, "learner") == where(layout, "rollout")


def test_ranks_fill_one_host_after_another_and_engines_go_where_there_are_fewest():
    config = changed(6, 3, 2, colocated=False)
    layout = lay_out(config, described(config, hosts=3, gpus=4))
    assert [host for host, _ in where(layout, "learner")] == [0, 0, 0, 0, 1, 1]
    assert where(layout, "rollout") == [(1, (2, 3)), (2, (0, 1)), (2, (2, 3))]


def test_parts_of_a_gpu_are_shared_by_as_many_ranks():
    config = configured("learner.ranks=4", "learner.gpus_per_rank=0.5")
    layout = lay_out(config, described(config))
    assert [gpus for _, gpus in where(layout, "learner")] == [(0,), (0,), (1,), (1,)]


def test_without_room_what_is_missing_is_said_and_which_option_describes_more():
    config = changed(8, 4, 2, colocated=False)
    with pytest.raises(ClusterError, match="missing: 8 GPUs") as caught:
        lay_out(config, described(config, hosts=1, gpus=8))
    assert (
        "8 learner ranks, one with the replay actor: 1 GPU each (learner.ranks" in str(caught.value)
        and "--hosts" in caught.value.hint
    )
    with pytest.raises(ClusterError, match=r"host-1 \(described\): 3 CPUs and 8 GPUs free"):
        lay_out(config, described(config, hosts=2, gpus=8, cpus=3))


def test_a_cluster_of_which_nothing_is_said_is_as_large_as_the_run_wants():
    assert len(described(changed(20, 4, 2, colocated=False)).hosts) == 4  # 28 GPUs, eight a host
    one = described(changed(3, 3, 1, colocated=True), gpu_bytes=5).hosts
    assert [machine.gpus for machine in one] == [(5, 5, 5)]
    assert [machine.gpus for machine in described(BASE).hosts] == [()]


def test_sizes_and_rates_are_read_and_what_is_none_is_refused():
    assert bytes_of("80GiB") == 80 * 2**30 and bytes_of("141GB") == 141e9 and bytes_of("7") == 7
    assert rate_of("400Gbit") == 50e9 and rate_of("12.5GB/s") == 12.5e9 and rate_of("10Gbps") == 10e9
    for wrong in ("", "GiB", "many", "-3GB", "0GB", "1.2.3GB"):
        with pytest.raises(ConfigError, match="neither a size nor a rate"):
            bytes_of(wrong)
    with pytest.raises(ConfigError, match="no size of a memory"):
        bytes_of("80Gbit")


def test_actors_are_named_in_short():
    assert names(["learner-0", "learner-1", "learner-2", "rollout-4", "replay"]) == "learner-0..2, rollout-4, replay"
    assert names(["reward-0", "reward-2", "reward-3"]) == "reward-0, reward-2..3" and names([]) == ""


def test_cpus_that_are_not_counted_never_run_out():
    config = configured("reward.actors=500")
    assert math.isinf(described(config).hosts[0].cpus)
    assert len(lay_out(config, described(config)).of("reward")) == 500
