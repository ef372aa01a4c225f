"""Ray: starting it, and the actor that any plain class runs in."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what later versions do; without it Ray warns
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of calls to an actor that has died, which nobody reads
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # it aborts on SIGTERM; the actors have faulthandler

import ray
from ray import cloudpickle

from actors.lease import Holder
from actors.ray_hosts import Place, check_reachable
from actors.ray_lease import Kept
from actors.ray_metrics import ActorMetrics
from actors.ray_packing import pack
from actors.ray_results import RayPending, Who, call_arguments, opened
from actors.service import Pending, Service
from agrl.errors import ActorError, ClusterError
from agrl.machine import usable_cpus
from agrl.network import Host, join_network, this_host

ASIDE = "aside"  # the thread that answers while the main one works


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


class RayService(Service):
    """A plain class in a Ray actor of its own. ``kept``: it outlives this process, and may have outlived another."""

    def __init__(
        self,
        cls: type,
        name: str,
        args: tuple,
        kwargs: dict,
        place: Place | None,
        env: dict,
        cpu_share: int,
        log_file: Path | None,
        run: str = "",
        kept: Kept | None = None,
    ) -> None:
        self.name, self.log_file = name, log_file
        self._who, self._place, self._kept = Who(name, log_file), place, kept
        self._driver = kept.driver if kept else ""
        fingerprint = kept.lease.fingerprint(cls, args, kwargs, sorted(env.items()), cpu_share) if kept else ""
        found = kept.take(name, fingerprint) if kept else None
        if found:
            (self._actor, self.process), self.taken_over = found, True
            self._built = self._actor.is_built.remote()
        else:
            holder = self._driver, kept.lease.secret if kept else "", fingerprint
            prepare = name, env, cpu_share, str(log_file) if log_file else None, run, holder
            self._actor = self._start(cls, place, kept.options(name) if kept else {}, prepare)
            self._built = self._actor.build.remote(cloudpickle.dumps((cls, args, kwargs)))
        self._who.actor_id = self._actor._actor_id.hex()

    def _start(self, cls: type, place: Place | None, options: dict[str, Any], prepare: tuple) -> Any:
        shell = type(cls.__name__, (_Shell,), {"__module__": __name__})  # the dashboard shows the wrapped class's name
        options |= {"max_restarts": 0, "max_task_retries": 0}  # the pools replace the dead themselves
        options |= place.options() if place else {"num_cpus": 0, "num_gpus": 0}
        return ray.remote(concurrency_groups={ASIDE: 1})(shell).options(**options).remote(*prepare)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        return RayPending(self._actor.call.remote(self._driver, *call_arguments(method, args, kwargs)), self._who)

    def aside(self, method: str, *args: Any) -> Pending:
        return RayPending(self._actor.aside.remote(self._driver, *call_arguments(method, args, {})), self._who)

    def ready(self) -> Pending:
        return RayPending(self._built, self._who)

    def has_place(self) -> bool:
        return self._place is None or self._place.node() != ""

    def host(self) -> Host | None:
        return self._who.host()

    def who(self) -> str:
        return str(self._who)

    def where(self) -> Pending:
        return RayPending(self._actor.where.remote(), self._who)

    def kill(self) -> None:
        if self._kept is None or not self._kept.is_lost():
            ray.kill(self._actor, no_restart=True)


class _Shell:
    """What runs in the actor's process: prepares it, then holds the object of the plain class.

    The object is built by a call of its own, not in ``__init__``: an error in the constructor of a Ray actor reaches
    the driver as a dead actor, and its type is lost.
    """

    def __init__(
        self,
        name: str,
        env: dict[str, str],
        cpu_share: int,
        log_file: str | None,
        run: str,
        holder: tuple[str, str, str],
    ) -> None:
        self._name, self._holder = name, Holder(*holder)
        self._target: Any = None
        self._failure: BaseException | None = None
        self._thread = 0  # in which Ray runs the calls: not the main one, since there is a concurrency group
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

    def take_over(self, secret: str, driver: str) -> tuple[str, int]:
        """From now on it works for another driver; what it was doing has ended. What it is made of, its process."""
        fingerprint = self._holder.change(secret, driver)
        self.is_built()
        self._target.hand_over()
        return fingerprint, os.getpid()

    def is_built(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._target is None:
            raise ActorError(f"{self._name} was never told what it is")

    @ray.method(concurrency_group=ASIDE)
    def where(self) -> list[str]:
        frame = sys._current_frames().get(self._thread)
        stack = traceback.extract_stack(frame) if frame else []
        return [f"{frame.filename}:{frame.name}" for frame in reversed(stack)]

    @ray.method(concurrency_group=ASIDE)
    def aside(self, driver: str, packed: bytes, *results: Any) -> Any:
        self._holder.check(driver)
        method, args, kwargs = opened(packed, results)
        return pack(getattr(self._target, method)(*args, **kwargs))

    def call(self, driver: str, packed: bytes, *results: Any) -> Any:
        """``packed``, ``results``: of ``ray_results.call_arguments``."""
        self._thread = threading.get_ident()
        self._holder.check(driver)
        self.is_built()
        with self._metrics.busy():
            method, args, kwargs = opened(packed, results)
            return pack(getattr(self._target, method)(*args, **kwargs))


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
