"""Numbers as Ray metrics, for Prometheus: of a run, from the driver, and of each actor, from its own process.

Ray drops a gauge that is not set again within two of its report intervals. So every value is set again and again by a
thread, and what has ended (a run, an actor, a host) leaves no series behind. Nothing here is a counter: Ray keeps those
for as long as a node lives.
"""

from __future__ import annotations

import functools
import math
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil
import ray
from ray.util.metrics import Gauge

from agrl.errors import ConfigError, DivergenceError
from agrl.network import this_host
from agrl.report.trackers import Tracker

RUN_LABELS = ("run", "phase")
SET_LABELS = (*RUN_LABELS, "set")  # of a held-out set
POOL_LABELS = ("run", "service", "actor")  # what the driver knows of an actor
ACTOR_LABELS = (*POOL_LABELS, "host")  # what an actor knows of itself
JOIN_TIMEOUT_S = 5.0


def family(name: str) -> str:
    """The metric that a logged number becomes; Ray puts ``ray_`` before it: "train/accuracy", "agrl_train_accuracy"."""
    return "agrl_" + re.sub(r"[^A-Za-z0-9]+", "_", name)


@functools.cache
def _gauge(name: str, labels: tuple[str, ...], about: str) -> Gauge:
    return Gauge(name, about, labels)


class Beat:
    """Calls ``tick`` at once and then twice in each of Ray's report intervals, in a thread, until it is stopped.

    An error in ``tick`` is printed, the first time: numbers for people to look at never end a run.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick, self._stopped = tick, threading.Event()
        self._seconds = max(ray._config.metrics_report_interval_ms(), 1000) / 2000
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        failed = False
        while not self._stopped.is_set():
            try:
                self._tick()
            except Exception:
                if not failed:
                    traceback.print_exc()
                failed = True
            self._stopped.wait(self._seconds)


class ActorMetrics:
    """What an actor says of itself: how busy it is, its memory, and what the ``gauges()`` of its object give.

    ``name``: SERVICE-N, or SERVICE. ``gauges()`` is called from another thread than the object's other methods.
    """

    def __init__(self, run: str, name: str) -> None:
        self._labels = {"run": run, "service": name.rpartition("-")[0] or name, "actor": name, "host": this_host().name}
        self._busy, self._target = BusyClock(), None
        self._beat = Beat(self._tick)

    def watch(self, target: Any) -> None:
        """Ask ``target`` for its ``gauges()`` from now on, where it has any."""
        self._target = target if hasattr(target, "gauges") else None

    def busy(self) -> AbstractContextManager:
        """A context: the actor is at work while it is open."""
        return self._busy.running()

    def _tick(self) -> None:
        self._tell({"busy_share": self._busy.share(), "memory_bytes": memory_bytes()})
        if self._target is not None:
            self._tell(self._target.gauges())

    def _tell(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            _gauge(f"agrl_actor_{name}", ACTOR_LABELS, "of one actor, told by itself").set(float(value), self._labels)


class BusyClock:
    """The share of the time since it was last asked for in which something was running."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, threading.Lock()
        self._asked, self._began, self._seconds, self._depth = now(), 0.0, 0.0, 0

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._began = self._now()
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if not self._depth:
                    self._seconds += self._now() - self._began

    def share(self) -> float:
        """From 0 to 1; what is still running counts up to now."""
        with self._lock:
            now = self._now()
            if self._depth:
                self._seconds, self._began = self._seconds + now - self._began, now
            share = self._seconds / max(now - self._asked, 1e-9)
            self._seconds, self._asked = 0.0, now
        return min(share, 1.0)


def memory_bytes(children: bool = True) -> float:
    """Resident memory of this process, and of those that it started."""
    process, total = psutil.Process(), 0
    for each in [process, *(process.children(recursive=True) if children else ())]:
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended since
            continue
    return float(total)


class RunMetrics(Tracker):
    """The logged numbers of one phase of a run, and what the driver knows of its actors; a ``Tracker``.

    ``about``: numbers of the whole phase, by name. ``actors``: gives the numbers that the driver has of every actor,
    by its name; called from another thread. ``owner``: the run that the actors were started for.
    """

    def __init__(
        self,
        run: str,
        phase: str,
        about: Mapping[str, float],
        actors: Callable[[], Mapping[str, Mapping[str, float]]],
        owner: str,
    ) -> None:
        self._labels, self._actors, self._owner = {"run": run, "phase": phase}, actors, owner
        self._names: dict[str, str] = {}  # family -> what it is made of
        self._values = {family(f"run/{name}"): float(value) for name, value in about.items()}
        self._held_out: dict[tuple[str, str], float] = {}  # family, set -> the last evaluation
        self._values |= {"agrl_run_not_finite": 0.0, "agrl_run_last_step_time": time.time()}
        self._beat = Beat(self._tick)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Raises ConfigError when two of the numbers would become the same metric."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name in finite:
            if (other := self._names.setdefault(family(name), name)) != name:
                raise ConfigError(
                    f"{other!r} and {name!r} are the same Ray metric, {family(name)}",
                    hint="their names differ in punctuation alone: rename one, such as a criterion of the rule book",
                )
        bad = self._values["agrl_run_not_finite"] + len(values) - len(finite)
        run = {"agrl_run_step": step + 1, "agrl_run_last_step_time": time.time(), "agrl_run_not_finite": bad}
        kept = {name: value for name, value in self._values.items() if name.startswith("agrl_run_")}
        self._values = kept | {family(name): value for name, value in finite.items()} | run  # one assignment: no lock
        self._tick()

    def log_evaluation(self, done: int, set_name: str, values: Mapping[str, float]) -> None:
        """Told until the set is evaluated again: a curve of steps, not of single points."""
        found = {"step": float(done)} | {name: value for name, value in values.items() if math.isfinite(value)}
        others = {key: value for key, value in self._held_out.items() if key[1] != set_name}
        self._held_out = others | {(family(f"eval/{name}"), set_name): value for name, value in found.items()}
        self._tick()

    def close(self, error: BaseException | None = None) -> None:
        """A learner rank stops at a gradient that is not finite before it is logged: it counts as one."""
        self._beat.stop()
        if isinstance(error, DivergenceError) and not self._values["agrl_run_not_finite"]:
            self._values = self._values | {"agrl_run_not_finite": 1.0}
            self._tick()  # Ray hands it over when it shuts down

    def _tick(self) -> None:
        for name, value in self._values.items():
            _gauge(name, RUN_LABELS, "logged by a run").set(value, self._labels)
        for (name, set_name), value in self._held_out.items():
            _gauge(name, SET_LABELS, "of a held-out set").set(value, self._labels | {"set": set_name})
        for actor, values in self._actors().items():
            labels = {"run": self._owner, "service": actor.rpartition("-")[0] or actor, "actor": actor}
            for name, value in values.items():
                _gauge(f"agrl_pool_{name}", POOL_LABELS, "of one actor, told by the driver").set(value, labels)
        own = {"run": self._owner, "service": "driver", "actor": "driver", "host": this_host().name}
        memory = memory_bytes(children=False)  # a local Ray is a child of the driver, with all its actors
        _gauge("agrl_actor_memory_bytes", ACTOR_LABELS, "of one actor, told by itself").set(memory, own)
