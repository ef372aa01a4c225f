"""What a checkpoint of the last finished step needs, held while the next one is under way: the run may have to stop."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agrl import signals
from agrl.driver.run.run import Run
from agrl.driver.run.stall import StallWatch
from agrl.driver.services.learner_snapshots import LearnerCut
from agrl.errors import AgrlError
from agrl.report.progress import phase

REPLAY = "replay.npz"  # the replay actor's part of a checkpoint, which it writes and reads itself
AHEAD = "ahead.pickle"  # what was generated before the checkpoint was written and not yet trained on


def save_ahead(folder: Path, ahead: Any) -> None:
    """Write what a pipeline is ahead of training into a checkpoint, where it is."""
    if ahead:
        (folder / AHEAD).write_bytes(pickle.dumps(ahead))


@dataclass(frozen=True)
class Cut:
    """The run after ``done`` steps. ``ahead``: what its pipeline then had beyond them."""

    done: int
    learner: LearnerCut
    ahead: Any
    watch: dict[str, Any]
    phases: dict[str, float]


class Cuts:
    """The cut of the last finished step, with the state that the replay actor's journal marks."""

    def __init__(self, run: Run) -> None:
        self._run, self._cut = run, None
        self._grace_s = run.s.config.trainer.grace_s

    def take(self, done: int, ahead: Any, watch: StallWatch) -> None:
        """``done`` steps are finished. The pipeline must be halted: what is ``ahead`` is of the same moment."""
        with signals.held_back():
            self._run.s.replay.mark()
            learner = self._run.s.learner.cut(self._grace_s)
            about = ahead, watch.state_dict(), dict(self._run.phases)
            self._cut = Cut(done, learner, *about) if learner and self._grace_s else None

    @contextmanager
    def saved_when_stopped(self) -> Iterator[None]:
        """Write the cut as a checkpoint when a signal ends the block, unless there is one of that step."""
        try:
            yield
        except KeyboardInterrupt:
            last = self._run.folder.latest()
            if self._cut and (last is None or last.step < self._cut.done):
                self._save(self._cut)
            raise

    def _save(self, cut: Cut) -> None:
        def also(folder: Path) -> None:
            self._run.s.replay.save_marked(folder / REPLAY)
            save_ahead(folder, cut.ahead)

        self._run.phases.clear()
        self._run.phases.update(cut.phases)
        with phase(self._run.console, f"Writing a checkpoint of step {cut.done}"):
            try:
                self._run.checkpoint(cut.done, self._run.s.config.trainer.steps, also, cut.learner, watch=cut.watch)
            except (AgrlError, OSError) as error:
                logging.getLogger(__name__).warning("no checkpoint of step %d: %s", cut.done, error)
