"""What the snapshots of learner ranks take of the object store of every host (docs/reliability.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from agrl.config.schema import Config, RayMode
from agrl.models.architecture import Architecture
from agrl.models.memory import checkpoint_bytes
from agrl.placement.fits import gib
from agrl.placement.layout import Layout

AT_A_TIME = 2  # the newest, and the one that is coming


def holder(rank: int, hosts: Sequence[Hashable]) -> int | None:
    """The rank that keeps a copy of the snapshot of ``rank``: the next one on another host; None where there is none.

    ``hosts``: of every rank.
    """
    after = (*range(rank + 1, len(hosts)), *range(rank))
    return next((other for other in after if hosts[other] != hosts[rank]), None)


def snapshot_bytes(architecture: Architecture, config: Config, layout: Layout) -> dict[int, int]:
    """Number of a host -> bytes of its object store at most, with the copies that it keeps for others; empty where no
    snapshots are taken."""
    hosts = [place.host for place in layout.of("learner")]
    if config.learner.restarts == 0 or config.ray.mode == RayMode.inline or not hosts:
        return {}
    found: Counter[int] = Counter()
    for rank, size in enumerate(checkpoint_bytes(architecture, config, len(hosts))):
        keeper = holder(rank, hosts)
        for host in (hosts[rank], *(() if keeper is None else (hosts[keeper],))):
            found[host] += AT_A_TIME * size
    return dict(found)


def snapshot_lines(taken: dict[int, int], layout: Layout) -> list[str]:
    """For people: what they take, and a warning for each host whose object store is known to be smaller."""
    if not taken:
        return []
    copies = ", with copies of those on another host" if len(taken) > 1 else ""
    lines = [
        f"Main memory: snapshots of the learner take {gib(max(taken.values()))} of Ray's object store on a host "
        f"({AT_A_TIME} of each rank while one is taken{copies}); learner.restarts=0 takes none"
    ]
    for number, size in sorted(taken.items()):
        machine = layout.machines.hosts[number]
        if 0 < machine.object_store < size:
            lines.append(
                f"Warning: the object store of {machine.host} has {gib(machine.object_store)}, its snapshots take "
                f"{gib(size)}: the rest goes to disk (RAY_TMPDIR), slowly; `ray start --object-store-memory=BYTES` "
                "makes it larger"
            )
    return lines
