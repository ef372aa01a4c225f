"""A driver on a cluster is killed: what was costly to start waits for the next one, for it alone, not for ever."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray

from actors.lease import Lease
from actors.placement import Bundle, Group, Seat
from actors.runtime import Runtime
from agrl.report.events import read_events
from benchmarks.soak import processes
from tests.e2e.ray_head import joined, ray_head
from tests.e2e.runs import WIDE, done, left
from tests.e2e.small_world import make_world, overrides

CPUS, STEPS, SHORT_S = 8, 6, 4.0
COSTLY = {"learner-0", "learner-1", "rollout-0"}
WORDS = (
    *(f"trainer.steps={STEPS}", "trainer.prompts_per_step=8", "trainer.checkpoint_every=2", "data.max_evaluation=2"),
    *("guidance.source=reference", "guidance.tau=1.0", "learner.lr=1e-3", "learner.ranks=2", "trainer.max_staleness=1"),
)


@pytest.fixture(scope="module")
def head():
    with ray_head(CPUS) as found:
        yield found


class Driver:
    """`agrl train` in a process of its own, on the cluster of ``head``."""

    def __init__(self, head, *words) -> None:
        command = [sys.executable, "-m", "agrl.cli", "train", *map(str, words)]
        command += ["ray=cluster", f"ray.address={head.address}"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=WIDE | head.env
        )

    def killed_in_step(self, run: Path, step: int) -> None:
        """With SIGKILL, in the middle of a step (counted from 0) or soon after."""
        while done(run) < step:
            assert self.process.poll() is None, self.process.stdout.read()
            time.sleep(0.02)
        time.sleep(0.1)
        self.process.kill()
        assert self.process.wait(10) == -signal.SIGKILL and done(run) < STEPS

    def ends(self) -> str:
        said = self.process.communicate(timeout=200)[0]
        assert self.process.returncode == 0, said
        return said


def test_a_run_whose_driver_is_killed_goes_on_with_its_engine_and_ranks(head, tmp_path):
    world, run = make_world(tmp_path / "world"), tmp_path / "run"
    Driver(head, *overrides(world, tmp_path / "peace", *WORDS)).ends()

    Driver(head, *overrides(world, run, *WORDS), "ray.keep_alive_s=100").killed_in_step(run, 3)
    there = processes(head.process, run)
    assert set(there) >= COSTLY and (run / ".keep_alive").stat().st_mode & 0o777 == 0o600

    second = Driver(head, "--resume", run, f"ray.keep_alive_s={SHORT_S}")
    second.killed_in_step(run, 4)
    again = processes(head.process, run)
    assert {name: again[name].pid for name in COSTLY} == {name: there[name].pid for name in COSTLY}
    who = ", ".join(sorted(COSTLY))
    assert f"taken over from a driver that is gone: {who}; ready after" in second.process.stdout.read()
    events = read_events(run)
    assert {event["actor"] for event in events if event["cause"].startswith("taken over")} == COSTLY
    assert [e["state"] for e in events if e["actor"] == "rollout-0"] == ["starting", "stale", "serving"] * 2

    _, alive = psutil.wait_procs(again.values(), timeout=SHORT_S + 10)  # nobody comes
    assert not alive
    with joined(head):
        wait_until_free()
    assert "nothing was left to be taken over" in Driver(head, "--resume", run).ends()
    assert left(run) == left(tmp_path / "peace") and not (run / ".keep_alive").exists()


DIES = """
import os, signal, sys
from tests.e2e.test_driver_death import started
runtime, *services = started(sys.argv[1], "this run", 100.0)
print(*(service.call("pid").result() for service in services), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_another_run_takes_nothing_and_another_setting_starts_anew(head):
    command = [sys.executable, "-c", DIES, head.address]
    died = subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | head.env)
    assert died.returncode == -signal.SIGKILL, died.stderr
    first, second = map(int, died.stdout.split())
    with joined(head):
        (name,) = (found for found in ray.util.list_named_actors(all_namespaces=True) if "rollout-0" in found["name"])
        with pytest.raises(Exception, match="only the run that started it can take it over"):
            ray.get(ray.get_actor(**name).take_over.remote("guessed", "driver"))
        other, *services = started(head.address, "another run", 100.0, cpus=1)
        assert other.taken_over == [] and {first, second}.isdisjoint(s.call("pid").result() for s in services)
        other.shutdown()
        assert psutil.pid_exists(first) and psutil.pid_exists(second)

        heir, *services = started(head.address, "this run", 100.0, argument="other")
        assert heir.taken_over == ["rollout-0"] and services[0].call("pid").result() == first
        assert heir.not_taken_over == {"rollout-1": "its settings or its code are others"}
        assert services[1].call("pid").result() != second and not psutil.pid_exists(second)

        last, *services = started(head.address, "this run", 100.0, take_over=False)
        last.shutdown()
        wait_until_free()
        assert ray.util.list_named_actors(all_namespaces=True) == []


class Waiter:
    """Stands for an engine."""

    def __init__(self, argument: str) -> None:
        self.argument = argument

    def pid(self) -> int:
        return os.getpid()

    def hand_over(self) -> None:
        """Nothing to drop."""


def started(address, secret, seconds, take_over=True, cpus=2, argument=""):
    """A runtime with two such services."""
    runtime = Runtime("cluster", address)
    runtime.keep(Lease(secret, seconds), take_over)
    names = [f"rollout-{i}" for i in range(2)]
    runtime.reserve([Group("engines", "", tuple(Bundle((Seat(name, cpus=cpus),)) for name in names))])
    runtime.take_over()
    return runtime, *(runtime.start(Waiter, name, f"{name[-1] == '1' and argument}") for name in names)


def wait_until_free() -> None:
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != CPUS:
        assert time.monotonic() < deadline
        time.sleep(0.1)
