"""Who needs a place together, and what is said where there is no room."""

from hypothesis import given
from hypothesis import strategies as st

from actors.placement import Bundle, Group, Room, Seat, amount, never_fits, what_is_missing
from agrl.config.compose import load_config
from agrl.network import Host
from agrl.placement.places import host_lines, placement_groups


def groups(*words, **more):
    return placement_groups(load_config(["experiment=agrl_tiny", "model.path=m", *words]), **more)


def actors_of(group):
    return [[seat.actor for seat in bundle.seats] for bundle in group.bundles]


def host(i):
    return Host(f"h{i}", f"10.0.0.{i}")


def test_ranks_are_packed_engines_are_spread_and_one_engines_gpus_are_one_bundle():
    words = ("learner.ranks=4", "learner.gpus_per_rank=1", "rollout.actors=2", "reward.actors=3")
    learner, rollout, reward = groups(*words, "rollout.tensor_parallel=8", "rollout.gpus_per_actor=8")
    assert actors_of(learner) == [["learner-0", "replay"], ["learner-1"], ["learner-2"], ["learner-3"]]
    assert [(b.cpus, b.gpus) for b in learner.bundles] == [(2, 1), (1, 1), (1, 1), (1, 1)] and not learner.spread
    assert [(b.cpus, b.gpus) for b in rollout.bundles] == [(8, 8), (8, 8)] and rollout.spread
    assert [b.cpus for b in reward.bundles] == [1, 1, 1] and reward.spread


def test_threads_that_were_asked_for_are_cpus_that_are_set_aside():
    learner, rollout, *_ = groups("learner.threads=2", "rollout.threads=3", "rollout.tensor_parallel=2")
    assert learner.bundles[0].cpus == 2 + 1 and rollout.bundles[0].cpus == 6


def test_colocated_rank_and_engine_share_a_bundle_of_one_gpu():
    shared = ("ray.placement=colocated", "learner.gpus_per_rank=1", "rollout.gpus_per_actor=1")
    pairs, *others = groups("learner.ranks=2", "rollout.actors=2", *shared)
    assert actors_of(pairs) == [["learner-0", "rollout-0", "replay"], ["learner-1", "rollout-1"]]
    assert all(b.gpus == 1 for b in pairs.bundles) and all(b.gpus == 0 for group in others for b in group.bundles)
    alone, *_ = groups("learner.ranks=2", "rollout.actors=2", *shared, services=["learner"])
    assert actors_of(alone) == [["learner-0"], ["learner-1"]]
    assert all(b.gpus == 1 for b in alone.bundles), "two ranks that meet no engine shared one GPU"


def test_only_gpus_are_set_aside_where_cpus_are_not_counted():
    learner = groups("learner.gpus_per_rank=1", "rollout.actors=1")[0].without_cpus()
    assert all((b.cpus, b.gpus) == (0, 1) for b in learner.bundles)
    assert not groups("rollout.actors=2")[1].without_cpus().bundles


def test_what_is_missing_names_every_host_what_others_hold_and_the_keys():
    rooms = [Room(host(1), 8, 2, 3, 0), Room(host(2), 4, 0, 4, 0)]
    asked = [Group("learner ranks", "learner.ranks", (Bundle((Seat("learner-0", 2, 1),)),) * 2)]
    assert not never_fits(asked, rooms)
    lines = what_is_missing(asked, rooms)
    assert "  2 learner ranks: 2 CPUs and 1 GPU each (learner.ranks)" in lines
    assert "  h1 (10.0.0.1): 3 CPUs free of 8 CPUs and 2 GPUs" in lines
    assert lines[-1] == "missing: 2 GPUs"
    large = [Group("rollout engines", "rollout.threads", (Bundle((Seat("rollout-0", 5),)),))]
    assert not never_fits(large, rooms)
    assert what_is_missing(large, rooms)[-1] == "missing: hosts with room for 5 CPUs in one piece (rollout-0)"
    assert never_fits([Group("", "", (Bundle((Seat("rollout-0", 9),)),))], rooms)
    assert amount(1, 0) == "1 CPU" and amount(0, 0) == "0 CPUs" and amount(0, 1) == "1 GPU"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_what_some_order_can_place_is_never_refused(sizes, hosts):
    rooms = [Room(host(i), cpus, 0, cpus, 0) for i, cpus in enumerate(hosts)]
    left = list(hosts)
    for size in sorted(sizes, reverse=True):
        at = max(range(len(left)), key=left.__getitem__)
        if left[at] < size:
            return  # this order cannot; another might
        left[at] -= size
    bundles = tuple(Bundle((Seat(str(i), size),)) for i, size in enumerate(sizes))
    assert not never_fits([Group("actors", "keys", bundles)], rooms)


def test_a_line_for_each_host_in_order_of_their_addresses():
    hosts = {"learner-0": host(10), "rollout-0": host(9), "rollout-1": host(10)}
    assert host_lines(hosts) == ["Hosts   h9 (10.0.0.9): rollout-0", "        h10 (10.0.0.10): learner-0, rollout-1"]
