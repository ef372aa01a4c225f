"""What would sit where: the actors of a configuration on the hosts and GPUs of a cluster, as Ray would place them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from actors.placement import Bundle, Group, what_is_missing
from agrl.config.schema import Config
from agrl.errors import ClusterError
from agrl.placement.machines import Machine, Machines
from agrl.placement.places import SERVICES, placement_groups

ENOUGH = 1e-9


@dataclass(frozen=True)
class Place:
    """Where one actor sits: the host's number, and the numbers of its GPUs there."""

    actor: str
    host: int
    gpus: tuple[int, ...] = ()

    @property
    def service(self) -> str:
        """ "learner", "rollout", "reward" or "replay"."""
        return self.actor.rpartition("-")[0] or self.actor


@dataclass(frozen=True)
class Layout:
    """Every actor once, in the order of their names' numbers."""

    machines: Machines
    places: tuple[Place, ...]

    def of(self, service: str) -> list[Place]:
        """The places of one service."""
        return [place for place in self.places if place.service == service]

    def hosts_of(self, service: str) -> set[int]:
        """The hosts that have an actor of the service."""
        return {place.host for place in self.of(service)}


def lay_out(config: Config, machines: Machines, services: Collection[str] = SERVICES) -> Layout:
    """Places for all actors, in the order and by the strategies in which a run asks Ray for them.

    Packed groups fill one host after another, spread ones go to the host that has the fewest of them. Ray decides by
    itself among hosts that are equally good; how many GPUs of a host are shared by whom is the same. Raises
    ClusterError, which says what each host has and what is missing.
    """
    groups = placement_groups(config, services)
    free = [_Free(machine) for machine in machines.hosts]
    places: list[Place] = []
    for group in groups:
        on = [0] * len(free)  # bundles of this group by host
        for bundle in group.bundles:
            host = _host_for(group, bundle, free, on)
            if host is None:
                raise _no_room(groups, machines)
            on[host] += 1
            gpus = free[host].take(bundle)
            places += [Place(seat.actor, host, gpus if seat.gpus else ()) for seat in bundle.seats]
    return Layout(machines, tuple(places))


class _Free:
    """What a host has left."""

    def __init__(self, machine: Machine) -> None:
        self.cpus, self.gpus = machine.cpus, [1.0] * len(machine.gpus)

    def fitting(self, bundle: Bundle) -> tuple[int, ...] | None:
        """The GPUs that the bundle would get: whole ones, or a part of the first that has it left."""
        if bundle.cpus > self.cpus + ENOUGH:
            return None
        if bundle.gpus < 1:
            part = next((i for i, left in enumerate(self.gpus) if left + ENOUGH >= bundle.gpus), None)
            return () if not bundle.gpus else None if part is None else (part,)
        whole = [i for i, left in enumerate(self.gpus) if left + ENOUGH >= 1]
        number = round(bundle.gpus)
        return tuple(whole[:number]) if len(whole) >= number else None

    def take(self, bundle: Bundle) -> tuple[int, ...]:
        gpus = self.fitting(bundle) or ()
        self.cpus -= bundle.cpus
        for i in gpus:
            self.gpus[i] -= bundle.gpus / len(gpus)
        return gpus


def _host_for(group: Group, bundle: Bundle, free: list[_Free], on: list[int]) -> int | None:
    able = [i for i, host in enumerate(free) if host.fitting(bundle) is not None]
    if not able:
        return None
    if group.spread:
        return min(able, key=lambda i: on[i])
    return min(able, key=lambda i: not on[i])  # one that has some of the group already, else the first


def _no_room(groups: list[Group], machines: Machines) -> ClusterError:
    rooms = [machine.room() for machine in machines.hosts]
    if any(math.isinf(room.cpus) for room in rooms):  # not counted
        groups = [group.without_cpus() for group in groups]
        rooms = [replace(room, cpus=0.0, free_cpus=0.0) for room in rooms]
    return ClusterError(
        "the cluster has no room for this run\n" + "\n".join(what_is_missing(groups, rooms)),
        hint="lower one of these keys, or describe more hosts or GPUs (--hosts, --gpus)"
        if machines.described
        else "lower one of these keys, or add hosts",
    )
