"""A run on running services: how it is opened, what it measures on held-out sets, and what it leaves behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agrl.clock import Clock
from agrl.config.schema import Config, RayMode
from agrl.data.leaks import leaks_of_pool
from agrl.data.pool import Pool, open_pool
from agrl.driver.evaluation.held_out import evaluate_sets, evaluation_sets
from agrl.driver.folder.run_folder import Checkpoint, RunFolder
from agrl.driver.run.checkpoint import restore, save_checkpoint
from agrl.driver.run.description import check_pool, describe
from agrl.driver.run.recording import open_recorder, where_watched
from agrl.driver.run.results import leave_results
from agrl.driver.run.stall import needs_answers, refuse_unparsed
from agrl.driver.services.keep_alive import keep_alive
from agrl.driver.services.learner_snapshots import LearnerCut
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.driver.services.services import Services, start_services
from agrl.errors import ConfigError
from agrl.machine import rare_collections
from agrl.placement.foresight import first_lines
from agrl.placement.places import host_lines
from agrl.relevance.metrics import shares
from agrl.relevance.records import Example
from agrl.relevance.rulebook import load_rulebook
from agrl.report.progress import phase
from agrl.report.recorder import Recorder

Sets = Mapping[str, Sequence[Example]]
"""Held-out sets: name -> examples."""


class Run:
    """One run: the services that it uses, its folder, its held-out sets and its clock."""

    def __init__(self, services: Services, folder: RunFolder, sets: Sets, console, clock: Clock | None = None) -> None:
        self.s, self.folder, self.sets, self.console = services, folder, sets, console
        self.clock = clock or Clock()  # seconds of everything beside the training steps
        self.phases: Counter[str] = Counter()  # seconds of the training steps by phase
        self._recorder: Recorder | None = None  # while a phase is under way
        self._evaluated: list[tuple[int, str, dict[str, float]]] = []  # the last evaluation: steps, set, shares
        self.wall_before = 0.0  # seconds of the processes that this one goes on from
        self.began = time.perf_counter()

    @property
    def wall_s(self) -> float:
        """Seconds that the run has taken, those before it was resumed included."""
        return self.wall_before + time.perf_counter() - self.began

    @contextmanager
    def recorder(self, phase: str, steps: int, first: int) -> Iterator[Recorder]:
        """What takes the numbers of a phase of ``steps`` steps, from step ``first`` on, and its evaluations."""
        config, path = self.s.config, self.folder.path
        with open_recorder(config, path, phase, steps, first, self.s.runtime, self.s.gauges) as recorder:
            for evaluation in self._evaluated:
                recorder.log_evaluation(*evaluation)
            self._recorder = recorder
            try:
                yield recorder
            finally:
                self._recorder = None

    def evaluate(self, label: str, done: int) -> None:
        """Judge the held-out sets with the weights that the rollout actors have, after ``done`` steps; writes
        evaluation/LABEL-SET.json.

        Raises NothingLearnedError when it is the start model ("before") and none of its answers parses.
        """
        evaluation = self.evaluation(label, done)
        with phase(self.console, f"Evaluating ({label})"), self.clock("evaluate"):
            evaluation.measure()
        found = evaluation.keep()
        if label == "before" and needs_answers(self.s.config):
            refuse_unparsed(found, self.s.config.model.path)

    def evaluation(self, label: str, done: int) -> Evaluation:
        """The same in two parts, of which the first may go on beside the learner."""
        return Evaluation(self, label, done)

    def keep_evaluation(self, label: str, done: int, found: Mapping[str, Any], version: int) -> None:
        """Save what was measured, and tell the trackers."""
        for name, metrics in found.items():
            about = {"label": label, "set": name, "model": self.s.config.model.path, "version": version}
            self.folder.save_evaluation(label, name, metrics | about)
        self._evaluated = [(done, name, shares(metrics)) for name, metrics in found.items()]
        for evaluation in self._evaluated if self._recorder else ():
            self._recorder.log_evaluation(*evaluation)

    def checkpoint(
        self,
        done: int,
        steps: int,
        also: Callable[[Path], None] | None = None,
        learner: LearnerCut | None = None,
        **more: Any,
    ) -> None:
        """Write a checkpoint after ``done`` of ``steps`` steps, with ``more`` beside the learner's state, and what
        ``also`` writes into its folder. ``learner``: as it was then, where it has gone on since."""
        keep, times = self.s.config.trainer.keep_checkpoints, {"wall_s": self.wall_s, "phases": dict(self.phases)}
        with self.clock("checkpoint"):
            save_checkpoint(self.folder, learner or self.s.learner, done, steps, keep, also, **times, **more)

    def restore(self, checkpoint: Checkpoint) -> int:
        """Bring the learner and the clocks to where the checkpoint was taken; returns the next step."""
        self.phases.update(checkpoint.state["phases"])
        self.wall_before = checkpoint.state["wall_s"]
        return restore(checkpoint, self.s.learner, self.console)

    def finish(self, steps: int, **more: Any) -> None:
        """Export the model, evaluate it, and write summary.json, with ``more`` in it, and report.html."""
        with self.clock("export"), self.folder.replacing_model() as folder:
            self.s.learner.export(folder)
        self.evaluate("after", steps)
        summary = {
            "before": self.folder.load_evaluation("before"),
            "after": self.folder.load_evaluation("after"),
            "version": self.s.learner.version,
            "wall_s": self.wall_s,
            "phases": dict(self.phases) | self.clock.seconds,
            **more,
        }
        leave_results(self.folder, steps, summary, self.s.runtime.hosts(), self.console)


class Evaluation:
    """Of the weights that the engines have while it is measured, which must stay as they are meanwhile."""

    def __init__(self, run: Run, label: str, done: int) -> None:
        self._run, self._label, self._done = run, label, done
        self._found: dict[str, Any] = {}
        self._version = -1

    def measure(self) -> None:
        """Judge the held-out sets. Another thread may."""
        s = self._run.s
        self._version = s.rollouts.version
        self._found = evaluate_sets(s.rollouts, s.encoder, self._run.sets, s.config.task.max_response_tokens)

    def keep(self) -> dict[str, Any]:
        """Save what was measured; returns it, set name -> metrics."""
        self._run.keep_evaluation(self._label, self._done, self._found, self._version)
        return self._found


@dataclass(frozen=True)
class TaskData:
    """The RL pool, whether its prompts must fit with their hints as well, and the held-out sets."""

    pool: Pool
    hinted: bool
    sets: Sets


def load_data(config: Config, hinted: bool, console=None) -> TaskData:
    """Open the pool and read the held-out sets; ``hinted``: prompts must also fit with their hint. Raises AgrlError.

    Of the pool only the first prompts are tokenised, so that a limit which none keeps is said at once.
    """
    if not config.data.train:
        raise ConfigError("data.train names no file", hint="give data.train=FILE of examples with gold tiers")
    encoder = PromptEncoder.load(config)
    pool = open_pool(config.data.train, console)
    encoder.first_fitting(pool, hinted)
    return TaskData(pool, hinted, evaluation_sets(config, encoder))


@contextmanager
def running_services(
    config: Config, folder: RunFolder, data: TaskData, console, resume: bool = False
) -> Iterator[Services]:
    """Start the services, and close them at the end; with ``resume`` go on with those that a driver before has left."""
    services, kept, began = None, keep_alive(config, folder, resume), time.perf_counter()
    try:
        with rare_collections():
            with phase(console, "Starting rollout, reward, replay and learner actors"):
                services = start_services(config, folder, data.pool, data.hinted, kept)
                notice = services.ready()
            for line in kept.started(services.runtime, time.perf_counter() - began) if kept else ():
                console.print(line, markup=False, soft_wrap=True)
            if notice:
                console.print(notice)
            if config.ray.mode == RayMode.cluster:
                for line in host_lines(services.runtime.hosts()):
                    console.print(line, soft_wrap=True)
            yield services
    finally:
        if services is not None:
            services.close()
        if kept:
            kept.forget()


@contextmanager
def running(config: Config, folder: RunFolder, command: str, console, resume: bool = False) -> Iterator[Run]:
    """A run in its claimed folder, from reading its data, saying what is about to happen and starting the services to
    their end. Raises the AgrlError that names the trouble."""
    clock = Clock()
    data = load_data(config, config.guidance.enabled, console)
    if command == "train":
        check_pool(config, len(data.pool))
    folder.start(config, load_rulebook(config.task.rulebook), command, resume)
    for line in [*describe(config, len(data.pool), command), *first_lines(config)]:
        console.print(line)
    if where := where_watched(config):
        console.print(where, markup=False, soft_wrap=True)
    for leak in leaks_of_pool("data.train", data.pool, data.sets):
        console.print(f"Note: {leak}", soft_wrap=True)
    began = time.perf_counter()
    with running_services(config, folder, data, console, resume) as services:
        clock.seconds["start"] = time.perf_counter() - began
        yield Run(services, folder, data.sets, console, clock)
