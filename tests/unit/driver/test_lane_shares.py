"""How many runs stand side by side where nobody says, and how they share the CPUs."""

import pytest

from agrl.config.compose import load_config
from agrl.driver.reproduce import share_of_threads, usual_lanes


def config(*words):
    return load_config(["experiment=agrl_tiny", "model.path=m", *words])


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
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cpus))
    assert usual_lanes(config(*words)) == lanes


def test_lanes_share_the_cpus_unless_the_configuration_says_how_many(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(6))
    assert share_of_threads(config(), 2) == ["rollout.threads=3", "learner.threads=3"]
    assert share_of_threads(config(), 9) == ["rollout.threads=1", "learner.threads=1"]
    assert share_of_threads(config("learner.threads=5"), 2) == ["rollout.threads=3"]
    assert share_of_threads(config(), 1) == share_of_threads(config("ray=cluster"), 2) == []
