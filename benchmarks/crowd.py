"""Many simulated engines and ranks in a few Ray actors: 512 processes of their own do not fit on a small machine."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.runtime import Runtime
from actors.service import Pending, Service
from agrl.network import Host
from benchmarks.simulated import Model, SimulatedEngine, SimulatedRank


class Crowd:
    """Many objects in one process, called from many threads."""

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}
        self._changed = threading.Condition()

    def build(self, name: str, cls: type, *args: Any) -> None:
        with self._changed:
            self._objects[name] = cls(*args)
            self._changed.notify_all()

    def do(self, name: str, method: str, *args: Any) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: name in self._objects)
        return getattr(self._objects[name], method)(*args)


@dataclass(frozen=True)
class Anywhere:
    """A crowd's place. ``threads``: one for every call under way, so that an answer that waits keeps none waiting."""

    threads: int

    def options(self) -> dict[str, Any]:
        return {"num_cpus": 0, "num_gpus": 0, "max_concurrency": self.threads}

    def node(self) -> str:
        return "here"


class OneOfMany(Service):
    """One object of a crowd. ``reads``: whether it is given what other calls' results are; the others get None."""

    def __init__(self, crowd: Service, name: str, built: Pending, reads: bool) -> None:
        self.name, self._crowd, self._built, self._reads = name, crowd, built, reads

    def call(self, method: str, *args: Any, **kwargs: Any) -> Pending:
        if not self._reads:
            args = tuple(None if isinstance(arg, Pending) else arg for arg in args)
        return self._crowd.call("do", self.name, method, *args)

    def aside(self, method: str, *args: Any) -> Pending:
        return self._crowd.call("do", self.name, method, *args)

    def ready(self) -> Pending:
        return self._built

    def host(self) -> Host | None:
        return self._crowd.host()

    def where(self) -> Pending:
        return self._crowd.where()

    def kill(self) -> None:
        pass  # the crowd ends with Ray


class SimulatedRuntime(Runtime):
    """Ray on this machine, in which engines and ranks are simulated; everything else is what it is."""

    def __init__(self, model: Model, threads: int = 1, crowds: int = 2, **about: Any) -> None:
        super().__init__("local", **about)
        self._model = model
        from actors.ray_service import RayService

        place = Anywhere(threads)
        started = [RayService(Crowd, f"crowd-{i}", (), {}, place, {}, 1, None, self.run) for i in range(crowds)]
        for crowd in started:
            crowd.ready().result()
        self._crowds = itertools.cycle(started)

    def _start(
        self, cls: type, name: str, args: tuple, kwargs: dict, env: dict, cpu_share: int, log_file: Path | str | None
    ) -> Service:
        simulated = {"RolloutEngine": SimulatedEngine, "LearnerRank": SimulatedRank}.get(cls.__name__)
        if simulated is None:
            return super()._start(cls, name, args, kwargs, env, cpu_share, log_file)
        crowd = next(self._crowds)
        built = crowd.call("build", name, simulated, self._model, *args[1:])
        return OneOfMany(crowd, name, built, reads=not name.startswith("learner-") or name == "learner-0")
