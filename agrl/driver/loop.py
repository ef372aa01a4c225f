"""Reinforcement learning from the first step to the last: metrics, samples and checkpoints round ``training_step``."""

from __future__ import annotations

from typing import Any

import numpy as np

from agrl.config.schema import Config
from agrl.driver.run_folder import Checkpoint, RunFolder
from agrl.driver.running import Run, running
from agrl.driver.step import StepResult, training_step
from agrl.errors import ConfigError
from agrl.report.progress import numbers, phase, progress
from agrl.report.recorder import Recorder, sample_row


def train(config: Config, console, resume: bool = False) -> RunFolder:
    """Run, or with ``resume`` go on with, the RL run of ``config.run``. Raises the AgrlError that names the trouble."""
    folder = RunFolder(config.run)
    checkpoint = folder.latest() if resume else None
    if resume and checkpoint is None:
        raise ConfigError(f"{folder.path} holds no checkpoint to go on from", hint="start it anew with `agrl train`")
    with running(config, console, resume) as run:
        if checkpoint is None:
            run.evaluate("before")
        reinforce(run, checkpoint)
    return folder


def reinforce(run: Run, checkpoint: Checkpoint | None = None) -> None:
    """Train from the checkpoint, or from the start, to the last step."""
    config = run.s.config.trainer
    first = _restore(run, checkpoint) if checkpoint else 0
    with Recorder(run.folder.path, "rl", first) as recorder, progress(run.console, "RL", config.steps) as bar:
        bar.advance(first)
        for step in range(first, config.steps):
            result = training_step(run.s, step)
            _record(run, recorder, step, result)
            bar.advance(1, _note(result.metrics))
            done = step + 1
            if config.evaluate_every and done % config.evaluate_every == 0 and done < config.steps:
                run.evaluate(f"step-{done:06d}")
            if done == config.steps or (config.checkpoint_every and done % config.checkpoint_every == 0):
                _checkpoint(run, done)
    run.finish(config.steps)


def _record(run: Run, recorder: Recorder, step: int, result: StepResult) -> None:
    for name, seconds in result.metrics.items():
        if name.startswith("time/") and name != "time/step":
            run.phases[name.removeprefix("time/")] += seconds
    recorder.log(step, result.metrics)
    recorder.samples(step, _samples(run, step, result))


def _samples(run: Run, step: int, result: StepResult) -> list[dict[str, Any]]:
    """A few of the step's trajectories, guided ones first: one from each of as many groups as possible."""
    config, generator = run.s.config.trainer, np.random.default_rng([run.s.config.trainer.seed, step])
    rows = []
    for i in generator.permutation(len(result.groups)):
        group, advantages = result.groups[i], result.advantages[i]
        guided = [j for j, r in enumerate(group.rollouts) if r.provenance.name != "ON_POLICY"]
        j = guided[0] if guided else int(generator.integers(len(group.rollouts)))
        row = sample_row(group.example, group.rollouts[j], group.scores[j], advantages[j])
        rows.append((not guided, row))
    rows.sort(key=lambda pair: pair[0])
    return [row for _, row in rows[: config.samples_per_step]]


def _checkpoint(run: Run, done: int) -> None:
    with run.clock("checkpoint"):
        folder = run.folder.begin_checkpoint(done)
        run.s.learner.save(folder)
        state = {
            "step": done,
            "version": run.s.learner.version,
            "wall_s": run.wall_s,
            "phases": dict(run.phases),
            "replay": run.s.replay.call("state_dict").result(),
        }
        run.folder.commit_checkpoint(folder, state, run.s.config.trainer.keep_checkpoints)


def _restore(run: Run, checkpoint: Checkpoint) -> int:
    """Bring every service to where the checkpoint was taken; returns the next step."""
    with phase(run.console, f"Restoring step {checkpoint.step} from {checkpoint.folder}"):
        state = checkpoint.state
        run.s.learner.load(checkpoint.folder, state["version"])
        run.s.replay.call("load_state_dict", state["replay"]).result()
        run.s.rollouts.broadcast(run.s.learner.version, run.s.learner.weights())
    run.phases.update(state["phases"])
    run.wall_before = state["wall_s"]
    return checkpoint.step


def _note(metrics: dict[str, float]) -> str:
    shown = {
        "reward": "reward/total_mean",
        "accuracy": "train/accuracy",
        "guided": "guide/share",
        "gap": "sync/gap_mean",
    }
    return numbers({name: metrics[key] for name, key in shown.items() if key in metrics})
