"""When a training writes checkpoints, and how it goes on from one: the same for RL, SFT and DPO.

What decides the steps to come is the learner's state, the step (learning rate, order of the examples, seeds) and what
the kind of training adds; with the same data a resumed run does what an undisturbed one would have done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agrl.algorithms.schedule import learning_rate
from agrl.config.schema import DpoConfig, LearnerConfig, SftConfig, TrainerConfig
from agrl.driver.folder.run_folder import Checkpoint, RunFolder
from agrl.driver.services.learner_snapshots import LearnerCut, Sharding
from agrl.driver.services.learners import LearnerGroup
from agrl.errors import ConfigError, DiskError
from agrl.report.progress import number, phase


def is_due(trainer: TrainerConfig, done: int, steps: int) -> bool:
    """Whether to write one after ``done`` of ``steps`` steps: every so many, and after the last, before the export."""
    return done == steps or bool(trainer.checkpoint_every and done % trainer.checkpoint_every == 0)


def save_checkpoint(
    folder: RunFolder,
    learner: LearnerGroup | LearnerCut,
    done: int,
    steps: int,
    keep: int,
    also: Callable[[Path], None] | None = None,
    **more: Any,
) -> None:
    """Write the learner's state after ``done`` steps, what ``also`` writes into the folder that it is given, and
    ``more``, which JSON can hold."""
    partial = folder.begin_checkpoint(done)
    learner.save(partial)
    if also:
        also(partial)
    about = {"step": done, "steps": steps, "version": learner.version, "learner": asdict(learner.sharding)}
    folder.commit_checkpoint(partial, about | more, keep)


def restore(checkpoint: Checkpoint, learner: LearnerGroup, console) -> int:
    """Bring the learner to where the checkpoint was taken; returns the next step."""
    with phase(console, f"Restoring step {checkpoint.step} from {checkpoint.folder}"):
        learner.load(checkpoint.folder, checkpoint.state["version"], _written_by(checkpoint))
    return checkpoint.step


def _written_by(checkpoint: Checkpoint) -> Sharding | None:
    """None where an earlier version wrote it, which did not say."""
    about = checkpoint.state.get("learner")
    return about and Sharding(**about)


@dataclass(frozen=True)
class Length:
    """How many steps a training has, and what its learning rate does in them; with the keys that set both."""

    key: str
    steps: int
    section: str
    settings: LearnerConfig | SftConfig | DpoConfig

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, if there were ``steps``."""
        c = self.settings
        return learning_rate(step, c.lr, steps, c.warmup_steps, c.schedule)


def to_resume(folder: RunFolder, length: Length, learner: LearnerConfig, console) -> Checkpoint | None:
    """The checkpoint of a claimed folder to go on from, with a line where the learning rate will jump there, and one
    where ``learner`` divides the training otherwise.

    None when the run has done all its steps already, which is said. A damaged one is passed over, with a line that says
    why. Raises ConfigError when the run has done more steps; DiskError when no checkpoint is whole.
    """
    last, passed = folder.newest_whole()
    for line in passed:
        console.print(f"A damaged checkpoint is passed over: {line}", markup=False, soft_wrap=True)
    if last is None:
        raise DiskError(
            f"no checkpoint of {folder.path} is whole: {'; '.join(passed)}",
            hint="copy one back from where there is a whole one, or start a new run; check the disk",
        )
    if last.step > length.steps:
        raise ConfigError(
            f"{length.key}={length.steps}, but {folder.path} has been trained for {last.step} steps",
            hint=f"give {length.key}=N with N above {last.step} to train further",
        )
    if folder.about().get("finished") == last.step == length.steps and folder.model.is_dir():
        say = f"{folder.path} is finished: all {length.steps} steps are done; {length.key}=N trains it further"
        console.print(say, markup=False, soft_wrap=True)
        return None
    if note := _jump(last, length):
        console.print(note, markup=False, soft_wrap=True)
    before, now = _written_by(last), Sharding.of(learner)
    if before not in (None, now):
        say = f"Resumed on {now} (was {before}): equal up to rounding, no longer bit for bit"
        console.print(say, soft_wrap=True)
    return last


def _jump(last: Checkpoint, length: Length) -> str:
    """Another number of steps stretches a schedule: the rate that comes next is not the one that would have come."""
    before = last.state.get("steps", length.steps)
    old, new = length.rate(last.step, before), length.rate(last.step, length.steps)
    if old == new:
        return ""
    return (
        f"Note: {length.section}.schedule={length.settings.schedule} now ends at step {length.steps} instead of "
        f"{before}: at step {last.step} the learning rate jumps from {number(old)} to {number(new)}"
    )
