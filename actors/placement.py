"""Which actors need a place together, and whether a cluster has room for them. Pure: knows nothing of Ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agrl.network import Host


@dataclass(frozen=True)
class Seat:
    """What one actor takes of its host."""

    actor: str
    cpus: float = 0.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Bundle:
    """Actors that sit on one host, and what is set aside for them there."""

    seats: tuple[Seat, ...]

    @property
    def cpus(self) -> float:
        return sum(seat.cpus for seat in self.seats)

    @property
    def gpus(self) -> float:
        return sum(seat.gpus for seat in self.seats)

    def __str__(self) -> str:
        return amount(self.cpus, self.gpus)


@dataclass(frozen=True)
class Group:
    """Bundles of one service: on as few hosts as possible, or with ``spread`` on as many.

    ``what`` and ``keys``: for people, what it is and the configuration keys that set its size.
    """

    what: str
    keys: str
    bundles: tuple[Bundle, ...]
    spread: bool = False

    def without_cpus(self) -> Group:
        """For a machine on which only GPUs are counted."""
        bundles = (Bundle(tuple(replace(seat, cpus=0.0) for seat in bundle.seats)) for bundle in self.bundles)
        return replace(self, bundles=tuple(bundle for bundle in bundles if bundle.gpus))


@dataclass(frozen=True)
class Room:
    """A host, what it has, and what of that nobody holds. ``object_store``: bytes, 0 where nobody knows."""

    host: Host
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float
    object_store: int = 0


def never_fits(groups: Sequence[Group], rooms: Sequence[Room]) -> bool:
    """Whether the cluster is too small for the groups even when nobody else holds anything of it."""
    bundles = [bundle for group in groups for bundle in group.bundles]
    too_much = any(_sum(getattr(b, kind) for b in bundles) > _sum(getattr(r, kind) for r in rooms) for kind in KINDS)
    return too_much or any(not any(b.cpus <= r.cpus and b.gpus <= r.gpus for r in rooms) for b in bundles)


def what_is_missing(groups: Sequence[Group], rooms: Sequence[Room]) -> list[str]:
    """What the groups ask for, what each host has, and what is missing: a line each, for people."""
    bundles = [bundle for group in groups for bundle in group.bundles]
    asked = [_sum(getattr(bundle, kind) for bundle in bundles) for kind in KINDS]
    free = [_sum(getattr(room, f"free_{kind}") for room in rooms) for kind in KINDS]
    lines = [f"asked for: {amount(*asked)}"]
    lines += [f"  {len(g.bundles)} {g.what}: {_each(g)} ({g.keys})" for g in groups if g.bundles]
    lines += [f"free: {amount(*free)} on {len(rooms)} host{'s' * (len(rooms) != 1)}"]
    for room in rooms:
        has = f"{amount(room.free_cpus, room.free_gpus)} free of {amount(room.cpus, room.gpus)}"
        lines.append(f"  {room.host}: {has}")
    lacking = [max(0.0, a - b) for a, b in zip(asked, free, strict=True)]
    if any(lacking):
        return [*lines, f"missing: {amount(*lacking)}"]
    largest = max(bundles, key=lambda bundle: (bundle.gpus, bundle.cpus))
    return [
        *lines,
        f"missing: hosts with room for {largest} in one piece ({', '.join(s.actor for s in largest.seats)})",
    ]


KINDS = ("cpus", "gpus")


def amount(cpus: float, gpus: float) -> str:
    """Such as "4 CPUs", "1 GPU", "8 CPUs and 2 GPUs"."""
    parts = [_count(cpus, "CPU")] if cpus or not gpus else []
    return " and ".join(parts + ([_count(gpus, "GPU")] if gpus else []))


def _count(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'s' * (number != 1)}"


def _each(group: Group) -> str:
    sizes = Counter(str(bundle) for bundle in group.bundles)
    if len(sizes) == 1:
        return next(iter(sizes)) + (" each" if len(group.bundles) > 1 else "")
    return ", ".join(f"{number} of {size}" for size, number in sizes.items())


def _sum(numbers: Iterable[float]) -> float:
    return math.fsum(numbers)
