"""trackio: a local database that `trackio show --project agrl` draws, or a Space of Hugging Face."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Mapping

from agrl.report.trackers import PROJECT, TrackedRun, Tracker

HINT = "TRACKIO_DIR says where its database is, TRACKIO_SPACE_ID in which Space"


class Trackio(Tracker):
    def __init__(self, run: TrackedRun) -> None:
        import trackio

        known = run.known_as("trackio")
        with contextlib.redirect_stdout(io.StringIO()):  # a page of advice
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=known or f"{run.name}-{secrets.token_hex(3)}",  # it resumes the last run of a name
                resume="must" if known else "never",
                config=dict(run.settings),
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        run.remember("trackio", self._run.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, error: BaseException | None) -> None:
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()
            if trackio.context_vars.current_run.get() is self._run:  # it would finish it once more at exit
                trackio.context_vars.current_run.set(None)


open_tracker = Trackio
