"""Weights & Biases: online, or with WANDB_MODE=offline into RUN/wandb, which `wandb sync` sends later."""

from __future__ import annotations

import os
from collections.abc import Mapping

from agrl.report.trackers import PROJECT, TrackedRun, Tracker

HINT = "`wandb login` or WANDB_API_KEY tells it who you are; WANDB_MODE=offline needs no server"


class WeightsAndBiases(Tracker):
    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=run.known_as("wandb"),
            resume="allow",
            dir=str(run.folder),
            config=dict(run.settings),
            allow_val_change=True,  # a resume may ask for more steps
            settings=wandb.Settings(console="off", silent=True),
        )
        run.remember("wandb", self._run.id)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        # its own count only grows: the steps after a checkpoint, repeated, come behind those that were lost
        self._run.log({"step": step, **values}, step=max(step, self._run.step))

    def close(self, error: BaseException | None) -> None:
        self._run.finish(exit_code=int(error is not None))


open_tracker = WeightsAndBiases
