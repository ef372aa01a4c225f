"""Three hosts with Ray on them, for all tests of this folder. Where there can be no hosts they skip, in CI they fail.

What the hosts wrote stays in pytest's temporary folder for a while: the jobs' output, and in each host's ``tmp/ray``
the logs of Ray.
"""

import os

import pytest

from tests.cluster.hosts import Hosts, missing
from tests.cluster.ray_cluster import RayCluster
from tests.e2e.small_world import make_world

CPUS = (3, 3, 3)  # of the hosts: no two learner ranks of two threads each fit on one


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
