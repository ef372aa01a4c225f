"""The one file that knows Ray: starting it, the actor that any plain class runs in, and what Ray's errors mean."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what later versions do; without it Ray warns
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # it aborts on SIGTERM; the actors have faulthandler

import ray
from ray import cloudpickle, exceptions

from actors.ray_hosts import check_reachable, host_of
from actors.ray_metrics import ActorMetrics
from actors.service import Pending, Service, ServiceDied, Stream
from agrl.errors import ActorError, ClusterError
from agrl.machine import usable_cpus
from agrl.network import Host, join_network, this_host

LOG_TAIL_LINES = 12
ASIDE = "aside"  # the thread that answers while the main one works
TERMINAL_COLOUR = re.compile(r"\x1b\[\d*m")


def start_ray(cluster: str | None, cpus: int, namespace: str) -> bool:
    """Join the cluster at address ``cluster``, or start Ray on this machine when it is None.

    False when Ray runs already in this process, which is then used as it is. Raises ActorError, ClusterError when it
    is the cluster that cannot be joined.
    """
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": namespace}
    try:
        with _own_signal_handlers():
            if cluster:
                check_reachable(cluster)
                ray.init(address=cluster, **quiet)
            else:
                # by default Ray puts its workers behind every other process of the user
                os.environ.setdefault("RAY_worker_niceness", "0")
                # by default what is no longer needed is kept for a second: weights would always go to cold memory
                os.environ.setdefault("RAY_free_objects_period_milliseconds", "0")
                # one CPU when they are not counted: Ray starts as many idle processes as it has CPUs
                ray.init(address="local", num_cpus=cpus or 1, include_dashboard=False, **quiet)
    except ClusterError:
        raise
    except Exception as error:
        where = f"join the Ray cluster at {cluster}" if cluster else "start Ray on this machine"
        reason, hint = _unwritable() or (str(error), "`agrl doctor` shows what Ray sees")
        raise (ClusterError if cluster else ActorError)(f"cannot {where}: {reason}", hint=hint) from error
    return True


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep the driver's handlers: Ray's end the process on SIGTERM without giving it a chance to close anything."""
    ray_sets, ray._private.utils.set_sigterm_handler = ray._private.utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = ray_sets


def _unwritable() -> tuple[str, str] | None:
    """Why Ray cannot write what it must, and what to do; None where it can."""
    places = {
        "RAY_TMPDIR": (Path(ray._common.utils.get_default_ray_temp_dir()), "its sockets and logs"),
        "HOME": (Path.home() / ".ray", "the token by which its processes know each other"),
    }
    for variable, (place, what) in places.items():
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place) as probe:
                probe.write(b"?")
        except OSError as error:
            hint = f"set {variable} to a folder that can be written to, for example {variable}=/var/tmp/$USER"
            return f"it keeps {what} in {place}, which cannot be written to ({error.strerror})", hint
    return None


def stop_ray() -> None:
    ray.shutdown()


def put(value: Any) -> Pending:
    """Store ``value`` in Ray's object store."""
    return RayPending(ray.put(value), _Who("the driver"))


def wait(sources: Sequence[Pending | Stream], timeout: float | None) -> list[Pending | Stream]:
    """See ``actors.runtime.wait_any``."""
    by_ref = {source.ref: source for source in sources}
    ready, _ = ray.wait(list(by_ref), num_returns=1, timeout=timeout, fetch_local=False)
    if ready:  # take along everything else that is there already
        ready, _ = ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0, fetch_local=False)
    return [by_ref[ref] for ref in ready]


@dataclass
class _Who:
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


class RayService(Service):
    """A plain class in a Ray actor of its own."""

    def __init__(
        self,
        cls: type,
        name: str,
        args: tuple,
        kwargs: dict,
        place: dict,
        env: dict,
        cpu_share: int,
        log_file: Path | None,
        run: str = "",
    ) -> None:
        self.name, self.log_file = name, log_file
        self._who = _Who(name, log_file)
        shell = type(cls.__name__, (_Shell,), {"__module__": __name__})  # the dashboard shows the wrapped class's name
        options = {"max_restarts": 0, "max_task_retries": 0, **place}  # the pools replace the dead themselves
        prepare = name, env, cpu_share, str(log_file) if log_file else None, run
        self._actor = ray.remote(concurrency_groups={ASIDE: 1})(shell).options(**options).remote(*prepare)
        self._who.actor_id = self._actor._actor_id.hex()
        self._built = self._actor.build.remote(cloudpickle.dumps((cls, args, kwargs)))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        return RayPending(self._actor.call.remote(method, *map(_unwrap, args), **kwargs), self._who)

    def stream(self, method: str, *args: Any, **kwargs: Any) -> Stream:
        remote = self._actor.stream.options(num_returns="streaming")
        return RayStream(remote.remote(method, *map(_unwrap, args), **kwargs), self._who)

    def ready(self) -> Pending:
        return RayPending(self._built, self._who)

    def host(self) -> Host | None:
        return self._who.host()

    def where(self) -> Pending:
        return RayPending(self._actor.where.remote(), self._who)

    def kill(self) -> None:
        ray.kill(self._actor, no_restart=True)


class RayPending(Pending):
    """A Ray object."""

    def __init__(self, ref: Any, who: _Who) -> None:
        self.ref, self._who = ref, who

    def result(self, timeout: float | None = None) -> Any:
        with _own_errors(self._who):
            return ray.get(self.ref, timeout=timeout)


class RayStream(Stream):
    """The objects of a Ray generator task."""

    def __init__(self, generator: Any, who: _Who) -> None:
        self.ref, self._who = generator, who

    def __next__(self) -> Pending:
        with _own_errors(self._who):
            return RayPending(next(self.ref), self._who)


def _unwrap(value: Any) -> Any:
    return value.ref if isinstance(value, RayPending) else value


@contextlib.contextmanager
def _own_errors(who: _Who) -> Iterator[None]:
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


class _Shell:
    """What runs in the actor's process: prepares it, then holds the object of the plain class.

    The object is built by a call of its own, not in ``__init__``: an error in the constructor of a Ray actor reaches
    the driver as a dead actor, and its type is lost.
    """

    def __init__(self, name: str, env: dict[str, str], cpu_share: int, log_file: str | None, run: str) -> None:
        self._name = name
        self._target: Any = None
        self._failure: BaseException | None = None
        join_network(ray.util.get_node_ip_address())
        # Ray has set it to the CPUs that were asked for
        os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cpus() // cpu_share))
        os.environ.update(env)
        if log_file:
            try:
                _send_output_to(log_file)
            except OSError as error:
                self._failure = _no_log(name, log_file, error)
        faulthandler.enable()  # a crash in native code leaves its Python stack in the log
        self._metrics = ActorMetrics(run, name)

    def __repr__(self) -> str:  # shown in Ray's dashboard
        return self._name

    def build(self, payload: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            cls, args, kwargs = cloudpickle.loads(payload)  # imports the module of cls: only now, with the env set
            self._target = cls(*args, **kwargs)
            self._metrics.watch(self._target)
        except BaseException as failure:
            self._failure = failure
            raise

    @ray.method(concurrency_group=ASIDE)
    def where(self) -> list[str]:
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident])
        return [f"{frame.filename}:{frame.name}" for frame in reversed(stack)]

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self._failure is not None:
            raise self._failure
        with self._metrics.busy():
            return getattr(self._target, method)(*args, **kwargs)

    def stream(self, method: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with self._metrics.busy():
            yield from self.call(method, *args, **kwargs)


def _send_output_to(log_file: str) -> None:
    """Point the process's standard output and error, of Python and of native code, at ``log_file`` (appending)."""
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.close(target)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _no_log(name: str, log_file: str, error: OSError) -> ClusterError:
    return ClusterError(
        f"{name} on {this_host()} cannot write its log {log_file}: {error.strerror}",
        hint="all hosts must see the run folder, at the same path, and may write to it",
    )
