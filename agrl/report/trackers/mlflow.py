"""MLflow: an experiment of its tracking server (MLFLOW_TRACKING_URI), a run for each phase."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from itertools import islice

from agrl.report.trackers import PROJECT, TrackedRun, Tracker

HINT = "MLFLOW_TRACKING_URI says where its server is, for example http://HOST:5000"
MOST_PARAMS = 100  # that its server takes at once


class MLflow(Tracker):
    def __init__(self, run: TrackedRun) -> None:
        # a server that is away must not hold a step for the minutes that MLflow would try again
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        if known := run.known_as("mlflow"):
            self._id = known
            self._client.update_run(known, status="RUNNING")
            return
        self._id = self._client.create_run(self._experiment(), run_name=run.name).info.run_id
        run.remember("mlflow", self._id)
        self._settings(run.settings)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def _settings(self, settings: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        params = iter([Param(key, str(value)) for key, value in settings.items()])
        while some := list(islice(params, MOST_PARAMS)):
            self._client.log_batch(self._id, params=some)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in finite.items()])

    def close(self, error: BaseException | None) -> None:
        self._client.set_terminated(self._id, "FAILED" if error else "FINISHED")


open_tracker = MLflow
