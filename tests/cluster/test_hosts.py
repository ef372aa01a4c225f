"""The hosts that the other tests of this folder run on are really apart."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.cluster.hosts import PROJECT, HostError, Hosts

LISTEN = """
import socket
server = socket.create_server(("", 7000))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    while connection.recv(65536):
        pass
    connection.sendall(b"!")
"""
SEND = """
import socket, sys, time
began = time.time()
connection = socket.create_connection((sys.argv[1], 7000), 2)
connection.sendall(bytes(2_000_000))
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
print(time.time() - began)
"""


@pytest.fixture(scope="module")
def hosts(need_hosts, tmp_path_factory):
    with Hosts(2, tmp_path_factory.mktemp("apart")) as hosts:
        yield hosts


def test_each_has_its_own_name_address_processes_and_folders_and_all_see_the_shared_one(hosts):
    for host in (0, 1):
        assert hosts.run(host, "hostname").strip() == f"h{host}"
        assert hosts.run(host, "getent", "hosts", f"h{host}").split() == ["127.0.1.1", f"h{host}"]
        assert hosts.address(host) in hosts.run(host, "ip", "-4", "-brief", "address")
        assert hosts.run(host, "ps", "-A", "-o", "comm=").split() == ["bash", "sleep", "ps"]
        for folder in ("/tmp", "/dev/shm", "/tmp/home", hosts.shared):
            hosts.run(host, "sh", "-c", f"echo {host} > {folder}/mark")
    assert [hosts.run(0, "cat", f"{folder}/mark").strip() for folder in ("/tmp", "/dev/shm", "/tmp/home")] == ["0"] * 3
    assert hosts.run(0, "cat", hosts.shared / "mark") == "1\n" == (hosts.shared / "mark").read_text()
    assert hosts.run(0, "ls", PROJECT / "pyproject.toml")


def test_a_cable_can_be_slow_and_cut_and_mended(hosts):
    server = hosts.popen(1, sys.executable, "-c", LISTEN)
    assert server.stdout.readline() == "listening\n"

    def seconds():
        return float(hosts.run(0, sys.executable, "-c", SEND, hosts.address(1)))

    assert seconds() < 0.4
    hosts.slow(1, "20mbit")
    assert 0.6 < seconds() < 3  # 16 Mbit, of which half a Mbit in a burst
    hosts.slow(1, None)
    hosts.cut(1)
    with pytest.raises(HostError, match="timed out"):
        seconds()
    hosts.mend(1)
    assert seconds() < 0.4
    server.kill()


def test_a_host_that_is_killed_is_gone_and_can_be_started_again(hosts):
    sleeping = hosts.popen(1, "sleep", "1000")
    hosts.kill(1)
    assert sleeping.wait(timeout=5) != 0
    with pytest.raises(HostError, match="h1 is off"):
        hosts.run(1, "true")
    hosts.start(1)
    assert hosts.run(1, "hostname").strip() == "h1"


def test_nothing_is_left_of_hosts_whose_test_run_was_killed(need_hosts, tmp_path):
    code = "from tests.cluster.hosts import Hosts; hosts = Hosts(1, %r); hosts.popen(0, 'sleep', '12345.5');"
    code = (code + "print('up', flush=True); import time; time.sleep(60)") % str(tmp_path)
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert owner.stdout.readline() == "up\n"
    started = psutil.Process(owner.pid).children(recursive=True)
    assert any("12345.5" in p.cmdline() for p in started)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 10
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started):
        assert time.monotonic() < deadline, started
        time.sleep(0.05)
