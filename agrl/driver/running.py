"""A run on running services: how it is opened, what it measures on held-out sets, and what it leaves behind."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from agrl.config.schema import Config
from agrl.data.files import read_examples
from agrl.driver.clock import Clock
from agrl.driver.evaluate import evaluate_sets, evaluation_sets
from agrl.driver.plan import check_pool, describe
from agrl.driver.prompts import PromptEncoder
from agrl.driver.run_folder import RunFolder
from agrl.driver.services import Services, start_services
from agrl.errors import AgrlError, ConfigError
from agrl.models.positions import check_positions
from agrl.models.tokens import load_tokenizer
from agrl.relevance.records import Example
from agrl.relevance.rulebook import load_rulebook
from agrl.report.page import write_report
from agrl.report.progress import phase

Sets = Mapping[str, Sequence[Example]]
"""Held-out sets: name -> examples."""


class Run:
    """One run: the services that it uses, its folder, its held-out sets and its clock."""

    def __init__(self, services: Services, folder: RunFolder, sets: Sets, console, clock: Clock | None = None) -> None:
        self.s, self.folder, self.sets, self.console = services, folder, sets, console
        self.clock = clock or Clock()  # seconds of everything beside the training steps
        self.phases: Counter[str] = Counter()  # seconds of the training steps by phase
        self.wall_before = 0.0  # seconds of the processes that this one goes on from
        self.began = time.perf_counter()

    @property
    def wall_s(self) -> float:
        """Seconds that the run has taken, those before it was resumed included."""
        return self.wall_before + time.perf_counter() - self.began

    def evaluate(self, label: str) -> None:
        """Judge the held-out sets with the weights that the rollout actors have; writes evaluation/LABEL-SET.json."""
        tokens = self.s.config.task.max_response_tokens
        with phase(self.console, f"Evaluating ({label})"), self.clock("evaluate"):
            found = evaluate_sets(self.s.rollouts, self.s.encoder, self.sets, tokens)
        for name, metrics in found.items():
            about = {"label": label, "set": name, "model": self.s.config.model.path, "version": self.s.learner.version}
            self.folder.save_evaluation(label, name, metrics | about)

    def finish(self, steps: int) -> None:
        """Export the model, evaluate it, and write summary.json and report.html."""
        with self.clock("export"):
            self.s.learner.export(self.folder.model)
        self.evaluate("after")
        summary = {
            "before": self.folder.load_evaluation("before"),
            "after": self.folder.load_evaluation("after"),
            "steps": steps,
            "version": self.s.learner.version,
            "wall_s": self.wall_s,
            "phases": dict(self.phases) | self.clock.seconds,
        }
        (self.folder.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        with phase(self.console, "Writing the report"):
            write_report(self.folder.path)


@dataclass(frozen=True)
class TaskData:
    """The prompts of the RL pool that fit, how many were too long, and the held-out sets."""

    pool: list[Example]
    too_long: int
    sets: Sets


def load_data(config: Config, hinted: bool) -> TaskData:
    """Read the pool and the held-out sets; ``hinted``: prompts must also fit with their hint. Raises AgrlError."""
    if not config.data.train:
        raise ConfigError("data.train names no file", hint="give data.train=FILE of examples with gold tiers")
    check_positions(config.model.path, config.task.max_prompt_tokens, config.task.max_response_tokens)
    encoder = PromptEncoder(load_rulebook(config.task.rulebook), load_tokenizer(config.model.path), config.task)
    examples = read_examples(config.data.train)
    pool = encoder.fitting(examples, hinted)
    check_pool(config, len(pool))
    return TaskData(pool, len(examples) - len(pool), evaluation_sets(config, encoder))


@contextmanager
def running_services(config: Config, folder: RunFolder, pool: Sequence[Example], console) -> Iterator[Services]:
    """Start the services, and close them at the end."""
    services = None
    try:
        with phase(console, "Starting rollout, reward, replay and learner actors"):
            services = start_services(config, folder, pool)
            notice = services.ready()
        if notice:
            console.print(notice)
        yield services
    finally:
        if services is not None:
            services.close()


@contextmanager
def running(config: Config, console, resume: bool = False) -> Iterator[Run]:
    """A run from reading its data, saying what is about to happen and starting the services to their end.

    Raises the AgrlError that names the trouble; one from inside says how the run can be resumed.
    """
    clock, folder = Clock(), RunFolder(config.run)
    data = load_data(config, hinted=config.guidance.enabled)
    folder.start(config, load_rulebook(config.task.rulebook), resume)
    for line in describe(config, pool_size=len(data.pool), too_long=data.too_long):
        console.print(line)
    began = time.perf_counter()
    with running_services(config, folder, data.pool, console) as services:
        clock.seconds["start"] = time.perf_counter() - began
        try:
            yield Run(services, folder, data.sets, console, clock)
        except AgrlError as error:
            folder.say_how_to_resume(error)
            raise
