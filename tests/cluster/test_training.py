"""A run over several hosts, submitted as a job to a cluster that asks for a token; one of its hosts dies.

benchmarks/faults.py has other faults, and says how long each takes.
"""

import json
import re
import time
from pathlib import Path

import pytest

from agrl.driver.folder.run_folder import RunFolder
from agrl.report.events import read_events
from agrl.report.recorder import read_jsonl
from tests.cluster.conftest import SEVERAL
from tests.cluster.hosts import HostError
from tests.cluster.ray_cluster import HEAD
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
    assert weights(run[0]) == weights(alone) != weights(world)


def test_a_learner_host_that_dies_is_named_where_nothing_heals_and_other_hosts_go_on_to_the_same_weights(
    cluster, world, run
):
    """Killed after the first of three steps. A new job goes on, on the hosts that are left and with one engine instead
    of two, and ends bit for bit as the run that was left in peace."""
    peace, run = run[0], cluster.hosts.shared / "killed"
    words = ("ray=cluster", *SEVERAL, "trainer.checkpoint_every=1", "learner.restarts=0", "replay.restarts=0")
    job = cluster.submit("agrl", "train", *overrides(world, run, *words))
    wait_for_checkpoint(job, run)
    host = next(h for h in range(len(cluster.cpus)) if h != HEAD and cluster.has(h, "LearnerRank"))
    cluster.hosts.kill(host)
    try:
        job.wait(60, code=1)  # well below learner.timeout_s
        where = re.escape(f"{cluster.hosts.name(host)} ({cluster.hosts.address(host)})")
        # of whichever actor was asked first; Ray may know that the host is gone, or only that the actor does not answer
        assert re.search(rf"(learner-\d|replay) (died with its host {where}|on {where} died)", job.said), job.said
        assert "--resume" in job.said
        cluster.wait_lost(host)
        cluster.submit("agrl", "train", "--resume", run, "rollout.actors=1", "reward.actors=1").wait(240)
    finally:
        cluster.hosts.start(host)
        cluster.join(host)
    placement = json.loads((run / "summary.json").read_text())["placement"]
    assert placement["learner-0"] != placement["learner-1"]
    assert cluster.hosts.name(host) not in {where["name"] for where in placement.values()}
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == [0, 1, 2]
    assert weights(run) == weights(peace)


def test_a_run_goes_on_with_another_learner_when_the_host_of_a_rank_dies_to_the_same_weights(cluster, world, run):
    """The hosts that are left have no room for the rank, which waits until its host is back. Its snapshot was on that
    host, and on another one."""
    peace, run = run[0], cluster.hosts.shared / "healed"
    words = ("ray=cluster", *SEVERAL, "trainer.checkpoint_every=1")
    job = cluster.submit("agrl", "train", *overrides(world, run, *words))
    wait_for_checkpoint(job, run)
    host = next(h for h in range(len(cluster.cpus)) if h != HEAD and cluster.has(h, "LearnerRank"))
    cluster.hosts.kill(host)
    try:
        cluster.wait_lost(host)
    finally:
        cluster.hosts.start(host)
        cluster.join(host)
    said = job.wait(240)
    lost = {event["actor"] for event in read_events(run) if event["state"] == "dead"}
    assert {"learner-0", "learner-1"} <= lost, "all ranks start anew"
    assert list(read_jsonl(run / "metrics.jsonl"))[-1]["actors/learner_restarts"] >= 1, said
    assert weights(run) == weights(peace), said


def test_a_run_goes_on_without_the_engine_of_a_host_that_dies_to_the_same_weights(cluster, world, run):
    """The two hosts that are left have no room for another engine, nor for a reward actor."""
    peace, run = run[0], cluster.hosts.shared / "without-engine"
    words = ("ray=cluster", *SEVERAL, "trainer.checkpoint_every=1")
    job = cluster.submit("agrl", "train", *overrides(world, run, *words))
    wait_for_checkpoint(job, run)
    host = kill_host_of_an_engine(cluster)
    try:
        said = job.wait(150)
    finally:
        cluster.hosts.start(host)
        cluster.join(host)
    lost = rf"rollout-\d died with its host {re.escape(cluster.hosts.name(host))}"
    assert re.search(
        lost + r".* found no place: .*; the run goes on with 1 of 2", (run / "logs" / "driver.log").read_text()
    )
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == [0, 1, 2]
    assert weights(run) == weights(peace), said


def test_an_engine_and_a_scorer_come_back_with_their_host(cluster, world):
    run, steps = cluster.hosts.shared / "comes-back", 90
    words = ("ray=cluster", *SEVERAL, f"trainer.steps={steps}", "trainer.checkpoint_every=10")
    job = cluster.submit("agrl", "train", *overrides(world, run, *words))
    wait_for_checkpoint(job, run)
    host = kill_host_of_an_engine(cluster)
    try:
        wait_for_log(job, run, "the run goes on with 1 of 2")
    finally:
        cluster.hosts.start(host)
        cluster.join(host)
    said = job.wait(300)
    log, last = (run / "logs" / "driver.log").read_text(), list(read_jsonl(run / "metrics.jsonl"))[-1]
    assert re.search(r"rollout-\d found a place again; the run goes on with 2 of 2", log), said
    assert last["step"] == steps - 1 and last["actors/rollout_absent"] == 0 and last["rollout/least_share"] > 0


def kill_host_of_an_engine(cluster) -> int:
    """One without a learner rank, and not the head."""
    others = (h for h in range(len(cluster.cpus)) if h != HEAD and not cluster.has(h, "LearnerRank"))
    host = next(h for h in others if cluster.has(h, "RolloutEngine"))
    cluster.hosts.kill(host)
    return host


def wait_for_log(job, run: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while text not in (run / "logs" / "driver.log").read_text():
        if time.monotonic() > deadline or job.terminal.poll() is not None:
            pytest.fail(f"the driver did not say {text!r}\n{job.said}")
        time.sleep(0.2)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def wait_for_checkpoint(job, run: Path) -> None:
    """Wait for a whole checkpoint: a step's row is written before its checkpoint is, and a host may die in between."""
    deadline = time.monotonic() + 240
    while RunFolder(run).latest() is None:
        if time.monotonic() > deadline or job.terminal.poll() is not None:
            pytest.fail(f"no checkpoint\n{job.said}")
        time.sleep(0.05)
