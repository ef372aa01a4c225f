"""How many runs stand side by side where nobody says, and how they share the CPUs."""

import pytest

from agrl.config.compose import load_config
from agrl.driver.experiments.reproduce import share_of_cpus, usual_lanes
from agrl.machine import memory_bytes, usable_cpus


def config(*words):
    return load_config(["experiment=agrl_tiny", "model.path=m", *words])


def offer(monkeypatch, cpus):
    for user in ("agrl.driver.experiments.reproduce", "agrl.config.settle"):
        monkeypatch.setattr(f"{user}.usable_cpus", lambda: cpus)
    monkeypatch.setattr("agrl.config.settle.memory_bytes", lambda: 64 * 2**30)


@pytest.mark.parametrize(
    ("words", "cpus", "lanes"),
    [
        ([], 2, 2),
        ([], 64, 4),
        (["ray=inline"], 8, 1),
        (["ray=cluster"], 8, 1),
        (["rollout.gpus_per_actor=1"], 8, 1),
        (["learner.gpus_per_rank=1"], 8, 1),
    ],
)
def test_a_cpu_each_for_tiny_models_and_one_at_a_time_elsewhere(monkeypatch, words, cpus, lanes):
    offer(monkeypatch, cpus)
    assert usual_lanes(config(*words)) == lanes


def test_lanes_share_the_cpus_unless_the_configuration_says_how_many(monkeypatch):
    offer(monkeypatch, 6)
    each, one = ["learner.threads=1", "rollout.actors=3", "rollout.threads=1"], ["learner.ranks=1", "learner.threads=1"]
    assert share_of_cpus(config(), 2) == ["learner.ranks=3", *each]
    assert share_of_cpus(config(), 9) == [*one, "rollout.actors=1", "rollout.threads=1"]
    one_of_three = ["rollout.actors=1", "rollout.threads=3"]
    assert share_of_cpus(config("rollout.actors=1"), 2) == ["learner.ranks=3", "learner.threads=1", *one_of_three]
    assert share_of_cpus(config(), 2, ["learner.ranks=2"]) == each
    assert share_of_cpus(config(), 1) == share_of_cpus(config("ray=cluster"), 2) == []


def test_a_tiny_model_has_a_process_a_cpu_and_one_where_there_is_no_choice(monkeypatch):
    offer(monkeypatch, 3)

    def processes(*words):
        found = config(*words)
        return found.learner.ranks, found.rollout.actors

    assert processes() == (3, 3) and processes("learner.ranks=2", "rollout.actors=1") == (2, 1)
    assert processes("ray=inline") == processes("ray=cluster") == (1, 1)
    assert processes("rollout.gpus_per_actor=1", "learner.gpus_per_rank=1") == (1, 1)
    offer(monkeypatch, 96)
    assert processes() == (4, 4)
    monkeypatch.setattr("agrl.config.settle.memory_bytes", lambda: 8 * 2**30)
    assert processes() == (2, 2), "a rank and an engine need some memory"
    monkeypatch.setattr("agrl.config.settle.memory_bytes", lambda: 2**30)
    assert processes() == (1, 1)


@pytest.mark.parametrize(("quota", "cpus"), [("max 100000", 6), ("250000 100000", 2), ("50000 100000", 1), ("no", 6)])
def test_a_container_offers_what_its_quota_allows(monkeypatch, tmp_path, quota, cpus):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(6))
    monkeypatch.setattr("agrl.machine.CPU_QUOTA", tmp_path / "cpu.max")
    assert usable_cpus() == cpus


@pytest.mark.parametrize(("limit", "size"), [("max", None), ("1073741824", 2**30), ("9223372036854771712", None)])
def test_a_container_has_the_memory_that_it_is_given(monkeypatch, tmp_path, limit, size):
    monkeypatch.setattr("agrl.machine.MEMORY_LIMITS", ())
    whole = memory_bytes()
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr("agrl.machine.MEMORY_LIMITS", (tmp_path / "memory.max", tmp_path / "missing"))
    assert memory_bytes() == (size or whole)
