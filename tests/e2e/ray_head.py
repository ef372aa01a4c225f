"""A Ray of one host that outlives whoever joins it: started by a test, in a folder of its own, and ended by it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from actors.ray_service import start_ray

STARTS_S = 240  # on a machine that has much else to do


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
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"]
        command += [f"--num-cpus={cpus}", f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", "--object-store-memory=300000000"]
        env = {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
        patient = {"RAY_gcs_server_port_wait_time_s": str(STARTS_S), "RAY_gcs_server_request_timeout_seconds": "240"}
        with (Path(folder) / "head.log").open("w") as log:
            head = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | env | patient)
        try:
            yield Head(_address(Path(folder), head), psutil.Process(head.pid), env)
        finally:
            processes = _all_of(folder)
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=20)
            head.wait()


def _all_of(folder: str) -> list[psutil.Process]:
    """Ray's own processes name its folder, also when the first of them has ended; the others are below them."""
    own = [p for p in psutil.process_iter(["cmdline"]) if any(folder in word for word in p.info["cmdline"] or ())]
    found = {process.pid: process for process in own}
    for process in own:
        with suppress(psutil.NoSuchProcess):
            found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


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
