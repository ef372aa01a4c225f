"""Ranks on several hosts: ZeRO, and what a run says and does when a host is gone. benchmarks/faults.py has the rest."""

import json
import re
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agrl.report.recorder import read_jsonl
from tests.cluster.conftest import SEVERAL
from tests.cluster.ray_cluster import HEAD
from tests.e2e.small_world import overrides


def test_every_zero_stage_over_two_hosts_gives_the_weights_of_stage_0_and_uses_no_shared_memory(cluster, world):
    folder = cluster.hosts.shared / "zero"
    folder.mkdir()
    script = Path(__file__).with_name("zero_stages.py")
    cluster.submit("env", "PYTHONPATH=.", "python", script, world / "model", folder).wait(200)
    found = json.loads((folder / "stages.json").read_text())
    weights = {stage: load_file(folder / f"stage-{stage}" / "model.safetensors") for stage in found}
    start = load_file(world / "model" / "model.safetensors")
    assert list(found) == ["0", "1", "2", "3"]
    for stage, about in found.items():
        assert len(set(about["hosts"])) == 2 and about["memory"] == [[], []]
        for name, tensor in weights[stage].items():
            assert not torch.equal(tensor, start[name]), name
            torch.testing.assert_close(tensor, weights["0"][name], rtol=0, atol=2e-5)


def test_a_learner_host_that_dies_is_named_at_once_and_the_run_goes_on_when_it_is_back(cluster, world, run):
    """Killed after the first of three steps; a new job goes on from there and ends bit for bit as one left in peace."""
    peace, run = run[0], cluster.hosts.shared / "killed"
    words = ("ray=cluster", *SEVERAL, "trainer.checkpoint_every=1", "learner.timeout_s=60")
    job = cluster.submit("agrl", "train", *overrides(world, run, *words))
    wait_for_step(job, run, 0)
    host = next(h for h in range(len(cluster.cpus)) if h != HEAD and cluster.has(h, "LearnerRank"))
    cluster.hosts.kill(host)
    began = time.monotonic()
    try:
        job.wait(120, code=1)
        assert time.monotonic() - began < 45  # well below learner.timeout_s
        where = re.escape(f"{cluster.hosts.name(host)} ({cluster.hosts.address(host)})")
        # of whichever actor was asked first; Ray may know that the host is gone, or only that the actor does not answer
        assert re.search(rf"(learner-\d|replay) (died with its host {where}|on {where} died)", job.said), job.said
        assert "--resume" in job.said
    finally:
        cluster.hosts.start(host)
        cluster.join(host)
    cluster.submit("agrl", "train", "--resume", run).wait(200)
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == [0, 1, 2]
    assert weights(run) == weights(peace)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def wait_for_step(job, run: Path, step: int) -> None:
    deadline, metrics = time.monotonic() + 150, run / "metrics.jsonl"
    while not metrics.is_file() or all(row["step"] < step for row in read_jsonl(metrics)):
        if time.monotonic() > deadline or job.terminal.poll() is not None:
            pytest.fail(f"no step {step}\n{job.said}")
        time.sleep(0.05)
