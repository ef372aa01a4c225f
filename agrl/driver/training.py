"""Reinforcement learning from the first step to the last: metrics, samples and checkpoints round the pipeline."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from agrl.config.schema import Config, Overlap
from agrl.driver.folder.claim import claimed
from agrl.driver.folder.run_folder import Checkpoint, RunFolder
from agrl.driver.free_running import Ahead, Filling
from agrl.driver.pipeline import open_pipeline
from agrl.driver.run.checkpoint import Length, is_due, to_resume
from agrl.driver.run.cut import AHEAD, REPLAY, Cuts, save_ahead
from agrl.driver.run.run import Evaluation, Run, running
from agrl.driver.run.stall import StallWatch
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.step import StepResult
from agrl.errors import ConfigError, NothingLearnedError
from agrl.relevance.records import Provenance
from agrl.report.progress import numbers, progress
from agrl.report.recorder import Recorder, sample_row


def train(config: Config, console, resume: bool = False, prepared: bool = False) -> RunFolder:
    """Run, or with ``resume`` go on with, the RL run of ``config.run``. Raises the AgrlError that names the trouble.

    ``prepared``: the caller has locked the folder and made room in it.
    """
    length = Length("trainer.steps", config.trainer.steps, "learner", config.learner)
    with claimed(config, "train", resume, prepared) as folder:
        checkpoint = to_resume(folder, length, config.learner, console) if resume else None
        if resume and checkpoint is None:
            return folder
        if checkpoint:
            _ahead(config, checkpoint)
        with running(config, folder, "train", console, resume) as run:
            if checkpoint is None:
                run.evaluate("before", 0)
            reinforce(run, checkpoint)
    return folder


def reinforce(run: Run, checkpoint: Checkpoint | None = None) -> None:
    """Train from the checkpoint, or from the start, to the last step."""
    config = run.s.config.trainer
    watch = StallWatch(config.max_idle_steps)
    first, ahead = _restore(run, watch, checkpoint) if checkpoint else (0, None)
    pipeline, cuts = open_pipeline(run.s, config.steps, first, ahead), Cuts(run)
    with run.recorder("rl", config.steps, first) as recorder, cuts.saved_when_stopped():
        _steps(run, pipeline, recorder, watch, cuts, first)
        recorder.ledger(pipeline.finish())
        watch.finish()
        run.finish(config.steps)


def _steps(run: Run, pipeline, recorder: Recorder, watch: StallWatch, cuts: Cuts, first: int) -> None:
    config = run.s.config.trainer
    with progress(run.console, "RL", config.steps) as bar:
        bar.advance(first)
        for step in range(first, config.steps):
            run.s.runtime.step, evaluation = step, _evaluation(run, step)
            result = pipeline.step(step, evaluation and evaluation.measure)
            if evaluation:
                evaluation.keep()
            _record(run, recorder, step, result)
            bar.advance(1, _note(result.metrics))
            done = step + 1
            try:
                watch.observe(result.metrics)
            except NothingLearnedError:
                _checkpoint(run, pipeline, watch, done)  # what it learned before is not lost
                raise
            with pipeline.halted() as ahead:
                cuts.take(done, ahead, watch)
            if is_due(config, done, config.steps):
                _checkpoint(run, pipeline, watch, done)


def _evaluation(run: Run, done: int) -> Evaluation | None:
    """What is due with the weights after ``done`` steps: to be measured beside the next step, or, where nothing goes
    beside, done when this returns."""
    config, label = run.s.config.trainer, f"step-{done:06d}"
    if not (done and config.evaluate_every and done % config.evaluate_every == 0):
        return None
    if config.max_staleness:
        return run.evaluation(label, done)
    run.evaluate(label, done)
    return None


def _checkpoint(run: Run, pipeline, watch: StallWatch, done: int) -> None:
    def also(folder: Path) -> None:
        with pipeline.halted() as ahead:
            run.s.replay.call("save", str((folder / REPLAY).absolute())).result()
            save_ahead(folder, ahead)

    run.checkpoint(done, run.s.config.trainer.steps, also, watch=watch.state_dict())


def _restore(run: Run, watch: StallWatch, checkpoint: Checkpoint) -> tuple[int, Any]:
    """Bring every service to where the checkpoint was taken; returns the next step, and what was ahead of it."""
    ahead = _ahead(run.s.config, checkpoint)
    first = run.restore(checkpoint)
    watch.load_state_dict(checkpoint.state["watch"])
    run.s.replay.call("load", str(_replay_state(checkpoint).absolute())).result()
    broadcast_weights(run.s.learner, run.s.rollouts)
    return first, ahead


def _ahead(config: Config, checkpoint: Checkpoint) -> Any:
    """What was generated ahead of the checkpoint, if anything. Raises ConfigError where the run may not train on it."""
    file = checkpoint.folder / AHEAD
    if not file.exists():
        return None
    if not config.trainer.max_staleness:
        raise ConfigError(
            f"trainer.max_staleness=0, but {checkpoint.folder} has the next step's batch, which is a version behind",
            hint="resume with trainer.max_staleness=1; without it, start a new run from the exported model",
        )
    ahead, free = pickle.loads(file.read_bytes()), config.trainer.overlap == Overlap.free
    if isinstance(ahead, Ahead) and not free:
        raise ConfigError(
            f"trainer.overlap=lockstep, but {checkpoint.folder} was written with trainer.overlap=free, further ahead",
            hint="resume with trainer.overlap=free",
        )
    return ahead if isinstance(ahead, Ahead) or not free else Ahead([ahead], Filling(ahead.step + 1), [])


def _replay_state(checkpoint: Checkpoint) -> Path:
    """The replay actor's part of a checkpoint. Raises ConfigError where an earlier version wrote another."""
    file = checkpoint.folder / REPLAY
    if not file.exists():
        raise ConfigError(
            f"{checkpoint.folder} has no {REPLAY}: an earlier version of AGRL wrote it",
            hint="resume with that version, or start a new run from the exported model",
        )
    return file


def _record(run: Run, recorder: Recorder, step: int, result: StepResult) -> None:
    for name, seconds in result.metrics.items():
        if name.startswith("time/") and name != "time/step":
            run.phases[name.removeprefix("time/")] += seconds
    recorder.log(step, result.metrics)
    recorder.samples(step, _samples(run, step, result))
    recorder.ledger(result.ledger)


def _samples(run: Run, step: int, result: StepResult) -> list[dict[str, Any]]:
    """A few of the step's trajectories, guided ones first: one from each of as many groups as possible."""
    config, generator = run.s.config.trainer, np.random.default_rng([run.s.config.trainer.seed, step])
    found = []
    for i in generator.permutation(len(result.groups)):
        rollouts = result.groups[i].rollouts
        guided = [j for j, r in enumerate(rollouts) if r.provenance is not Provenance.ON_POLICY]
        found.append((not guided, i, guided[0] if guided else int(generator.integers(len(rollouts)))))
    found.sort(key=lambda one: one[0])
    chosen = [(result.groups[i], result.advantages[i], j) for _, i, j in found[: config.samples_per_step]]
    return [sample_row(g.example, g.rollouts[j], g.scores[j], advantages[j]) for g, advantages, j in chosen]


def _note(metrics: dict[str, float]) -> str:
    shown = {
        "reward": "reward/total_mean",
        "accuracy": "train/accuracy",
        "guided": "guide/share",
        "gap": "sync/gap_mean",
    }
    return numbers({name: metrics[key] for name, key in shown.items() if key in metrics})
