"""What snapshots of the learner take of every host's object store, and what is said of it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.config.compose import load_config
from agrl.models.memory import checkpoint_bytes
from agrl.placement.foresight import as_json, foresee
from agrl.placement.machines import described
from agrl.placement.snapshots import holder, snapshot_lines

P, GIB = 8_190_735_360, 2**30  # weights of Qwen3 8B


def planned(*words):
    config = load_config(["size=qwen3_8b", *words])
    return foresee(config, described(config), check=False)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_a_copy_is_on_another_host_and_with_the_next_rank_there(hosts):
    for rank, host in enumerate(hosts):
        keeper = holder(rank, hosts)
        if keeper is None:
            assert len(set(hosts)) == 1
            continue
        between = range(rank + 1, keeper) if keeper > rank else (*range(rank + 1, len(hosts)), *range(keeper))
        assert hosts[keeper] != host and all(hosts[other] == host for other in between)


def test_on_one_host_two_of_every_ranks_are_there_while_one_is_taken():
    found = planned("cluster=gpus_8")
    assert found.snapshots == {0: 2 * (2 + 12) * P}
    assert as_json(found)["hosts"][0]["snapshot_bytes"] == 2 * 14 * P
    (line,) = snapshot_lines(found.snapshots, found.layout)
    assert "213.6 GiB of Ray's object store on a host" in line and "learner.restarts=0" in line and "copies" not in line


def test_hosts_keep_copies_for_each_other():
    found = planned("cluster=gpus_64")
    each = 2 * 12 * P // 8  # the ranks of one of eight hosts, and as much of the host before
    assert found.snapshots == {i: pytest.approx(2 * each + 4 * P * (i < 2), abs=256) for i in range(8)}
    assert "with copies" in snapshot_lines(found.snapshots, found.layout)[0]


def test_without_restarts_and_in_one_process_there_are_none():
    for words in (["cluster=gpus_8", "learner.restarts=0"], ["ray=inline"]):
        found = planned(*words)
        assert found.snapshots == {} and snapshot_lines(found.snapshots, found.layout) == []
    config = load_config(["size=qwen3_8b", "cluster=gpus_8"])
    found = foresee(config, described(config), ["rollout"], check=False)
    assert found.snapshots == {}


def test_a_live_host_whose_object_store_is_too_small_is_named():
    found = planned("cluster=gpus_64")
    machines = found.layout.machines

    def lines(*stores):
        hosts = tuple(replace(host, object_store=store) for host, store in zip(machines.hosts, stores, strict=True))
        return snapshot_lines(found.snapshots, replace(found.layout, machines=replace(machines, hosts=hosts)))

    assert len(lines(*[200 * GIB] * 8)) == len(lines(*[0] * 8)) == 1, "0: nobody knows"
    _, warning = lines(*[200 * GIB] * 3, GIB, *[200 * GIB] * 4)
    assert warning.startswith("Warning: the object store of host-3") and "has 1.0 GiB" in warning


@given(st.integers(1, 64), st.integers(1, 3))
def test_more_ranks_write_as_much_together(ranks, stage):
    found = planned("cluster=gpus_8", f"learner.zero_stage={stage}")
    sizes = checkpoint_bytes(found.architecture, found.config, ranks)
    assert sum(sizes) == pytest.approx((12 if stage == 3 else 14) * P, abs=ranks)
    assert all(a >= b for a, b in pairwise(sizes))
