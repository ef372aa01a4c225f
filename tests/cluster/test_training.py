"""A run over several hosts, submitted as a job to a cluster that asks for a token."""

import pytest

from agrl.report.recorder import read_jsonl
from tests.cluster.hosts import HostError
from tests.e2e.small_world import overrides

SEVERAL = ("ray=cluster", "learner.ranks=2", "rollout.actors=2", "reward.actors=2", "data.max_evaluation=4")
TAUGHT = ("guidance.source=reference", "guidance.tau=1.0")  # so that a model that knows nothing has what to learn from


def test_a_job_without_the_token_is_refused(cluster):
    with pytest.raises(HostError, match="Invalid authentication token"):
        cluster.submit("true", env={"RAY_AUTH_TOKEN": "another"}).wait(60)


def test_three_steps_of_reinforcement_learning_on_two_hosts(cluster, world):
    run = cluster.hosts.shared / "run"
    cluster.submit("agrl", "train", *overrides(world, run, *SEVERAL, *TAUGHT)).wait(240)
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == [0, 1, 2]
    assert (run / "model" / "model.safetensors").is_file() and (run / "report.html").is_file()
