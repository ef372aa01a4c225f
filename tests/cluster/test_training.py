"""A run over several hosts, submitted as a job to a cluster that asks for a token."""

import json

import pytest

from agrl.report.recorder import read_jsonl
from tests.cluster.conftest import SEVERAL
from tests.cluster.hosts import HostError
from tests.e2e.small_world import overrides


def test_a_job_without_the_token_is_refused(cluster):
    with pytest.raises(HostError, match="Invalid authentication token"):
        cluster.submit("true", env={"RAY_AUTH_TOKEN": "another"}).wait(60)


def test_the_actors_of_a_run_sit_on_different_hosts_and_the_run_says_where(cluster, run):
    run, said = run
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == [0, 1, 2]
    placement = json.loads((run / "summary.json").read_text())["placement"]
    several = ("learner-0", "learner-1", "rollout-0", "rollout-1", "reward-0", "reward-1")
    assert placement.keys() == {*several, "replay"}
    known = {cluster.hosts.name(i): cluster.hosts.address(i) for i in range(len(cluster.hosts))}
    assert all(known[host["name"]] == host["address"] for host in placement.values())
    assert placement["learner-0"] != placement["learner-1"] and placement["rollout-0"] != placement["rollout-1"]
    page = (run / "report.html").read_text()
    for name, address in known.items():
        here = ", ".join(actor for actor, host in placement.items() if host["name"] == name)
        assert f"{name} ({address}): {here}" in said and f">{name} ({address})</th>" in page and f">{here}</td>" in page


def test_its_weights_are_bit_for_bit_those_of_the_same_run_on_one_host(cluster, world, run):
    alone = cluster.hosts.shared / "alone"
    words = overrides(world, alone, *SEVERAL)
    cluster.hosts.run(1, "agrl", "train", "ray=local", *words, timeout=240, env={"RAY_ADDRESS": ""})
    assert len({host["name"] for host in json.loads((alone / "summary.json").read_text())["placement"].values()}) == 1
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (run[0], alone, world)]
    assert weights[0] == weights[1] != weights[2]
