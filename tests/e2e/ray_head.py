"""A Ray of one host that outlives whoever joins it: started by a test, in a folder of its own, and ended by it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from actors.ray_service import start_ray

STARTS_S = 240.0  # on a machine that has much else to do


@dataclass(frozen=True)
class Head:
    """``env``: of those who join it. ``process``: the ancestor of all that runs there."""

    address: str
    process: psutil.Process
    env: dict[str, str]


@contextmanager
def ray_head(cpus: int) -> Iterator[Head]:
    """Only processes that this started are ended: there may be another Ray on this machine."""
    assert start_ray  # its settings of Ray hold before Ray is started
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # Ray's sockets need a short path
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--port=0",
            "--node-ip-address=127.0.0.1",
        ]
        command += [f"--num-cpus={cpus}", f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats"]
        command += ["--object-store-memory=300000000"]
        env = {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
        with (Path(folder) / "head.log").open("w") as log:
            head = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | env)
        try:
            yield Head(_address(Path(folder), head), psutil.Process(head.pid), env)
        finally:
            processes = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
            for process in processes:
                process.kill()
            psutil.wait_procs(processes, timeout=20)
            head.wait()


def _address(folder: Path, head: subprocess.Popen) -> str:
    deadline = time.monotonic() + STARTS_S
    file = folder / "ray_current_cluster"
    while not (file.exists() and file.read_text().strip()):
        assert head.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()
        time.sleep(0.1)
    return file.read_text().strip()


@contextmanager
def joined(head: Head) -> Iterator[None]:
    """This process is a driver of its own, which looks."""
    ray.init(address=head.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
