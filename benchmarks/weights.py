"""Seconds until all engines have the learner's weights, by size, transport and number of actors.

    python benchmarks/weights.py [--json FILE]
    python benchmarks/weights.py --link 1gbit [--json FILE]       between hosts, made on this machine (needs root)
    python benchmarks/weights.py --device cuda --transports ipc   on GPUs

Beside them, in the same run: a copy of the same bytes by one thread, and raw TCP over the same link. The ends are plain
(``weights_side.py``): the learner's rank holds random weights, engines copy them into their own. Once without any
checksum, and once with all three: the learner's, of what arrived and of what the engine holds. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose learner.py would hide the package learner

from actors.placement import Bundle, Group, Seat
from actors.pool import ServicePool
from actors.runtime import Runtime
from actors.weight_sync import WeightSync
from agrl.machine import usable_cpus
from benchmarks.weights_side import GPU_SHARE, CopyingEngine, Source, weights

UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
PIECE = 2**20
TIMEOUT_S = 300.0
PORT = 7000  # and on, between hosts


def nbytes_of(text: str) -> int:
    """ "100M" is 100 million bytes."""
    return int(float(text[:-1]) * UNITS[text[-1]])


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """Median of ``rounds``, after one that does not count: memory is there and connections stand."""
    found = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return statistics.median(found[1:])


def copy_seconds(nbytes: int, device: str, dtype: str, rounds: int) -> float:
    """A copy of weights into others that are there, one thread."""
    torch.set_num_threads(1)
    there = weights(nbytes, torch.device(device), getattr(torch, dtype))
    here = [torch.zeros_like(tensor) for tensor in there.values()]

    def copy() -> None:
        for mine, tensor in zip(here, there.values(), strict=True):
            mine.copy_(tensor)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return seconds(copy, rounds)


def listen(nbytes: int, port: int = 0, tell: Callable[[int], None] = print) -> None:
    """Take bytes from one connection, and answer each round with a byte."""
    with socket.create_server(("", port)) as server:
        tell(server.getsockname()[1])
        connection, _ = server.accept()
        buffer = memoryview(bytearray(PIECE))
        with connection:
            while True:
                left = nbytes
                while left:
                    got = connection.recv_into(buffer[: min(left, PIECE)])
                    if not got:
                        return
                    left -= got
                connection.sendall(b"!")


def tcp_seconds(nbytes: int, host: str, port: int, rounds: int) -> float:
    """Raw TCP: one connection, as many bytes, until the other side has them."""
    piece = memoryview(bytearray(PIECE))
    with socket.create_connection((host, port)) as connection:

        def send() -> None:
            left = nbytes
            while left:
                left -= connection.send(piece[: min(left, PIECE)])
            connection.recv(1)

        return seconds(send, rounds)


def loopback_seconds(nbytes: int, rounds: int) -> float:
    """``tcp_seconds`` to another process of this host."""
    code = f"from benchmarks.weights import listen; listen({nbytes}, tell=lambda p: print(p, flush=True))"
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    try:
        return tcp_seconds(nbytes, "127.0.0.1", int(server.stdout.readline()), rounds)
    finally:
        server.kill()
        server.wait()


def broadcasts(runtime: Runtime, nbytes: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every transport to every number of actors."""
    what, found = (nbytes, args.device, args.dtype), []
    weight_source = Source(runtime, *what)
    for actors in args.actors:
        pool = ServicePool(
            runtime, "engine", CopyingEngine, what, size=actors, restarts=0, timeout_s=TIMEOUT_S, log_dir=None
        )
        pool.ready()
        for transport in args.transports:
            sync = WeightSync(pool, "", transport, 1, TIMEOUT_S)
            row = {"transport": transport, "actors": actors}
            for name, on in (("transport_s", False), ("seconds", True)):
                for service in (weight_source.rank, *pool.services):
                    service.call("verify", on).result(TIMEOUT_S)
                row[name] = seconds(lambda sync=sync: sync.broadcast(1, weight_source), args.rounds)
            found.append(row)
        pool.close()
    weight_source.rank.kill()
    return found


def reserve(runtime: Runtime, args: argparse.Namespace) -> None:
    """A CPU for every process on a cluster, so that hosts of one CPU have one of them each; a share of the GPU."""
    gpus = GPU_SHARE if args.device.startswith("cuda") else 0.0
    seat = lambda name: Bundle((Seat(name, cpus=1.0, gpus=gpus),))  # noqa: E731
    engines = tuple(seat(f"engine-{index}") for index in range(max(args.actors)))
    runtime.reserve([Group("rank", "", (seat("learner-0"),)), Group("engines", "--actors", engines, spread=True)])


def measure(args: argparse.Namespace, runtime: Runtime, tcp: Callable[[int], float]) -> dict[str, Any]:
    """All sizes: size -> seconds of a copy, of raw TCP and of the broadcasts."""
    sizes = {}
    for size in args.sizes:
        nbytes = nbytes_of(size)
        row = {"copy_s": copy_seconds(nbytes, args.device, args.dtype, args.rounds), "tcp_s": tcp(nbytes)}
        row["broadcasts"] = broadcasts(runtime, nbytes, args)
        sizes[size] = row
        print(f"{size}: copy {row['copy_s']:.4f} s, raw TCP {row['tcp_s']:.4f} s")
        for b in row["broadcasts"]:
            copies = lambda spent, one=row["copy_s"]: f"{spent:.4f} s, {spent / one:.1f} copies"  # noqa: E731
            share = f"{row['tcp_s'] / b['transport_s']:.0%} of raw TCP"
            with_checks = f"with checksums {copies(b['seconds'])}"
            print(
                f"  {b['transport']:13} to {b['actors']}: {copies(b['transport_s'])}, {share}; {with_checks}",
                flush=True,
            )
    return sizes


def between_hosts(args: argparse.Namespace) -> dict[str, Any]:
    """The same as a job of a cluster of hosts, each with a link of ``args.link``, an engine a host."""
    from tests.cluster.hosts import Hosts
    from tests.cluster.ray_cluster import RayCluster

    count = 1 + max(args.actors)
    os.environ["RAY_free_objects_period_milliseconds"] = "0"  # noqa: SIM112 - as AGRL sets it for a local Ray
    with tempfile.TemporaryDirectory() as folder, Hosts(count, Path(folder)) as hosts:
        cluster = RayCluster(hosts, [1] * count)
        for host in range(count):
            hosts.slow(host, args.link)
        out = hosts.shared / "found.json"
        names = ["sizes", "actors", "transports"]
        lists = [word for name in names for word in (f"--{name}", ",".join(map(str, getattr(args, name))))]
        asked = [(nbytes_of(size), PORT + i) for i, size in enumerate(args.sizes)]
        code = f"from benchmarks.weights import listen\nfor asked in {asked}: listen(*asked)"
        server = hosts.popen(1, sys.executable, "-c", code, cwd=Path(__file__).parents[1])
        job = cluster.submit(
            "python",
            "benchmarks/weights.py",
            "--inside",
            hosts.address(1),
            "--json",
            out,
            "--rounds",
            args.rounds,
            *lists,
        )
        print(job.wait(TIMEOUT_S))
        server.kill()
        return json.loads(out.read_text())["sizes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    split = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--sizes", type=split, default=["10M", "100M", "1G", "2G"])
    parser.add_argument("--actors", type=lambda text: [int(n) for n in split(text)], default=[1, 2, 4])
    parser.add_argument("--transports", type=split, default=["object_store", "collective"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--dtype", default="float32", help="%(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--link", metavar="RATE", help='between hosts that are linked so, such as "1gbit"')
    parser.add_argument("--inside", metavar="ADDRESS", help=argparse.SUPPRESS)  # of a host where ``listen`` runs
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    about = {"cpus": usable_cpus(), "machine": platform.machine(), "device": args.device, "dtype": args.dtype}
    if args.link:
        found = about | {"link": args.link, "sizes": between_hosts(args)}
    else:
        runtime = Runtime("cluster" if args.inside else "local", cpus=0)
        tcp = lambda nbytes: loopback_seconds(nbytes, args.rounds)  # noqa: E731
        if args.inside:
            ports = {nbytes_of(size): PORT + i for i, size in enumerate(args.sizes)}
            tcp = lambda nbytes: tcp_seconds(nbytes, args.inside, ports[nbytes], args.rounds)  # noqa: E731
        try:
            reserve(runtime, args)
            found = about | {"sizes": measure(args, runtime, tcp)}
        finally:
            runtime.shutdown()
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
