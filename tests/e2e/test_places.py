"""Places on a real Ray: who shares a GPU, what happens without room, that places are given back, a plan of it."""

import json
import os
import re
import subprocess
import sys

import pytest
import ray

from actors.placement import Bundle, Group, Seat
from actors.ray_service import start_ray
from actors.runtime import Runtime
from agrl.config.compose import load_config
from agrl.errors import ClusterError
from agrl.network import this_host
from agrl.placement.places import placement_groups


class Worker:
    def gpus(self) -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    def threads(self) -> str:
        return os.environ["OMP_NUM_THREADS"]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One host of 8 CPUs and 2 GPUs, as Ray believes."""
    assert start_ray  # its settings of Ray hold before Ray is started
    ray.init(address="local", num_cpus=8, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_colocated_rank_and_engine_see_the_same_gpu_and_places_are_given_back():
    shared = ("ray.placement=colocated", "learner.gpus_per_rank=1", "rollout.gpus_per_actor=1")
    config = load_config(["experiment=agrl_tiny", "model.path=m", "learner.ranks=2", "rollout.actors=2", *shared])
    for _ in range(2):  # the second time only if the first has given back what it held
        runtime = Runtime("cluster")
        runtime.reserve(placement_groups(config))
        names = ("learner-0", "learner-1", "rollout-0", "rollout-1")
        workers = {name: runtime.start(Worker, name) for name in names}
        gpus = {name: worker.call("gpus").result(60) for name, worker in workers.items()}
        assert gpus["learner-0"] == gpus["rollout-0"] != gpus["learner-1"] == gpus["rollout-1"]
        assert set(runtime.hosts()) == set(names)
        runtime.shutdown()


def test_without_room_nothing_is_held_and_a_machine_counts_only_its_gpus():
    engines = tuple(Bundle((Seat(f"rollout-{i}", cpus=9, gpus=1),)) for i in range(2))
    with pytest.raises(ClusterError, match="9 CPUs and 1 GPU each") as caught:
        Runtime("cluster").reserve([Group("rollout engines", "rollout.actors", engines)])
    assert "free of 8 CPUs and 2 GPUs" in str(caught.value)
    runtime = Runtime("local")
    runtime.reserve([Group("rollout engines", "rollout.actors", engines)])
    found = {runtime.start(Worker, f"rollout-{i}").call("gpus").result(60) for i in range(2)}
    assert found == {"0", "1"}
    runtime.shutdown()


def test_processes_share_the_cpus_of_their_host_unless_they_are_told_a_number():
    runtime = Runtime("local")
    everything = int(runtime.start(Worker, "a").call("threads").result(60))
    assert runtime.start(Worker, "b", cpu_share=2).call("threads").result(60) == str(max(1, everything // 2))
    assert runtime.start(Worker, "c", env={"OMP_NUM_THREADS": "3"}).call("threads").result(60) == "3"


def plan(*words, code=0) -> str:
    """What `agrl plan` of another process says of this cluster."""
    command = [sys.executable, "-m", "agrl.cli", "plan", *words, "--live", ray.get_runtime_context().gcs_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "500"})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_plan_of_a_running_cluster_seats_actors_on_its_hosts_and_takes_nothing_of_it():
    (host,) = json.loads(plan("size=qwen3_0.6b", "cluster=gpus_1", "--json"))["hosts"]
    assert host["host"] == this_host().name and len(host["gpus"]) == 2
    assert host["actors"]["learner-0"] == host["actors"]["rollout-0"] == [0] and "replay" in host["actors"]
    said = plan("size=qwen3_0.6b", "cluster=gpus_8", code=1)
    assert "Cluster error" in said and re.search("missing: .*6 GPUs", said) and "free of 8 CPUs and 2 GPUs" in said, (
        said
    )
    assert ray.available_resources()["GPU"] == 2
