"""Calls to Ray's actors and their results, and what Ray's errors mean."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from actors.ray_hosts import host_of
from actors.ray_packing import dumps, pack
from actors.service import Pending, ServiceDied
from agrl.errors import ActorError
from agrl.network import Host

LOG_TAIL_LINES = 12
TERMINAL_COLOUR = re.compile(r"\x1b\[\d*m")


@dataclass
class Who:
    """Whose result something is, for its errors."""

    name: str
    log_file: Path | None = None
    actor_id: str = ""

    def host(self) -> Host | None:
        """Where it runs or ran, None while it has no place."""
        found = host_of(self.actor_id) if self.actor_id else None
        return found[0] if found else None

    def __str__(self) -> str:
        """With its host, on a cluster of several."""
        return f"{self.name} on {host}" if len(ray.nodes()) > 1 and (host := self.host()) else self.name

    def lost_host(self) -> Host | None:
        """Its host, where that is gone as a whole."""
        found = host_of(self.actor_id) if self.actor_id else None
        return found[0] if found and not found[1] else None


class RayPending(Pending):
    """A Ray object."""

    def __init__(self, ref: Any, who: Who) -> None:
        self.ref, self._who = ref, who

    def on_done(self, notice: Callable[[], Any]) -> None:
        # Ray ends the process when the last reference to a large object goes while a notice of it is outstanding
        self.ref._on_completed(lambda _, kept=self.ref: notice())

    def result(self, timeout: float | None = None) -> Any:
        with _own_errors(self._who):
            return ray.get(self.ref, timeout=timeout)


def put(value: Any) -> Pending:
    """Store ``value`` in Ray's object store."""
    return RayPending(ray.put(pack(value)), Who("the driver"))


def wait(sources: Sequence[Pending], timeout: float | None) -> list[Pending]:
    """See ``actors.runtime.wait_any``."""
    by_ref = {source.ref: source for source in sources}
    ready, _ = ray.wait(list(by_ref), num_returns=1, timeout=timeout, fetch_local=False)
    if ready:  # take along everything else that is there already
        ready, _ = ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0, fetch_local=False)
    return [by_ref[ref] for ref in ready]


def call_arguments(method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple:
    """A call as Ray's arguments: everything packed, then the results that are yet to come, which Ray brings itself."""
    places = [place for place, arg in enumerate(args) if isinstance(arg, RayPending)]
    there = [None if isinstance(arg, RayPending) else arg for arg in args]
    return dumps((method, there, kwargs, places)), *(args[place].ref for place in places)


def opened(packed: bytes, results: Sequence[Any]) -> tuple[str, list[Any], dict[str, Any]]:
    """Method, arguments and keyword arguments of a call that ``call_arguments`` packed."""
    method, args, kwargs, places = pickle.loads(packed)
    for place, result in zip(places, results, strict=True):
        args[place] = result
    return method, args, kwargs


@contextlib.contextmanager
def _own_errors(who: Who) -> Iterator[None]:
    """Turn Ray's errors into what ``Pending.result`` promises."""
    try:
        yield
    except exceptions.GetTimeoutError:
        raise TimeoutError(f"no answer from {who} in time") from None
    except (exceptions.RayActorError, exceptions.ObjectLostError) as error:
        if getattr(error, "actor_id", None) not in (None, who.actor_id):
            raise ActorError(
                f"{who} was to work on the result of another actor, which is gone: {_reason(error)}",
                hint="the logs of the run say which one died, and why",
            ) from error
        if host := who.lost_host():
            hint = f"is {host.name} up, does its network work? Ray has heard nothing from it for a while"
            raise ServiceDied(f"{who.name} died with its host {host}, which is gone", hint=hint) from error
        raise ServiceDied(f"{who} died: {_reason(error)}", hint=_where_to_look(who.log_file)) from error
    except exceptions.RayTaskError as error:
        if not isinstance(error.cause, Exception):
            raise
        error.cause.add_note(f"raised in {who.name}:\n{TERMINAL_COLOUR.sub('', str(error))}")
        raise error.cause from None


def _reason(error: Exception) -> str:
    """The sentence of Ray's many that says why an actor is dead."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "because" in line or "killed" in line]
    reason = (told or lines or [type(error).__name__])[-1 if told else 0]
    return reason.partition(" Some common causes")[0]


def _where_to_look(log_file: Path | None) -> str:
    if log_file is None:
        return "the logs of its Ray worker say more"
    if not log_file.is_file():
        return f"its log is {log_file}"
    tail = log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join([f"its log {log_file} ends:", *tail])
