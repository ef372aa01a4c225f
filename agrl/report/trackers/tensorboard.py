"""TensorBoard: event files in RUN/tensorboard, a folder for each phase."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agrl.report.trackers import TrackedRun, Tracker

FOLDER = "tensorboard"
HINT = "the run folder must be writable"


class TensorBoard(Tracker):
    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / FOLDER / run.phase), purge_step=run.first_step or None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def close(self, error: BaseException | None) -> None:
        self._writer.close()


open_tracker = TensorBoard
