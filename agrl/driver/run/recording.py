"""Where the numbers of a run go: its folder, the trackers that the configuration names, and Ray's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from actors.runtime import Runtime
from agrl.config.saved import flat
from agrl.config.schema import Config, RayMode
from agrl.driver.services.runtime import run_label
from agrl.report.recorder import Recorder
from agrl.report.trackers import TrackedRun, Tracker, open_trackers

Gauges = Callable[[], Mapping[str, Mapping[str, float]]]
"""What the driver knows of each actor by the actor's name: its numbers by name. Called from another thread."""


def open_recorder(
    config: Config, folder: Path, phase: str, steps: int, first: int, runtime: Runtime, actors: Gauges
) -> Recorder:
    """The recorder of a phase of ``steps`` steps that begins with step ``first``.

    Raises ConfigError for a tracker that is not installed or does not open.
    """
    run = TrackedRun(folder, phase, first, flat(config))
    trackers: list[Tracker] = open_trackers(config.trainer.trackers, run)
    if runtime.mode != "inline":
        from actors.ray_metrics import RunMetrics

        about = {"steps": steps, "step": first, "gap_limit": config.sync.max_mean_gap}
        trackers.append(RunMetrics(run_label(folder), phase, about, actors, runtime.run))
    return Recorder(folder, phase, first, trackers)


def where_watched(config: Config) -> str:
    """Under which name a run on a cluster is found in Grafana; "" elsewhere, where nothing collects its metrics."""
    if config.ray.mode != RayMode.cluster:
        return ""
    return f'Metrics: the run {run_label(config.run)} in Grafana, ray_agrl_*{{run="..."}} in Prometheus'
