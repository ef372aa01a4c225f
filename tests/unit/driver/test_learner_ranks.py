"""Lost learner ranks come back with the weights that they had, whenever it was that they were lost."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.service import ServiceDied
from agrl.config.compose import load_config
from agrl.driver.services import learner_ranks
from agrl.driver.services.learner_ranks import LearnerRanks
from agrl.driver.services.learner_snapshots import Sharding
from agrl.errors import ActorError, DivergenceError, LearnerError, LearnerLost
from agrl.network import Host
from tests.unit.actors.fakes import FragileRuntime

RANKS = 2
HOSTS = [Host("a", "10.0.0.1"), Host("b", "10.0.0.2")]


class Fate:
    """``deaths``: numbers of the calls, to any rank, in which that rank dies."""

    def __init__(self, deaths=()):
        self.deaths, self.calls, self.meant = set(deaths), 0, None


class NotingRank:
    """Its weights are the batches that it was trained on."""

    fate: Fate

    def __init__(self, settings, rank, world):
        self.rank, self.weights, self.dead, self.held = rank, None, False, {}

    def __getattribute__(self, name):
        if not name.startswith("_") and callable(getattr(type(self), name, None)):
            fate = type(self).fate
            fate.calls += 1
            self.dead = self.dead or fate.calls in fate.deaths
            if self.dead:
                raise ServiceDied(f"learner-{self.rank} died")
        return super().__getattribute__(name)

    def host(self):
        return HOSTS[self.rank]

    def rendezvous(self):
        return "here:1"

    def setup(self, address, one_host):
        self.weights = ["start"]
        return "shared", ""

    def packing(self):
        return "shared", ""

    def train(self, batch, plan):
        if batch == "spoilt":
            raise DivergenceError("the loss is not finite")
        self.weights.append(batch)
        return len(self.weights)

    def snapshot(self):
        return {f"{self.rank}": np.frombuffer(json.dumps(self.weights).encode(), np.uint8)}

    def snapshot_seconds(self):
        return 0.1

    def hold(self, rank, files):
        self.held[rank] = files

    def restore(self, *parts):
        assert [set(part) for part in parts] == [{"0"}, {"1"}][: self.rank + 1]
        self.weights = json.loads(parts[-1][f"{self.rank}"].tobytes())

    def save(self, disk):
        disk[self.rank] = list(self.weights)

    def load(self, folder):
        self.weights = ["a checkpoint"]

    def load_resharded(self, folder, place):
        if "broken" in folder:
            raise RuntimeError("no such file")
        self.weights = [Path(folder).name, Path(place).name, [path.name for path in Path(place).iterdir()]]

    def read(self):
        return list(self.weights)


@pytest.fixture(autouse=True, scope="module")
def noting():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner_ranks, "LearnerRank", NotingRank)
        yield


@cache
def configured(restarts):
    return load_config(["experiment=agrl_tiny", f"learner.ranks={RANKS}", f"learner.restarts={restarts}"])


def started(*deaths, restarts=99, mode="local") -> LearnerRanks:
    """A group that is set up; ``deaths``: numbers of the calls after that, to any rank, in which that rank dies."""
    NotingRank.fate = Fate()
    runtime = FragileRuntime()
    runtime.mode = mode
    group = LearnerRanks(runtime, configured(restarts), Path("logs"))
    group.setup()
    NotingRank.fate = Fate(deaths)
    return group


def done(group, work):
    """The weights of every rank, and the version, after ``work``: train, keep, look whether all are alive, load."""
    for number, what in enumerate(work):
        if what == "t":
            assert len(set(group._train("train", f"batch {number}", "plan"))) == 1
        elif what == "k":
            group.keep()
        elif what == "a":
            group.check_alive()
        else:
            group._snapshots = group.healing(lambda: group._loaded_from(Path("checkpoint"), group.sharding))
    return group.healing(lambda: group.on_all_ranks("read")), group.version


@settings(max_examples=200)
@given(st.text("tttkal", min_size=3, max_size=12), st.sets(st.integers(1, 60), min_size=1, max_size=6))
def test_whatever_is_lost_and_whenever_the_weights_are_those_of_an_undisturbed_group(work, deaths):
    assert done(started(*deaths), work) == done(started(), work)


def test_a_group_that_does_not_heal_keeps_nothing_and_ends_by_the_name_of_the_rank():
    for group in (started(restarts=0), started(mode="inline")):
        done(group, "tkt")
        assert not group._snapshots.calls and group._snapshots.coming is None
        NotingRank.fate = Fate([2])
        with pytest.raises(LearnerLost, match="learner-1 died"):
            done(group, "t")


def test_ranks_that_die_again_and_again_are_given_up():
    with pytest.raises(LearnerLost, match=r"lost 3 times, more than learner.restarts=2 allows; last: learner-0 died"):
        done(started(*range(1, 99, 2), restarts=2), "t")


def test_what_other_ranks_wrote_is_restored_by_way_of_a_folder_that_is_empty_before_and_gone_afterwards(tmp_path):
    group, other = started(), Sharding(ranks=3, zero_stage=2)
    for name in ("step-000004", "step-000004.partial", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000004.partial" / "left").touch()  # by a process that ended in the middle of it
    group._loaded_from(tmp_path / "step-000004", other)
    assert group.on_all_ranks("read") == [["step-000004", "step-000004.partial", []]] * RANKS
    with pytest.raises(LearnerError, match=r"broken, written by 3 ranks, ZeRO 2, .* on 2 ranks, ZeRO 0") as failed:
        group._loaded_from(tmp_path / "broken", other)
    assert "learner.ranks=3 learner.zero_stage=2" in failed.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {"step-000004", "broken"}


def test_an_error_of_the_training_or_of_another_actor_is_not_healed():
    group = started()
    with pytest.raises(ActorError, match="rollout-3"):
        group.heal(ActorError("rollout-3 was to work on a result that is gone"))
    with pytest.raises(DivergenceError):
        group._train("train", "spoilt", "plan")
    assert group.lost == 0


def test_a_snapshot_lets_go_of_the_batches_before_it_and_ranks_on_other_hosts_keep_a_copy():
    group = started()
    done(group, "ttktt")
    assert len(group._snapshots.calls) == 2
    done(group, "kt")
    assert len(group._snapshots.calls) == 1
    services = [rank._built.result() for rank in group.ranks]
    assert [list(vars(rank)["held"]) for rank in services] == [[1], [0]]


def test_a_training_without_rollouts_takes_a_snapshot_when_it_has_trained_many_times_as_long(monkeypatch):
    group, clock = started(), iter(range(10**6))
    monkeypatch.setattr(learner_ranks.time, "perf_counter", lambda: 0.9 * next(clock))  # each call takes 0.9 s
    kept = []
    for batch in range(8):
        group._train("train", f"batch {batch}", "plan")
        group._keep_at_times()
        kept.append(group._snapshots.current)
    assert kept == [True, False, False, True, False, False, True, False]  # a snapshot takes 0.1 s


@pytest.mark.parametrize("there", [(True, True), (True, False)])
def test_ranks_are_taken_over_together_or_not_at_all(there):
    """The others of a lost rank are connected to one that is not there."""
    NotingRank.fate, set_up = Fate(), []

    def left(name, life, service):
        service.taken_over = life == 0 and there[int(name[-1])]
        service.call = lambda method, *args: set_up.append(method) or type(service).call(service, method, *args)

    runtime = FragileRuntime(left)
    LearnerRanks(runtime, configured(99), Path("logs")).setup()
    assert runtime.lives == dict.fromkeys(["learner-0", "learner-1"], 0 if all(there) else 1)
    assert ("setup" in set_up) == (not all(there)), "those that are connected already stay so"
