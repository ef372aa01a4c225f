"""A whole RL run: start the services, evaluate, train step by step with checkpoints, evaluate again, report."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import numpy as np

from agrl.config.schema import Config
from agrl.data.files import read_examples
from agrl.driver.clock import Clock
from agrl.driver.evaluate import evaluate_sets, evaluation_sets
from agrl.driver.plan import check_pool, describe
from agrl.driver.prompts import PromptEncoder
from agrl.driver.run_folder import Checkpoint, RunFolder
from agrl.driver.services import Services, start_services
from agrl.driver.step import StepResult, training_step
from agrl.errors import AgrlError, ConfigError
from agrl.models.tokens import load_tokenizer
from agrl.relevance.records import Example
from agrl.relevance.rulebook import load_rulebook
from agrl.report.page import write_report
from agrl.report.recorder import Recorder, sample_row
from agrl.report.terminal import numbers, phase, progress


def train(config: Config, console, resume: bool = False) -> RunFolder:
    """Run, or with ``resume`` go on with, the RL run of ``config.run``. Raises the AgrlError that names the trouble."""
    run, book = RunFolder(config.run), load_rulebook(config.task.rulebook)
    checkpoint = run.latest() if resume else None
    if resume and checkpoint is None:
        raise ConfigError(f"{run.path} holds no checkpoint to go on from", hint="start it anew with `agrl train`")
    if not config.data.train:
        raise ConfigError("data.train names no file", hint="give data.train=FILE of examples with gold tiers")
    encoder = PromptEncoder(book, load_tokenizer(config.model.path), config.task)
    examples = read_examples(config.data.train)
    pool = encoder.fitting(examples, hinted=config.guidance.enabled)
    check_pool(config, len(pool))
    sets = evaluation_sets(config, encoder)
    run.start(config, book, resume)
    for line in describe(config, pool_size=len(pool), too_long=len(examples) - len(pool)):
        console.print(line)
    clock = Clock()
    with phase(console, "Starting rollout, reward, replay and learner actors"), clock("start"):
        services = start_services(config, run, pool)
        try:
            services.ready()
        except BaseException:
            services.close()
            raise
    try:
        Run(services, run, sets, console, clock).go(checkpoint)
    except AgrlError as error:
        run.say_how_to_resume(error)
        raise
    finally:
        services.close()
    return run


class Run:
    """The loop round ``training_step`` and what a run remembers between steps."""

    def __init__(
        self, services: Services, run: RunFolder, sets: dict[str, list[Example]], console, clock: Clock
    ) -> None:
        self.s, self.run, self.sets, self.console, self.clock = services, run, sets, console, clock
        self.phases: Counter[str] = Counter()  # seconds of the training steps by phase
        self.wall_before = 0.0  # seconds of the processes that this one goes on from
        self.began = time.perf_counter()

    def go(self, checkpoint: Checkpoint | None) -> None:
        """Train from the checkpoint, or from the start, to the last step."""
        config = self.s.config.trainer
        first = self._restore(checkpoint) if checkpoint else 0
        if checkpoint is None:
            self._evaluate("before")
        with Recorder(self.run.path, "rl", first) as recorder, progress(self.console, "RL", config.steps) as bar:
            bar.advance(first)
            for step in range(first, config.steps):
                result = training_step(self.s, step)
                self._record(recorder, step, result)
                bar.advance(1, _note(result.metrics))
                done = step + 1
                if config.evaluate_every and done % config.evaluate_every == 0 and done < config.steps:
                    self._evaluate(f"step-{done:06d}")
                if done == config.steps or (config.checkpoint_every and done % config.checkpoint_every == 0):
                    self._checkpoint(done)
        with self.clock("export"):
            self.s.learner.export(self.run.model)
        self._evaluate("after")
        self._summarise()
        with phase(self.console, "Writing the report"):
            write_report(self.run.path)

    def _record(self, recorder: Recorder, step: int, result: StepResult) -> None:
        for name, seconds in result.metrics.items():
            if name.startswith("time/") and name != "time/step":
                self.phases[name.removeprefix("time/")] += seconds
        recorder.log(step, result.metrics)
        recorder.samples(step, self._samples(step, result))

    def _samples(self, step: int, result: StepResult) -> list[dict[str, Any]]:
        """A few of the step's trajectories, guided ones first: one from each of as many groups as possible."""
        config, generator = self.s.config.trainer, np.random.default_rng([self.s.config.trainer.seed, step])
        rows = []
        for i in generator.permutation(len(result.groups)):
            group, advantages = result.groups[i], result.advantages[i]
            guided = [j for j, r in enumerate(group.rollouts) if r.provenance.name != "ON_POLICY"]
            j = guided[0] if guided else int(generator.integers(len(group.rollouts)))
            row = sample_row(group.example, group.rollouts[j], group.scores[j], advantages[j])
            rows.append((not guided, row))
        rows.sort(key=lambda pair: pair[0])
        return [row for _, row in rows[: config.samples_per_step]]

    def _evaluate(self, label: str) -> None:
        tokens = self.s.config.task.max_response_tokens
        with phase(self.console, f"Evaluating ({label})"), self.clock("evaluate"):
            found = evaluate_sets(self.s.rollouts, self.s.encoder, self.sets, tokens)
        for name, metrics in found.items():
            about = {"label": label, "set": name, "model": self.s.config.model.path, "version": self.s.learner.version}
            self.run.save_evaluation(label, name, metrics | about)

    def _checkpoint(self, done: int) -> None:
        with self.clock("checkpoint"):
            folder = self.run.begin_checkpoint(done)
            self.s.learner.save(folder)
            state = {
                "step": done,
                "version": self.s.learner.version,
                "wall_s": self._wall(),
                "phases": dict(self.phases),
                "replay": self.s.replay.call("state_dict").result(),
            }
            self.run.commit_checkpoint(folder, state, self.s.config.trainer.keep_checkpoints)

    def _restore(self, checkpoint: Checkpoint) -> int:
        """Bring every service to where the checkpoint was taken; returns the next step."""
        with phase(self.console, f"Restoring step {checkpoint.step} from {checkpoint.folder}"):
            state = checkpoint.state
            self.s.learner.load(checkpoint.folder, state["version"])
            self.s.replay.call("load_state_dict", state["replay"]).result()
            self.s.rollouts.broadcast(self.s.learner.version, self.s.learner.weights())
        self.phases.update(state["phases"])
        self.wall_before = state["wall_s"]
        return checkpoint.step

    def _wall(self) -> float:
        return self.wall_before + time.perf_counter() - self.began

    def _summarise(self) -> None:
        summary = {
            "before": self.run.load_evaluation("before"),
            "after": self.run.load_evaluation("after"),
            "steps": self.s.config.trainer.steps,
            "version": self.s.learner.version,
            "wall_s": self._wall(),
            "phases": dict(self.phases) | self.clock.seconds,
        }
        (self.run.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def _note(metrics: dict[str, float]) -> str:
    shown = {
        "reward": "reward/total_mean",
        "accuracy": "train/accuracy",
        "guided": "guide/share",
        "gap": "sync/gap_mean",
    }
    return numbers({name: metrics[key] for name, key in shown.items() if key in metrics})
