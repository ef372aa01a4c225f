"""Hosts of a cluster on one machine, as far apart as Linux makes them without a virtual machine.

Each has its own network (address, loopback, a cable to a switch), name, `/etc/hosts` as Debian writes it (its name is
127.0.1.1), processes, `/tmp`, `/dev/shm` and home. `Hosts.shared` alone is the same folder on all of them, as NFS is.
All of it hangs on processes of this one: nothing has a name outside, so test runs do not collide, and nothing is left
when this process ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

PROJECT = Path(__file__).parents[2]
TOOLS = ("ip", "tc", "unshare", "nsenter", "setpriv", "mount")
BOUND = ["setpriv", "--pdeathsig", "KILL"]  # what it starts dies with whoever has started it
SWITCH = "ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up && ip link set lo up"

# What is the same on all hosts is kept aside in /mnt while the host's own /tmp is laid over it.
HOST = """
set -e
name=$1 own=$2; shift 2
hostname "$name"
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$name" >"$own/hosts"
mount --bind "$own/hosts" /etc/hosts
echo 'nameserver 10.77.0.1' >"$own/resolv.conf"  # refused at once: nothing waits for names from outside
mount --bind "$own/resolv.conf" /etc/resolv.conf
mount -t tmpfs tmpfs /mnt
i=0; for path; do mkdir "/mnt/$i"; mount --bind "$path" "/mnt/$i"; i=$((i + 1)); done
mount --bind "$own/tmp" /tmp
i=0; for path; do mkdir -p "$path"; mount --bind "/mnt/$i" "$path"; i=$((i + 1)); done
umount --recursive /mnt
mkdir -p /tmp/home
mount -t tmpfs -o size=2g tmpfs /dev/shm
ip link set lo up
echo ready
sleep infinity & wait  # as the first process it has the orphans to bury
"""


def missing() -> str:
    """Why there can be no such hosts here; "" where there can be."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts need Linux and root"
    if absent:
        return f"hosts need {', '.join(absent)} (Debian packages iproute2 and util-linux)"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"hosts need namespaces: {tried.stderr.strip()}" if tried.returncode else ""


class HostError(Exception):
    """A command on a host failed or took too long; the message has its output."""


class Hosts:
    """``count`` hosts, their own folders and ``shared`` under ``folder``. Close it, or use it in a ``with``."""

    def __init__(self, count: int, folder: Path) -> None:
        self.folder, self.shared = Path(folder), Path(folder) / "shared"
        self.shared.mkdir(parents=True, exist_ok=True)
        self._first: dict[int, int] = {}  # host -> its first process, as this process sees it
        self._started = [_start(["unshare", "--net", "sh", "-c", f"{SWITCH} && echo ready && exec sleep infinity"])]
        self._switch = self._started[0].pid
        try:
            for host in range(count):
                self.start(host)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._first)

    def name(self, host: int) -> str:
        return f"h{host}"

    def address(self, host: int) -> str:
        return f"10.77.0.{10 + host}"

    def own(self, host: int) -> Path:
        """The folder that holds the host's /tmp (``own(host) / "tmp"``), as this process sees it."""
        return self.folder / self.name(host)

    def start(self, host: int) -> None:
        """Switch a host on: a new one, or one that was killed."""
        (self.own(host) / "tmp").mkdir(parents=True, exist_ok=True)
        (self.own(host) / "tmp").chmod(0o1777)
        seen = dict.fromkeys(map(str, (self.shared, PROJECT, Path(sys.prefix))))
        spaces = ["--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        outer = _start(["unshare", *spaces, "bash", "-c", HOST, "host", self.name(host), str(self.own(host)), *seen])
        self._started.append(outer)
        self._first[host] = first = psutil.Process(outer.pid).children()[0].pid
        self._on_switch(f"ip link add v{host} type veth peer name eth0 netns {first}")
        self._on_switch(f"ip link set v{host} master br0 up")
        up = "ip addr add $0/24 dev eth0 && ip link set eth0 up && ip route add default via 10.77.0.1"
        self.run(host, "sh", "-c", up, self.address(host))

    def popen(self, host: int, *command: object, env: Mapping[str, str] | None = None, **options) -> subprocess.Popen:
        """Start a command on a host, in the project's folder; it ends with this process. ``options``: of Popen."""
        first = self._first.get(host)
        if first is None:
            raise HostError(f"{self.name(host)} is off")
        inside = ["nsenter", "-t", str(first), "--net", "--uts", "--ipc", "--mount", "--pid", "env", "-C", str(PROJECT)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
        own = {"HOME": "/tmp/home", "TMPDIR": "/tmp"}
        command = [*BOUND, *inside, *BOUND, *map(str, command)]
        return subprocess.Popen(command, env={**os.environ, **own, **(env or {})}, **options)

    def run(
        self,
        host: int,
        *command: object,
        timeout: float = 60.0,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """What a command on a host prints. Raises HostError unless it ends with ``code`` (None: any) in time."""
        process = self.popen(host, *command, env=env, stdin=subprocess.DEVNULL)
        what = f"{' '.join(map(str, command))[:200]} on {self.name(host)}"
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            raise HostError(f"{what}: not done after {timeout:g} s\n{said}") from None
        if code is not None and process.returncode != code:
            raise HostError(f"{what}: exit code {process.returncode}\n{said}")
        return said

    def kill(self, host: int) -> None:
        """The host is gone: every process on it, at once, and its network."""
        first = psutil.Process(self._first.pop(host))
        first.kill()
        psutil.wait_procs([first], timeout=10)
        self._on_switch(f"ip link del v{host} 2>/dev/null || true")

    def cut(self, host: int) -> None:
        """Pull the host's network cable."""
        self._on_switch(f"ip link set v{host} down")

    def mend(self, host: int) -> None:
        """Put the cable back in."""
        self._on_switch(f"ip link set v{host} up")

    def slow(self, host: int, rate: str | None) -> None:
        """Give the host's link a rate, such as "50mbit", both ways; None: as fast as it can be."""
        change = f"replace dev DEV root tbf rate {rate} burst 64kb latency 400ms" if rate else "del dev DEV root"
        self.run(host, "sh", "-c", f"tc qdisc {change}".replace("DEV", "eth0"))
        self._on_switch(f"tc qdisc {change}".replace("DEV", f"v{host}"))

    def close(self) -> None:
        """All hosts and their network away."""
        for process in reversed(self._started):
            process.kill()
        for process in self._started:
            process.wait()
            process.stdout.close()
        self._first.clear()

    def _on_switch(self, command: str) -> None:
        inside = ["nsenter", "-t", str(self._switch), "--net", "sh", "-c", command]
        done = subprocess.run(inside, capture_output=True, text=True)
        if done.returncode:
            raise HostError(f"{command}: {done.stderr}")


def _start(command: list[str]) -> subprocess.Popen:
    """Start a process that says "ready" once it is. It does not outlive this one."""
    process = subprocess.Popen(
        [*BOUND, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = process.stdout.readline()
    if said.strip() != "ready":
        process.kill()
        raise HostError(f"a host did not start: {said}{process.stdout.read()}")
    return process
