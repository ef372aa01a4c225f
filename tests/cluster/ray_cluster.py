"""A Ray cluster over such hosts, as a person would run one: a head, workers, a token, and jobs that are submitted."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.hosts import PROJECT, HostError, Hosts

HEAD = 0
RUNTIME_ENV = "deploy/runtime_env.yaml"


@dataclass
class Job:
    """A submitted job, seen from the terminal that waits for it. ``log``: what it has said so far."""

    name: str
    terminal: subprocess.Popen
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float, code: int = 0) -> str:
        """What it said until its end. Raises HostError unless that comes in time, and with this exit code."""
        try:
            found = self.terminal.wait(seconds)
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.name} has not ended after {seconds:g} s\n{self.said}") from None
        if found != code:
            raise HostError(f"{self.name} ended with exit code {found}\n{self.said}")
        return self.said


class RayCluster:
    """Ray on all of ``hosts``, with token authentication. ``cpus``: that each offers; host 0 is the head."""

    def __init__(self, hosts: Hosts, cpus: Sequence[int]) -> None:
        self.hosts, self.cpus = hosts, list(cpus)
        self.address = f"{hosts.address(HEAD)}:6379"
        self.dashboard = f"http://{hosts.address(HEAD)}:8265"
        self.jobs: list[Job] = []
        self._lost_before: dict[int, int] = {}  # host -> how often, when it last joined
        self.report_s = 2  # how often Ray's processes report their metrics
        dashboards = hosts.shared / "dashboards"
        dashboards.mkdir()
        shutil.copy(PROJECT / "deploy" / "grafana" / "agrl.json", dashboards)
        token = hosts.shared / "token"
        token.write_text(secrets.token_hex(16))
        token.chmod(0o600)
        self.env = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_worker_niceness": "0",  # the machine under these hosts may be busy
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "PYTHONPATH": "",  # the code comes with the job
            "COLUMNS": "500",  # so that no line is broken where a test looks for it
            "RAY_metrics_report_interval_ms": str(1000 * self.report_s),
            "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR": str(dashboards),
        }
        self.env_here = self.env | {"PYTHONPATH": str(PROJECT)}  # of a command that is not sent as a job
        self._wait([self.start_ray(HEAD)])
        self._wait([self.start_ray(host) for host in range(1, len(hosts))])

    def start_ray(self, host: int) -> subprocess.Popen:
        """Begin to start Ray on a host: the head, or a worker that joins it."""
        head = ["--head", "--port=6379", "--dashboard-host=0.0.0.0"]
        to_join = head if host == HEAD else [f"--address={self.address}"]
        options = [f"--node-ip-address={self.hosts.address(host)}", f"--num-cpus={self.cpus[host]}"]
        options += ["--object-store-memory=300000000", "--disable-usage-stats"]
        return self.hosts.popen(host, "ray", "start", *to_join, *options, env=self.env)

    def join(self, host: int) -> None:
        """Start a worker (anew) and wait until it has joined."""
        self._lost_before[host] = self._times_lost(host)
        self._wait([self.start_ray(host)])

    def wait_lost(self, host: int, seconds: float = 90) -> None:
        """Wait until Ray has noticed that a host is gone: until then it counts what the host had as free."""
        deadline = time.monotonic() + seconds
        while self._times_lost(host) == self._lost_before.get(host, 0):
            if time.monotonic() > deadline:
                raise HostError(f"Ray has not noticed that {self.hosts.name(host)} is gone")
            time.sleep(0.2)

    def _times_lost(self, host: int) -> int:
        (log,) = (self.hosts.own(HEAD) / "tmp" / "ray").glob("session_2*/logs/gcs_server.out")
        # "The node with node id: ... and address: ... and node name: ... has been marked dead"
        return log.read_text(errors="replace").count(f"address: {self.hosts.address(host)} and ")

    def has(self, host: int, actor: str) -> bool:
        """Whether an actor of this class runs on a host now."""
        return f"ray::{actor}" in self.hosts.run(host, "ps", "-A", "-o", "args=")

    def _wait(self, starting: list[subprocess.Popen]) -> None:
        for process in starting:
            said, _ = process.communicate(timeout=90)
            if process.returncode:
                raise HostError(f"ray start: exit code {process.returncode}\n{said}")

    def submit(
        self,
        *command: object,
        host: int = HEAD,
        env: dict[str, str] | None = None,
        runtime_env: dict[str, object] | None = None,
    ) -> Job:
        """`ray job submit` of a command from a host, with this code unless ``runtime_env`` says else."""
        name = f"job-{len(self.jobs)}"
        log = self.hosts.folder / f"{name}.log"
        words = ["--address", self.dashboard, "--submission-id", name]
        sent = ["--runtime-env-json", json.dumps(runtime_env)] if runtime_env else ["--runtime-env", RUNTIME_ENV]
        with log.open("w") as file:
            terminal = self.hosts.popen(
                host, "ray", "job", "submit", *words, *sent, "--", *command, env=self.env | (env or {}), stdout=file
            )
        self.jobs.append(Job(name, terminal, log))
        return self.jobs[-1]

    def stop(self, job: Job) -> str:
        """`ray job stop`."""
        words = ["--address", self.dashboard, job.name]
        return self.hosts.run(HEAD, "ray", "job", "stop", *words, env=self.env)
