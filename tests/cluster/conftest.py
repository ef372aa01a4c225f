"""Three hosts with Ray on them, for all tests of this folder. Where there can be no hosts they skip, in CI they fail.

What the hosts wrote stays in pytest's temporary folder for a while: the jobs' output, and in each host's ``tmp/ray``
the logs of Ray.
"""

import os
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, missing
from tests.cluster.ray_cluster import RayCluster
from tests.e2e.small_world import make_world, overrides

CPUS = (4, 3, 3)  # of the hosts: two learner ranks of two threads with the replay actor do not fit on one
SEVERAL = (
    *("learner.ranks=2", "learner.threads=2", "rollout.actors=2", "reward.actors=2", "data.max_evaluation=4"),
    *("guidance.source=reference", "guidance.tau=1.0"),  # so that a model that knows nothing has what to learn from
)


@pytest.fixture(scope="session")
def need_hosts():
    why = missing()
    if why and os.environ.get("CI"):
        pytest.fail(f"CI must run these tests: {why}")
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def cluster(need_hosts, tmp_path_factory):
    """A head and two workers."""
    with Hosts(len(CPUS), tmp_path_factory.mktemp("cluster")) as hosts:
        yield RayCluster(hosts, CPUS)


@pytest.fixture(scope="session")
def world(cluster):
    """Data and a tiny model that all hosts see."""
    return make_world(cluster.hosts.shared / "world")


@pytest.fixture(scope="session")
def run(cluster, world) -> tuple[Path, str]:
    """Three steps of ``SEVERAL`` on all hosts, left in peace, and what the job said."""
    run = cluster.hosts.shared / "run"
    said = cluster.submit("agrl", "train", "ray=cluster", *overrides(world, run, *SEVERAL)).wait(240)
    return run, said
