"""Ray actors that outlive their driver: kept under names of their run, taken over by its next driver, or ended.

Ray knows when a driver is gone, so nobody has to say that he is there: a driver that is slow or stopped loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

import ray
from ray import exceptions
from ray._private import state
from ray.util import list_named_actors

from actors.lease import Absence, Lease, replaced
from actors.placement import Group
from actors.ray_hosts import Place, kept_places, release_kept, reserve

KEEPER = "keeper"
LOOK_S = 1.0  # between two looks at the driver


class Keeper:
    """Ends everything of ``namespace``, itself last, when the driver of ``job`` has been gone for ``seconds``.

    All that it knows is in its arguments: where its host dies, Ray starts it on another one.
    """

    def __init__(self, namespace: str, name: str, job: str, seconds: float) -> None:
        self._namespace, self._name, self._job = namespace, name, job
        self._absence = Absence(seconds)
        threading.Thread(target=self._watch, name="keeper", daemon=True).start()

    def _watch(self) -> None:
        try:
            while not self._absence.too_long(is_running(self._job), time.monotonic()):
                time.sleep(LOOK_S)
            end_all(self._namespace)
            ray.kill(ray.get_actor(self._name, self._namespace), no_restart=True)
        except Exception:
            traceback.print_exc()
            os._exit(1)  # Ray starts another one, which looks again: without any, GPUs would be held for ever


def is_running(job: str) -> bool:
    """Whether the driver of a job of Ray (its id) is there still."""
    return any(found["JobID"] == job and not found["IsDead"] for found in state.jobs())


def this_job() -> str:
    """Of this driver: no other one of the cluster, before or after, has it."""
    return ray.get_runtime_context().get_job_id()


def end_all(namespace: str) -> None:
    """End the actors of a namespace, but the keepers, and give back their places."""
    release_kept(namespace)
    for name in _names(namespace):
        if not name.startswith(KEEPER):
            _kill(name, namespace)


def _names(namespace: str) -> list[str]:
    """The oldest of the same kind first."""
    return sorted(found["name"] for found in list_named_actors(all_namespaces=True) if found["namespace"] == namespace)


def unique(name: str) -> str:
    """A name that Ray has not given yet: it lets go of that of a killed actor only by and by."""
    return f"{name}#{time.time_ns():020d}"


def _kill(name: str, namespace: str) -> None:
    with contextlib.suppress(ValueError):  # it has ended meanwhile
        ray.kill(ray.get_actor(name, namespace), no_restart=True)


class Kept:
    """Of a driver: what it keeps alive beyond its end, and what it found of a driver before it.

    With ``take_over`` it goes on with what that one left, where it can; without, all of that is ended.
    """

    def __init__(self, lease: Lease, take_over: bool) -> None:
        self.lease, self.driver = lease, this_job()
        self.found: dict[str, tuple[Any, str, int]] = {}  # by name: the actor, what it is made of, its process id
        self.refused: dict[str, str] = {}  # by name: why one was not taken over
        self.taken: list[str] = []
        older = [name for name in _names(lease.namespace) if name.startswith(KEEPER)]
        name = unique(KEEPER)
        options = {"name": name, "namespace": lease.namespace, "lifetime": "detached", "max_restarts": -1}
        keeper = ray.remote(num_cpus=0)(Keeper).options(**options)
        self._keeper = keeper.remote(lease.namespace, name, self.driver, lease.seconds)
        for old in older:  # only now: there is a keeper at any time
            _kill(old, lease.namespace)
        if not take_over:
            end_all(lease.namespace)

    def reserve(self, groups: Sequence[Group]) -> dict[str, Place]:
        """The places that the driver before had, or new ones. Raises ClusterError without room."""
        if places := kept_places(groups, self.lease.namespace):
            return places
        names = {name.partition("#")[0] for name in _names(self.lease.namespace)}
        self.refused |= dict.fromkeys(filter(self.lease.covers, names), "its place, or another one's, is not there")
        end_all(self.lease.namespace)
        return reserve(groups, self.lease.namespace)

    def ask(self) -> None:
        """Ask all that are left to work for this driver; who does not answer in time is ended."""
        asked, namespace = {}, self.lease.namespace
        for unique_name in _names(namespace):
            name = unique_name.partition("#")[0]
            if not self.lease.covers(name):
                continue
            if name in asked:  # replaced, and not quite dead
                ray.kill(asked[name][0], no_restart=True)
            actor = ray.get_actor(unique_name, namespace)
            asked[name] = actor, actor.take_over.remote(self.lease.secret, self.driver)
        answers = [answer for _, answer in asked.values()]
        if answers:
            ray.wait(answers, num_returns=len(answers), timeout=self.lease.patience_s)
        for name, (actor, answer) in asked.items():
            try:
                self.found[name] = actor, *ray.get(answer, timeout=0)
            except exceptions.GetTimeoutError:
                self._refuse(name, actor, f"it gave no answer within {self.lease.patience_s:.0f} s")
            except exceptions.RayTaskError as error:
                self._refuse(name, actor, str(error.cause))
            except exceptions.RayError:
                self._refuse(name, actor, "it is dead")

    def _refuse(self, name: str, actor: Any, why: str) -> None:
        self.refused[name] = why
        ray.kill(actor, no_restart=True)

    def take(self, name: str, fingerprint: str) -> tuple[Any, int] | None:
        """The actor of this name and its process id, if it was left and is made of the same."""
        if name not in self.found:
            return None
        actor, its, process = self.found.pop(name)
        if its != fingerprint:
            self._refuse(name, actor, "its settings or its code are others")
            return None
        self.taken.append(name)
        return actor, process

    def options(self, name: str) -> dict[str, Any]:
        """Of a new actor. Raises ActorError when it is not for this driver to start any."""
        if self.is_lost():
            raise replaced(name)
        return {"name": unique(name), "namespace": self.lease.namespace, "lifetime": "detached"}

    def is_lost(self) -> bool:
        """Whether another driver has taken over: nothing here is this one's any more, to be ended by it."""
        return state.actors(self._keeper._actor_id.hex()).get("State") == "DEAD"

    def end(self) -> None:
        """This driver ends in order, and everything with it."""
        if not self.is_lost():
            end_all(self.lease.namespace)
            ray.kill(self._keeper, no_restart=True)
