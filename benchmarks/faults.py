"""What a run over several hosts does when a host dies, a cable is pulled or a link is slow: seconds, and what it says.

    python benchmarks/faults.py [FAULT ...]     a minute or two each; results/faults.json keeps what was measured before

Hosts are network namespaces on this machine (tests/cluster/hosts.py: root and Linux). Every fault hits the same run, of
two learner ranks and two engines on different hosts.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from agrl.report.recorder import read_jsonl
from tests.cluster.hosts import Hosts
from tests.cluster.ray_cluster import HEAD, Job, RayCluster
from tests.e2e.small_world import make_world, overrides

RESULTS = Path(__file__).parent / "results" / "faults.json"
CPUS = (3, 3, 3, 3)  # no two ranks of two threads fit on one host; what a lost host held finds room on the others
RUN = (
    *("learner.ranks=2", "learner.threads=2", "rollout.actors=2", "reward.actors=2", "data.max_evaluation=4"),
    *("guidance.source=reference", "guidance.tau=1.0", "trainer.steps=4", "trainer.checkpoint_every=1"),
    *("trainer.prompts_per_step=32", "trainer.rollouts_per_prompt=8", "learner.timeout_s=60", "rollout.timeout_s=60"),
    *("learner.restarts=0", "replay.restarts=0"),  # a lost rank ends the run, so that what is said of it is seen
)
FAULTS: dict[str, Callable[[World], dict]] = {}


def fault(function: Callable[[World], dict]) -> Callable[[World], dict]:
    FAULTS[function.__name__] = function
    return function


class World:
    """The cluster, and runs on it."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts, self.cluster = hosts, RayCluster(hosts, CPUS)
        self.data = make_world(hosts.shared / "world")
        self.runs = 0

    def train(self, *words: str) -> tuple[Job, Path]:
        self.runs += 1
        folder = self.hosts.shared / f"run-{self.runs}"
        job = self.cluster.submit("agrl", "train", "ray=cluster", *overrides(self.data, folder, *RUN, *words))
        return job, folder

    def resume(self, folder: Path) -> Job:
        return self.cluster.submit("agrl", "train", "--resume", folder)

    def after_step(self, job: Job, folder: Path, step: int) -> dict:
        """Wait for the metrics of a step: the rollouts of the next one begin now."""
        deadline = time.monotonic() + 300
        while True:
            rows = list(read_jsonl(folder / "metrics.jsonl")) if (folder / "metrics.jsonl").is_file() else []
            if rows and rows[-1]["step"] >= step:
                return rows[-1]
            if time.monotonic() > deadline or job.terminal.poll() is not None:
                raise RuntimeError(f"{job.name} has not come to step {step}\n{job.said}")
            time.sleep(0.02)

    def in_mid_learn(self, job: Job, folder: Path) -> None:
        row = self.after_step(job, folder, 1)
        time.sleep(row["time/sample"] + row["time/rollout"] + row["time/score"] + 0.4 * row["time/learn"])

    def rollout_alone(self) -> int:
        """A host with an engine and no learner rank, which is not the head."""
        others, has = (h for h in range(len(CPUS)) if h != HEAD), self.cluster.has
        return next(h for h in others if has(h, "RolloutEngine") and not has(h, "LearnerRank"))

    def learner_beside_head(self) -> int:
        return next(h for h in range(len(CPUS)) if h != HEAD and self.cluster.has(h, "LearnerRank"))

    def ends(self, job: Job, seconds: float = 240) -> tuple[float, int, str]:
        """Seconds from now, exit code and the last lines."""
        began = time.monotonic()
        code = job.terminal.wait(seconds)
        seconds = time.monotonic() - began
        said = [plain for line in job.said.splitlines() if (plain := line.strip(" │╭╮╰╯─"))]
        errors = [i for i, line in enumerate(said) if line.endswith(" error")]  # the title of the box
        return seconds, code, "\n".join(said[errors[0] + 1 if errors else -4 :][:8])

    def back(self, host: int) -> None:
        self.hosts.start(host)
        self.cluster.join(host)


@contextmanager
def world():
    with Hosts(len(CPUS), Path(tempfile.mkdtemp(prefix="faults-"))) as hosts:
        yield World(hosts)


def weights(folder: Path) -> str:
    import hashlib

    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()[:16]


def hosts_of(job: Job, actor: str) -> list[str]:
    """The hosts of the actors of this kind, by the first lines that a run says."""
    return re.findall(rf"(h\d) \([\d.]+\): .*{actor}-\d", job.said)


def about(w: World, job: Job, folder: Path, **more) -> dict:
    seconds, code, said = w.ends(job)
    found = {"seconds": round(seconds, 1), "exit_code": code, "ranks_on": hosts_of(job, "learner")} | more
    if code:
        return found | {"said": said}
    rows = list(read_jsonl(folder / "metrics.jsonl"))
    phases = {p: [round(r.get(f"time/{p}", 0.0), 2) for r in rows] for p in ("rollout", "learn", "broadcast")}
    return found | {"weights": weights(folder), "phases": phases}


@fault
def undisturbed(w: World) -> dict:
    job, folder = w.train()
    w.after_step(job, folder, 0)
    return about(w, job, folder)


@fault
def rollout_host_killed(w: World) -> dict:
    job, folder = w.train()
    w.after_step(job, folder, 0)
    host = w.rollout_alone()
    w.hosts.kill(host)
    found = about(w, job, folder, host=host)
    w.back(host)
    return found


@fault
def learner_host_killed(w: World) -> dict:
    job, folder = w.train()
    w.in_mid_learn(job, folder)
    host = w.learner_beside_head()
    w.hosts.kill(host)
    found = about(w, job, folder, host=host)
    w.cluster.wait_lost(host)
    again = w.resume(folder)
    found["resumed"] = about(w, again, folder)
    w.back(host)
    return found


@fault
def job_stopped(w: World) -> dict:
    job, folder = w.train()
    w.in_mid_learn(job, folder)
    host = w.learner_beside_head()
    began = time.monotonic()
    w.cluster.stop(job)
    stopped = time.monotonic() - began
    w.hosts.kill(host)  # so that it goes on elsewhere
    began = time.monotonic()
    w.cluster.wait_lost(host)
    noticed = time.monotonic() - began
    again = w.resume(folder)
    found = {
        "stop_seconds": round(stopped, 1),
        "noticed_seconds": round(noticed, 1),
        "ranks_on": hosts_of(job, "learner"),
        "resumed": about(w, again, folder),
    }
    w.back(host)
    return found


def cable(w: World, host: int, seconds: float) -> None:
    w.hosts.cut(host)
    time.sleep(seconds)
    w.hosts.mend(host)


@fault
def cable_out_10_s_in_rollout(w: World) -> dict:
    job, folder = w.train()
    w.after_step(job, folder, 0)
    cable(w, w.rollout_alone(), 10)
    return about(w, job, folder)


@fault
def cable_out_10_s_in_learn(w: World) -> dict:
    job, folder = w.train()
    w.in_mid_learn(job, folder)
    cable(w, w.learner_beside_head(), 10)
    return about(w, job, folder)


@fault
def cable_stays_out_of_engine(w: World) -> dict:
    job, folder = w.train()
    w.after_step(job, folder, 0)
    host = w.rollout_alone()
    w.hosts.cut(host)
    found = about(w, job, folder, host=host)
    w.hosts.kill(host)
    w.back(host)
    return found


@fault
def cable_stays_out_of_learner(w: World) -> dict:
    job, folder = w.train()
    w.in_mid_learn(job, folder)
    host = w.learner_beside_head()
    w.hosts.cut(host)
    found = about(w, job, folder, host=host)
    w.hosts.kill(host)
    w.back(host)
    return found


@fault
def slow_link(w: World) -> dict:
    found = {}
    for rate in (None, "50mbit"):
        for host in range(1, len(CPUS)):
            w.hosts.slow(host, rate) if rate else None
        for stage in (0, 3):
            job, folder = w.train(f"learner.zero_stage={stage}", "trainer.steps=2")
            found[f"{rate or 'fast'} zero {stage}"] = about(w, job, folder)
    for host in range(1, len(CPUS)):
        w.hosts.slow(host, None)
    return found


def main() -> None:
    wanted = sys.argv[1:] or list(FAULTS)
    with world() as w:
        for name in wanted:
            began = time.monotonic()
            try:
                found = FAULTS[name](w)
            except Exception as error:
                found = {"failed": f"{type(error).__name__}: {error}"[-3000:]}
                for job in w.cluster.jobs:  # what it leaves would take the places of the next
                    w.cluster.stop(job) if job.terminal.poll() is None else None
            print(name, round(time.monotonic() - began), json.dumps(found, indent=1), flush=True)
            kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            RESULTS.write_text(json.dumps(kept | {name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
