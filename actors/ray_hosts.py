"""The hosts of a Ray cluster: which there are, places on them for actors, and a look at each before anything starts."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import PlacementGroupID, cloudpickle, exceptions
from ray._private import state
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from actors.placement import Group, Room, never_fits, what_is_missing
from agrl.errors import ClusterError
from agrl.network import Host

REACH_S = 10.0  # for a cluster's head to take a connection
PLACE_S = 15.0  # for Ray to give back what a job held that has just ended, and to find places


def check_reachable(address: str) -> None:
    """Raise ClusterError when nothing answers at ``address`` ("host:port"), or when it is one of Ray Client.

    Ray itself tries for minutes. "auto" stands for the address of the job or of this host's own Ray: left to Ray.
    """
    address = (os.environ.get("RAY_ADDRESS") or address) if address == "auto" else address
    if address.startswith("ray://"):
        raise ClusterError(
            f"RAY_ADDRESS={address} is an address of Ray Client, which AGRL does not support",
            hint="unset it on a host of the cluster, or submit the run as a job (`ray job submit`)",
        )
    host, _, port = address.rpartition(":")
    if address == "auto" or not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except OSError as error:
        raise ClusterError(
            f"cannot join the Ray cluster at {address}: {host} does not answer at port {port} ({error})",
            hint="is Ray's head running there (`ray start --head`), is ray.address its address, and does a firewall "
            "let the port through?",
        ) from error


def rooms() -> dict[str, Room]:
    """The living hosts, by Ray's id of the node."""
    free = state.available_resources_per_node()
    found = {}
    for node in ray.nodes():
        if node["Alive"]:
            has, left = node["Resources"], free.get(node["NodeID"], {})
            counts = (r.get(kind, 0.0) for r in (has, left) for kind in ("CPU", "GPU"))
            found[node["NodeID"]] = Room(_host(node), *counts, int(has.get("object_store_memory", 0)))
    return dict(sorted(found.items(), key=lambda item: (len(item[1].host.address), item[1].host.address)))


def _host(node: dict[str, Any]) -> Host:
    return Host(node["NodeManagerHostname"], node["NodeManagerAddress"])


def host_of(actor_id: str) -> tuple[Host, bool] | None:
    """The host on which an actor runs, or ran, and whether it is alive; None while it has none."""
    actor = state.actors(actor_id)
    if actor.get("State") == "PENDING_CREATION" and not actor["Pid"]:
        return None  # its address is that of the host which is looking for a place
    node_id = actor.get("Address", {}).get("NodeID")
    return next(((_host(node), node["Alive"]) for node in ray.nodes() if node["NodeID"] == node_id), None)


def hosts_by_node() -> dict[str, Host]:
    """All hosts that ever were in the cluster, by Ray's id of the node."""
    return {node["NodeID"]: _host(node) for node in ray.nodes()}


@dataclass(frozen=True)
class Place:
    """Where an actor is to sit, and what it takes there."""

    group: PlacementGroup
    bundle: int
    cpus: float
    gpus: float

    def options(self) -> dict[str, Any]:
        """Of Ray's actor."""
        strategy = PlacementGroupSchedulingStrategy(self.group, self.bundle)
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": strategy}

    def node(self) -> str:
        """Ray's id of its host; "" while no host has room for it, after one was lost."""
        return placement_group_table(self.group)["bundles_to_node_id"][self.bundle]


def reserve(groups: Sequence[Group], keeper: str = "") -> dict[str, Place]:
    """Places for all actors of the groups, by their names. Raises ClusterError, holding nothing, without room.

    ``keeper``: under whose name they are kept when this process has ended, see ``kept_places``.
    """
    if never_fits(groups, list(rooms().values())):
        raise _no_room(groups, {})
    deadline, places = time.monotonic() + PLACE_S, {}
    for group in groups:
        bundles = [{k: v for k, v in (("CPU", b.cpus), ("GPU", b.gpus)) if v} for b in group.bundles]
        kept = {"name": _kept_name(keeper, group), "lifetime": "detached"} if keeper else {}
        made = placement_group(bundles, strategy="SPREAD" if group.spread else "PACK", **kept)
        if not made.wait(max(0.0, deadline - time.monotonic())):
            error = _no_room(groups, places)
            remove_placement_group(made)
            release(places)
            raise error
        places |= _seats(group, made)
    return places


def _seats(group: Group, made: PlacementGroup) -> dict[str, Place]:
    seats = [(i, seat) for i, bundle in enumerate(group.bundles) for seat in bundle.seats]
    return {seat.actor: Place(made, i, seat.cpus, seat.gpus) for i, seat in seats}


def kept_places(groups: Sequence[Group], keeper: str) -> dict[str, Place]:
    """What another process has reserved for the same groups under that name; empty unless all of it is there."""
    found, places = _kept(keeper), {}
    for group in groups:
        made, complete = found.get(_kept_name(keeper, group), (None, False))
        if not complete:
            return {}
        places |= _seats(group, made)
    return places


def release_kept(keeper: str) -> None:
    """Give back all that is reserved under that name; whoever still sits there is killed."""
    for made, _ in _kept(keeper).values():
        remove_placement_group(made)


def _kept(keeper: str) -> dict[str, tuple[PlacementGroup, bool]]:
    """By name, with whether every bundle has its host."""
    return {
        about["name"]: (PlacementGroup(PlacementGroupID(bytes.fromhex(id))), about["state"] == "CREATED")
        for id, about in placement_group_table().items()
        if about["name"].startswith(f"{keeper}/") and about["state"] != "REMOVED"
    }


def _kept_name(keeper: str, group: Group) -> str:
    """Other actors, or other sizes, are another group."""
    return f"{keeper}/{hashlib.sha256(repr(group).encode()).hexdigest()[:16]}"


def release(places: Mapping[str, Place]) -> None:
    """Give the places back; whoever still sits there is killed."""
    for group in {place.group.id: place.group for place in places.values()}.values():
        remove_placement_group(group)


def _no_room(groups: Sequence[Group], places: Mapping[str, Place]) -> ClusterError:
    """``places``: those found already, which count as free."""
    found = rooms()
    for place in places.values():
        if (node := place.node()) in found:
            room = found[node]
            more = {"free_cpus": room.free_cpus + place.cpus, "free_gpus": room.free_gpus + place.gpus}
            found[node] = replace(room, **more)
    held = any(room.free_cpus < room.cpus or room.free_gpus < room.gpus for room in found.values())
    others = "; or wait for the jobs that hold the rest (`ray status` and `ray job list` show them)" if held else ""
    return ClusterError(
        "the cluster has no room for this run\n" + "\n".join(what_is_missing(groups, list(found.values()))),
        hint=f"lower one of these keys, or add hosts{others}",
    )


def ask_hosts(function: Callable, nodes: Sequence[str], args: tuple, seconds: float) -> dict[str, Any]:
    """What ``function(*args)`` returns on each of the hosts, or the error in its place: TimeoutError without an answer.

    The function goes there whole, so that it runs also where the project is missing or another one: it may use nothing
    of it.
    """
    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        remote = ray.remote(num_cpus=0, max_retries=0)(function)
        asked = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*args): node
            for node in nodes
        }
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    answers: dict[str, Any] = {}
    for ref, node in asked.items():
        try:
            answers[node] = ray.get(ref) if ref in ready else TimeoutError(f"no answer within {seconds:g} s")
        except exceptions.RayError as error:
            answers[node] = error
    return answers
